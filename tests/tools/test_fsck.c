/* SPDX-License-Identifier: ISC */
/*
 * Small images with one named damage each: what fsck says of them as text and as JSON stands in fsck.expected, byte for
 * byte, and a second run says the same. The images are made here, with a clock and random numbers of their own, so that
 * every address and name comes out the same everywhere. CMB_WRITE=1 writes the file anew. Its directory is the argument.
 */
#include "tools/cli.h"

#include <fcntl.h>
#include <unistd.h>

#include "../store/damage.h"
#include "store/intents.h"
#include "tool_test.h"

#define IMAGE "damaged.cmb"

static const char *directory;
static char *said;
static size_t said_size;

/* ---- the image ---- */

typedef struct places {
    uint64_t super, leaf, node, commit, list, chunk, run, frame; /* device bytes */
} places;

static uint64_t place(cmb_store *store, uint64_t addr)
{
    uint64_t offset;
    assert_true(cmb_log_locate(store->log, addr, CMB_RECORD_HEADER, &offset));
    return offset;
}

static int take_run(void *ctx, const char *ref, uint64_t addr, uint32_t length)
{
    (void)ref;
    (void)length;
    *(uint64_t *)ctx = addr;
    return 0;
}

static void fill(bed *b)
{
    static uint8_t large[600000];
    cmb_commit_info info = {.author = "ada", .message = "ring"};
    cmb_txn *txn;
    char room[16];
    memset(large, 'z', sizeof large);
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    for (unsigned i = 0; i < 400; i++)
        must(cmb_txn_put(txn, number_key(room, i), str("a value of some length, as values have")));
    must(cmb_txn_put(txn, str("large"), (cmb_bytes){large, sizeof large}));
    must(cmb_txn_commit(txn, &info, NULL));
    must(cmb_tag_create(b->store, "v1", "main"));
    must(cmb_branch_create(b->store, "side", "main"));
    must(cmb_txn_begin(b->store, "side", 0, &txn));
    must(cmb_txn_put(txn, number_key(room, 399), str("changed")));
    must(cmb_txn_commit(txn, &info, NULL));
    must(cmb_store_checkpoint(b->store));
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    must(cmb_txn_put(txn, number_key(room, 7), str("edited")));
    must(cmb_txn_commit(txn, NULL, NULL));
    must(cmb_store_checkpoint(b->store));
}

/* A copy of the file while the store is open: as a crash would leave it. */
static uint8_t *copy_file(size_t *out_size)
{
    FILE *f = fopen(IMAGE, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    size_t size = (size_t)ftell(f);
    uint8_t *bytes = malloc(size);
    rewind(f);
    assert_int_equal(fread(bytes, 1, size, f), size);
    fclose(f);
    *out_size = size;
    return bytes;
}

static uint8_t *make_image(places *out, size_t *out_size)
{
    static const cmb_init_options init = {.node_size = 512, .force = true};
    bed b = {.env = {.now = 1700000000000000, .random = 7}};
    cmb_resolved rev;
    cmb_pin pin = {0};
    cmb_found found;
    cmb_log_stats stats;
    b.options.env = (cmb_env){.ctx = &b.env, .now = bed_now, .random = bed_random};
    must(cmb_store_init(IMAGE, &init, &b.options));
    must(cmb_store_open(IMAGE, &b.options, &b.store));
    fill(&b);
    must(cmb_rev_resolve(b.store, "v1", &rev));
    must(cmb_tree_get(&b.store->tree, &rev.state.root, (const uint8_t *)"large", 5, &pin, &found));
    cmb_pin_destroy(b.store->nodes, &pin);
    uint64_t run = 0;
    must(cmb_runs_each(b.store, take_run, &run));
    assert_true(run != 0);
    cmb_log_get_stats(b.store->log, &stats);
    *out = (places){.super = (stats.generation % 2) << 20, .leaf = place(b.store, first_node(&b, "v1", 0).addr),
                    .node = place(b.store, first_node(&b, "v1", 1).addr), .commit = place(b.store, rev.state.commit.addr),
                    .list = place(b.store, found.valref.addr), .chunk = place(b.store, found.valref.addr - 16 * 3000), .run = place(b.store, run)};
    must(cmb_log_seal(b.store->log));
    uint8_t *bytes = copy_file(out_size);
    must(cmb_store_close(b.store));
    return bytes;
}

/* ---- what the tool says ---- */

/* Lines of one run, without what they say of time. */
static char *run(const char *mode, int *out_status)
{
    char *argv[] = {(char *)(uintptr_t)IMAGE, (char *)(uintptr_t)"--full", (char *)(uintptr_t)mode, NULL};
    fflush(stdout);
    int kept = dup(STDOUT_FILENO), out = open("out", O_RDWR | O_CREAT | O_TRUNC, 0644);
    assert_true(kept >= 0 && out >= 0);
    dup2(out, STDOUT_FILENO);
    *out_status = cli_run(cli_find("fsck"), mode ? 3 : 2, argv);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    static char raw[65536];
    ssize_t n = pread(out, raw, sizeof raw - 1, 0);
    close(out);
    assert_true(n >= 0);
    raw[n] = 0;
    for (char *end; (end = strstr(raw, " read in ")) || (end = strstr(raw, ", \"seconds\""));) {
        size_t rest = strcspn(end, "\n");
        memmove(end, end + rest, strlen(end + rest) + 1);
    }
    return raw;
}

static void say(const char *text)
{
    size_t size = strlen(text);
    said = realloc(said, said_size + size + 1);
    memcpy(said + said_size, text, size + 1);
    said_size += size;
}

static void show(const char *name, const char *mode, int expected)
{
    char head[128];
    int status;
    snprintf(head, sizeof head, "== %s%s%s: %d\n", name, mode ? " " : "", mode ? mode : "", expected);
    char *first = strdup(run(mode, &status));
    assert_int_equal(status, expected);
    assert_string_equal(run(mode, &status), first);
    assert_int_equal(status, expected);
    say(head);
    say(first);
    free(first);
}

static void put_file(const uint8_t *bytes, size_t size, uint64_t flip)
{
    FILE *f = fopen(IMAGE, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    if (flip) {
        uint8_t byte = bytes[flip] ^ 0x10;
        assert_int_equal(fseek(f, (long)flip, SEEK_SET), 0);
        assert_int_equal(fwrite(&byte, 1, 1, f), 1);
    }
    assert_int_equal(fclose(f), 0);
}

static void compare_with_file(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/fsck.expected", directory);
    if (getenv("CMB_WRITE")) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(said, f);
        assert_int_equal(fclose(f), 0);
    }
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *expected = calloc(1, said_size + 65536);
    size_t n = fread(expected, 1, said_size + 65535, f);
    fclose(f);
    expected[n] = 0;
    if (strcmp(expected, said) != 0)
        fail_msg("fsck says\n%s\nand %s has\n%s", said, path, expected);
    free(expected);
}

static void every_damage_is_told_as_is_written_down(void **state)
{
    places p;
    size_t size;
    char dir[] = "/tmp/cambium-fsck.XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir(dir), 0);
    uint8_t *bytes = make_image(&p, &size);
    const struct {
        const char *name;
        uint64_t flip;
    } damages[] = {{"superblock", p.super + 50}, {"leaf", p.leaf + 100}, {"inner node", p.node + 60}, {"commit", p.commit + 40},
                   {"list of chunks", p.list + 30}, {"chunk", p.chunk + 5}, {"logged edits", p.run + 20}};
    put_file(bytes, size, 0);
    show("whole", NULL, CLI_FSCK_CLEAN);
    show("whole", "--json", CLI_FSCK_CLEAN);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        put_file(bytes, size, damages[i].flip);
        show(damages[i].name, NULL, CLI_FSCK_DAMAGED);
        show(damages[i].name, "--json", CLI_FSCK_DAMAGED);
        show(damages[i].name, "--redact", CLI_FSCK_DAMAGED);
    }
    free(bytes);
    unlink(IMAGE);
    unlink("out");
    assert_int_equal(chdir("/"), 0);
    rmdir(dir);
    compare_with_file();
    free(said);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_damage_is_told_as_is_written_down)};
    directory = argc > 1 ? argv[1] : ".";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
