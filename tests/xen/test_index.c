/* SPDX-License-Identifier: ISC */
/* A back end whose index goes to and fro at the worst of times: front_ring.c with the reading of indexes replaced. */
#include "bed.h"

#include "io/xen/front.h"

#define BLOCK    4096u
#define PATIENCE 10000u

static bool flips;
static unsigned reads;

/* With `flips`, every other time one more response than there is. */
static unsigned flipping_read(const unsigned *index)
{
    unsigned value = cmb_xen_index_read(index);
    bool responses = (uintptr_t)index % CMB_XEN_PAGE == offsetof(struct blkif_sring, rsp_prod);
    if (!flips || !responses)
        return value;
    reads++;
    return value + (reads % 2 == 0 || reads > PATIENCE);
}

#define cmb_xen_index_read flipping_read
#include "io/xen/front_ring.c" /* so that the library's is not linked */
#undef cmb_xen_index_read

static void an_index_that_goes_to_and_fro_does_not_keep_the_front_end(void **state)
{
    static _Alignas(4096) uint8_t block[BLOCK];
    bed b;
    cmb_request r = {.op = CMB_OP_WRITE, .length = BLOCK, .buffer = block};
    cmb_completion c;
    bed_init(&b, BED_SIZE);
    b.take.timeout = 2000u * 1000 * 1000;
    bed_open(&b);
    cmb_xen_back_kill(b.back); /* nothing is answered */
    assert_int_equal(b.dev->ops->submit(b.queue, &r, 1), 1);
    flips = true;
    assert_int_equal(b.dev->ops->reap(b.queue, &c, 1, 1), 1);
    flips = false;
    assert_int_equal(c.result, CMB_EIO);
    assert_true(reads >= 2 && reads < PATIENCE);
    assert_error(b.dev->ops->submit(b.queue, &r, 1), CMB_EIO);
    assert_detail_has("which is not in flight");
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_that_goes_to_and_fro_does_not_keep_the_front_end),
    };
    return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
