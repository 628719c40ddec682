/* SPDX-License-Identifier: ISC */
/*
 * Several sources as one. A heap orders the lanes by (key in the direction of travel, newest
 * first); the top is the current edit. Older edits of its key lie right below it and are passed
 * over by the next move. A change of direction seeks every lane anew.
 */
#include "btree/source.h"

typedef struct lane {
    cmb_source *source;
    uint64_t head; /* first 8 bytes of the key */
    cmb_edit edit;
} lane;

typedef struct merge_source {
    cmb_source base;
    cmb_allocator alloc;
    size_t lane_count, heap_size;
    cmb_place state;
    bool backward;
    cmb_key_copy key;
    uint32_t *heap; /* lanes' numbers; a lower one is newer */
    lane lanes[];
} merge_source;

static size_t merge_bytes(size_t n)
{
    return sizeof(merge_source) + n * (sizeof(lane) + sizeof(uint32_t));
}

static uint64_t head_of(const uint8_t *key, size_t size)
{
    uint64_t word = 0;
    memcpy(&word, key, size < 8 ? size : 8);
    return CMB_BE64(word);
}

/* Does lane a come before lane b? */
static bool lane_before(const merge_source *m, uint32_t a, uint32_t b)
{
    const lane *x = &m->lanes[a], *y = &m->lanes[b];
    int c = x->head < y->head ? -1 : x->head > y->head;
    if (!c)
        c = cmb_compare(x->edit.key.data, x->edit.key.size, y->edit.key.data, y->edit.key.size);
    return c == 0 ? a < b : (c < 0) != m->backward;
}

static void sift_down(merge_source *m, size_t at)
{
    uint32_t moving = m->heap[at];
    for (size_t child; (child = 2 * at + 1) < m->heap_size; at = child) {
        if (child + 1 < m->heap_size && lane_before(m, m->heap[child + 1], m->heap[child]))
            child++;
        if (!lane_before(m, m->heap[child], moving))
            break;
        m->heap[at] = m->heap[child];
    }
    m->heap[at] = moving;
}

/* Takes the result of a lane's move and, unless it ended, its edit. */
static int lane_load(lane *l, int moved, bool *out_live)
{
    *out_live = moved == 0;
    if (moved)
        return moved == CMB_ENOTFOUND ? 0 : moved;
    int r = l->source->ops->current(l->source, &l->edit);
    if (!r)
        l->head = head_of(l->edit.key.data, l->edit.key.size);
    return r;
}

static int lose(merge_source *m, int error)
{
    m->state = CMB_PLACE_LOST;
    return error;
}

static int settle(merge_source *m)
{
    m->state = m->heap_size ? CMB_PLACE_ON : m->backward ? CMB_PLACE_BEFORE : CMB_PLACE_AFTER;
    return m->heap_size ? 0 : CMB_ENOTFOUND;
}

typedef enum start { TO_END, TO_KEY, PAST_KEY } start;

/* Positions every lane for travel in a direction: from the outermost entry, from m->key, or strictly past it. */
static int start_lanes(merge_source *m, bool backward, start from)
{
    m->backward = backward;
    m->heap_size = 0;
    for (size_t i = 0; i < m->lane_count; i++) {
        lane *l = &m->lanes[i];
        const cmb_source_ops *ops = l->source->ops;
        bool live;
        int r = from == TO_END ? (backward ? ops->last : ops->first)(l->source)
                               : (backward ? ops->seek_le : ops->seek_ge)(l->source, m->key.data, m->key.size);
        r = lane_load(l, r, &live);
        if (!r && live && from == PAST_KEY &&
            cmb_compare(l->edit.key.data, l->edit.key.size, m->key.data, m->key.size) == 0)
            r = lane_load(l, (backward ? ops->prev : ops->next)(l->source), &live);
        if (r)
            return lose(m, r);
        if (live)
            m->heap[m->heap_size++] = (uint32_t)i;
    }
    for (size_t i = m->heap_size / 2; i-- > 0;)
        sift_down(m, i);
    return settle(m);
}

/* Moves every lane that stands on the current key. */
static int advance(merge_source *m)
{
    uint64_t head = m->lanes[m->heap[0]].head;
    while (m->heap_size) {
        lane *top = &m->lanes[m->heap[0]];
        bool live;
        if (top->head != head || top->edit.key.size != m->key.size ||
            memcmp(top->edit.key.data, m->key.data, m->key.size) != 0)
            break;
        int r = lane_load(top, (m->backward ? top->source->ops->prev : top->source->ops->next)(top->source), &live);
        if (r)
            return lose(m, r);
        if (!live)
            m->heap[0] = m->heap[--m->heap_size];
        if (m->heap_size)
            sift_down(m, 0);
    }
    return settle(m);
}

static int merge_step(cmb_source *source, bool backward)
{
    merge_source *m = (merge_source *)source;
    if (m->state == CMB_PLACE_LOST)
        return cmb_place_lost();
    if (m->state == (backward ? CMB_PLACE_BEFORE : CMB_PLACE_AFTER))
        return CMB_ENOTFOUND;
    if (m->state != CMB_PLACE_ON)
        return start_lanes(m, backward, TO_END);
    const cmb_bytes key = m->lanes[m->heap[0]].edit.key;
    if (cmb_key_copy_set(&m->alloc, &m->key, key.data, key.size))
        return CMB_ENOMEM;
    return m->backward == backward ? advance(m) : start_lanes(m, backward, PAST_KEY);
}

static int merge_seek(cmb_source *source, bool backward, const uint8_t *key, size_t key_size)
{
    merge_source *m = (merge_source *)source;
    if (cmb_key_copy_set(&m->alloc, &m->key, key, key_size))
        return CMB_ENOMEM;
    return start_lanes(m, backward, TO_KEY);
}

static int merge_first(cmb_source *source) { return start_lanes((merge_source *)source, false, TO_END); }
static int merge_last(cmb_source *source) { return start_lanes((merge_source *)source, true, TO_END); }
static int merge_next(cmb_source *source) { return merge_step(source, false); }
static int merge_prev(cmb_source *source) { return merge_step(source, true); }
static int merge_seek_ge(cmb_source *source, const uint8_t *key, size_t size) { return merge_seek(source, false, key, size); }
static int merge_seek_le(cmb_source *source, const uint8_t *key, size_t size) { return merge_seek(source, true, key, size); }

static int merge_current(cmb_source *source, cmb_edit *out_edit)
{
    merge_source *m = (merge_source *)source;
    if (m->state != CMB_PLACE_ON)
        return CMB_ENOTFOUND;
    *out_edit = m->lanes[m->heap[0]].edit;
    return 0;
}

static void merge_close(cmb_source *source)
{
    merge_source *m = (merge_source *)source;
    cmb_allocator alloc = m->alloc;
    for (size_t i = 0; i < m->lane_count; i++)
        m->lanes[i].source->ops->close(m->lanes[i].source);
    cmb_key_copy_release(&alloc, &m->key);
    cmb_release(&alloc, m, merge_bytes(m->lane_count));
}

static const cmb_source_ops merge_ops = {
    merge_first, merge_last, merge_seek_ge, merge_seek_le, merge_next, merge_prev, merge_current, merge_close,
};

int cmb_source_merge(const cmb_allocator *alloc, cmb_source **newest_first, size_t n, cmb_source **out_source)
{
    if (n == 1) {
        *out_source = newest_first[0];
        return 0;
    }
    merge_source *m = cmb_zalloc(alloc, merge_bytes(n));
    if (!m)
        return CMB_ENOMEM;
    m->base.ops = &merge_ops;
    m->alloc = *alloc;
    m->lane_count = n;
    m->state = CMB_PLACE_UNSET;
    m->heap = (uint32_t *)(m->lanes + n);
    for (size_t i = 0; i < n; i++)
        m->lanes[i].source = newest_first[i];
    *out_source = &m->base;
    return 0;
}

/* ---- copies of keys ---- */

int cmb_key_copy_reserve(const cmb_allocator *alloc, cmb_key_copy *copy, size_t size)
{
    size_t capacity = copy->capacity ? copy->capacity : 64;
    if (size <= copy->capacity)
        return 0;
    while (capacity < size)
        capacity *= 2;
    uint8_t *data = cmb_resize(alloc, copy->data, copy->capacity, capacity);
    if (!data)
        return CMB_ENOMEM;
    copy->data = data;
    copy->capacity = capacity;
    return 0;
}

int cmb_key_copy_set(const cmb_allocator *alloc, cmb_key_copy *copy, const void *key, size_t key_size)
{
    if (key_size > copy->capacity && cmb_key_copy_reserve(alloc, copy, key_size))
        return CMB_ENOMEM;
    memmove(copy->data, key, key_size); /* may be this very copy */
    copy->size = key_size;
    return 0;
}

void cmb_key_copy_release(const cmb_allocator *alloc, cmb_key_copy *copy)
{
    cmb_release(alloc, copy->data, copy->capacity);
    *copy = (cmb_key_copy){.data = NULL};
}
