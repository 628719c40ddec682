/* SPDX-License-Identifier: ISC */
/* mergefn.c: the merge functions that look at no values. */
#include <cambium/merge.h>

int cmb_merge_fail(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    (void)ctx, (void)clash, (void)out_value;
    return CMB_ANSWER_CONFLICT;
}

/* Which of two ancestors is mine means nothing. */
int cmb_merge_ours(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    (void)ctx, (void)out_value;
    return cmb_clash_is_inner(clash) ? CMB_ANSWER_CONFLICT : CMB_ANSWER_MINE;
}

int cmb_merge_theirs(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    (void)ctx, (void)out_value;
    return cmb_clash_is_inner(clash) ? CMB_ANSWER_CONFLICT : CMB_ANSWER_THEIRS;
}
