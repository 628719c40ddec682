/* SPDX-License-Identifier: ISC */
/*
 * os.h: the one seam to the operating system: threads, clock, randomness, anonymous memory. A port
 * writes one file like os_posix.c. Nothing in btree/, log/ or store/ includes an OS header.
 */
#ifndef CMB_IO_OS_H
#define CMB_IO_OS_H

#include "io/base.h"

/* Opaque storage large enough for the platform's own; os_posix.c asserts it. */
typedef struct cmb_mutex { _Alignas(16) unsigned char opaque[64]; } cmb_mutex;
typedef struct cmb_cond { _Alignas(16) unsigned char opaque[64]; } cmb_cond;
typedef struct cmb_thread { _Alignas(16) unsigned char opaque[32]; } cmb_thread;

int cmb_mutex_init(cmb_mutex *m); /* 0 or CMB_ENOMEM */
void cmb_mutex_destroy(cmb_mutex *m);
void cmb_mutex_lock(cmb_mutex *m);
bool cmb_mutex_trylock(cmb_mutex *m);
void cmb_mutex_unlock(cmb_mutex *m);
int cmb_cond_init(cmb_cond *c);
void cmb_cond_destroy(cmb_cond *c);
void cmb_cond_wait(cmb_cond *c, cmb_mutex *m);
/* Waits until cmb_os_monotonic() is `deadline` at most; false: it is. */
bool cmb_cond_wait_until(cmb_cond *c, cmb_mutex *m, uint64_t deadline);
void cmb_cond_signal(cmb_cond *c);
void cmb_cond_broadcast(cmb_cond *c);
int cmb_thread_start(cmb_thread *t, void (*run)(void *arg), void *arg); /* 0 or CMB_ENOMEM */
void cmb_thread_join(cmb_thread *t); /* once for every thread that started */

/* The default environment's clock and randomness (types.h). */
cmb_env cmb_env_or_default(const cmb_env *env);
uint64_t cmb_os_monotonic(void); /* nanoseconds, for deadlines, progress and statistics only */

/* Anonymous zeroed memory, on huge pages where the platform has them; NULL: none left. Rounded up
 * to 2 MiB by the caller's wish only. */
void *cmb_os_reserve(size_t size);
void cmb_os_unreserve(void *ptr, size_t size);
/* This memory is about to be written throughout: the platform may make its pages at once, which takes
 * a fraction of the time of a fault for each. A hint; contents stay. */
void cmb_os_populate(void *ptr, size_t size);

#endif
