/* SPDX-License-Identifier: ISC */
/* salvage_write.c: a transaction on the new image that takes what was read of the damaged one. */
#include "store/salvage.h"

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
static int write_far(void *ctx, cmb_bytes key, cmb_value_reader *value, uint32_t size)
{
    cmb_sv_writer *w = ctx;
    if (!w->piece && !(w->piece = cmb_alloc(&w->s->alloc, CMB_CHUNK_SIZE)))
        return CMB_ENOMEM;
    int error = cmb_txn_value_begin(w->txn, key);
    if (error)
        return error;
    for (uint64_t at = 0; at < size && !error;) {
        size_t n;
        error = cmb_value_reader_read(value, at, w->piece, CMB_CHUNK_SIZE, &n);
        if (error) {
            cmb_txn_value_abort(w->txn);
            return cmb_sv_is_damage(error) ? 1 : error;
        }
        error = cmb_txn_value_add(w->txn, w->piece, n);
        at += n;
    }
    if (!error)
        return cmb_txn_value_finish(w->txn);
    cmb_txn_value_abort(w->txn);
    return error;
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
    cmb_release(&w->s->alloc, w->piece, CMB_CHUNK_SIZE);
    if (!error) {
        error = cmb_txn_commit(w->txn, info, NULL);
        open = error == CMB_ENOSPC || error == CMB_ENOMEM || error == CMB_EINVAL;
    }
    if (open)
        cmb_txn_abort(w->txn);
    return error;
}
