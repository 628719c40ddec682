/* SPDX-License-Identifier: ISC */
/*
 * report.h: findings on their way out. They wait until all that may share what is damaged has been walked, so that one finding
 * names everybody whom it hurts; the first CMB_REPORT_MAX of them, the others go out at once. One thread.
 *
 * Beside a writer what looks damaged may have been used anew. So none goes out before the superblocks have said, after the reading,
 * that it was not: the first time that they say it was, CMB_ESTALE ends it. What went out before was true.
 */
#ifndef CMB_STORE_REPORT_H
#define CMB_STORE_REPORT_H

#include "store/mark.h"

#define CMB_REPORT_MAX 4096u

typedef struct cmb_report {
    cmb_store *store;
    const cmb_fsck_options *options;
    struct cmb_report_item **items; /* that wait, in the order in which they were found */
    size_t n, capacity;
    uint64_t findings, spare;       /* told and waiting */
} cmb_report;

void cmb_report_init(cmb_report *report, cmb_store *store, const cmb_fsck_options *options);
void cmb_report_destroy(cmb_report *report);
/* The detail text of the thread is the finding's text. CMB_ESTOPPED, CMB_ESTALE, CMB_ENOMEM. out_id may be NULL: it goes out at once. */
int cmb_report_add(cmb_report *report, const cmb_damage *damage, uint32_t *out_id);
/* cmb_mark_options.shared */
void cmb_report_share(cmb_report *report, uint32_t id, const cmb_owner *owner);
/* Tells all that waits. CMB_ESTOPPED, CMB_ESTALE. */
int cmb_report_flush(cmb_report *report);
const cmb_finding_kind *cmb_finding_kind_of(cmb_finding_number number);

#endif
