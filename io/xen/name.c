/* SPDX-License-Identifier: ISC */
/*
 * name.c: names and options of Xen virtual block devices.
 *
 * A toolstack numbers them as Linux once numbered disks:
 *
 *   xvd, disk 0-15, part 0-15     202 << 8 | disk << 4 | part
 *   xvd beyond that               1 << 28 | disk << 8 | part
 *   sd, disk 0-15, part 0-15      8 << 8 | disk << 4 | part
 *   hd, disk 0-3, part 0-63       3 << 8 or 22 << 8 | (disk % 2) << 6 | part
 */
#include "io/xen/xen.h"

#include "io/xen/protocol.h"

static bool parse_number(const char *s, size_t n, uint64_t limit, uint64_t *out)
{
    uint64_t v = 0;
    if (n == 0 || n > 10)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(s[i] - '0');
    }
    if (v > limit)
        return false;
    *out = v;
    return true;
}

/* "a" is 0, "z" 25, "aa" 26. False: no letters, or far too many. */
static bool parse_letters(const char **s, uint64_t *out_disk)
{
    uint64_t v = 0;
    const char *p = *s;
    for (; *p >= 'a' && *p <= 'z'; p++) {
        v = v * 26 + (uint64_t)(*p - 'a') + 1;
        if (v > 1u << 20)
            return false;
    }
    if (p == *s)
        return false;
    *s = p;
    *out_disk = v - 1;
    return true;
}

static bool encode(const char *kind, uint64_t disk, uint64_t part, uint32_t *out)
{
    if (strcmp(kind, "xvd") == 0 && disk < 1u << 20 && part < 256) {
        bool small = disk < 16 && part < 16;
        *out = (uint32_t)(small ? 202u << 8 | disk << 4 | part : 1u << 28 | disk << 8 | part);
        return true;
    }
    if (strcmp(kind, "sd") == 0 && disk < 16 && part < 16) {
        *out = (uint32_t)(8u << 8 | disk << 4 | part);
        return true;
    }
    if (strcmp(kind, "hd") == 0 && disk < 4 && part < 64) {
        *out = (uint32_t)((disk < 2 ? 3u : 22u) << 8 | (disk & 1) << 6 | part);
        return true;
    }
    return false;
}

int cmb_xen_vdev(const char *text, uint32_t *out_vdev)
{
    static const char *const kinds[] = {"xvd", "sd", "hd"};
    uint64_t v, disk, part;
    if (parse_number(text, strlen(text), UINT32_MAX, &v)) {
        *out_vdev = (uint32_t)v;
        return 0;
    }
    for (size_t i = 0; i < CMB_COUNTOF(kinds); i++) {
        size_t n = strlen(kinds[i]);
        const char *rest = text + n;
        if (strncmp(text, kinds[i], n) != 0 || !parse_letters(&rest, &disk))
            continue;
        part = 0;
        bool whole = !*rest || (parse_number(rest, strlen(rest), UINT32_MAX, &part) && part > 0);
        if (whole && encode(kinds[i], disk, part, out_vdev))
            return 0;
    }
    return cmb_fail(CMB_EINVAL, "\"%s\" is no virtual device: a number, or a name like xvda or xvdb1", text);
}

/* ---- options ---- */

void cmb_xen_options_default(cmb_xen_options *out_options)
{
    *out_options = (cmb_xen_options){
        .ring_order = 3, /* without indirect segments 42 times 256 KiB; in fewer pages the back end waits for us */
        .queues = 1,
        .segments = CMB_XEN_SEGMENTS_MAX,
        .pool_pages = 704, /* a ring of one page with 22 segments each; Linux shares 1024 pages in all */
        .persistent = true,
        .discard = true,
        .timeout = (uint64_t)30 * 1000000000u,
    };
}

/* The value of "key=…", or NULL. */
static const char *value_of(const char *text, size_t n, const char *key, size_t *out_n)
{
    size_t k = strlen(key);
    if (n <= k || memcmp(text, key, k) != 0 || text[k] != '=')
        return NULL;
    *out_n = n - k - 1;
    return text + k + 1;
}

static bool number_option(const char *text, size_t n, const char *key, uint64_t least, uint64_t most, unsigned *out)
{
    size_t vn;
    uint64_t v;
    const char *value = value_of(text, n, key, &vn);
    if (!value || !parse_number(value, vn, most, &v) || v < least)
        return false;
    *out = (unsigned)v;
    return true;
}

static bool discard_option(cmb_xen_options *o, const char *text, size_t n)
{
    size_t vn;
    const char *value = value_of(text, n, "discard", &vn);
    o->secure = value && vn == 6 && memcmp(value, "secure", 6) == 0;
    if (o->secure || (value && vn == 1 && (*value == '0' || *value == '1')))
        o->discard = *value != '0';
    else
        return false;
    return true;
}

int cmb_xen_option(cmb_xen_options *o, const char *text, size_t n)
{
    unsigned v;
    size_t vn;
    const char *loopback = value_of(text, n, "loopback", &vn);
    if (loopback && vn && vn < sizeof o->loopback) {
        memcpy(o->loopback, loopback, vn);
        o->loopback[vn] = 0;
        return 0;
    }
    if (number_option(text, n, "ring", 0, CMB_XEN_ORDER_MAX, &o->ring_order)
        || number_option(text, n, "queues", 1, CMB_XEN_QUEUES_MAX, &o->queues)
        || number_option(text, n, "segments", 1, CMB_XEN_SEGMENTS_MAX, &o->segments)
        || number_option(text, n, "pool", 2, 1u << 20, &o->pool_pages) || discard_option(o, text, n))
        return 0;
    if (number_option(text, n, "persistent", 0, 1, &v)) {
        o->persistent = v;
        return 0;
    }
    if (number_option(text, n, "timeout", 1, 86400, &v)) {
        o->timeout = (uint64_t)v * 1000000000u;
        return 0;
    }
    return CMB_EINVAL;
}
