/* SPDX-License-Identifier: ISC */
#include "io_test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[256];

static const char *scratch_dir(void)
{
    if (!scratch[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(scratch, sizeof scratch, "%s/cambium-io-XXXXXX", tmp ? tmp : "/var/tmp");
        if (!mkdtemp(scratch))
            fail_msg("%s: no scratch directory", scratch);
    }
    return scratch;
}

const char *io_test_path(const char *name)
{
    static char paths[4][512];
    static unsigned turn;
    char *out = paths[turn++ % 4];
    snprintf(out, sizeof paths[0], "%s/%s", scratch_dir(), name);
    return out;
}

void io_test_clean(void)
{
    if (!scratch[0])
        return;
    DIR *dir = opendir(scratch);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", scratch, e->d_name);
        if (unlink(path) && errno == EISDIR)
            rmdir(path);
    }
    if (dir)
        closedir(dir);
    rmdir(scratch);
    scratch[0] = 0;
}

void io_test_make_file(const char *path, size_t size, int byte)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(fputc(byte, f), (unsigned char)byte);
    assert_int_equal(fclose(f), 0);
}

static bool refused(io_test_allocator *a)
{
    return __atomic_fetch_add(&a->calls, 1, __ATOMIC_SEQ_CST) == a->fail_at;
}

static void count(io_test_allocator *a, int64_t out, int64_t bytes)
{
    __atomic_add_fetch(&a->out, out, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&a->bytes, bytes, __ATOMIC_SEQ_CST);
}

static void *test_alloc(void *ctx, size_t size)
{
    void *p = refused(ctx) ? NULL : malloc(size);
    if (p)
        count(ctx, 1, (int64_t)size);
    return p;
}

static void *test_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    void *p = refused(ctx) ? NULL : realloc(ptr, new_size);
    if (p)
        count(ctx, 0, (int64_t)new_size - (int64_t)old_size);
    return p;
}

static void test_release(void *ctx, void *ptr, size_t size)
{
    count(ctx, -1, -(int64_t)size);
    free(ptr);
}

void io_test_allocator_init(io_test_allocator *a, uint64_t fail_at)
{
    *a = (io_test_allocator){.fail_at = fail_at};
    a->alloc = (cmb_allocator){.ctx = a, .alloc = test_alloc, .resize = test_resize, .release = test_release};
}

bool io_test_loop_make(io_test_loop *loop, const char *backing_path)
{
    *loop = (io_test_loop){.control = -1, .loop = -1, .backing = -1, .number = -1};
    loop->control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    loop->backing = open(backing_path, O_RDWR | O_CLOEXEC);
    /* Another program may take the free one first: a few tries. */
    for (int tries = 0; tries < 8 && loop->control >= 0 && loop->backing >= 0; tries++) {
        loop->number = ioctl(loop->control, LOOP_CTL_GET_FREE);
        if (loop->number < 0)
            break;
        snprintf(loop->path, sizeof loop->path, "/dev/loop%d", loop->number);
        loop->loop = open(loop->path, O_RDWR | O_CLOEXEC);
        if (loop->loop >= 0 && ioctl(loop->loop, LOOP_SET_FD, loop->backing) == 0) {
            /* So that a test that dies leaves no loop device behind. */
            struct loop_info64 info = {.lo_flags = LO_FLAGS_AUTOCLEAR};
            ioctl(loop->loop, LOOP_SET_STATUS64, &info);
            return true;
        }
        if (loop->loop >= 0)
            close(loop->loop);
        loop->loop = -1;
    }
    io_test_loop_free(loop);
    return false;
}

void io_test_loop_free(io_test_loop *loop)
{
    if (loop->loop >= 0) {
        ioctl(loop->loop, LOOP_CLR_FD, 0);
        close(loop->loop);
    }
    if (loop->backing >= 0)
        close(loop->backing);
    if (loop->control >= 0)
        close(loop->control);
    *loop = (io_test_loop){.control = -1, .loop = -1, .backing = -1, .number = -1};
}

uint64_t io_test_seed(void)
{
    const char *text = getenv("CMB_SEED");
    uint64_t seed = 0;
    if (text) {
        seed = strtoull(text, NULL, 0);
    } else {
        cmb_env env = cmb_env_or_default(NULL);
        assert_ok(env.random(env.ctx, &seed, sizeof seed));
    }
    printf("CMB_SEED=0x%llx\n", (unsigned long long)seed);
    return seed;
}

uint64_t io_test_random(uint64_t *state)
{
    (*state)++;
    return cmb_hash64(state, sizeof *state, 0);
}

unsigned io_test_budget(void)
{
    const char *text = getenv("CMB_BUDGET");
    int n = text ? atoi(text) : 1;
    return n < 1 ? 1 : (unsigned)n;
}

void io_test_fill(void *buffer, size_t size, uint64_t tag)
{
    uint8_t *p = buffer;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = (tag << 40) ^ (i * 0x9E3779B97F4A7C15u) ^ tag;
        memcpy(p + i, &word, size - i < 8 ? size - i : 8);
    }
}
