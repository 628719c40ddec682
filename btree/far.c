/* SPDX-License-Identifier: ISC */
/* far.c: which form a value has in its leaf, inline or out of line, and how it gets there. */
#include "btree/level.h"

#define PIECE (64u * 1024)

/* Does an out-of-line value hold these bytes? One that cannot be read does not. */
static int holds(const cmb_tree *tree, const cmb_valref *ref, const uint8_t *data, uint32_t size, bool *out_holds)
{
    *out_holds = false;
    if (ref->size != size)
        return 0;
    uint8_t *piece = cmb_alloc(&tree->alloc, PIECE);
    if (!piece)
        return CMB_ENOMEM;
    cmb_value_reader *reader;
    int error = cmb_value_reader_open(tree, ref, &reader);
    if (!error) {
        uint64_t done = 0;
        size_t got = 1;
        while (!error && done < size && got > 0) {
            error = cmb_value_reader_read(reader, done, piece, PIECE, &got);
            if (error || got > size - done || memcmp(piece, data + done, got) != 0)
                break;
            done += got;
        }
        *out_holds = !error && done == size;
        cmb_value_reader_close(reader);
    }
    cmb_release(&tree->alloc, piece, PIECE);
    return error == CMB_ENOMEM ? error : 0;
}

/* A value that lies out of line but is small. */
static int bring_home(cmb_level *lv, const cmb_valref *ref, cmb_entry *e)
{
    uint8_t *room = cmb_window_room(&lv->window, ref->size ? ref->size : 1);
    if (!room)
        return CMB_ENOMEM;
    cmb_value_reader *reader;
    int error = cmb_value_reader_open(lv->editor->tree, ref, &reader);
    if (error)
        return error;
    size_t done = 0, got = 1;
    while (!error && done < ref->size && got > 0) {
        error = cmb_value_reader_read(reader, done, room + done, ref->size - done, &got);
        done += error ? 0 : got;
    }
    cmb_value_reader_close(reader);
    if (!error && done < ref->size)
        error = cmb_fail(CMB_ECORRUPT, "value at %llu: %llu of its %u bytes are there", (unsigned long long)ref->addr,
                         (unsigned long long)done, (unsigned)ref->size);
    e->value = room;
    e->value_size = ref->size;
    e->valref = NULL;
    return error;
}

int cmb_far_value(cmb_level *lv, const cmb_entry *entry, const cmb_node *old, uint32_t index, cmb_valref *out_valref,
                  cmb_entry *out_entry)
{
    const cmb_tree *tree = lv->editor->tree;
    *out_entry = *entry;
    if (entry->valref)
        return entry->valref->size > cmb_tree_inline_max(tree) ? 0 : bring_home(lv, entry->valref, out_entry);
    bool same = false;
    int error = 0;
    if (old && cmb_node_is_out_of_line(old, index)) {
        cmb_node_valref(old, index, out_valref);
        error = holds(tree, out_valref, entry->value, entry->value_size, &same);
    }
    if (!error && !same)
        error = cmb_value_write(tree, lv->editor->app, entry->value, entry->value_size, out_valref);
    out_entry->value = NULL;
    out_entry->value_size = 0;
    out_entry->valref = out_valref;
    return error;
}
