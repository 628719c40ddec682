/* SPDX-License-Identifier: ISC */
/**
 * @file watch.h
 * Watches: being told when a branch, or the content under some of its keys, changes. Within the process that writes.
 *
 * A watch is on a branch, which need not exist yet, and confined to a key or a range of keys if one is given: then it is
 * told only of changes of the content there, found by comparing the names of subtrees, O(log n) a change whatever its size.
 * Two kinds: *latest* is told of the newest state and passes over those that came in between, *lossless* of every single one
 * in order: each permanent commit, each advance of the working state, each time the branch is made, moved or deleted.
 *
 * ---- why events are fetched, and not thrown at somebody ----
 * Events are delivered by the application's call of cmb_watch_dispatch, on its thread, and in no other way: never on the
 * thread that commits, never on a hidden one. In a daemon the committing thread is serving another connection: what
 * listeners do must not delay its answer, must not run under whatever locks the daemon holds around its commit, and must not
 * commit in the middle of somebody's commit. And the library has no thread of its own to offer, since it runs in unikernels
 * too. So a commit leaves one small note per watched branch, however many watches there are, and the daemon chooses: a
 * thread that waits in cmb_watch_dispatch, or an event loop that gets `watch_ready` (cmb_store_options) to write to its
 * eventfd and then dispatches with a timeout of 0.
 *
 * ---- memory ----
 * A latest watch holds no notes: it compares where it was with where the branch is. For lossless ones a branch keeps the
 * notes that some watch of it has still to take, shared by all of them, each of at most CMB_WATCH_NOTE_MAX bytes: what the
 * branch stood on, by name, no data. At most `watch_notes` (cmb_store_options; default CMB_WATCH_NOTES) are kept for a
 * branch. When there is no room or no memory for one more, the watches that are furthest behind miss notes: the next event
 * of such a watch is CMB_EVENT_LOST, "resync from `after`", and from there on it is lossless again. No commit ever waits or
 * fails for the sake of a watch.
 *
 * ---- durability ----
 * A watch sees what readers in this process see: states that are queued for the device, in order, a moment before they are
 * durable. Who passes an event on to where it must never turn out not to have happened calls cmb_store_sync in the callback
 * first: it returns at once if all is durable, as it mostly is, and one call serves all events before it. When the device
 * fails (CMB_EUNKNOWN) events of commits whose outcome is unknown may have been delivered.
 *
 * ---- threads ----
 * Every call here may be made from any thread. Several threads may dispatch; one watch's callback never runs in two at once,
 * and its events come in order. Callbacks are called with none of the library's locks held: they may commit, read, open and
 * close watches, their own too, and dispatch (all but their own).
 */
#ifndef CAMBIUM_WATCH_H
#define CAMBIUM_WATCH_H

#include <cambium/store.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CMB_WATCH_NOTE_MAX 384u /* bytes */
#define CMB_WATCH_NOTES 16384u  /* of a branch, unless the store's options say otherwise */

typedef struct cmb_watch cmb_watch;

typedef enum cmb_event_kind {
    CMB_EVENT_CHANGED = 1,
    /** Only to lossless watches: some of the changes between `before` and `after` are forgotten. Comes whether or not there is a
     *  difference under the watch. */
    CMB_EVENT_LOST = 2,
} cmb_event_kind;

/** Valid during the callback. */
typedef struct cmb_event {
    cmb_event_kind kind;
    cmb_watch *watch;       /* whose event it is */
    const char *branch;     /* without "heads/" */
    bool existed, exists;   /* the branch, before and after; one that does not exist reads as empty */
    cmb_rev before, after;  /* what is under the watch was as in `before` when the last event was delivered or the watch began */
    /** Grows from change to change of the image; equal for branches that moved together. */
    uint64_t number;
    /** 0, or why before and after could not be compared (CMB_EIO, CMB_ECORRUPT, CMB_ENOMEM): then there may be no
     *  difference under the watch. */
    int error;
} cmb_event;

typedef void (*cmb_event_fn)(void *ctx, const cmb_event *event);

/** What is watched. Zero-initialise; copied. */
typedef struct cmb_watch_options {
    const char *branch;
    cmb_bytes key;    /* this key alone; size 0: the range */
    cmb_range range;  /* zero: the branch itself, also where a move changes no content */
    bool lossless;    /* else latest */
} cmb_watch_options;

/**
 * Begins a watch: what changes from now on is told. out_start (NULL is allowed) gets a snapshot of the state where it
 * begins, so that nothing is missed or seen twice; empty if there is no such branch. CMB_EINVAL: the name, or a key with a
 * range; CMB_EREADONLY: nothing can change in a store that was opened so.
 */
CMB_API int cmb_watch_open(cmb_store *store, const cmb_watch_options *options, cmb_event_fn fn, void *ctx, cmb_snapshot **out_start,
                           cmb_watch **out_watch);
/**
 * Ends a watch; its callback is not called any more. While the callback runs on another thread, waits until it has returned:
 * so not to be called with a lock held that the callback takes, nor by two callbacks for each other. From inside its own
 * callback it returns at once. NULL is allowed. cmb_store_close ends the watches that are left; no dispatch may be running
 * then.
 */
CMB_API void cmb_watch_close(cmb_watch *watch);

/**
 * Delivers events by calling their watches' callbacks, one watch after the other, at most `max` of them (at least 1). If
 * there are none, waits for the first: `timeout` microseconds, 0: not at all, negative: without end. Returns how many were
 * delivered; fewer than max: there are no more just now. CMB_EINVAL.
 */
CMB_API int cmb_watch_dispatch(cmb_store *store, int max, int64_t timeout);
/** Ends one wait in cmb_watch_dispatch, a present one or else the next: it returns 0. For ending a dispatching thread. */
CMB_API void cmb_watch_wake(cmb_store *store);

/** The states of an event, also working ones, which no REV can name once they are past. */
CMB_API int cmb_event_before(const cmb_event *event, cmb_snapshot **out_snapshot);
CMB_API int cmb_event_after(const cmb_event *event, cmb_snapshot **out_snapshot);

#ifdef __cplusplus
}
#endif
#endif
