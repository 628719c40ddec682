/* SPDX-License-Identifier: ISC */
/* land.h: what merges need of transactions and branches beyond their public face. */
#ifndef CMB_STORE_LAND_H
#define CMB_STORE_LAND_H

#include "store/handles.h"

/* What a commit is made above. */
typedef struct cmb_parents {
    const cmb_commit_at *at;
    size_t n;
    bool if_changed;          /* no commit if the content is the branch's */
    cmb_reflog_reason reason;
} cmb_parents;
/* Makes a permanent commit of the transaction's content above these parents, and the branch stands on it. A
 * transaction that holds the branch's writing turn commits; any other lands, if the branch still stands on
 * txn->base. *txn is NULL afterwards if it is gone: on success and after some errors. */
int cmb_txn_land_above(cmb_txn **txn, cmb_refobj *ref, const cmb_parents *parents, const cmb_commit_info *info,
                       cmb_rev *out_rev);
/* One edit of any kind; deleting what is not there is none. */
int cmb_txn_edit(cmb_txn *txn, const cmb_edit *edit);
/* Makes target->state permanent. *out_moved: its branch stands elsewhere by now, so the revision has to be read
 * again. */
int cmb_unit_seal(cmb_unit *unit, cmb_resolved *target, bool *out_moved);

#endif
