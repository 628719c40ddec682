/* SPDX-License-Identifier: ISC */
#include "store/intake.h"

#include <assert.h>

#define SMALL_COMMITS 256u /* so many at most are indexed by an EDITS record */
#define SMALL_REFS 64u     /* and so many refs moved */

/* A ref that is to move. */
typedef struct wish {
    cmb_refobj *ref;
    cmb_state state;   /* where to, if it is to exist */
    cmb_name expected; /* size 0: nowhere */
    cmb_reflog_reason reason;
    bool exists, expects;
    bool locked;
    bool idle;         /* it stands there already */
} wish;

struct cmb_intake {
    cmb_store *store;
    cmb_appender *stream;
    cmb_buffer *commits; /* those of the stream: id -> packed place */
    size_t commit_count;
    size_t tag_count;    /* tag objects in the stream */
    cmb_noderef index;   /* tree of the commit index that none of them is in */
    cmb_buffer *names;   /* full name of a ref -> u32, its wish */
    wish *wishes;
    size_t wish_count, wish_capacity;
};

/* ---- beginning and ending ---- */

static void unlock_refs(cmb_intake *in)
{
    for (size_t i = 0; i < in->wish_count; i++) {
        if (in->wishes[i].locked)
            cmb_ref_unlock(in->store, in->wishes[i].ref);
        in->wishes[i].locked = false;
    }
}

void cmb_intake_abort(cmb_intake *in)
{
    if (!in)
        return;
    cmb_allocator alloc = in->store->alloc;
    unlock_refs(in);
    for (size_t i = 0; i < in->wish_count; i++)
        cmb_ref_unuse(in->store, in->wishes[i].ref);
    cmb_release(&alloc, in->wishes, in->wish_capacity * sizeof *in->wishes);
    if (in->stream)
        cmb_append_abort(in->stream);
    cmb_buffer_destroy(in->names);
    cmb_buffer_destroy(in->commits);
    cmb_release(&alloc, in, sizeof *in);
}

int cmb_intake_open(cmb_store *store, cmb_intake **out_intake)
{
    int error = cmb_store_check_writable(store);
    if (error)
        return error;
    cmb_intake *in = cmb_zalloc(&store->alloc, sizeof *in);
    if (!in)
        return CMB_ENOMEM;
    in->store = store;
    cmb_table_root(store, CMB_TABLE_COMMITS, &in->index);
    error = cmb_buffer_create(&store->alloc, &in->commits);
    if (!error)
        error = cmb_buffer_create(&store->alloc, &in->names);
    if (!error)
        error = cmb_store_note(store, cmb_log_stream(store->log, &in->stream));
    if (error)
        cmb_intake_abort(in);
    else
        *out_intake = in;
    return error;
}

/* ---- commits ---- */

cmb_appender *cmb_intake_appender(cmb_intake *in)
{
    (void)cmb_stream_rise(in->stream); /* a stream that failed says so at the next append */
    return in->stream;
}

int cmb_intake_find(cmb_intake *in, const cmb_name *id, cmb_commit_at *out_at)
{
    uint8_t value[CMB_TABLE_VALUE_MAX];
    size_t size;
    cmb_edit edit;
    cmb_bytes key = {id->bytes, id->size};
    if (cmb_buffer_find(in->commits, id->bytes, id->size, &edit))
        return cmb_commit_at_unpack(in->store, key, edit.value, out_at);
    int error = cmb_table_get(in->store, CMB_TABLE_COMMITS, key, value, &size);
    return error ? error : cmb_commit_at_unpack(in->store, key, (cmb_bytes){value, size}, out_at);
}

int cmb_intake_commit(cmb_intake *in, const cmb_commit_draft *draft, cmb_commit_at *out_at)
{
    cmb_store *store = in->store;
    cmb_commit_at at;
    cmb_name id;
    uint8_t place[CMB_COMMIT_AT_PACKED];
    int error = cmb_commit_name(store, draft, &id);
    if (!error)
        error = cmb_intake_find(in, &id, out_at);
    if (error != CMB_ENOTFOUND)
        return error;
    error = cmb_commit_append(store, cmb_intake_appender(in), draft, &at);
    if (error)
        return cmb_store_note(store, error);
    cmb_commit_at_pack(&at, place);
    error = cmb_buffer_add(in->commits, &(cmb_edit){.kind = CMB_EDIT_PUT,
                                                    .key = {at.id.bytes, at.id.size},
                                                    .value = {place, sizeof place}});
    if (error)
        return error;
    in->commit_count++;
    *out_at = at;
    return 0;
}

/* ---- refs ---- */

static int check_name(const char *full_name)
{
    if (strncmp(full_name, CMB_HEADS, sizeof CMB_HEADS - 1) == 0)
        return cmb_ref_name_check(full_name + sizeof CMB_HEADS - 1);
    if (strncmp(full_name, CMB_TAGS, sizeof CMB_TAGS - 1) == 0)
        return cmb_ref_name_check(full_name + sizeof CMB_TAGS - 1);
    return cmb_fail(CMB_EINVAL, "'%.*s' names neither a branch nor a tag", 255, full_name);
}

static int grow_wishes(cmb_intake *in)
{
    size_t n = in->wish_capacity, wanted = n ? 2 * n : 8;
    if (in->wish_count < n)
        return 0;
    wish *grown = cmb_resize(&in->store->alloc, in->wishes, n * sizeof *grown, wanted * sizeof *grown);
    if (!grown)
        return CMB_ENOMEM;
    in->wishes = grown;
    in->wish_capacity = wanted;
    return 0;
}

/* The wish of this ref, made if there was none. */
static int obtain_wish(cmb_intake *in, const char *name, wish **out_wish)
{
    cmb_bytes key = {name, strlen(name)};
    uint8_t number[4];
    cmb_refobj *ref;
    cmb_edit edit;
    if (cmb_buffer_find(in->names, key.data, key.size, &edit)) {
        *out_wish = &in->wishes[cmb_get32(edit.value.data)];
        return 0;
    }
    int error = grow_wishes(in);
    if (!error)
        error = cmb_ref_use(in->store, name, key.size, &ref);
    if (error)
        return error;
    cmb_put32(number, (uint32_t)in->wish_count);
    error = cmb_buffer_add(in->names, &(cmb_edit){.kind = CMB_EDIT_PUT, .key = key, .value = {number, sizeof number}});
    if (error) {
        cmb_ref_unuse(in->store, ref);
        return error;
    }
    wish *w = &in->wishes[in->wish_count++];
    *w = (wish){.ref = ref};
    *out_wish = w;
    return 0;
}

/* state NULL: the ref is to be deleted. */
static int set_wish(cmb_intake *in, const char *full_name, const cmb_name *expected, const cmb_state *state, cmb_reflog_reason reason)
{
    wish *w, new = {.reason = reason, .exists = state != NULL, .expects = expected != NULL};
    int error = obtain_wish(in, full_name, &w);
    if (error)
        return error;
    new.ref = w->ref;
    if (state)
        new.state = *state;
    if (expected)
        new.expected = *expected;
    *w = new;
    return 0;
}

int cmb_intake_ref(cmb_intake *in, const char *full_name, const cmb_name *expected, const cmb_commit_at *at,
                   cmb_reflog_reason reason)
{
    cmb_state state;
    int error = check_name(full_name);
    if (!error && at)
        error = cmb_commit_state(in->store, at, &state);
    return error ? error : set_wish(in, full_name, expected, at ? &state : NULL, reason);
}

int cmb_intake_tag(cmb_intake *in, const cmb_tag_draft *draft, cmb_commit_at *out_at)
{
    int error = cmb_tag_append(in->store, cmb_intake_appender(in), draft, out_at);
    if (error)
        return cmb_store_note(in->store, error);
    in->tag_count++;
    return 0;
}

int cmb_intake_tag_ref(cmb_intake *in, const char *full_name, const cmb_name *expected, const cmb_commit_at *tag,
                       cmb_reflog_reason reason)
{
    cmb_state state;
    int error = check_name(full_name);
    if (!error)
        error = cmb_tag_state(in->store, tag, &state);
    return error ? error : set_wish(in, full_name, expected, &state, reason);
}

/* Everybody who locks several refs does so in the order of their names. */
static int lock_refs(cmb_intake *in)
{
    cmb_source *names;
    int error = cmb_source_buffer(in->names, &names);
    if (error)
        return error;
    for (error = names->ops->first(names); !error; error = names->ops->next(names)) {
        cmb_edit edit;
        error = names->ops->current(names, &edit);
        wish *w = error ? NULL : &in->wishes[cmb_get32(edit.value.data)];
        if (!error)
            error = cmb_ref_lock(in->store, w->ref, false);
        if (error)
            break;
        w->locked = true;
    }
    names->ops->close(names);
    return error == CMB_ENOTFOUND ? 0 : error;
}

static bool stands_as_expected(const wish *w, const cmb_state *now, bool exists)
{
    if (!w->expects)
        return true;
    if (!w->expected.size)
        return !exists || (!now->commit.id.size && !now->working);
    return exists && !now->working && cmb_name_equal(&now->commit.id, &w->expected);
}

static int check_refs(cmb_intake *in, size_t *out_changes)
{
    size_t changes = 0;
    for (size_t i = 0; i < in->wish_count; i++) {
        wish *w = &in->wishes[i];
        cmb_state now;
        bool exists;
        cmb_ref_look(in->store, w->ref, &now, &exists);
        if (!stands_as_expected(w, &now, exists))
            return cmb_fail(CMB_ECONFLICT, "%s stands elsewhere than it was expected to", w->ref->name);
        w->idle = w->exists == exists && (!exists || cmb_state_equal(&w->state, &now));
        changes += !w->idle;
    }
    *out_changes = changes;
    return 0;
}

/* ---- publishing ---- */

static int made_elsewhere(cmb_bytes id)
{
    char hex[2 * CMB_NAME_MAX + 1];
    cmb_name name = {.size = (uint8_t)id.size};
    memcpy(name.bytes, id.data, id.size);
    cmb_name_hex(&name, hex);
    return cmb_fail(CMB_ECONFLICT, "commit %s came into the image by another way meanwhile", hex);
}

/* Is one of the edits about a commit of the stream? */
static int check_edits(cmb_intake *in, cmb_buffer *edits)
{
    cmb_source *source;
    cmb_edit edit, own;
    int error = cmb_source_buffer(edits, &source);
    if (error)
        return error;
    for (error = source->ops->first(source); !error; error = source->ops->next(source)) {
        error = source->ops->current(source, &edit);
        if (!error && cmb_buffer_find(in->commits, edit.key.data, edit.key.size, &own))
            error = made_elsewhere(edit.key);
        if (error)
            break;
    }
    source->ops->close(source);
    return error == CMB_ENOTFOUND ? 0 : error;
}

/* Is a commit of the stream in this tree? */
static int check_tree(cmb_intake *in, const cmb_noderef *index)
{
    const cmb_tree *tree = &in->store->table_tree;
    cmb_source *ids;
    cmb_pin pin = {0};
    int error = cmb_source_buffer(in->commits, &ids);
    if (error)
        return error;
    for (error = ids->ops->first(ids); !error; error = ids->ops->next(ids)) {
        cmb_edit edit;
        cmb_found found;
        error = ids->ops->current(ids, &edit);
        if (error)
            break;
        error = cmb_tree_get(tree, index, edit.key.data, edit.key.size, &pin, &found);
        if (error != CMB_ENOTFOUND) {
            error = error ? error : made_elsewhere(edit.key);
            break;
        }
    }
    ids->ops->close(ids);
    cmb_pin_destroy(in->store->nodes, &pin);
    return error == CMB_ENOTFOUND ? 0 : error;
}

/* One id never lies in two places: has somebody else published one of these commits since they were looked for? */
static int check_new(cmb_intake *in)
{
    cmb_buffer *edits;
    cmb_noderef index;
    int error = cmb_table_collect(in->store, CMB_TABLE_COMMITS, &edits, &index);
    if (error)
        return error;
    error = check_edits(in, edits);
    cmb_buffer_destroy(edits);
    if (!error && !(index.addr == in->index.addr && cmb_name_equal(&index.name, &in->index.name)))
        error = check_tree(in, &index);
    if (!error)
        in->index = index;
    return error;
}

static bool is_small(const cmb_intake *in)
{
    return in->commit_count <= SMALL_COMMITS && in->wish_count <= SMALL_REFS;
}

/* All that can be done before anybody has to wait. */
static int prepare(cmb_intake *in, cmb_index_batch *out_batch)
{
    cmb_store *store = in->store;
    int error = cmb_buffer_seal(in->commits);
    if (error)
        return error;
    if (!in->commit_count && !in->tag_count) { /* what the stream holds then is of no use */
        cmb_append_abort(in->stream);
        in->stream = NULL;
        return is_small(in) ? 0 : cmb_store_note(store, cmb_log_stream(store->log, &in->stream));
    }
    error = check_new(in);
    if (error)
        return error;
    if (is_small(in))
        return cmb_store_note(store, cmb_stream_finish(in->stream));
    if (!in->commit_count)
        return 0;
    return cmb_store_note(store, cmb_index_batch_apply(store, in->stream, in->commits, out_batch));
}

static int add_moves(cmb_intake *in, cmb_unit *unit)
{
    int error = 0;
    for (size_t i = 0; !error && i < in->wish_count; i++) {
        const wish *w = &in->wishes[i];
        if (!w->idle)
            error = cmb_unit_move_first(unit, w->ref, w->exists ? &w->state : NULL, w->reason);
    }
    return error;
}

static int add_index(cmb_intake *in, cmb_unit *unit)
{
    cmb_source *ids;
    int error = cmb_source_buffer(in->commits, &ids);
    if (error)
        return error;
    for (error = ids->ops->first(ids); !error; error = ids->ops->next(ids)) {
        cmb_edit edit;
        cmb_commit_at at;
        error = ids->ops->current(ids, &edit);
        if (!error)
            error = cmb_commit_at_unpack(in->store, edit.key, edit.value, &at);
        if (!error)
            error = cmb_unit_index(unit, &at);
        if (error)
            break;
    }
    ids->ops->close(ids);
    return error == CMB_ENOTFOUND ? 0 : error;
}

/* As a transaction does: the stream adopted, the rest in an EDITS record. */
static int publish_small(cmb_intake *in, uint64_t *out_seq)
{
    cmb_unit unit;
    int error = cmb_unit_begin(in->store, &unit);
    if (error)
        return error;
    error = check_new(in);
    if (!error && in->stream) {
        error = cmb_append_adopt(unit.app, in->stream);
        if (!error)
            in->stream = NULL; /* the unit's */
    }
    if (!error)
        error = add_index(in, &unit);
    if (!error)
        error = add_moves(in, &unit);
    if (!error)
        return cmb_unit_publish(&unit, out_seq);
    cmb_unit_abort(&unit);
    return cmb_store_note(in->store, error);
}

static int publish_large(cmb_intake *in, const cmb_index_batch *batch, uint64_t *out_seq)
{
    cmb_unit unit;
    cmb_appender *stream = in->stream;
    int error = cmb_unit_begin_folded(in->store, &unit);
    if (error)
        return error;
    error = check_new(in);
    if (!error)
        error = add_moves(in, &unit);
    if (error) {
        cmb_unit_abort(&unit);
        return error;
    }
    in->stream = NULL;
    return cmb_unit_publish_folded(&unit, stream, in->commit_count ? batch : NULL, out_seq);
}

int cmb_intake_publish(cmb_intake *in)
{
    cmb_store *store = in->store;
    cmb_index_batch batch;
    size_t changes = 0;
    uint64_t seq = 0;
    int error = cmb_store_check_writable(store);
    if (!error)
        error = prepare(in, &batch);
    if (!error)
        error = lock_refs(in);
    if (!error)
        error = check_refs(in, &changes);
    if (!error && (changes || in->commit_count))
        error = is_small(in) ? publish_small(in, &seq) : publish_large(in, &batch, &seq);
    unlock_refs(in);
    if (!error && seq)
        error = cmb_unit_settle(store, seq, false);
    cmb_intake_abort(in); /* what is left of it */
    return error;
}
