/* SPDX-License-Identifier: ISC */
/* edit.c: transactions for the steps of scenarios. */
#include "tests/kloop/kloop.h"

#include "store/internal.h"

/* Ends the transaction whatever the error is. */
static int land(cmb_txn *txn, int error, const char *message)
{
    cmb_commit_info info = {.author = "ada", .message = message, .time = 1700000000000000};
    if (!error) {
        error = cmb_txn_commit(txn, message ? &info : NULL, NULL);
        if (error != CMB_ENOMEM && error != CMB_ENOSPC && error != CMB_EINVAL)
            return error;
    }
    cmb_txn_abort(txn);
    return error;
}

int kloop_edit_do(cmb_store *store, const kloop_edit *edit)
{
    cmb_txn *txn;
    int error = cmb_txn_begin(store, edit->branch, 0, &txn);
    if (error)
        return error;
    for (unsigned i = 0; !error && i < edit->n; i++) {
        char key[24], value[160];
        unsigned number = edit->first + i * edit->stride;
        snprintf(key, sizeof key, "key%06u", number);
        if (edit->value) {
            snprintf(value, sizeof value, "%s of %u", edit->value, number);
            error = cmb_txn_put(txn, str(key), str(value));
        } else {
            error = cmb_txn_del(txn, str(key));
        }
    }
    return land(txn, error, edit->message);
}

int kloop_put(cmb_store *store, const char *branch, const char *key, const char *value, const char *message)
{
    cmb_txn *txn;
    int error = cmb_txn_begin(store, branch, 0, &txn);
    if (error)
        return error;
    if (value)
        error = cmb_txn_put(txn, str(key), str(value));
    else if ((error = cmb_txn_del(txn, str(key))) == CMB_ENOTFOUND)
        error = 0;
    return land(txn, error, message);
}

void kloop_put_large(cmb_store *store, const char *branch)
{
    static uint8_t large[70000];
    cmb_txn *txn;
    memset(large, 'L', sizeof large);
    must(cmb_txn_begin(store, branch, 0, &txn));
    must(cmb_txn_put(txn, str("large"), (cmb_bytes){large, sizeof large}));
    must(land(txn, 0, "large"));
}

int kloop_checkpoint(cmb_store *store)
{
    return cmb_store_checkpoint(store);
}

int kloop_seal(cmb_store *store)
{
    return cmb_log_seal(store->log);
}
