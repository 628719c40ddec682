/* SPDX-License-Identifier: ISC */
/*
 * damage.c: changes a named field of an image on purpose; for tests only.
 *
 * usage: damage FILE WHAT.FIELD [VALUE] [--mend]
 *   WHAT   super:SLOT | frame:ADDR | record:ADDR | node:ADDR    (logical addresses)
 *   VALUE  decimal or with 0x; without it the field's lowest bit is flipped
 *   --mend makes the checks right again: the superblock's, or the record's and that of the frame around it
 * Prints the value that was there.
 */
#include <stdio.h>
#include <stdlib.h>

#include "btree/node_private.h"
#include "log/format.h"
#include "log/rescue.h"

typedef struct field {
    const char *name;
    unsigned at, bytes;
} field;

static const field super_fields[] = {
    {"version", CMB_SUPER_AT_VERSION, 4}, {"incompat", CMB_SUPER_AT_INCOMPAT, 4}, {"check", CMB_SUPER_AT_CHECK, 8}, {"uuid", CMB_SUPER_AT_UUID, 8},
    {"generation", CMB_SUPER_AT_GENERATION, 8}, {"epoch", CMB_SUPER_AT_EPOCH, 8}, {"durable", CMB_SUPER_AT_DURABLE, 8},
    {"shift", CMB_SUPER_AT_SHIFT, 1}, {"hash", CMB_SUPER_AT_HASH, 1}, {"node-target", CMB_SUPER_AT_NODE_TARGET, 4},
    {"seed", CMB_SUPER_AT_SEED, 8}, {"count", CMB_SUPER_AT_COUNT, 8}, {"fresh", CMB_SUPER_AT_FRESH, 8}, {"table", CMB_SUPER_AT_TABLE, 8},
    {"map", CMB_SUPER_AT_MAP, 8}, {"next-logical", CMB_SUPER_AT_NEXT_LOGICAL, 8}, {"segment", CMB_SUPER_AT_POS_SEGMENT, 8},
    {"offset", CMB_SUPER_AT_POS_OFFSET, 4}, {"physical", CMB_SUPER_AT_POS_PHYSICAL, 4}, {"seq", CMB_SUPER_AT_POS_SEQ, 8},
    {"prev", CMB_SUPER_AT_POS_PREV, 8}, {"root", CMB_SUPER_AT_ROOT, 8}, {"root-length", CMB_SUPER_AT_ROOT_LENGTH, 4}, {NULL, 0, 0}};
static const field frame_fields[] = {
    {"magic", 0, 4}, {"flags", CMB_FRAME_AT_FLAGS, 4}, {"uuid", CMB_FRAME_AT_UUID, 8}, {"epoch", CMB_FRAME_AT_EPOCH, 8},
    {"seq", CMB_FRAME_AT_SEQ, 8}, {"addr", CMB_FRAME_AT_ADDR, 8}, {"prev", CMB_FRAME_AT_PREV, 8}, {"durable", CMB_FRAME_AT_DURABLE, 8},
    {"payload", CMB_FRAME_AT_PAYLOAD, 4}, {"records", CMB_FRAME_AT_RECORDS, 4}, {"check", CMB_FRAME_AT_CHECK, 8}, {NULL, 0, 0}};
static const field record_fields[] = {{"length", 0, 4}, {"kind", 4, 1}, {"check", 8, 8}, {"payload", 16, 1}, {NULL, 0, 0}};
static const field node_fields[] = {
    {"length", 0, 4}, {"kind", 4, 1}, {"check", 8, 8}, {"body", 16, 4}, {"count", 20, 2}, {"level", 22, 1}, {"flags", 23, 1},
    {"entries", 24, 8}, {"prefix-length", 32, 2}, {"rest-length", 34, 2}, {"value-length", 36, 4}, {"name", 40, 1}, {NULL, 0, 0}};

static const struct what {
    const char *name;
    const field *fields;
} whats[] = {{"super", super_fields}, {"frame", frame_fields}, {"record", record_fields}, {"node", node_fields}};
enum { SUPER, FRAME, RECORD, NODE };

static FILE *file;

static void stop(const char *why)
{
    fprintf(stderr, "damage: %s\n", why);
    exit(2);
}

static void read_at(uint64_t offset, void *out, size_t size)
{
    if (fseek(file, (long)offset, SEEK_SET) || fread(out, 1, size, file) != size)
        stop("cannot read there");
}

static void write_at(uint64_t offset, const void *data, size_t size)
{
    if (fseek(file, (long)offset, SEEK_SET) || fwrite(data, 1, size, file) != size)
        stop("cannot write there");
}

/* Where a logical address lies, by a log that believes as little as can be. */
static uint64_t place(const char *path, uint64_t addr)
{
    cmb_image_params params = {.hash_kind = CMB_HASH_XXH3, .node_target = 4096};
    cmb_device *dev;
    cmb_log *log = NULL;
    uint64_t offset = 0;
    if (cmb_device_open(path, CMB_OPEN_READ, NULL, &dev) || cmb_log_open_rescue(dev, &(cmb_log_options){.no_durability = true}, &params, &log))
        stop(cmb_error_detail());
    if (!cmb_log_locate(log, addr, CMB_RECORD_HEADER, &offset))
        stop("no such address");
    cmb_log_close(log);
    cmb_device_close(dev);
    return offset;
}

static void mend_super(uint64_t offset)
{
    uint8_t block[CMB_SUPER_SIZE];
    read_at(offset, block, sizeof block);
    cmb_put64(block + CMB_SUPER_AT_CHECK, 0);
    cmb_put64(block + CMB_SUPER_AT_CHECK, cmb_hash64(block, sizeof block, offset));
    write_at(offset, block, sizeof block);
}

static void mend_frame(uint64_t offset)
{
    static uint8_t frame[CMB_FRAME_MAX];
    read_at(offset, frame, CMB_FRAME_HEADER);
    uint32_t payload = cmb_get32(frame + CMB_FRAME_AT_PAYLOAD);
    if (payload > CMB_FRAME_MAX - CMB_FRAME_HEADER)
        stop("a frame of that size has no check");
    read_at(offset + CMB_FRAME_HEADER, frame + CMB_FRAME_HEADER, payload);
    uint64_t seed = cmb_hash64(frame + CMB_FRAME_HEADER, payload, cmb_get64(frame + CMB_FRAME_AT_ADDR));
    cmb_put64(frame + CMB_FRAME_AT_CHECK, cmb_hash64(frame, CMB_FRAME_AT_CHECK, seed));
    write_at(offset, frame, CMB_FRAME_HEADER);
}

/* The record's own check, and that of the nearest frame before it. */
static void mend_record(uint64_t offset, uint64_t addr)
{
    static _Alignas(16) uint8_t record[CMB_RECORD_MAX];
    read_at(offset, record, CMB_RECORD_HEADER);
    uint32_t length = cmb_record_length(record);
    if (length < CMB_RECORD_HEADER || length > CMB_RECORD_MAX)
        stop("a record of that length has no check");
    read_at(offset, record, length);
    uint8_t kind = cmb_record_kind_of(record);
    if (kind == CMB_RECORD_LEAF || kind == CMB_RECORD_NODE) {
        if (length < CMB_NODE_HEADER || cmb_get32(record + 16) > length - 16)
            stop("a node of that body has no check");
        cmb_put64(record + 8, cmb_node_check(record, addr));
    } else {
        cmb_record_seal(record, kind, length, addr);
    }
    write_at(offset, record, length);
    for (uint64_t at = offset & ~(uint64_t)(CMB_BLOCK - 1), steps = 0; steps <= CMB_FRAME_MAX / CMB_BLOCK; at -= CMB_BLOCK, steps++) {
        uint8_t magic[4];
        read_at(at, magic, sizeof magic);
        if (cmb_get32(magic) == CMB_FRAME_MAGIC) {
            mend_frame(at);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    char name[32], field_name[32];
    unsigned long long where;
    bool mend = argc > 3 && strcmp(argv[argc - 1], "--mend") == 0;
    const char *value = argc - mend > 3 ? argv[3] : NULL;
    unsigned what = 0;
    if (argc < 3 || sscanf(argv[2], "%31[a-z]:%lli.%31[a-z-]", name, (long long *)&where, field_name) != 3)
        stop("usage: damage FILE WHAT.FIELD [VALUE] [--mend]");
    while (what < CMB_COUNTOF(whats) && strcmp(whats[what].name, name) != 0)
        what++;
    const field *f = what < CMB_COUNTOF(whats) ? whats[what].fields : NULL;
    while (f && f->name && strcmp(f->name, field_name) != 0)
        f++;
    if (!f || !f->name)
        stop("no such field");
    uint64_t offset = what == SUPER ? where * CMB_SUPER_SPACING : place(argv[1], where);
    uint8_t bytes[8] = {0};
    if (!(file = fopen(argv[1], "r+b")))
        stop("cannot open the file");
    read_at(offset + f->at, bytes, f->bytes);
    uint64_t old = cmb_get_uint(bytes, f->bytes);
    printf("%llu\n", (unsigned long long)old);
    cmb_put_uint(bytes, f->bytes, value ? strtoull(value, NULL, 0) : old ^ 1);
    write_at(offset + f->at, bytes, f->bytes);
    if (mend && what == SUPER)
        mend_super(offset);
    else if (mend && what == FRAME)
        mend_frame(offset);
    else if (mend)
        mend_record(offset, where);
    return fclose(file) ? 2 : 0;
}
