/* SPDX-License-Identifier: ISC */
#include "store/report.h"

#include <assert.h>
#include <stdio.h>

#define KEY_TEXT 96u
#define WHERE_MAX (CMB_FINDING_REFS * (CMB_REF_FULL_SIZE + 2u) + CMB_FINDING_COMMITS * (2u * CMB_NAME_MAX + 2u) + 2u * KEY_TEXT + 512u)

typedef struct cmb_report_item {
    const cmb_finding_kind *kind;
    int error;
    uint64_t addr;
    bool keyed;
    unsigned ref_count, commit_count;
    uint64_t refs_total, commits_total;
    uint64_t last_ref; /* hash of the name that was added last: a ref's commit and its working state are one ref */
    char *refs[CMB_FINDING_REFS]; /* owned */
    char commits[CMB_FINDING_COMMITS][2 * CMB_NAME_MAX + 1];
    char text[512], other[128];
    char key_after[KEY_TEXT], key_last[KEY_TEXT];
} item;

/* ---- the list ---- */

static const cmb_finding_kind kinds[] = {
#define KIND(number, symbol, name, severity, mendable, text) {number, name, CMB_SEVERITY_##severity, mendable, text},
    CMB_FINDING_LIST(KIND)
#undef KIND
};

const cmb_finding_kind *cmb_finding_kinds(size_t *out_count)
{
    *out_count = CMB_COUNTOF(kinds);
    return kinds;
}

const cmb_finding_kind *cmb_finding_kind_of(cmb_finding_number number)
{
    size_t i = 0;
    while (i + 1 < CMB_COUNTOF(kinds) && kinds[i].number != (unsigned)number)
        i++;
    assert(kinds[i].number == (unsigned)number);
    return &kinds[i];
}

const char *cmb_severity_name(cmb_severity severity)
{
    return severity == CMB_SEVERITY_SPARE ? "spare" : severity == CMB_SEVERITY_WRONG ? "wrong" : "loss";
}

/* ---- names and keys as text ---- */

/* What stands for bytes that are not to be seen; the same wherever they occur in this image. */
static void redacted(const cmb_report *r, char *out, size_t room, const void *data, size_t size)
{
    uint64_t seed = cmb_get64(cmb_log_params(r->store->log)->uuid);
    snprintf(out, room, "#%08lx", (unsigned long)(cmb_hash64(data, size, seed) >> 32));
}

static void key_text(const cmb_report *r, char out[KEY_TEXT], cmb_bytes key)
{
    const uint8_t *p = key.data;
    size_t used = 0;
    if (key.size && r->options->redact) {
        redacted(r, out, KEY_TEXT, key.data, key.size);
        return;
    }
    for (size_t i = 0; i < key.size; i++) {
        bool plain = p[i] >= 0x20 && p[i] < 0x7f && p[i] != '"' && p[i] != '\\';
        if (used + 8 > KEY_TEXT) {
            memcpy(out + used, "...", 3);
            used += 3;
            break;
        }
        used += (size_t)snprintf(out + used, KEY_TEXT - used, plain ? "%c" : "\\x%02x", p[i]);
    }
    out[used] = 0;
}

static void ref_text(const cmb_report *r, char out[CMB_REF_FULL_SIZE], const char *name)
{
    const char *slash = strchr(name, '/');
    size_t prefix = slash ? (size_t)(slash - name) + 1 : 0;
    snprintf(out, CMB_REF_FULL_SIZE, "%s", name);
    if (r->options->redact && prefix < 8)
        redacted(r, out + prefix, CMB_REF_FULL_SIZE - prefix, name + prefix, strlen(name + prefix));
}

/* As one line that does nothing to a terminal: names from a damaged image may hold any byte. What does not fit is left out. */
static void plain_text(char *out, size_t room, const char *text)
{
    size_t used = 0;
    for (const uint8_t *p = (const uint8_t *)text; *p; p++) {
        bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0; /* a control character above ASCII, in UTF-8 */
        bool shown = *p >= 0x20 && *p != 0x7f && !c1;
        if (used + (shown ? 1 : 4) >= room)
            break;
        used += (size_t)snprintf(out + used, room - used, shown ? "%c" : "\\x%02x", *p);
    }
    out[used] = 0;
}

/* Texts about refs may say their names. */
static void finding_text(const cmb_report *r, const cmb_damage *d, char out[512])
{
    bool names = d->number >= CMB_FINDING_REFS_UNREADABLE && d->number < CMB_FINDING_NODE_DAMAGED;
    if (r->options->redact && (names || d->number == CMB_FINDING_INTENTS_DAMAGED))
        snprintf(out, 512, "%s, at %llu", cmb_finding_kind_of(d->number)->text, (unsigned long long)d->addr);
    else
        plain_text(out, 512, cmb_error_detail());
}

/* ---- items ---- */

static void item_release(const cmb_report *r, item *it)
{
    if (!it)
        return;
    for (unsigned i = 0; i < it->ref_count; i++)
        cmb_release(&r->store->alloc, it->refs[i], strlen(it->refs[i]) + 1);
    cmb_release(&r->store->alloc, it, sizeof *it);
}

static void own_ref(const cmb_report *r, item *it, const char *name)
{
    uint64_t hash = cmb_hash64(name, strlen(name), 1);
    char shown[CMB_REF_FULL_SIZE];
    if (it->refs_total && it->last_ref == hash)
        return;
    it->last_ref = hash;
    it->refs_total++;
    ref_text(r, shown, name);
    /* Without memory for it the name is one that is only counted. */
    char *copy = it->ref_count < CMB_FINDING_REFS ? cmb_alloc(&r->store->alloc, strlen(shown) + 1) : NULL;
    if (!copy)
        return;
    memcpy(copy, shown, strlen(shown) + 1);
    it->refs[it->ref_count++] = copy;
}

static void own_commit(item *it, const char *hex)
{
    if (it->commit_count && strcmp(it->commits[it->commit_count - 1], hex) == 0)
        return;
    it->commits_total++;
    if (it->commit_count < CMB_FINDING_COMMITS)
        snprintf(it->commits[it->commit_count++], sizeof it->commits[0], "%s", hex);
}

static void own(const cmb_report *r, item *it, const cmb_owner *owner)
{
    switch (owner->kind) {
    case CMB_OWNER_NOBODY:
        break;
    case CMB_OWNER_REF:
        own_ref(r, it, owner->name);
        break;
    case CMB_OWNER_COMMIT:
        own_commit(it, owner->name);
        break;
    case CMB_OWNER_OTHER:
        snprintf(it->other, sizeof it->other, "%s", owner->name);
        break;
    }
}

static item *item_create(const cmb_report *r, const cmb_damage *d)
{
    item *it = cmb_zalloc(&r->store->alloc, sizeof *it);
    if (!it)
        return NULL;
    it->kind = cmb_finding_kind_of(d->number);
    it->error = d->error;
    it->addr = d->addr;
    it->keyed = d->keyed;
    finding_text(r, d, it->text);
    key_text(r, it->key_after, d->before);
    key_text(r, it->key_last, d->last);
    own(r, it, &d->owner);
    return it;
}

/* ---- telling ---- */

typedef struct line {
    char text[WHERE_MAX];
    size_t used;
} line;

static void say(line *l, const char *text)
{
    int n = snprintf(l->text + l->used, sizeof l->text - l->used, "%s%s", l->used ? ", " : "", text);
    l->used += n > 0 && (size_t)n < sizeof l->text - l->used ? (size_t)n : 0;
}

static void say_number(line *l, uint64_t n, const char *what)
{
    char text[96];
    snprintf(text, sizeof text, "%llu %s", (unsigned long long)n, what);
    say(l, text);
}

static void say_keys(line *l, const item *it)
{
    char text[2 * KEY_TEXT + 32];
    bool one = it->key_last[0] && strcmp(it->key_after, it->key_last) == 0;
    if (one)
        snprintf(text, sizeof text, "key \"%s\"", it->key_last);
    else if (it->key_after[0] || it->key_last[0])
        snprintf(text, sizeof text, "keys \"%s\" to \"%s\"", it->key_after, it->key_last);
    else
        snprintf(text, sizeof text, "all keys");
    say(l, text);
}

static void say_where(line *l, const item *it)
{
    l->used = 0;
    l->text[0] = 0;
    for (unsigned i = 0; i < it->ref_count; i++) {
        char name[CMB_REF_FULL_SIZE];
        plain_text(name, sizeof name, it->refs[i]);
        say(l, name);
    }
    if (it->refs_total > it->ref_count)
        say_number(l, it->refs_total - it->ref_count, "more branches and tags");
    if (it->commits_total == 1 && it->commit_count) {
        say(l, "commit ");
        l->used += (size_t)snprintf(l->text + l->used, sizeof l->text - l->used, "%s", it->commits[0]);
    } else if (it->commits_total) {
        say_number(l, it->commits_total, "commits of the history");
    }
    if (it->other[0])
        say(l, it->other);
    if (it->keyed)
        say_keys(l, it);
}

static uint64_t physical_of(const cmb_report *r, uint64_t addr)
{
    uint64_t offset;
    return addr && cmb_log_locate(r->store->log, addr, CMB_RECORD_HEADER, &offset) ? offset : CMB_NO_OFFSET;
}

static int tell(const cmb_report *r, const item *it)
{
    line where;
    if (!r->options->on_finding)
        return 0;
    say_where(&where, it);
    cmb_finding f = {.code = it->kind->name, .error = it->error, .addr = it->addr, .text = it->text, .where = where.text,
                     .kind = it->kind, .physical = physical_of(r, it->addr), .ref_count = it->ref_count, .refs_total = it->refs_total,
                     .commit_count = it->commit_count, .commits_total = it->commits_total,
                     .key_after = it->keyed ? it->key_after : NULL, .key_last = it->keyed ? it->key_last : NULL};
    for (unsigned i = 0; i < it->ref_count; i++)
        f.refs[i] = it->refs[i];
    for (unsigned i = 0; i < it->commit_count; i++)
        f.commits[i] = it->commits[i];
    return r->options->on_finding(r->options->ctx, &f) ? cmb_fail(CMB_ESTOPPED, "the check was stopped") : 0;
}

/* ---- from outside ---- */

void cmb_report_init(cmb_report *r, cmb_store *store, const cmb_fsck_options *options)
{
    *r = (cmb_report){.store = store, .options = options};
}

void cmb_report_destroy(cmb_report *r)
{
    for (size_t i = 0; i < r->n; i++)
        item_release(r, r->items[i]);
    cmb_release(&r->store->alloc, r->items, r->capacity * sizeof *r->items);
    r->items = NULL;
    r->n = r->capacity = 0;
}

static int make_room(cmb_report *r)
{
    if (r->n < r->capacity)
        return 0;
    size_t capacity = r->capacity ? 2 * r->capacity : 16;
    item **items = cmb_resize(&r->store->alloc, r->items, r->capacity * sizeof *items, capacity * sizeof *items);
    if (!items)
        return CMB_ENOMEM;
    r->items = items;
    r->capacity = capacity;
    return 0;
}

/* What was read is the image's damage only if its blocks were not used anew meanwhile: to be asked after the reading. */
static int refuse_stale(const cmb_report *r)
{
    return cmb_log_is_stale(r->store->log)
               ? cmb_fail(CMB_ESTALE, "the writer has used blocks anew since the image was opened for reading")
               : 0;
}

int cmb_report_add(cmb_report *r, const cmb_damage *damage, uint32_t *out_id)
{
    bool waits = out_id && r->n < CMB_REPORT_MAX;
    bool looks = !waits || (r->n & (r->n - 1)) == 0; /* those that wait are looked after when they go out; some now, to stop early */
    item *it = item_create(r, damage);
    int error = it ? 0 : CMB_ENOMEM;
    if (!error && looks)
        error = refuse_stale(r);
    if (!error && waits)
        error = make_room(r);
    if (!error) {
        r->findings++;
        r->spare += it->kind->severity == CMB_SEVERITY_SPARE;
        if (out_id)
            *out_id = waits ? (uint32_t)r->n : CMB_DAMAGE_UNSHARED;
    }
    if (!error && waits) {
        r->items[r->n++] = it;
        return 0;
    }
    if (!error)
        error = tell(r, it);
    item_release(r, it);
    return error;
}

void cmb_report_share(cmb_report *r, uint32_t id, const cmb_owner *owner)
{
    assert(id < r->n);
    own(r, r->items[id], owner);
}

int cmb_report_flush(cmb_report *r)
{
    int error = r->n ? refuse_stale(r) : 0;
    for (size_t i = 0; i < r->n; i++) {
        if (!error)
            error = tell(r, r->items[i]);
        item_release(r, r->items[i]);
    }
    r->n = 0;
    return error;
}
