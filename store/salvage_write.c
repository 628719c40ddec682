/* SPDX-License-Identifier: ISC */
/* salvage_write.c: a transaction on the new image that takes what was read of the damaged one. */
#include "store/salvage.h"

#include "store/land.h"

static int write_put(void *ctx, cmb_bytes key, cmb_bytes value)
{
    cmb_sv_writer *w = ctx;
    return cmb_txn_put(w->txn, key, value);
}

static int write_del(void *ctx, cmb_bytes key)
{
    cmb_sv_writer *w = ctx;
    int error = cmb_txn_del(w->txn, key);
    return error == CMB_ENOTFOUND ? 0 : error;
}

/* 1: it cannot be read, and the key is as it was. */
static int write_far(void *ctx, cmb_bytes key, const cmb_valref *value)
{
    cmb_sv_writer *w = ctx;
    cmb_edit edit = {.kind = CMB_EDIT_PUT_FAR, .key = key};
    int error = cmb_txn_need_stream(w->txn);
    if (error)
        return error;
    error = cmb_sv_value_copy(w->s, value, w->txn->stream, &edit.valref);
    if (error)
        return error == 1 ? 1 : cmb_store_note(w->s->out, error);
    w->txn->stream_needed = true;
    return cmb_txn_edit(w->txn, &edit);
}

int cmb_sv_writer_begin(cmb_salvage *s, const char *branch, cmb_sv_writer *w)
{
    *w = (cmb_sv_writer){.s = s, .sink = {.put = write_put, .put_far = write_far, .del = write_del}};
    w->sink.ctx = w;
    return cmb_txn_begin(s->out, branch, 0, &w->txn);
}

int cmb_sv_writer_end(cmb_sv_writer *w, int error, const cmb_commit_info *info)
{
    bool open = error != 0;
    if (!error) {
        error = cmb_txn_commit(w->txn, info, NULL);
        open = error == CMB_ENOSPC || error == CMB_ENOMEM || error == CMB_EINVAL;
    }
    if (open)
        cmb_txn_abort(w->txn);
    return error;
}
