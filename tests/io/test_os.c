/* SPDX-License-Identifier: ISC */
#include "io_test.h"

typedef struct relay {
    cmb_mutex lock;
    cmb_cond changed;
    unsigned turn, rounds;
    uint64_t sum;
} relay;

static void relay_run(void *arg)
{
    relay *r = arg;
    for (unsigned i = 0; i < r->rounds; i++) {
        cmb_mutex_lock(&r->lock);
        while (r->turn % 2 == 0)
            cmb_cond_wait(&r->changed, &r->lock);
        r->sum += r->turn++;
        cmb_cond_broadcast(&r->changed);
        cmb_mutex_unlock(&r->lock);
    }
}

static void two_threads_take_turns_over_a_condition(void **state)
{
    relay r = {.rounds = 500};
    cmb_thread thread;
    assert_ok(cmb_mutex_init(&r.lock));
    assert_ok(cmb_cond_init(&r.changed));
    assert_ok(cmb_thread_start(&thread, relay_run, &r));
    for (unsigned i = 0; i < r.rounds; i++) {
        cmb_mutex_lock(&r.lock);
        while (r.turn % 2 == 1)
            cmb_cond_wait(&r.changed, &r.lock);
        r.sum += r.turn++;
        cmb_cond_signal(&r.changed);
        cmb_mutex_unlock(&r.lock);
    }
    cmb_thread_join(&thread);
    assert_int_equal(r.sum, 1000 * 999 / 2);
    cmb_cond_destroy(&r.changed);
    cmb_mutex_destroy(&r.lock);
}

static void waiting_ends_at_the_deadline_or_when_signalled(void **state)
{
    relay r = {.rounds = 1, .turn = 1};
    cmb_thread thread;
    assert_ok(cmb_mutex_init(&r.lock));
    assert_ok(cmb_cond_init(&r.changed));
    cmb_mutex_lock(&r.lock);
    assert_false(cmb_cond_wait_until(&r.changed, &r.lock, cmb_os_monotonic()));
    uint64_t deadline = cmb_os_monotonic() + 2000000;
    while (cmb_cond_wait_until(&r.changed, &r.lock, deadline)) /* may wake early */
        continue;
    assert_true(cmb_os_monotonic() >= deadline);
    assert_ok(cmb_thread_start(&thread, relay_run, &r));
    bool signalled = true;
    while (r.turn == 1 && signalled)
        signalled = cmb_cond_wait_until(&r.changed, &r.lock, deadline + 600 * (uint64_t)1000000000);
    assert_true(signalled);
    cmb_mutex_unlock(&r.lock);
    cmb_thread_join(&thread);
    cmb_cond_destroy(&r.changed);
    cmb_mutex_destroy(&r.lock);
}

static void a_locked_mutex_is_not_taken_twice(void **state)
{
    cmb_mutex m;
    assert_ok(cmb_mutex_init(&m));
    assert_true(cmb_mutex_trylock(&m));
    assert_false(cmb_mutex_trylock(&m));
    cmb_mutex_unlock(&m);
    assert_true(cmb_mutex_trylock(&m));
    cmb_mutex_unlock(&m);
    cmb_mutex_destroy(&m);
}

static int64_t fixed_now(void *ctx)
{
    return *(int64_t *)ctx;
}

static void an_injected_clock_is_kept_and_the_rest_filled_in(void **state)
{
    int64_t when = 42;
    cmb_env mine = {.ctx = &when, .now = fixed_now}, env = cmb_env_or_default(&mine);
    uint8_t a[32] = {0}, b[32] = {0};
    assert_int_equal(env.now(env.ctx), 42);
    assert_ok(env.random(env.ctx, a, sizeof a));
    assert_ok(env.random(env.ctx, b, sizeof b));
    assert_memory_not_equal(a, b, sizeof a);
    assert_ok(env.random(env.ctx, a, 0));
}

static void the_clock_is_in_this_century(void **state)
{
    cmb_env env = cmb_env_or_default(NULL);
    int64_t now = env.now(env.ctx);
    assert_true(now > (int64_t)1600000000 * 1000000 && now < (int64_t)4102444800 * 1000000);
    uint64_t t = cmb_os_monotonic();
    assert_true(cmb_os_monotonic() >= t);
}

static void reserved_memory_is_zero_and_writable(void **state)
{
    const size_t sizes[] = {1, 4096, 5000, (size_t)2 << 20, ((size_t)5 << 20) + 12345};
    for (size_t i = 0; i < CMB_COUNTOF(sizes); i++) {
        uint8_t *p = cmb_os_reserve(sizes[i]);
        assert_non_null(p);
        assert_int_equal(p[0] | p[sizes[i] - 1], 0);
        if (sizes[i] >= (size_t)2 << 20)
            assert_int_equal((uintptr_t)p % ((size_t)2 << 20), 0);
        memset(p, 0xAB, sizes[i]);
        cmb_os_unreserve(p, sizes[i]);
    }
    cmb_os_unreserve(NULL, 1);
}

static void impossible_reservations_are_refused(void **state)
{
    assert_null(cmb_os_reserve(0));
    assert_null(cmb_os_reserve(SIZE_MAX));
    assert_null(cmb_os_reserve(SIZE_MAX / 2));
    assert_detail_has("out of memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_threads_take_turns_over_a_condition),
        cmocka_unit_test(waiting_ends_at_the_deadline_or_when_signalled),
        cmocka_unit_test(a_locked_mutex_is_not_taken_twice),
        cmocka_unit_test(an_injected_clock_is_kept_and_the_rest_filled_in),
        cmocka_unit_test(the_clock_is_in_this_century),
        cmocka_unit_test(reserved_memory_is_zero_and_writable),
        cmocka_unit_test(impossible_reservations_are_refused),
    };
    return cmocka_run_group_tests_name("os", tests, NULL, NULL);
}
