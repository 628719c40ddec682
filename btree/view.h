/* SPDX-License-Identifier: ISC */
/* view.h: what view.c and view_cursor.c share. */
#ifndef CMB_BTREE_VIEW_H
#define CMB_BTREE_VIEW_H

#include "btree/buffer.h"
#include "btree/intents.h"
#include "btree/source.h"

/* Has the view's list an edit that the view sees? The same for as long as the view lives. */
static inline bool cmb_view_has_intents(const cmb_view *view)
{
    return view->intents && cmb_intents_any(view->intents, 0, view->intents_upto);
}

/* No edits lie above the tree. */
static inline bool cmb_view_is_plain(const cmb_view *view)
{
    return view->run_count == 0 && (!view->buffer || view->buffer->index.count + view->buffer->tail_count == 0) &&
           !cmb_view_has_intents(view);
}

/* The buffer's, the runs' and the intents' edits merged, whether there are any or not. */
int cmb_view_edits(const cmb_view *view, cmb_source **out_source);

#endif
