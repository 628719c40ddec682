/* SPDX-License-Identifier: ISC */
/* clash.c: a key and its three values, as merge functions and users see them. */
#include "store/merging.h"

void cmb_clash_init(cmb_clash *clash, cmb_store *store)
{
    *clash = (cmb_clash){.store = store};
}

void cmb_clash_destroy(cmb_clash *clash)
{
    cmb_store *store = clash->store;
    for (unsigned i = 0; i < CMB_SIDES; i++) {
        cmb_pin_destroy(store->nodes, &clash->pins[i]);
        cmb_blob_release(&store->alloc, &clash->values[i]);
    }
    cmb_release(&store->alloc, clash->room, clash->room_size);
}

bool cmb_is_marker(const cmb_scratch *scratch, const cmb_found *found)
{
    return found && scratch->stream && found->out_of_line && found->valref.addr == scratch->marker_addr;
}

void cmb_clash_set(cmb_clash *clash, cmb_clash_side side, const cmb_found *found)
{
    clash->presence[side] = found ? CMB_PRESENT : CMB_ABSENT;
    if (found)
        clash->found[side] = *found;
}

int cmb_clash_look_up(cmb_clash *clash, const cmb_scratch *scratch, const cmb_noderef roots[CMB_SIDES])
{
    const cmb_tree *tree = &clash->store->tree;
    for (unsigned i = 0; i < CMB_SIDES; i++) {
        cmb_found found;
        int error = cmb_tree_get(tree, &roots[i], clash->key.data, clash->key.size, &clash->pins[i], &found);
        if (error && error != CMB_ENOTFOUND)
            return error;
        cmb_clash_set(clash, (cmb_clash_side)i, error ? NULL : &found);
        if (!error && cmb_is_marker(scratch, &found))
            clash->presence[i] = CMB_DISPUTED;
    }
    return 0;
}

cmb_edit cmb_clash_edit(const cmb_clash *clash, cmb_clash_side side)
{
    const cmb_found *found = &clash->found[side];
    cmb_edit edit = {.kind = CMB_EDIT_DELETE, .key = clash->key};
    if (clash->presence[side] != CMB_PRESENT)
        return edit;
    edit.kind = found->out_of_line ? CMB_EDIT_PUT_FAR : CMB_EDIT_PUT;
    if (found->out_of_line)
        edit.valref = found->valref;
    else
        edit.value = found->value;
    return edit;
}

/* ---- the public face ---- */

cmb_bytes cmb_clash_key(const cmb_clash *clash)
{
    return clash->key;
}

cmb_presence cmb_clash_presence(const cmb_clash *clash, cmb_clash_side side)
{
    return clash->presence[side];
}

uint32_t cmb_clash_size(const cmb_clash *clash, cmb_clash_side side)
{
    const cmb_found *found = &clash->found[side];
    if (clash->presence[side] != CMB_PRESENT)
        return 0;
    return found->out_of_line ? found->valref.size : (uint32_t)found->value.size;
}

static int need_value(const cmb_clash *clash, cmb_clash_side side)
{
    if (clash->presence[side] == CMB_PRESENT)
        return 0;
    return cmb_fail(CMB_ENOTFOUND, "the key is %s on that side",
                    clash->presence[side] == CMB_ABSENT ? "absent" : "disputed");
}

int cmb_clash_value(cmb_clash *clash, cmb_clash_side side, cmb_bytes *out_value)
{
    const cmb_found *found = &clash->found[side];
    int error = need_value(clash, side);
    if (error)
        return error;
    if (found->out_of_line)
        return cmb_value_gather(clash->store, &found->valref, &clash->values[side], out_value);
    *out_value = found->value;
    return 0;
}

int cmb_clash_value_open(cmb_clash *clash, cmb_clash_side side, cmb_value_stream **out_stream)
{
    int error = need_value(clash, side);
    return error ? error : cmb_value_stream_open(clash->store, &clash->found[side], out_stream);
}

bool cmb_clash_is_inner(const cmb_clash *clash)
{
    return clash->inner;
}

void *cmb_clash_memory(cmb_clash *clash, size_t size)
{
    const cmb_allocator *alloc = &clash->store->alloc;
    if (size <= clash->room_size && clash->room)
        return clash->room;
    cmb_release(alloc, clash->room, clash->room_size);
    clash->room_size = 0;
    clash->room = cmb_alloc(alloc, size ? size : 1);
    if (clash->room)
        clash->room_size = size ? size : 1;
    return clash->room;
}
