/* SPDX-License-Identifier: ISC */
/*
 * salvage_state.c: refs and commits. Tables of one state are taken over as far as they can be read; for what lies in their holes older
 * states are asked, newest first. A state is a ROOT record's tables with the EDITS between it and the next newer one.
 */
#include "store/salvage.h"

#include <stdio.h>

#define STATES_MAX 1000u /* older ones that are asked */
#define GATHER_ROUNDS 3u /* again where nodes of tables came back */

static int add_known(cmb_salvage *s, cmb_table_id t, cmb_bytes key, cmb_bytes value, bool removed)
{
    return cmb_buffer_add(s->known[t], &(cmb_edit){.kind = removed ? CMB_EDIT_DELETE : CMB_EDIT_PUT, .key = key, .value = value});
}

/* Is nothing known of this key yet, although newer states had it? */
static bool is_open(cmb_salvage *s, cmb_table_id t, cmb_bytes key)
{
    cmb_edit edit;
    return cmb_sv_ranges_have(&s->holes[t], key) && !cmb_buffer_find(s->known[t], key.data, key.size, &edit);
}

/* ---- one table of one state ---- */

typedef struct absorber {
    cmb_salvage *s;
    cmb_table_id table;
    cmb_sv_list lost; /* ranges */
} absorber;

static int on_lost(void *ctx, const cmb_noderef *ref, int error, cmb_bytes lo, cmb_bytes hi, uint64_t found)
{
    absorber *a = ctx;
    int e = cmb_sv_graft_note(a->s, ref);
    return e ? e : cmb_sv_range_add(&a->s->alloc, &a->lost, lo, hi);
}

static int absorb_edits(absorber *a, cmb_buffer *edits)
{
    cmb_source *source;
    cmb_edit edit;
    int error = cmb_source_buffer(edits, &source);
    if (error)
        return error;
    for (error = source->ops->first(source); !error; error = source->ops->next(source)) {
        error = source->ops->current(source, &edit);
        if (!error && is_open(a->s, a->table, edit.key))
            error = add_known(a->s, a->table, edit.key, edit.value, edit.kind == CMB_EDIT_DELETE);
        if (error)
            break;
    }
    source->ops->close(source);
    return error == CMB_ENOTFOUND ? 0 : error;
}

/* What an older tree says of a ref may have changed since, by an edit that is lost. */
static int take_entry(absorber *a, const cmb_sv_item *item)
{
    cmb_salvage *s = a->s;
    int error = add_known(s, a->table, item->key, item->found.value, false);
    if (!error && s->asks_older && a->table == CMB_TABLE_REFS)
        error = cmb_buffer_add(s->older, &(cmb_edit){.kind = CMB_EDIT_PUT, .key = item->key});
    return error;
}

static int absorb_tree(absorber *a, const cmb_noderef *root)
{
    cmb_salvage *s = a->s;
    cmb_sv_cursor *c;
    cmb_sv_item item;
    int error = cmb_sv_cursor_open(s, &s->in->table_tree, root, on_lost, a, &c);
    if (error)
        return error;
    while (!error && cmb_sv_cursor_item(c, &item)) {
        bool added;
        if (item.subtree) {
            error = item.ref.addr % CMB_RECORD_ALIGN ? 0 : cmb_addrset_add(s->seen, item.ref.addr, 0, &added);
            if (!error)
                error = cmb_sv_cursor_enter(c);
            continue;
        }
        if (!item.found.out_of_line && item.found.value.size <= CMB_TABLE_VALUE_MAX && is_open(s, a->table, item.key))
            error = take_entry(a, &item);
        cmb_sv_cursor_pass(c);
    }
    cmb_sv_cursor_close(c);
    return error;
}

/* Takes what is open and known here; open stays what cannot be read here either. */
static int absorb(cmb_salvage *s, cmb_table_id t, const cmb_noderef *root, cmb_buffer *edits)
{
    absorber a = {.s = s, .table = t};
    cmb_sv_list both = {NULL, 0, 0};
    int error = absorb_edits(&a, edits);
    if (!error)
        error = absorb_tree(&a, root);
    if (!error) {
        cmb_sv_ranges_join(&s->alloc, &a.lost);
        error = cmb_sv_ranges_both(&s->alloc, &s->holes[t], &a.lost, &both);
    }
    if (!error) {
        cmb_sv_ranges_free(&s->alloc, &s->holes[t]);
        s->holes[t] = both;
    }
    cmb_sv_ranges_free(&s->alloc, &a.lost);
    return error;
}

/* The tables of a store. `complete`: what is not in them was not there. */
static int absorb_store(cmb_salvage *s, cmb_store *store, bool complete)
{
    int error = 0;
    for (unsigned t = 0; t < CMB_TABLES && !error; t++) {
        cmb_buffer *edits;
        cmb_noderef root;
        absorber a = {.s = s, .table = (cmb_table_id)t};
        if (!s->holes[t].n)
            continue;
        error = cmb_table_collect(store, a.table, &edits, &root);
        if (error)
            return error;
        error = complete ? absorb(s, a.table, &root, edits) : absorb_edits(&a, edits);
        cmb_buffer_destroy(edits);
    }
    return error;
}

/* ---- states from records ---- */

/* Records of a batch that a crash cut off lie within addresses of a later epoch. */
bool cmb_sv_is_stale(const cmb_salvage *s, const cmb_sv_record *r)
{
    const cmb_sv_record *e = s->epochs.items;
    size_t low = 0, high = s->epochs.n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (e[mid].addr <= r->addr)
            low = mid + 1;
        else
            high = mid;
    }
    if (!r->epoch)
        return false;
    while (low-- > 0 && e[low].epoch != r->epoch) {
        if (e[low].kind)
            return true;
    }
    return false;
}

static int reset_tables(cmb_store *store)
{
    int error = 0;
    store->unit_number = 0;
    for (unsigned t = 0; t < CMB_TABLES && !error; t++) {
        cmb_table_destroy(store, &store->tables[t]);
        memset(&store->tables[t], 0, sizeof store->tables[t]);
        cmb_tree_empty(&store->tree, &store->tables[t].root);
        error = cmb_table_init(store, &store->tables[t]);
    }
    return error;
}

/* One EDITS record into the tables; one that cannot be read is passed over. *lost: units that no record before it told of, and itself. */
static int replay(cmb_salvage *s, const cmb_sv_record *r, uint64_t *lost)
{
    uint64_t unit = s->in->unit_number + 1;
    uint8_t *record = cmb_alloc(&s->alloc, r->length);
    if (!record)
        return CMB_ENOMEM;
    int error = cmb_log_read(s->in->log, NULL, r->addr, r->length, record);
    if (!error)
        error = cmb_record_check(record, r->length, r->addr);
    if (!error)
        error = cmb_edits_replay(s->in, r->kind, r->addr, record + CMB_RECORD_HEADER, r->length - CMB_RECORD_HEADER);
    uint64_t found = error ? 0 : cmb_edits_unit(record + CMB_RECORD_HEADER, r->length - CMB_RECORD_HEADER);
    if (found > unit) {
        *lost += found - unit;
        unit = found;
    }
    cmb_release(&s->alloc, record, r->length);
    s->in->unit_number = unit;
    if (cmb_sv_is_damage(error)) {
        ++*lost;
        return 0;
    }
    return error;
}

/* Makes in's tables those of records[at], a ROOT, with the edits up to `before`; at n: of no ROOT. CMB_ECORRUPT: it cannot be read. */
static int load_state(cmb_salvage *s, size_t at, uint64_t before, uint64_t *out_lost)
{
    const cmb_sv_record *r = s->records.items;
    bool none = at == s->records.n;
    int error = reset_tables(s->in);
    *out_lost = 0;
    if (!error && !none)
        error = cmb_root_read_tables(s->in, r[at].addr, r[at].length);
    for (size_t i = none ? 0 : at + 1; i < s->records.n && r[i].addr < before && !error; i++) {
        if (r[i].kind == CMB_RECORD_EDITS && !cmb_sv_is_stale(s, &r[i]))
            error = replay(s, &r[i], out_lost);
    }
    return error;
}

static bool has_holes(const cmb_salvage *s)
{
    return s->holes[CMB_TABLE_REFS].n || s->holes[CMB_TABLE_COMMITS].n;
}

/* States older than `before`, newest first, until nothing is open. */
static int ask_records(cmb_salvage *s, uint64_t before)
{
    const cmb_sv_record *r = s->records.items;
    unsigned states = 0;
    uint64_t lost;
    for (size_t i = s->records.n; i-- > 0 && has_holes(s) && states < STATES_MAX;) {
        if (r[i].kind != CMB_RECORD_ROOT || r[i].addr >= before || cmb_sv_is_stale(s, &r[i]))
            continue;
        int error = load_state(s, i, before, &lost);
        if (cmb_sv_is_damage(error))
            continue;
        if (!error)
            error = absorb_store(s, s->in, /* complete= */ true);
        if (error)
            return error;
        if (!s->asks_older)
            s->units_lost = lost;
        states++;
        s->asks_older = true;
        before = r[i].addr;
    }
    if (states || !has_holes(s))
        return 0;
    int error = load_state(s, s->records.n, before, &s->units_lost); /* not one ROOT: what edits say, and nothing more is known */
    return error ? error : absorb_store(s, s->in, /* complete= */ false);
}

/* ---- what no state knows ---- */

/* The place of a commit in the damaged image. */
static int known_commit(cmb_salvage *s, cmb_bytes id, cmb_commit_at *out_at)
{
    cmb_edit edit;
    if (!cmb_buffer_find(s->known[CMB_TABLE_COMMITS], id.data, id.size, &edit) || edit.kind != CMB_EDIT_PUT)
        return CMB_ENOTFOUND;
    return cmb_commit_at_unpack(s->in, id, edit.value, out_at);
}

/* The commit that a reflog entry leads to; size 0: none. */
static cmb_bytes reflog_after(const cmb_salvage *s, cmb_bytes value)
{
    const uint8_t *p = value.data;
    unsigned id = cmb_name_size(s->in->tree.hash);
    if (value.size < 11 || (p[9] && p[9] != id) || p[10] != id || value.size != 11u + p[9] + p[10])
        return (cmb_bytes){NULL, 0};
    return (cmb_bytes){p + 11 + p[9], id};
}

/* A ref of which only the reflog's newest entry is left. */
static int ref_from_reflog(cmb_salvage *s, const char *name, cmb_bytes id)
{
    uint8_t packed[CMB_STATE_PACKED_MAX];
    cmb_bytes key = {name, strlen(name)};
    cmb_commit_at at;
    cmb_state state;
    if (!is_open(s, CMB_TABLE_REFS, key) || known_commit(s, id, &at) || cmb_commit_state(s->in, &at, &state))
        return 0;
    int error = add_known(s, CMB_TABLE_REFS, key, (cmb_bytes){packed, cmb_state_pack(&state, packed)}, false);
    return error ? error : cmb_sv_tell_of(s, CMB_LOSS_REF_OLDER, 0, 0, name, "it stands on the newest commit that its reflog has");
}

/* Keys are a name, a zero byte and a number: of each name the last entry counts. */
static int refs_from_reflog(cmb_salvage *s)
{
    char name[CMB_REF_FULL_SIZE] = "";
    cmb_source *source;
    cmb_edit edit;
    cmb_name after = {.size = 0};
    int error = cmb_source_buffer(s->known[CMB_TABLE_REFLOG], &source);
    if (error)
        return error;
    for (error = source->ops->first(source); !error; error = source->ops->next(source)) {
        error = source->ops->current(source, &edit);
        if (error)
            break;
        size_t size = edit.key.size > 9 ? edit.key.size - 9 : 0;
        if (!size || size >= sizeof name || edit.kind != CMB_EDIT_PUT || ((const char *)edit.key.data)[size] != 0)
            continue;
        if (strlen(name) != size || memcmp(name, edit.key.data, size) != 0) {
            error = after.size ? ref_from_reflog(s, name, (cmb_bytes){after.bytes, after.size}) : 0;
            memcpy(name, edit.key.data, size);
            name[size] = 0;
        }
        cmb_bytes id = reflog_after(s, edit.value);
        after.size = (uint8_t)id.size;
        if (id.size)
            memcpy(after.bytes, id.data, id.size);
        if (error)
            break;
    }
    source->ops->close(source);
    if (error == CMB_ENOTFOUND)
        error = after.size ? ref_from_reflog(s, name, (cmb_bytes){after.bytes, after.size}) : 0;
    return error;
}

/* Is there no place known for it? A state that was put together does not tell that it never had one. */
static bool commit_is_open(cmb_salvage *s, cmb_bytes id)
{
    cmb_edit edit;
    return s->exact ? is_open(s, CMB_TABLE_COMMITS, id) : !cmb_buffer_find(s->known[CMB_TABLE_COMMITS], id.data, id.size, &edit);
}

/* *out_lost: commits that a state was put together without, though nothing says that one is missing. */
static int commits_from_scan(cmb_salvage *s, bool *out_lost)
{
    const cmb_commit_at *at = s->commits_found.items;
    int error = 0;
    *out_lost = false;
    for (size_t i = 0; i < s->commits_found.n && !error; i++) {
        uint8_t value[CMB_COMMIT_AT_PACKED];
        cmb_bytes id = {at[i].id.bytes, at[i].id.size};
        cmb_commit_at_pack(&at[i], value);
        if (!commit_is_open(s, id))
            continue;
        *out_lost = *out_lost || !cmb_sv_ranges_have(&s->holes[CMB_TABLE_COMMITS], id);
        error = add_known(s, CMB_TABLE_COMMITS, id, (cmb_bytes){value, sizeof value}, false);
    }
    return error;
}

static int tell_older(cmb_salvage *s)
{
    char name[CMB_REF_FULL_SIZE];
    cmb_source *source;
    cmb_edit edit;
    int error = cmb_source_buffer(s->older, &source);
    if (error)
        return error;
    for (error = source->ops->first(source); !error; error = source->ops->next(source)) {
        error = source->ops->current(source, &edit);
        if (!error && edit.key.size < sizeof name) {
            memcpy(name, edit.key.data, edit.key.size);
            name[edit.key.size] = 0;
            error = cmb_sv_tell_of(s, CMB_LOSS_REF_OLDER, 0, 0, name, "it was read from an older state");
        }
        if (error)
            break;
    }
    source->ops->close(source);
    return error == CMB_ENOTFOUND ? 0 : error;
}

static int tell_holes(cmb_salvage *s, cmb_table_id t, cmb_loss_kind kind, const char *text)
{
    const cmb_sv_range *r = s->holes[t].items;
    int error = 0;
    for (size_t i = 0; i < s->holes[t].n && !error; i++)
        error = cmb_sv_tell(s, kind, 0, 0, "", r[i].after, r[i].last, text);
    return error;
}

/* ---- all of it ---- */

static int begin(cmb_salvage *s)
{
    s->asks_older = false;
    s->units_lost = 0;
    cmb_buffer_destroy(s->older);
    s->older = NULL;
    int error = cmb_buffer_create(&s->alloc, &s->older);
    for (unsigned t = 0; t < CMB_TABLES && !error; t++) {
        cmb_buffer_destroy(s->known[t]);
        s->known[t] = NULL;
        cmb_sv_ranges_free(&s->alloc, &s->holes[t]);
        error = cmb_buffer_create(&s->alloc, &s->known[t]);
        if (!error)
            error = cmb_sv_range_add(&s->alloc, &s->holes[t], (cmb_bytes){NULL, 0}, (cmb_bytes){NULL, 0});
    }
    return error;
}

/* *out_holes: the first state was not complete. */
static int gather_states(cmb_salvage *s, bool *out_holes)
{
    uint64_t before = UINT64_MAX;
    uint32_t length;
    int error = begin(s);
    if (!error && s->exact) {
        cmb_log_root(s->exact->log, &before, &length);
        error = absorb_store(s, s->exact, /* complete= */ true);
        s->asks_older = true;
    }
    *out_holes = s->exact && has_holes(s);
    if (!error && has_holes(s))
        error = cmb_sv_scan(s);
    return !error && has_holes(s) ? ask_records(s, before) : error;
}

/* The state was put together of what there is. */
static int tell_rebuilt(cmb_salvage *s, bool commits_lost)
{
    char text[700];
    int n = snprintf(text, sizeof text, "%s", s->why);
    if (s->units_lost)
        n += snprintf(text + n, sizeof text - (size_t)n, "; %llu of the last changes of branches and tags cannot be read",
                      (unsigned long long)s->units_lost);
    if (commits_lost)
        snprintf(text + n, sizeof text - (size_t)n, "; there are commits that no branch was seen to stand on");
    return cmb_sv_tell_of(s, CMB_LOSS_STATE, 0, 0, "", text);
}

int cmb_sv_gather(cmb_salvage *s)
{
    bool more = true, holes = false, lost = false;
    int error = 0;
    for (unsigned round = 0; round < GATHER_ROUNDS && more && !error; round++) {
        error = gather_states(s, &holes);
        if (!error)
            error = cmb_sv_graft_all(s, &more); /* nodes of tables that come back change the states */
    }
    if (!error && (!s->exact || s->holes[CMB_TABLE_COMMITS].n))
        error = commits_from_scan(s, &lost);
    if (!error && !s->exact)
        error = tell_rebuilt(s, lost);
    if (!error && holes)
        error = cmb_sv_tell_of(s, CMB_LOSS_TABLE, 0, 0, "", "nodes of the tables are damaged");
    if (!error && s->holes[CMB_TABLE_REFS].n)
        error = refs_from_reflog(s);
    if (!error)
        error = tell_older(s);
    s->refs_lost = s->holes[CMB_TABLE_REFS].n > 0 || s->units_lost || lost;
    if (!error)
        error = tell_holes(s, CMB_TABLE_REFS, CMB_LOSS_REFS, "the table of branches and tags");
    return error ? error : tell_holes(s, CMB_TABLE_COMMITS, CMB_LOSS_COMMITS, "the index of commits");
}
