/* SPDX-License-Identifier: ISC */
/* inspect_record.c: what the records of the store and of the log say, taken apart without a store. */
#include <inttypes.h>
#include <string.h>

#include "btree/tree.h"
#include "log/format.h"
#include "store/take.h"
#include "tools/inspect.h"
#include "tools/text.h"

typedef struct payload {
    cmb_taker t;
    cmb_hash_kind hash;
    unsigned name_size;
} payload;

static void put_name(payload *p, const char *what)
{
    cmb_name name = {.size = (uint8_t)p->name_size};
    text_buf shown;
    memcpy(name.bytes, cmb_take(&p->t, p->name_size), p->name_size);
    printf("%s%s\n", what, text_name(&shown, &name, 0));
}

static void put_text(payload *p, const char *what)
{
    size_t size;
    const uint8_t *text = cmb_take_text(&p->t, &size);
    fputs(what, stdout);
    text_print_field(stdout, text, size);
    putchar('\n');
}

static void put_place(payload *p, const char *what)
{
    const uint8_t *place = cmb_take(&p->t, 12);
    printf("%s%" PRIu64 " length %" PRIu32 "\n", what, cmb_get64(place), cmb_get32(place + 8));
}

static void put_headers(payload *p)
{
    unsigned n = cmb_get16(cmb_take(&p->t, 2));
    for (unsigned i = 0; i < n && !p->t.short_of; i++) {
        unsigned size = *cmb_take(&p->t, 1);
        if (size > CMB_HEADER_NAME_MAX) {
            p->t.short_of = true;
            break;
        }
        printf("header   %.*s ", (int)size, (const char *)cmb_take(&p->t, size));
        put_text(p, "");
    }
}

static void show_time(const uint8_t *at)
{
    text_buf t;
    printf("time     %s\n", text_time(&t, (int64_t)cmb_get64(at)));
}

static void show_commit(payload *p)
{
    uint32_t content = cmb_get32(cmb_take(&p->t, 4));
    cmb_name id;
    text_buf shown;
    if (p->t.short_of || content > cmb_take_left(&p->t)) {
        p->t.short_of = true;
        return;
    }
    cmb_hash_name(p->hash, p->t.p, content, &id);
    const uint8_t *f = cmb_take(&p->t, 28);
    printf("id       %s\ngeneration %" PRIu64 "\nentries  %" PRIu64 "\n", text_name(&shown, &id, 0), cmb_get64(f + 4), cmb_get64(f + 20));
    show_time(f + 12);
    put_name(p, "root     ");
    unsigned parents = cmb_get16(cmb_take(&p->t, 2));
    for (unsigned i = 0; i < parents && !p->t.short_of; i++)
        put_name(p, "parent   ");
    put_text(p, "author   ");
    put_text(p, "message  ");
    put_headers(p);
    put_place(p, "root at  ");
    for (unsigned i = 0; i < parents && !p->t.short_of; i++)
        put_place(p, "parent at ");
}

static void show_tag(payload *p)
{
    cmb_take(&p->t, 4);
    const uint8_t *f = cmb_take(&p->t, 12);
    show_time(f + 4);
    printf("names a  %s\n", inspect_kind_name(f[3]));
    put_name(p, "target   ");
    put_text(p, "name     ");
    put_text(p, "tagger   ");
    put_text(p, "message  ");
    put_headers(p);
    put_place(p, "at       ");
}

static const char *table_name(unsigned table)
{
    static const char *const names[] = {"refs", "commits", "reflog"};
    return table < CMB_COUNTOF(names) ? names[table] : "unknown";
}

static void show_key(const char *table, const uint8_t *key, size_t size)
{
    text_buf hex;
    if (strcmp(table, "commits") == 0 && size <= CMB_NAME_MAX)
        fputs(text_hex(&hex, key, size), stdout);
    else
        text_print_field(stdout, key, size);
}

static void show_edits(payload *p)
{
    printf("version  %u\n", *cmb_take(&p->t, 1));
    while (cmb_take_left(&p->t) && !p->t.short_of && cli_output_ok(stdout)) {
        const uint8_t *e = cmb_take(&p->t, 6);
        size_t key_size = cmb_get16(e + 2), value_size = cmb_get16(e + 4);
        if (p->t.short_of || key_size + value_size > cmb_take_left(&p->t)) {
            p->t.short_of = true;
            return;
        }
        printf("%s  %-7s  ", e[1] == 1 ? "set   " : "remove", table_name(e[0]));
        show_key(table_name(e[0]), cmb_take(&p->t, key_size), key_size);
        printf("  %zu bytes\n", value_size);
        cmb_take(&p->t, value_size);
    }
}

static void show_root(payload *p)
{
    const uint8_t *head = cmb_take(&p->t, 10);
    printf("version  %u\nunits    %" PRIu64 "\n", head[0], cmb_get64(head + 2));
    for (unsigned i = 0; i < head[1] && !p->t.short_of; i++) {
        const uint8_t *e = cmb_take(&p->t, 2);
        size_t size = e[1], used;
        cmb_noderef ref;
        text_buf name;
        if (size > CMB_NODEREF_PACKED_MAX || cmb_noderef_unpack(p->hash, cmb_take(&p->t, size), size, &ref, &used)) {
            p->t.short_of = true;
            return;
        }
        printf("table    %-7s at %" PRIu64 " length %" PRIu32 " level %u entries %" PRIu64 " %s\n", table_name(e[0]), ref.addr, ref.length,
               ref.level, ref.count, text_name(&name, &ref.name, 12));
    }
    uint32_t runs = cmb_get32(cmb_take(&p->t, 4));
    for (uint32_t i = 0; i < runs && !p->t.short_of && cli_output_ok(stdout); i++)
        put_place(p, "run      ");
    if (!p->t.short_of)
        show_edits(p);
}

static void show_intents(payload *p)
{
    const uint8_t *head = cmb_take(&p->t, 11);
    size_t size = cmb_get16(head + 9);
    printf("version  %u\nunit     %" PRIu64 "\nref      ", head[0], cmb_get64(head + 1));
    if (size > cmb_take_left(&p->t)) {
        p->t.short_of = true;
        return;
    }
    text_print_field(stdout, cmb_take(&p->t, size), size);
    putchar('\n');
    while (cmb_take_left(&p->t) && !p->t.short_of && cli_output_ok(stdout)) {
        const uint8_t *e = cmb_take(&p->t, 7);
        size_t key = cmb_get16(e + 1), value = cmb_get32(e + 3);
        if (p->t.short_of || key + value > cmb_take_left(&p->t)) {
            p->t.short_of = true;
            return;
        }
        fputs(e[0] == CMB_EDIT_PUT ? "put     " : "delete  ", stdout);
        text_print_field(stdout, cmb_take(&p->t, key), key);
        printf("  %zu bytes\n", value);
        cmb_take(&p->t, value);
    }
}

static void show_segments(payload *p)
{
    const uint8_t *head = cmb_take(&p->t, CMB_SEGMENTS_HEADER);
    uint32_t n = cmb_get32(head);
    if (cmb_get32(head + 4) & CMB_SEGMENTS_CHECKPOINT)
        printf("checkpoint root at %" PRIu64 " length %" PRIu32 "\n", cmb_get64(head + 8), cmb_get32(head + 16));
    for (uint32_t i = 0; i < n && !p->t.short_of && cli_output_ok(stdout); i++) {
        const uint8_t *e = cmb_take(&p->t, CMB_SEGMENTS_ENTRY);
        printf("entry    kind %u logical %" PRIu64 " physical %" PRIu32 " used %" PRIu64 "\n", e[12], cmb_get64(e), cmb_get32(e + 8),
               cmb_get64(e + 16));
    }
}

bool inspect_show_payload(const cmb_image_params *params, unsigned kind, const uint8_t *bytes, uint32_t size)
{
    static void (*const show[])(payload *) = {
        [CMB_RECORD_COMMIT] = show_commit,     [CMB_RECORD_EDITS] = show_edits, [CMB_RECORD_ROOT] = show_root,
        [CMB_RECORD_SEGMENTS] = show_segments, [CMB_RECORD_TAG] = show_tag,     [CMB_RECORD_INTENTS] = show_intents,
    };
    cmb_hash_kind hash = (cmb_hash_kind)params->hash_kind;
    payload p = {.t = {bytes, bytes + size, false}, .hash = hash, .name_size = cmb_name_size(hash)};
    if (kind >= CMB_COUNTOF(show) || !show[kind] || cmb_hash_check(params->hash_kind))
        return false;
    show[kind](&p);
    if (p.t.short_of)
        puts("malformed: it ends before its end");
    return !p.t.short_of;
}
