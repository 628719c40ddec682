/* SPDX-License-Identifier: ISC */
/*
 * offer_tag.c: tag objects on their way. An offer holds them as they are sent, outermost first: id, i64 time, then name, tagger, message
 * and encoded headers, each as u32 size, bytes and a zero byte.
 */
#include "store/peer.h"
#include "store/tag.h"
#include "store/take.h"

enum { NAME, TAGGER, MESSAGE, HEADERS, TEXTS };

/* ---- gathering ---- */

static int append(cmb_offer *o, const cmb_allocator *alloc, const void *data, size_t size)
{
    if (o->objects_size + size > o->objects_room) {
        size_t room = 2 * (o->objects_size + size);
        uint8_t *grown = cmb_resize(alloc, o->objects, o->objects_room, room);
        if (!grown)
            return CMB_ENOMEM;
        o->objects = grown;
        o->objects_room = room;
    }
    if (size)
        memcpy(o->objects + o->objects_size, data, size);
    o->objects_size += size;
    return 0;
}

static int append_text(cmb_offer *o, const cmb_allocator *alloc, const void *text, size_t size)
{
    uint8_t raw[4];
    cmb_put32(raw, (uint32_t)size);
    int error = append(o, alloc, raw, sizeof raw);
    if (!error)
        error = append(o, alloc, text, size);
    return error ? error : append(o, alloc, "", 1);
}

typedef struct gathering {
    cmb_offer *offer;
    const cmb_allocator *alloc;
} gathering;

static int append_headers(gathering *g, const cmb_tag *tag)
{
    size_t size;
    int error = cmb_headers_check(tag->headers, tag->header_count, &size);
    uint8_t *encoded = error ? NULL : cmb_alloc(g->alloc, size);
    if (error || !encoded)
        return error ? error : CMB_ENOMEM;
    cmb_headers_put(encoded, tag->headers, tag->header_count);
    error = append_text(g->offer, g->alloc, encoded, size);
    cmb_release(g->alloc, encoded, size);
    return error;
}

static int gather(void *ctx, const cmb_tag_record *record)
{
    gathering *g = ctx;
    const cmb_tag *tag = &record->tag;
    uint8_t time[8];
    cmb_put64(time, (uint64_t)tag->time);
    int error = append(g->offer, g->alloc, tag->id.bytes, tag->id.size);
    if (!error)
        error = append(g->offer, g->alloc, time, sizeof time);
    if (!error)
        error = append_text(g->offer, g->alloc, tag->name, strlen(tag->name));
    if (!error)
        error = append_text(g->offer, g->alloc, tag->tagger, strlen(tag->tagger));
    if (!error)
        error = append_text(g->offer, g->alloc, tag->message, strlen(tag->message));
    if (!error)
        error = append_headers(g, tag);
    g->offer->object_count += !error;
    return error;
}

int cmb_offer_annotate(cmb_store *store, cmb_offer *offer, const cmb_allocator *alloc, const cmb_commit_at *tag)
{
    gathering g = {offer, alloc};
    cmb_commit_at commit;
    return tag->id.size ? cmb_tag_peel(store, tag, gather, &g, &commit) : 0;
}

/* ---- on the wire ---- */

int cmb_offer_objects_put(const cmb_offer *offer, cmb_wire_out *out)
{
    int error = cmb_wire_put_uint(out, 1, offer->object_count);
    return error ? error : cmb_wire_put(out, offer->objects, offer->objects_size);
}

/* The next `size` bytes as they come. */
static int get_bytes(cmb_offer *o, const cmb_allocator *alloc, cmb_wire_in *in, size_t size)
{
    uint8_t piece[1024];
    int error = 0;
    while (!error && size) {
        size_t n = size < sizeof piece ? size : sizeof piece;
        error = cmb_wire_get(in, piece, n);
        if (!error)
            error = append(o, alloc, piece, n);
        size -= n;
    }
    return error;
}

static int get_text(cmb_offer *o, const cmb_allocator *alloc, cmb_wire_in *in, unsigned which)
{
    int error = get_bytes(o, alloc, in, 4);
    if (error)
        return error;
    size_t size = cmb_get32(o->objects + o->objects_size - 4), count, memory;
    if (size > CMB_COMMIT_TEXT_MAX + 2)
        return cmb_wire_refuse(in, "a tag object with too much text");
    error = get_bytes(o, alloc, in, size + 1);
    if (error)
        return error;
    const uint8_t *text = o->objects + o->objects_size - size - 1;
    bool fine = which == HEADERS ? cmb_headers_measure(text, size, &count, &memory) && text[size] == 0
                                 : memchr(text, 0, size + 1) == text + size;
    return fine ? 0 : cmb_wire_refuse(in, "a tag object with malformed text");
}

int cmb_offer_objects_get(cmb_offer *offer, const cmb_allocator *alloc, cmb_hash_kind hash, cmb_wire_in *in)
{
    uint64_t count;
    int error = cmb_wire_get_uint(in, 1, &count);
    if (!error && count > (offer->tag ? CMB_TAG_DEPTH_MAX : 0))
        error = cmb_wire_refuse(in, "%u tag objects, one above the other", (unsigned)count);
    while (!error && offer->object_count < count) {
        error = get_bytes(offer, alloc, in, cmb_name_size(hash) + 8);
        for (unsigned i = 0; !error && i < TEXTS; i++)
            error = get_text(offer, alloc, in, i);
        offer->object_count++;
    }
    return error;
}

/* ---- making them again ---- */

typedef struct object {
    cmb_name id;
    int64_t time;
    const uint8_t *texts[TEXTS];
    size_t sizes[TEXTS];
} object;

/* All were looked at when they were read, or come from this image. */
static void split(const cmb_offer *o, unsigned name_size, object *out)
{
    if (!o->object_count) /* then there are no bytes either */
        return;
    cmb_taker t = {.p = o->objects, .end = o->objects + o->objects_size};
    for (unsigned k = 0; k < o->object_count; k++) {
        out[k].id = (cmb_name){.size = (uint8_t)name_size};
        memcpy(out[k].id.bytes, cmb_take(&t, name_size), name_size);
        out[k].time = (int64_t)cmb_get64(cmb_take(&t, 8));
        for (unsigned i = 0; i < TEXTS; i++) {
            out[k].texts[i] = cmb_take_text(&t, &out[k].sizes[i]);
            cmb_take(&t, 1);
        }
    }
}

/* One object above `at`, which is where the new one is afterwards; without an appender only its id is compared. */
static int make(cmb_store *store, cmb_appender *app, const object *o, bool above_tag, cmb_commit_at *at)
{
    size_t count, memory;
    if (!cmb_headers_measure(o->texts[HEADERS], o->sizes[HEADERS], &count, &memory))
        return cmb_fail(CMB_ESYNTAX, "a tag object with malformed headers");
    cmb_commit_header *headers = cmb_alloc(&store->alloc, (count + 1) * sizeof *headers);
    uint8_t *bytes = cmb_alloc(&store->alloc, memory + 1);
    cmb_tag_draft draft = {.target = *at,
                           .target_is_tag = above_tag,
                           .time = o->time,
                           .name = (const char *)o->texts[NAME],
                           .tagger = (const char *)o->texts[TAGGER],
                           .message = (const char *)o->texts[MESSAGE],
                           .headers = headers,
                           .header_count = count};
    cmb_name id;
    int error = headers && bytes ? 0 : CMB_ENOMEM;
    if (!error) {
        cmb_headers_fill(o->texts[HEADERS], headers, bytes);
        error = cmb_tag_name(store, &draft, &id);
    }
    if (error == CMB_EINVAL || (!error && !cmb_name_equal(&id, &o->id)))
        error = cmb_fail(CMB_ESYNTAX, "a tag object is not what its id names");
    if (!error && app)
        error = cmb_tag_append(store, app, &draft, at);
    at->id = o->id;
    cmb_release(&store->alloc, headers, (count + 1) * sizeof *headers);
    cmb_release(&store->alloc, bytes, memory + 1);
    return error;
}

/* From the commit upwards. */
static int make_all(cmb_store *store, cmb_appender *app, const cmb_offer *offer, cmb_commit_at *at)
{
    object objects[CMB_TAG_DEPTH_MAX];
    int error = 0;
    split(offer, cmb_name_size(store->tree.hash), objects);
    for (unsigned k = offer->object_count; !error && k-- > 0;)
        error = make(store, app, &objects[k], k + 1 < offer->object_count, at);
    return error;
}

int cmb_offer_objects_check(cmb_store *store, const cmb_offer *offer)
{
    cmb_commit_at at = {.id = offer->commit};
    return offer->object_count ? make_all(store, NULL, offer, &at) : 0;
}

void cmb_offer_object(const cmb_offer *offer, cmb_name *out_id)
{
    *out_id = (cmb_name){.size = offer->object_count ? offer->commit.size : 0};
    if (offer->object_count)
        memcpy(out_id->bytes, offer->objects, out_id->size);
}

/* ---- the tag ---- */

static int publish(cmb_store *store, cmb_refobj *ref, const cmb_offer *offer, uint64_t *out_seq)
{
    cmb_commit_at at;
    cmb_state state;
    cmb_unit unit;
    int error = cmb_commit_find(store, &offer->commit, &at);
    if (!error)
        error = cmb_commit_state(store, &at, &state);
    if (!error)
        error = cmb_unit_begin(store, &unit);
    if (error)
        return error;
    error = make_all(store, unit.app, offer, &at);
    if (offer->object_count)
        state.tag = at;
    if (!error)
        error = cmb_unit_move(&unit, ref, &state, CMB_REFLOG_CREATED);
    if (!error)
        return cmb_unit_publish(&unit, out_seq);
    cmb_unit_abort(&unit);
    return error;
}

static int create(cmb_store *store, cmb_refobj *ref, const cmb_offer *offer, uint64_t *out_seq)
{
    cmb_state now;
    bool exists;
    int error = cmb_ref_lock(store, ref, false);
    if (error)
        return error;
    cmb_ref_look(store, ref, &now, &exists);
    error = exists ? cmb_fail(CMB_EEXIST, "%s exists", ref->name) : publish(store, ref, offer, out_seq);
    cmb_ref_unlock(store, ref);
    return error;
}

int cmb_offer_tag_create(cmb_store *store, const cmb_offer *offer)
{
    char full[CMB_REF_FULL_SIZE];
    cmb_refobj *ref;
    uint64_t seq = 0;
    int error = cmb_ref_full_name(CMB_TAGS, offer->name, full);
    if (!error)
        error = cmb_ref_use(store, full, strlen(full), &ref);
    if (error)
        return error;
    error = create(store, ref, offer, &seq);
    cmb_ref_unuse(store, ref);
    return error ? error : cmb_unit_settle(store, seq, false);
}
