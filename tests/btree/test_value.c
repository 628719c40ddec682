/* SPDX-License-Identifier: ISC */
/* Out-of-line values and packed references. */
#include "btree/value_private.h"
#include "node_bed.h"
#include "log_bed.h"

#define SIZE_MAX_HERE (4u * CMB_CHUNK_SIZE)

typedef struct field {
    ground g;
    cmb_tree tree;
    uint8_t *data; /* SIZE_MAX_HERE random bytes */
} field;

static void field_open(field *f)
{
    ground_open(&f->g, 0, NULL, 0);
    f->tree = (cmb_tree){.alloc = cmb_allocator_or_default(NULL), .log = f->g.log, .hash = HASH, .target = TARGET};
    f->data = malloc(SIZE_MAX_HERE);
    assert_non_null(f->data);
    for (uint32_t i = 0; i < SIZE_MAX_HERE; i += 8)
        cmb_put64(f->data + i, rng());
}

static void field_close(field *f)
{
    free(f->data);
    ground_close(&f->g);
}

static uint32_t random_size(void)
{
    static const uint32_t sizes[] = {0, 1, 1024, 5000, CMB_CHUNK_SIZE - 1, CMB_CHUNK_SIZE, CMB_CHUNK_SIZE + 1, 2 * CMB_CHUNK_SIZE,
                                     3 * CMB_CHUNK_SIZE + 77};
    return below(2) ? sizes[below(CMB_COUNTOF(sizes))] : below(SIZE_MAX_HERE);
}

static int write_in_pieces(field *f, const uint8_t *data, uint32_t size, cmb_valref *out_ref)
{
    cmb_value_writer *writer;
    int error = cmb_value_writer_open(&f->tree, f->g.app, &writer);
    if (error)
        return error;
    for (uint32_t done = 0; done < size;) {
        uint32_t n = below(below(2) ? 5000 : 3 * CMB_CHUNK_SIZE);
        n = n < size - done ? n : size - done;
        if (cmb_value_writer_add(writer, data + done, n))
            break; /* finish says it again */
        done += n;
    }
    return cmb_value_writer_finish(writer, out_ref);
}

static void assert_reads(const field *f, const cmb_valref *ref, const uint8_t *data)
{
    static uint8_t out[3 * CMB_CHUNK_SIZE];
    cmb_value_reader *reader;
    size_t got = 0;
    OK(cmb_value_reader_open(&f->tree, ref, &reader));
    for (unsigned t = 0; t < 12; t++) {
        uint64_t offset = t == 0 ? 0 : below((uint64_t)ref->size + 10);
        size_t size = below(below(2) ? 100 : sizeof out);
        size_t expected = offset >= ref->size ? 0 : ref->size - offset < size ? ref->size - offset : size;
        OK(cmb_value_reader_read(reader, offset, out, size, &got));
        assert_int_equal(got, expected);
        if (got)
            assert_memory_equal(out, data + offset, got);
    }
    OK(cmb_value_reader_read(reader, UINT64_MAX, out, sizeof out, &got));
    assert_int_equal(got, 0);
    cmb_value_reader_close(reader);
}

static void values_read_back_however_they_were_written(void **state)
{
    field f;
    field_open(&f);
    for (uint32_t t = 0; t < budget(25); t++) {
        uint32_t size = t < 9 ? t * CMB_CHUNK_SIZE / 2 : random_size();
        cmb_valref whole, pieces;
        ground_begin(&f.g);
        OK(cmb_value_write(&f.tree, f.g.app, f.data, size, &whole));
        OK(write_in_pieces(&f, f.data, size, &pieces));
        ground_commit(&f.g);
        assert_int_equal(whole.size, size);
        assert_true(cmb_name_equal(&whole.name, &pieces.name) && whole.addr != pieces.addr);
        assert_reads(&f, &whole, f.data);
        assert_reads(&f, &pieces, f.data);
    }
    field_close(&f);
    (void)state;
}

static void the_name_says_content_and_size(void **state)
{
    field f;
    cmb_valref a, b, c;
    cmb_name chunk;
    uint8_t bytes[CMB_NAME_MAX + 4];
    field_open(&f);
    ground_begin(&f.g);
    OK(cmb_value_write(&f.tree, f.g.app, f.data, 5000, &a));
    OK(cmb_value_write(&f.tree, f.g.app, f.data, 5001, &b));
    f.data[7] ^= 1;
    OK(cmb_value_write(&f.tree, f.g.app, f.data, 5000, &c));
    f.data[7] ^= 1;
    ground_commit(&f.g);
    assert_false(cmb_name_equal(&a.name, &b.name) || cmb_name_equal(&a.name, &c.name));
    cmb_hash_name(HASH, f.data, 5000, &chunk);
    memcpy(bytes, chunk.bytes, chunk.size);
    cmb_put32(bytes + chunk.size, 5000);
    cmb_hash_name(HASH, bytes, chunk.size + 4u, &chunk);
    assert_true(cmb_name_equal(&chunk, &a.name));
    assert_int_equal(a.length, CMB_RECORD_HEADER + 5000);
    field_close(&f);
    (void)state;
}

static int read_all(const field *f, const cmb_valref *ref)
{
    static uint8_t out[65536];
    cmb_value_reader *reader;
    size_t got = 1;
    int error = cmb_value_reader_open(&f->tree, ref, &reader);
    if (error)
        return error;
    for (uint64_t at = 0; !error && at < ref->size; at += got)
        error = cmb_value_reader_read(reader, at, out, sizeof out, &got);
    cmb_value_reader_close(reader);
    return error;
}

typedef struct place {
    uint64_t addr;
    uint32_t length;
    uint32_t skip; /* records to pass over first */
} place;

static int take_record(void *ctx, uint64_t addr, uint32_t length, uint8_t kind)
{
    place *p = ctx;
    (void)kind;
    p->addr = addr;
    p->length = length;
    return p->skip-- == 0 ? CMB_ESTOPPED : 0;
}

static void damage_anywhere_in_a_value_is_found(void **state)
{
    field f;
    field_open(&f);
    for (uint32_t t = 0; t < budget(15); t++) {
        uint32_t size = t % 3 ? CMB_CHUNK_SIZE + 1 + below(2 * CMB_CHUNK_SIZE) : 1 + below(9000);
        cmb_valref ref;
        ground_begin(&f.g);
        OK(cmb_value_write(&f.tree, f.g.app, f.data, size, &ref));
        ground_commit(&f.g);
        OK(read_all(&f, &ref));
        place p = {.skip = size > CMB_CHUNK_SIZE ? below(1 + cmb_chunk_count(size)) : 0};
        bool chunk = size <= CMB_CHUNK_SIZE || p.skip > 0;
        assert_int_equal(cmb_value_visit(&f.tree, &ref, false, take_record, &p), CMB_ESTOPPED);
        uint32_t at = below(p.length);
        if (chunk && at >= 5 && at < 16) /* reading relies on a chunk's name, not on its own check */
            at = 16 % p.length;
        damage(&f.g, p.addr, p.length, at);
        assert_int_equal(read_all(&f, &ref), CMB_ECORRUPT);
        damage(&f.g, p.addr, p.length, at);
        OK(read_all(&f, &ref));
    }
    field_close(&f);
    (void)state;
}

static void references_that_lie_are_refused(void **state)
{
    field f;
    cmb_valref small, large;
    field_open(&f);
    ground_begin(&f.g);
    OK(cmb_value_write(&f.tree, f.g.app, f.data, 3000, &small));
    OK(cmb_value_write(&f.tree, f.g.app, f.data, 2 * CMB_CHUNK_SIZE + 5, &large));
    ground_commit(&f.g);
    for (unsigned k = 0; k < 2; k++) {
        const cmb_valref good = k ? large : small;
        for (unsigned field_index = 0; field_index < 7; field_index++) {
            cmb_valref ref = good;
            ref.addr = field_index == 0 ? 0 : field_index == 1 ? good.addr + 16 : field_index == 2 ? UINT64_MAX - 15 : good.addr;
            ref.length += field_index == 3;
            ref.size += field_index == 4;
            ref.name.bytes[2] ^= field_index == 5;
            ref.name.size = field_index == 6 ? 0 : ref.name.size;
            assert_int_equal(read_all(&f, &ref), CMB_ECORRUPT);
        }
    }
    large.length = UINT32_MAX;
    assert_int_equal(read_all(&f, &large), CMB_ECORRUPT);
    large.length = 16;
    large.size = UINT32_MAX;
    assert_int_equal(read_all(&f, &large), CMB_ECORRUPT);
    field_close(&f);
    (void)state;
}

/* A list whose parts are changed and sealed again: refused, or at least harmless. */
static void forged_lists_are_harmless(void **state)
{
    field f;
    cmb_valref good;
    static uint8_t list[4096];
    field_open(&f);
    ground_begin(&f.g);
    OK(cmb_value_write(&f.tree, f.g.app, f.data, 3 * CMB_CHUNK_SIZE, &good));
    ground_commit(&f.g);
    OK(cmb_log_read(f.g.log, NULL, good.addr, good.length, list));
    for (uint32_t t = 0; t < budget(300); t++) {
        cmb_valref ref = good;
        void *record;
        ground_begin(&f.g);
        OK(cmb_append(f.g.app, good.length, &ref.addr, &record));
        memcpy(record, list, good.length);
        uint32_t at = below(3) ? good.length - 1 - below(24) : 16 + below(good.length - 16);
        ((uint8_t *)record)[at] = (uint8_t)rng();
        cmb_record_seal(record, CMB_RECORD_CHUNKS, good.length, ref.addr);
        ground_commit(&f.g);
        int error = read_all(&f, &ref);
        assert_true(error == CMB_ECORRUPT || error == 0);
    }
    field_close(&f);
    (void)state;
}

typedef struct visited {
    uint64_t bytes;
    uint32_t chunks, lists, stop_at;
} visited;

static int count_record(void *ctx, uint64_t addr, uint32_t length, uint8_t kind)
{
    visited *v = ctx;
    assert_true(addr > 0);
    v->bytes += kind == CMB_RECORD_CHUNK ? length - CMB_RECORD_HEADER : 0;
    v->chunks += kind == CMB_RECORD_CHUNK;
    v->lists += kind == CMB_RECORD_CHUNKS;
    return v->stop_at && v->chunks == v->stop_at ? 42 : 0;
}

static void a_visit_names_every_record_once(void **state)
{
    field f;
    field_open(&f);
    for (uint32_t t = 0; t < budget(10); t++) {
        uint32_t size = random_size();
        cmb_valref ref;
        ground_begin(&f.g);
        OK(cmb_value_write(&f.tree, f.g.app, f.data, size, &ref));
        ground_commit(&f.g);
        for (unsigned verify = 0; verify < 2; verify++) {
            visited v = {0}, stopped = {.stop_at = 1};
            OK(cmb_value_visit(&f.tree, &ref, verify, count_record, &v));
            assert_int_equal(v.bytes, size);
            assert_int_equal(v.chunks, cmb_chunk_count(size));
            assert_int_equal(v.lists, v.chunks > 1);
            assert_int_equal(cmb_value_visit(&f.tree, &ref, verify, count_record, &stopped), 42);
        }
        damage(&f.g, ref.addr, ref.length, 8); /* the record's check */
        visited v = {0};
        assert_int_equal(cmb_value_visit(&f.tree, &ref, true, count_record, &v), CMB_ECORRUPT);
    }
    field_close(&f);
    (void)state;
}

static void a_value_beyond_4_gib_is_too_big(void **state)
{
    field f;
    cmb_value_writer *writer;
    cmb_valref ref = {.addr = 77};
    field_open(&f);
    ground_begin(&f.g);
    OK(cmb_value_writer_open(&f.tree, f.g.app, &writer));
    OK(cmb_value_writer_add(writer, f.data, 10));
    assert_int_equal(cmb_value_writer_add(writer, f.data, (size_t)CMB_VALUE_MAX - 9), CMB_ETOOBIG); /* refused before it is read */
    assert_int_equal(cmb_value_writer_add(writer, f.data, 1), CMB_ETOOBIG);
    assert_int_equal(cmb_value_writer_finish(writer, &ref), CMB_ETOOBIG);
    assert_int_equal(ref.addr, 77);
    OK(cmb_value_writer_open(&f.tree, f.g.app, &writer));
    OK(cmb_value_writer_add(writer, f.data, 2 * CMB_CHUNK_SIZE));
    cmb_value_writer_abort(writer);
    cmb_value_writer_abort(NULL);
    ground_commit(&f.g);
    field_close(&f);
    (void)state;
}

static void every_failed_allocation_is_clean(void **state)
{
    field f;
    const uint32_t size = 3 * CMB_CHUNK_SIZE + 9;
    field_open(&f);
    for (unsigned how = 0; how < 3; how++) {
        bool done = false;
        cmb_valref good;
        ground_begin(&f.g);
        OK(cmb_value_write(&f.tree, f.g.app, f.data, size, &good));
        ground_commit(&f.g);
        for (uint64_t n = 0; !done; n++) {
            meter m = {.left = n};
            cmb_valref ref = {.addr = 77};
            ground_begin(&f.g);
            f.tree.alloc = meter_allocator(&m);
            int error = how == 0   ? cmb_value_write(&f.tree, f.g.app, f.data, size, &ref)
                        : how == 1 ? write_in_pieces(&f, f.data, size, &ref)
                                   : read_all(&f, &good);
            f.tree.alloc = cmb_allocator_or_default(NULL);
            assert_true(error == 0 || error == CMB_ENOMEM);
            assert_true(how == 2 || (error != 0) == (ref.addr == 77));
            assert_int_equal(m.bytes, 0);
            done = error == 0;
            uint64_t addr;
            OK(cmb_append_record(f.g.app, CMB_RECORD_COMMIT, "unit", 4, &addr));
            ground_commit(&f.g);
        }
    }
    field_close(&f);
    (void)state;
}

/* ---- packed references ---- */

static void a_packed_reference_reads_back_and_nothing_else_does(void **state)
{
    for (uint32_t t = 0; t < budget(3000); t++) {
        cmb_noderef ref = {
            .addr = (rng() >> below(64)) & ~(uint64_t)15, .count = (rng() >> 2) >> below(62), .length = 16 * below(CMB_RECORD_MAX / 16),
            .level = (uint8_t)below(CMB_LEVEL_MAX + 1), .out_of_line = below(2), .cut = below(2),
        };
        random_name(&ref.name);
        uint8_t packed[CMB_NODEREF_PACKED_MAX];
        size_t size = cmb_noderef_pack(&ref, packed), used = 0;
        assert_true(size <= sizeof packed);
        uint8_t *exact = malloc(size);
        assert_non_null(exact);
        memcpy(exact, packed, size);
        cmb_noderef back;
        OK(cmb_noderef_unpack(HASH, exact, size, &back, &used));
        assert_int_equal(used, size);
        assert_true(back.addr == ref.addr && back.count == ref.count && back.length == ref.length && back.level == ref.level);
        assert_true(back.out_of_line == ref.out_of_line && back.cut == ref.cut && cmb_name_equal(&back.name, &ref.name));
        assert_int_equal(cmb_noderef_unpack(HASH, exact, below(size), &back, &used), CMB_ECORRUPT);
        exact[below(size)] ^= (uint8_t)(1u << below(8));
        if (cmb_noderef_unpack(HASH, exact, size, &back, &used) == 0) {
            uint8_t again[CMB_NODEREF_PACKED_MAX];
            assert_int_equal(cmb_noderef_pack(&back, again), used); /* one way to write each */
            assert_memory_equal(again, exact, used);
        }
        free(exact);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_read_back_however_they_were_written),
        cmocka_unit_test(the_name_says_content_and_size),
        cmocka_unit_test(damage_anywhere_in_a_value_is_found),
        cmocka_unit_test(references_that_lie_are_refused),
        cmocka_unit_test(forged_lists_are_harmless),
        cmocka_unit_test(a_visit_names_every_record_once),
        cmocka_unit_test(a_value_beyond_4_gib_is_too_big),
        cmocka_unit_test(every_failed_allocation_is_clean),
        cmocka_unit_test(a_packed_reference_reads_back_and_nothing_else_does),
    };
    return cmocka_run_group_tests(tests, seed_group, NULL);
}
