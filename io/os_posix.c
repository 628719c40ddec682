/* SPDX-License-Identifier: ISC */
/* os_posix.c: threads, clock, randomness and anonymous memory from POSIX and Linux. */
#include "io/os.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#define HUGE_PAGE ((size_t)2 << 20)

typedef struct thread_state {
    pthread_t id;
    void (*run)(void *arg);
    void *arg;
} thread_state;

_Static_assert(sizeof(pthread_mutex_t) <= sizeof(cmb_mutex), "cmb_mutex holds a pthread_mutex_t");
_Static_assert(sizeof(pthread_cond_t) <= sizeof(cmb_cond), "cmb_cond holds a pthread_cond_t");
_Static_assert(sizeof(thread_state) <= sizeof(cmb_thread), "cmb_thread holds a thread_state");

static pthread_mutex_t *mutex_of(cmb_mutex *m)
{
    return (pthread_mutex_t *)(void *)m->opaque;
}

static pthread_cond_t *cond_of(cmb_cond *c)
{
    return (pthread_cond_t *)(void *)c->opaque;
}

static thread_state *thread_of(cmb_thread *t)
{
    return (thread_state *)(void *)t->opaque;
}

/* These calls fail on misuse only, so a failure is a broken invariant. */
static void must(int error)
{
    assert(error == 0);
    (void)error;
}

int cmb_mutex_init(cmb_mutex *m)
{
    if (pthread_mutex_init(mutex_of(m), NULL))
        return cmb_fail(CMB_ENOMEM, "no resources for a mutex");
    return 0;
}

void cmb_mutex_destroy(cmb_mutex *m)
{
    must(pthread_mutex_destroy(mutex_of(m)));
}

void cmb_mutex_lock(cmb_mutex *m)
{
    must(pthread_mutex_lock(mutex_of(m)));
}

bool cmb_mutex_trylock(cmb_mutex *m)
{
    int error = pthread_mutex_trylock(mutex_of(m));
    assert(error == 0 || error == EBUSY);
    return error == 0;
}

void cmb_mutex_unlock(cmb_mutex *m)
{
    must(pthread_mutex_unlock(mutex_of(m)));
}

/* Deadlines are on the clock that nobody sets. */
int cmb_cond_init(cmb_cond *c)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr))
        return cmb_fail(CMB_ENOMEM, "no resources for a condition variable");
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    int error = pthread_cond_init(cond_of(c), &attr);
    must(pthread_condattr_destroy(&attr));
    return error ? cmb_fail(CMB_ENOMEM, "no resources for a condition variable") : 0;
}

void cmb_cond_destroy(cmb_cond *c)
{
    must(pthread_cond_destroy(cond_of(c)));
}

void cmb_cond_wait(cmb_cond *c, cmb_mutex *m)
{
    must(pthread_cond_wait(cond_of(c), mutex_of(m)));
}

bool cmb_cond_wait_until(cmb_cond *c, cmb_mutex *m, uint64_t deadline)
{
    struct timespec t = {.tv_sec = (time_t)(deadline / 1000000000u), .tv_nsec = (long)(deadline % 1000000000u)};
    int error = pthread_cond_timedwait(cond_of(c), mutex_of(m), &t);
    assert(error == 0 || error == ETIMEDOUT);
    return error == 0;
}

void cmb_cond_signal(cmb_cond *c)
{
    must(pthread_cond_signal(cond_of(c)));
}

void cmb_cond_broadcast(cmb_cond *c)
{
    must(pthread_cond_broadcast(cond_of(c)));
}

static void *thread_main(void *arg)
{
    thread_state *t = arg;
    t->run(t->arg);
    return NULL;
}

int cmb_thread_start(cmb_thread *t, void (*run)(void *arg), void *arg)
{
    thread_state *state = thread_of(t);
    state->run = run;
    state->arg = arg;
    if (pthread_create(&state->id, NULL, thread_main, state))
        return cmb_fail(CMB_ENOMEM, "no resources for a thread");
    return 0;
}

void cmb_thread_join(cmb_thread *t)
{
    must(pthread_join(thread_of(t)->id, NULL));
}

static int64_t os_now(void *ctx)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int os_random(void *ctx, void *out_bytes, size_t n)
{
    uint8_t *p = out_bytes;
    while (n) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return cmb_fail(CMB_EIO, "the operating system gives no random bytes");
        p += got;
        n -= (size_t)got;
    }
    return 0;
}

/* Clock and randomness are injected independently: a test may fix one of them only. */
cmb_env cmb_env_or_default(const cmb_env *env)
{
    cmb_env e = env ? *env : (cmb_env){0};
    if (!e.now)
        e.now = os_now;
    if (!e.random)
        e.random = os_random;
    return e;
}

uint64_t cmb_os_monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Gives back what lies between two page-aligned addresses. */
static void unmap_between(uint8_t *from, uint8_t *to)
{
    if (to > from)
        munmap(from, (size_t)(to - from));
}

void *cmb_os_reserve(size_t size)
{
    const int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    /* Huge pages want their own alignment: reserve more and trim. */
    size_t slack = size >= HUGE_PAGE ? HUGE_PAGE : 0;
    if (size == 0 || size > SIZE_MAX / 2) {
        cmb_fail(CMB_ENOMEM, "out of memory: a reservation of %zu bytes", size);
        return NULL;
    }
    size = cmb_align_up(size, 4096);
    uint8_t *raw = mmap(NULL, size + slack, prot, flags, -1, 0);
    if (raw == MAP_FAILED) {
        cmb_fail(CMB_ENOMEM, "out of memory: %zu bytes of address space refused", size);
        return NULL;
    }
    if (!slack)
        return raw;
    uint8_t *p = (uint8_t *)cmb_align_up((uintptr_t)raw, HUGE_PAGE);
    unmap_between(raw, p);
    unmap_between(p + size, raw + size + slack);
    /* A wish: a kernel without huge pages refuses it, and all is well all the same. */
    (void)madvise(p, size, MADV_HUGEPAGE);
    return p;
}

void cmb_os_unreserve(void *ptr, size_t size)
{
    if (ptr)
        munmap(ptr, cmb_align_up(size, 4096));
}

void cmb_os_populate(void *ptr, size_t size)
{
#ifdef MADV_POPULATE_WRITE
    uintptr_t begin = cmb_align_up((uintptr_t)ptr, 4096), end = ((uintptr_t)ptr + size) & ~(uintptr_t)4095;
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_POPULATE_WRITE);
#else
    (void)ptr;
    (void)size;
#endif
}
