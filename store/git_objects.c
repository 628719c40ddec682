/* SPDX-License-Identifier: ISC */
/* git_objects.c: what a stream has named so far: marks, and contents of files that wait for a commit that uses them. */
#include "store/git.h"

#include <assert.h>

/* ---- tables that grow ---- */

int cmb_git_grow(const cmb_allocator *alloc, void **array, size_t *capacity, size_t count, size_t element_size)
{
    if (count < *capacity)
        return 0;
    size_t wanted = *capacity ? 2 * *capacity : 64;
    void *grown = cmb_resize(alloc, *array, *capacity * element_size, wanted * element_size);
    if (!grown)
        return CMB_ENOMEM;
    *array = grown;
    *capacity = wanted;
    return 0;
}

static void place(struct cmb_git_slot *slots, size_t capacity, struct cmb_git_slot slot)
{
    size_t i = (size_t)slot.hash & (capacity - 1);
    while (slots[i].value)
        i = (i + 1) & (capacity - 1);
    slots[i] = slot;
}

int cmb_git_index_add(const cmb_allocator *alloc, cmb_git_index *index, uint64_t hash, uint64_t value)
{
    if (4 * (index->count + 1) > 3 * index->capacity) {
        size_t capacity = index->capacity ? 2 * index->capacity : 256;
        struct cmb_git_slot *slots = cmb_zalloc(alloc, capacity * sizeof *slots);
        if (!slots)
            return CMB_ENOMEM;
        for (size_t i = 0; i < index->capacity; i++)
            if (index->slots[i].value)
                place(slots, capacity, index->slots[i]);
        cmb_release(alloc, index->slots, index->capacity * sizeof *slots);
        index->slots = slots;
        index->capacity = capacity;
    }
    place(index->slots, index->capacity, (struct cmb_git_slot){hash, value + 1});
    index->count++;
    return 0;
}

bool cmb_git_index_next(const cmb_git_index *index, uint64_t hash, size_t *pos, uint64_t *out_value)
{
    for (size_t i = *pos; i < index->capacity; i++) {
        const struct cmb_git_slot *slot = &index->slots[((size_t)hash + i) & (index->capacity - 1)];
        if (!slot->value)
            break;
        if (slot->hash == hash) {
            *pos = i + 1;
            *out_value = slot->value - 1;
            return true;
        }
    }
    return false;
}

void cmb_git_index_release(const cmb_allocator *alloc, cmb_git_index *index)
{
    cmb_release(alloc, index->slots, index->capacity * sizeof *index->slots);
}

/* ---- beginning and end ---- */

int cmb_git_objects_open(cmb_git_objects *o, cmb_store *store, cmb_intake *intake)
{
    *o = (cmb_git_objects){.store = store, .alloc = &store->alloc, .intake = intake};
    o->near.alloc = o->far.alloc = o->alloc;
    if (store->env.random(store->env.ctx, o->seeds, sizeof o->seeds))
        return cmb_fail(CMB_EIO, "no randomness for hash tables");
    return 0;
}

void cmb_git_objects_close(cmb_git_objects *o)
{
    cmb_release(o->alloc, o->marks, o->mark_capacity * sizeof *o->marks);
    cmb_release(o->alloc, o->blobs, o->blob_capacity * sizeof *o->blobs);
    cmb_release(o->alloc, o->commits, o->commit_capacity * sizeof *o->commits);
    cmb_git_index_release(o->alloc, &o->by_mark);
    cmb_git_index_release(o->alloc, &o->by_content);
    cmb_slab_release(&o->near);
    cmb_slab_release(&o->far);
}

/* ---- marks ---- */

static uint64_t mark_hash(const cmb_git_objects *o, uint64_t mark)
{
    return cmb_hash64(&mark, sizeof mark, o->seeds[0]);
}

/* The last one of this number; NULL: none. */
static cmb_git_mark *find_mark(const cmb_git_objects *o, uint64_t mark)
{
    uint64_t hash = mark_hash(o, mark), i;
    size_t pos = 0;
    while (cmb_git_index_next(&o->by_mark, hash, &pos, &i))
        if (o->marks[i].mark == mark)
            return &o->marks[i];
    return NULL;
}

const cmb_git_mark *cmb_git_mark_find(const cmb_git_objects *o, uint64_t mark)
{
    return find_mark(o, mark);
}

int cmb_git_mark_set(cmb_git_objects *o, uint64_t mark, cmb_git_kind kind, size_t number)
{
    cmb_git_mark *known = find_mark(o, mark), made = {mark, kind, (uint32_t)number};
    if (number > UINT32_MAX)
        return cmb_fail(CMB_ETOOBIG, "more than %u objects of one kind in a stream", UINT32_MAX);
    if (known) {
        *known = made;
        return 0;
    }
    int error = cmb_git_grow(o->alloc, (void **)&o->marks, &o->mark_capacity, o->mark_count, sizeof *o->marks);
    if (!error)
        error = cmb_git_index_add(o->alloc, &o->by_mark, mark_hash(o, mark), o->mark_count);
    if (!error)
        o->marks[o->mark_count++] = made;
    return error;
}

int cmb_git_commit_add(cmb_git_objects *o, const cmb_git_commit *commit, size_t *out_number)
{
    int error = cmb_git_grow(o->alloc, (void **)&o->commits, &o->commit_capacity, o->commit_count, sizeof *o->commits);
    if (error)
        return error;
    *out_number = o->commit_count;
    o->commits[o->commit_count++] = *commit;
    return 0;
}

/* ---- contents ---- */

static int add_blob(cmb_git_objects *o, const cmb_git_blob *blob, size_t *out_number)
{
    int error = cmb_git_grow(o->alloc, (void **)&o->blobs, &o->blob_capacity, o->blob_count, sizeof *o->blobs);
    if (error)
        return error;
    *out_number = o->blob_count;
    o->blobs[o->blob_count++] = *blob;
    return 0;
}

/* A copy that stays where it is. */
static const void *keep(cmb_slab *slab, const void *data, size_t size)
{
    size_t taken = (size_t)cmb_align_up(size ? size : 1, 8);
    if (cmb_slab_reserve(slab, taken))
        return NULL;
    void *copy = cmb_slab_take(slab, taken);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

/* Puts every content that is in memory into the image's stream. */
static int spill(cmb_git_objects *o)
{
    for (size_t i = 0; i < o->blob_count; i++) {
        cmb_git_blob *b = &o->blobs[i];
        cmb_valref ref;
        if (!b->near)
            continue;
        int error = cmb_value_write(&o->store->tree, cmb_intake_appender(o->intake), b->data, b->size, &ref);
        const cmb_valref *kept = error ? NULL : keep(&o->far, &ref, sizeof ref);
        if (!kept)
            return error ? error : CMB_ENOMEM;
        b->near = false;
        b->ref = kept;
    }
    cmb_slab_release(&o->near);
    return 0;
}

static int read_near(cmb_git_objects *o, cmb_bytes whole, bool keep_it, size_t *out_number)
{
    if (!keep_it) {
        o->passing = whole;
        *out_number = CMB_GIT_PASSING;
        return 0;
    }
    cmb_git_blob blob = {.size = (uint32_t)whole.size, .near = true};
    if (o->near.memory > o->store->txn_memory) {
        int error = spill(o);
        if (error)
            return error;
    }
    blob.data = keep(&o->near, whole.data, whole.size);
    return blob.data ? add_blob(o, &blob, out_number) : CMB_ENOMEM;
}

/* The same content, if it was there before. */
static bool find_content(const cmb_git_objects *o, uint64_t hash, uint64_t print, size_t size, size_t *out_number)
{
    uint64_t i;
    size_t pos = 0;
    while (cmb_git_index_next(&o->by_content, hash, &pos, &i))
        if (o->blobs[i].print == print && o->blobs[i].size == size) {
            *out_number = (size_t)i;
            return true;
        }
    return false;
}

static int add_far(cmb_git_objects *o, const cmb_valref *ref, uint64_t print, size_t *out_number)
{
    cmb_git_blob blob = {.size = ref->size, .print = print};
    blob.ref = keep(&o->far, ref, sizeof *ref);
    return blob.ref ? add_blob(o, &blob, out_number) : CMB_ENOMEM;
}

static int read_far(cmb_git_objects *o, cmb_bytes whole, size_t *out_number)
{
    uint64_t hash = cmb_hash64(whole.data, whole.size, o->seeds[0]),
             print = cmb_hash64(whole.data, whole.size, o->seeds[1]);
    cmb_valref ref;
    if (find_content(o, hash, print, whole.size, out_number))
        return 0;
    int error =
        cmb_value_write(&o->store->tree, cmb_intake_appender(o->intake), whole.data, (uint32_t)whole.size, &ref);
    if (!error)
        error = add_far(o, &ref, print, out_number);
    if (!error)
        error = cmb_git_index_add(o->alloc, &o->by_content, hash, *out_number);
    return error;
}

/* Too large to be held in memory: written as it comes. */
static int read_long(cmb_git_objects *o, cmb_git_data *data, size_t *out_number)
{
    cmb_value_writer *writer;
    cmb_bytes piece = {NULL, 1};
    cmb_valref ref;
    int error = cmb_value_writer_open(&o->store->tree, cmb_intake_appender(o->intake), &writer);
    if (error)
        return error;
    while (!error && piece.size) {
        error = cmb_git_data_next(data, &piece);
        if (!error && piece.size)
            error = cmb_value_writer_add(writer, piece.data, piece.size);
    }
    if (error) {
        cmb_value_writer_abort(writer);
        return error;
    }
    error = cmb_value_writer_finish(writer, &ref);
    return error ? error : add_far(o, &ref, 0, out_number);
}

int cmb_git_blob_read(cmb_git_objects *o, cmb_git_data *data, bool keep_it, size_t *out_number)
{
    cmb_bytes whole;
    if (data->size > CMB_VALUE_MAX)
        return cmb_git_refuse(data->in, CMB_ETOOBIG, "a blob of %llu bytes: at most %u", (unsigned long long)data->size,
                              CMB_VALUE_MAX);
    if (!data->memory && data->size > CMB_GIT_WHOLE_MAX)
        return read_long(o, data, out_number);
    int error = cmb_git_data_whole(data, &whole);
    if (error)
        return error;
    return whole.size > cmb_tree_inline_max(&o->store->tree) ? read_far(o, whole, out_number)
                                                             : read_near(o, whole, keep_it, out_number);
}

void cmb_git_blob_edit(const cmb_git_objects *o, size_t number, cmb_edit *out_edit)
{
    assert(number == CMB_GIT_PASSING || number < o->blob_count);
    const cmb_git_blob *b = number == CMB_GIT_PASSING ? NULL : &o->blobs[number];
    out_edit->kind = b && !b->near ? CMB_EDIT_PUT_FAR : CMB_EDIT_PUT;
    if (!b)
        out_edit->value = o->passing;
    else if (b->near)
        out_edit->value = (cmb_bytes){b->data, b->size};
    else
        out_edit->valref = *b->ref;
}
