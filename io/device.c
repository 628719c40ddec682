/* SPDX-License-Identifier: ISC */
/*
 * device.c: devices by name.
 *
 *   NAME    = "mem:" [SIZE] | "xen:" … | PATH, then optionally "?" OPTION { "&" OPTION }
 *   OPTION  = "io=posix" | "io=uring" | "fixed=1" | "fixed=0" | "trace=FILE", and with "xen:" those of io/xen/name.c
 *   SIZE    = digits and one of K, M, G, or nothing for bytes
 *
 * In PATH and FILE, %3F stands for a question mark, %26 for an ampersand and %25 for a per cent sign;
 * any other per cent sign is itself.
 */
#include "io/where.h"
#include "io/xen/xen.h"

typedef enum io_kind { IO_POSIX, IO_URING } io_kind;

typedef struct parsed_name {
    const char *whole;
    char *path;  /* decoded */
    char *trace; /* decoded, or NULL */
    io_kind io;
    bool has_io, fixed, has_fixed;
    bool is_xen;
    cmb_xen_options xen;
} parsed_name;

static char decode_at(const char *s, size_t left)
{
    if (left < 3 || s[0] != '%')
        return 0;
    if (s[1] == '3' && (s[2] == 'F' || s[2] == 'f'))
        return '?';
    if (s[1] == '2' && (s[2] == '5' || s[2] == '6'))
        return s[2] == '5' ? '%' : '&';
    return 0;
}

/* A decoded copy, released with cmb_name_release; hence cut to its own length. */
static char *decode(const cmb_allocator *alloc, const char *s, size_t n)
{
    size_t size = 1;
    for (size_t i = 0; i < n; i += decode_at(s + i, n - i) ? 3 : 1)
        size++;
    char *out = cmb_alloc(alloc, size);
    if (!out)
        return NULL;
    size_t used = 0;
    for (size_t i = 0; i < n;) {
        char c = decode_at(s + i, n - i);
        out[used++] = c ? c : s[i];
        i += c ? 3 : 1;
    }
    out[used] = 0;
    return out;
}

static bool is(const char *s, size_t n, const char *word)
{
    return n == strlen(word) && memcmp(s, word, n) == 0;
}

static bool begins(const char *s, size_t n, const char *word)
{
    return n >= strlen(word) && memcmp(s, word, strlen(word)) == 0;
}

/* An option of "xen:" devices; decoded, since it may name a device. CMB_EINVAL: it is none. */
static int parse_xen(const cmb_allocator *alloc, parsed_name *p, const char *s, size_t n)
{
    char *text = decode(alloc, s, n);
    if (!text)
        return CMB_ENOMEM;
    int error = cmb_xen_option(&p->xen, text, strlen(text));
    cmb_name_release(alloc, text);
    return error;
}

static int parse_option(const cmb_allocator *alloc, parsed_name *p, const char *s, size_t n)
{
    const size_t trace = strlen("trace=");
    if (is(s, n, "io=posix") || is(s, n, "io=uring")) {
        p->io = is(s, n, "io=uring") ? IO_URING : IO_POSIX;
        p->has_io = true;
    } else if (is(s, n, "fixed=1") || is(s, n, "fixed=0")) {
        p->fixed = s[n - 1] == '1';
        p->has_fixed = true;
    } else if (begins(s, n, "trace=") && n > trace && !p->trace) {
        p->trace = decode(alloc, s + trace, n - trace);
        if (!p->trace)
            return CMB_ENOMEM;
    } else {
        int error = p->is_xen ? parse_xen(alloc, p, s, n) : CMB_EINVAL;
        if (error != CMB_EINVAL)
            return error;
        return cmb_fail(CMB_EINVAL, "%s: unknown device option \"%.*s\"", p->whole, (int)(n < 200 ? n : 200), s);
    }
    return 0;
}

static void parsed_free(const cmb_allocator *alloc, parsed_name *p)
{
    cmb_name_release(alloc, p->path);
    cmb_name_release(alloc, p->trace);
}

/* What it allocated is the caller's to free, also on failure. */
static int parse_name(const cmb_allocator *alloc, const char *name, parsed_name *out)
{
    *out = (parsed_name){.whole = name, .is_xen = begins(name, strlen(name), "xen:")};
    cmb_xen_options_default(&out->xen);
    const char *question = strchr(name, '?');
    out->path = decode(alloc, name, question ? (size_t)(question - name) : strlen(name));
    if (!out->path)
        return CMB_ENOMEM;
    if (!out->path[0])
        return cmb_fail(CMB_EINVAL, "\"%s\": a device name without a path", name);
    for (const char *s = question; s;) {
        s++;
        const char *end = strchr(s, '&');
        int error = parse_option(alloc, out, s, end ? (size_t)(end - s) : strlen(s));
        if (error)
            return error;
        s = end;
    }
    return 0;
}

static unsigned suffix_shift(char c)
{
    switch (c) {
    case 'K':
        return 10;
    case 'M':
        return 20;
    case 'G':
        return 30;
    default:
        return 0;
    }
}

static int parse_size(const char *name, const char *s, uint64_t *out_size)
{
    uint64_t v = 0;
    const char *p = s;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (v > (UINT64_MAX - 9) / 10)
            return cmb_fail(CMB_ETOOBIG, "%s: the size is too large", name);
        v = v * 10 + (uint64_t)(*p - '0');
    }
    unsigned shift = suffix_shift(*p);
    if (p == s || p[shift ? 1 : 0] || v == 0)
        return cmb_fail(CMB_EINVAL, "%s: \"%s\" is not a size: digits, then K, M, G or nothing", name, s);
    if (v > UINT64_MAX >> shift)
        return cmb_fail(CMB_ETOOBIG, "%s: the size is too large", name);
    *out_size = v << shift;
    return 0;
}

static int open_mem(const parsed_name *p, cmb_open_mode mode, const cmb_device_options *options, cmb_device **out_dev)
{
    const char *text = p->path + strlen("mem:");
    uint64_t size = options ? options->size : 0;
    if (p->has_io || p->has_fixed)
        return cmb_fail(CMB_EINVAL, "%s: a device in memory takes no io= and no fixed=", p->whole);
    if (mode == CMB_OPEN_READ)
        return cmb_fail(CMB_ENOTFOUND, "%s: a device in memory begins empty: there is nothing to read", p->whole);
    if (*text) {
        int error = parse_size(p->whole, text, &size);
        if (error)
            return error;
    }
    return cmb_device_mem(size, options, out_dev);
}

static int open_xen(const parsed_name *p, cmb_open_mode mode, const cmb_device_options *options, cmb_device **out_dev)
{
    if (p->has_io || p->has_fixed)
        return cmb_fail(CMB_EINVAL, "%s: a Xen device takes no io= and no fixed=", p->whole);
    return cmb_device_open_xen(p->path, mode, options, &p->xen, out_dev);
}

static int open_kind(const parsed_name *p, cmb_open_mode mode, const cmb_device_options *options, cmb_device **out_dev)
{
    if (strncmp(p->path, "mem:", 4) == 0)
        return open_mem(p, mode, options, out_dev);
    if (p->is_xen)
        return open_xen(p, mode, options, out_dev);
    if (p->io == IO_URING)
        return cmb_device_open_uring(p->path, mode, options, p->fixed, out_dev);
    return cmb_device_open_posix(p->path, mode, options, p->fixed, out_dev);
}

static int open_traced(const parsed_name *p, cmb_open_mode mode, const cmb_device_options *options,
                       cmb_device **out_dev)
{
    cmb_device *dev, *traced;
    int error = open_kind(p, mode, options, &dev);
    if (error)
        return error;
    if (p->trace) {
        error = cmb_device_trace_file(dev, p->trace, &traced);
        if (error) {
            cmb_device_close(dev);
            return error;
        }
        dev = traced;
    }
    *out_dev = dev;
    return 0;
}

int cmb_device_open(const char *name, cmb_open_mode mode, const cmb_device_options *options, cmb_device **out_dev)
{
    cmb_allocator alloc = cmb_allocator_or_default(options ? &options->alloc : NULL);
    if (!name || !out_dev || mode < CMB_OPEN_READ || mode > CMB_OPEN_CREATE_FORCE)
        return cmb_fail(CMB_EINVAL, "cmb_device_open: no name, no result or an unknown mode");
    parsed_name p;
    int error = parse_name(&alloc, name, &p);
    if (!error)
        error = open_traced(&p, mode, options, out_dev);
    parsed_free(&alloc, &p);
    return error;
}

/* Over loopback it is what lies under it. */
static int look_xen(const parsed_name *p, const cmb_allocator *alloc, cmb_where *out_where)
{
    uint32_t vdev;
    if (p->xen.loopback[0])
        return cmb_device_look(p->xen.loopback, alloc, out_where);
    int error = cmb_xen_vdev(p->path + strlen("xen:"), &vdev);
    if (!error)
        *out_where = (cmb_where){.kind = CMB_WHERE_XEN, .device = vdev};
    return error;
}

int cmb_device_look(const char *name, const cmb_allocator *alloc, cmb_where *out_where)
{
    parsed_name p;
    *out_where = (cmb_where){.kind = CMB_WHERE_NONE};
    int error = parse_name(alloc, name, &p);
    if (!error && p.is_xen)
        error = look_xen(&p, alloc, out_where);
    else if (!error && strncmp(p.path, "mem:", 4) != 0)
        cmb_path_look(p.path, out_where);
    parsed_free(alloc, &p);
    return error;
}
