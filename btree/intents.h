/* SPDX-License-Identifier: ISC */
/*
 * intents.h: edits that were made durable in the log and are not merged into the tree yet, in memory:
 * an ordered list of versions. Every edit carries the number of the unit that made it (`seq`); a reader
 * that looks "up to n" sees of each key the newest edit with seq <= n and nothing younger. So one list
 * serves the branch and every snapshot of it: a snapshot is a root, a list and a number.
 *
 * One thread adds at a time (the store's unit lock); any number read meanwhile without a lock. A reader asks up to a seq of which
 * everything has been added: what it was told to read up to, it was told afterwards. Entries are never changed nor removed; memory goes
 * when the last holder lets the list go. How it is laid out: intents_private.h.
 */
#ifndef CMB_BTREE_INTENTS_H
#define CMB_BTREE_INTENTS_H

#include "btree/tree.h"

typedef struct cmb_intents cmb_intents;

/* An empty list, held once. */
int cmb_intents_create(const cmb_allocator *alloc, cmb_intents **out_list);
cmb_intents *cmb_intents_hold(cmb_intents *list); /* one holder more; NULL gives NULL; any thread */
void cmb_intents_release(cmb_intents *list);      /* the last frees it; NULL allowed; any thread */

/*
 * Makes the next adds succeed: n edits whose keys and values take `bytes` together. CMB_ENOMEM: unchanged.
 * Before anything is published, so that showing a unit in memory cannot fail. Of the thread that adds; what an earlier
 * call reserved and was not used is not on top of it.
 */
int cmb_intents_reserve(cmb_intents *list, size_t n, size_t bytes);
/* Reserved before. PUT or DELETE; copies key and value. seq is not lower than any before; the same key never twice in one seq. */
void cmb_intents_add(cmb_intents *list, uint64_t seq, const cmb_edit *edit);

/* The edit of a key that a reader up to `upto` sees; false: none. Pointers live as long as the list. */
bool cmb_intents_find(const cmb_intents *list, uint64_t upto, const uint8_t *key, size_t key_size, cmb_edit *out_edit);
/* The same in two steps, so that several keys wait for memory together: first all of them are prefetched, then found. */
uint64_t cmb_intents_prefetch(const cmb_intents *list, const uint8_t *key, size_t key_size);
bool cmb_intents_find_hashed(const cmb_intents *list, uint64_t upto, uint64_t hash, const uint8_t *key, size_t key_size, cmb_edit *out_edit);
/* Has the list an edit with after < seq <= upto? */
bool cmb_intents_any(const cmb_intents *list, uint64_t after, uint64_t upto);
/* Edits added, versions of one key counted each, and the bytes of their keys and values. */
size_t cmb_intents_count(const cmb_intents *list);
size_t cmb_intents_bytes(const cmb_intents *list);
/* Bytes of memory held: with small edits several times those of their keys and values. */
size_t cmb_intents_memory(const cmb_intents *list);
/* The seq of the newest edit, 0: none. */
uint64_t cmb_intents_newest(const cmb_intents *list);

/*
 * In key order, both ways: of each key the newest edit with after < seq <= upto. Edits added while it is open and younger than
 * `upto` are not seen. The list must outlive it, and what it gives out lives as long as the list. Memory: one handle, and no move
 * fails. A seek is O(log n), a step O(1) and one more for each key passed over that has no edit in the range.
 */
int cmb_source_intents(const cmb_intents *list, uint64_t after, uint64_t upto, cmb_source **out_source);

/* A new list of the edits with seq > after: what is left when those up to `after` are in the tree. Of the thread that adds. */
int cmb_intents_rest(const cmb_intents *list, uint64_t after, cmb_intents **out_list);

#endif
