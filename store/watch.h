/* SPDX-License-Identifier: ISC */
/*
 * store/watch.h (private): watches and what they have still to be told. The public face, and why it is as it is, stands in
 * include/cambium/watch.h.
 *
 * A ref that is watched (cmb_watched) knows where it stands now, and keeps a list of notes, oldest first: one for each
 * change that some lossless watch has still to take. The list ends in an open note, which the next change fills in; a
 * lossless watch points to the note that it takes next, and one that has taken all points to the open one. So a commit costs
 * one note, whatever the number of watches, and none without lossless watches:
 *
 *      oldest                          open
 *     | note |-->| note |-->| note |-->|    |        readers: watches that point here; a note
 *        ^                     ^          ^          at the beginning without any is freed
 *      watch                 watch     watch, watch
 *
 * A watch remembers where it was told to be last (seen). It has something to take when it does not point to the open note; a
 * latest one when the ref has moved since. Whether that changed anything under its keys is found out by whoever dispatches,
 * with no lock held.
 *
 * Who dispatches a watch is its runner until the callback has returned; nobody else takes it meanwhile. Closing takes a
 * watch off its ref at once; the memory goes when nobody runs it.
 */
#ifndef CMB_STORE_WATCH_H
#define CMB_STORE_WATCH_H

#include <cambium/watch.h>

#include "store/handles.h"

/* Where a ref stands at some time. */
typedef struct cmb_point {
    cmb_state state;
    uint64_t number; /* of the unit that moved it there */
    bool exists;
} cmb_point;

typedef struct cmb_note {
    struct cmb_note *next; /* NULL: the open one */
    uint64_t readers;
    cmb_point point;
} cmb_note;

typedef struct cmb_watched {
    struct cmb_watched *next;       /* in store->watches.all */
    struct cmb_watched *next_ready;
    bool ready;                     /* in that list */
    cmb_refobj *ref;                /* used */
    cmb_point now;
    cmb_watch *first;
    cmb_watch *turn;                /* who is looked at next; NULL: the first */
    cmb_note *oldest, *open;        /* NULL: there are no lossless watches */
    size_t note_count;              /* without the open one */
} cmb_watched;

/* All but `of` and what the runner alone touches is under store->watches.lock or constant. */
struct cmb_watch {
    cmb_store *store;
    cmb_watched *of;     /* NULL: closed */
    cmb_watch *next;     /* of the same ref */
    cmb_event_fn fn;
    void *ctx;
    bool lossless;
    bool lost;           /* lossless, and notes were lost that it should have taken */
    bool confined;       /* to bounds */
    bool orphan;         /* closed from its own callback: the runner frees it */
    const void *runner;  /* token of the thread that dispatches it; NULL: none */
    cmb_point seen;      /* the runner's while there is one */
    cmb_note *note;      /* lossless: taken next */
    cmb_bounds bounds;
};

/* ---- watch.c; store->watches.lock held ---- */

/* Has it something to take? */
bool cmb_watch_pending(const cmb_watch *watch);
/* Takes it: where the ref stood next, or stands now. */
cmb_event_kind cmb_watch_take(cmb_watch *watch, cmb_point *out_point);
/* There may be something to dispatch. */
void cmb_watched_ready(cmb_watches *watches, cmb_watched *watched);

/* ---- no lock ---- */
void cmb_watch_release(cmb_watch *watch); /* closed, and nobody runs it */
/* Its address tells threads apart. */
const void *cmb_watch_thread(void);

#endif
