/* SPDX-License-Identifier: ISC */
/* view.h: what view.c and view_cursor.c share. */
#ifndef CMB_BTREE_VIEW_H
#define CMB_BTREE_VIEW_H

#include "btree/buffer.h"
#include "btree/source.h"

/* No edits lie above the tree. */
static inline bool cmb_view_is_plain(const cmb_view *view)
{
    return view->run_count == 0 &&
           (!view->buffer || view->buffer->index.count + view->buffer->tail_count == 0);
}

/* The buffer's and the runs' edits merged, whether there are any or not. */
int cmb_view_edits(const cmb_view *view, cmb_source **out_source);

#endif
