/* SPDX-License-Identifier: ISC */
/* salvage.c: opening the damaged image and the new one, and the order of everything. */
#include "store/salvage.h"

#include <stdio.h>

#include "io/where.h"

#define POOL_DEFAULT ((size_t)64 << 20)
#define NODE_SIZE 4096u
#define NODE_SIZE_MIN 256u
#define NODE_SIZE_MAX 65536u

/* ---- the damaged image ---- */

static cmb_store_options read_options(const cmb_salvage *s)
{
    /* Nodes through the pool: a device that cannot be read says so there, while a mapping raises a signal. */
    return (cmb_store_options){.alloc = s->alloc,
                               .env = s->options->env,
                               .read_only = true,
                               .allow_no_durability = true,
                               .residency = CMB_RESIDENT_POOL,
                               .pool_size = s->options->pool_size ? s->options->pool_size : POOL_DEFAULT};
}

static int open_exact(cmb_salvage *s, cmb_device *image)
{
    cmb_store_options o = read_options(s);
    int error = cmb_store_open_device(image, &o, &s->exact);
    if (error == CMB_ENOMEM)
        return error;
    if (error)
        snprintf(s->why, sizeof s->why, "%s", cmb_error_detail());
    return 0;
}

/* Which hash do the names have, by the first record that tells? */
static int look_for_hash(void *ctx, const cmb_rescue_record *r)
{
    unsigned *kind = ctx;
    if (!r->record)
        return 0;
    if ((r->kind == CMB_RECORD_COMMIT || r->kind == CMB_RECORD_TAG) && r->length > CMB_RECORD_HEADER + 6
        && cmb_record_check(r->record, r->length, r->addr) == 0) {
        *kind = r->record[CMB_RECORD_HEADER + 5] == cmb_name_size(CMB_HASH_SHA256) ? CMB_HASH_SHA256 : CMB_HASH_XXH3;
        return CMB_ESTOPPED;
    }
    if (r->kind != CMB_RECORD_NODE || !cmb_node_plausible(r->record, r->length, r->addr))
        return 0;
    for (unsigned k = CMB_HASH_XXH3; k <= CMB_HASH_SHA256; k++) {
        cmb_noderef ref = {.addr = r->addr, .count = cmb_get64(r->record + 24), .length = r->length, .level = r->record[22],
                           .out_of_line = r->record[23] & CMB_NODE_OUT_OF_LINE};
        if (cmb_hash_check(k))
            continue;
        cmb_hash_name((cmb_hash_kind)k, r->record + 16, cmb_get32(r->record + 16), &ref.name);
        if (cmb_node_verify((cmb_hash_kind)k, r->record, &ref) == 0) {
            *kind = k;
            return CMB_ESTOPPED;
        }
    }
    return 0;
}

static int open_in(cmb_salvage *s, cmb_device *image)
{
    cmb_store_options o = read_options(s);
    cmb_image_params params = {.hash_kind = CMB_HASH_XXH3,
                               .node_target = s->options->node_size ? s->options->node_size : NODE_SIZE,
                               .boundary_seed = s->options->seed ? s->options->seed : CMB_SEED_DEFAULT};
    unsigned kind = CMB_HASH_XXH3;
    cmb_sv_progress(s, "looking for segments", 0, 0);
    int error = cmb_store_open_rescue(image, &o, &params, &s->in);
    if (error || cmb_log_rescue_has_super(s->in->log))
        return error;
    error = cmb_log_rescue_scan(s->in->log, cmb_node_plausible, look_for_hash, &kind);
    if (error && error != CMB_ESTOPPED)
        return error;
    if (kind != CMB_HASH_XXH3) {
        params.hash_kind = (uint8_t)kind;
        (void)cmb_store_close(s->in); /* read-only */
        s->in = NULL;
        error = cmb_store_open_rescue(image, &o, &params, &s->in);
        if (error)
            return error;
    }
    return cmb_sv_tell_of(s, CMB_LOSS_SUPERBLOCKS, 0, 0, "", "segment size, hash and node size follow from what was found");
}

/* Which node size gives the shapes that whole trees have? */
static int try_node_sizes(cmb_salvage *s, const char *name, const cmb_state *state)
{
    cmb_tree tree = s->in->tree;
    if (state->root.level == 0)
        return 0;
    for (tree.target = NODE_SIZE_MIN; tree.target <= NODE_SIZE_MAX; tree.target *= 2) {
        int error = cmb_tree_check_shape(&tree, &state->root);
        if (error == 0) {
            s->in->tree.target = tree.target;
            return CMB_ESTOPPED;
        }
        if (!cmb_sv_is_damage(error))
            return error;
    }
    return 0;
}

static int find_node_size(cmb_salvage *s)
{
    if (cmb_log_rescue_has_super(s->in->log) || s->options->node_size)
        return 0;
    int error = cmb_sv_refs_each(s, try_node_sizes);
    return error == CMB_ESTOPPED ? 0 : error;
}

/* ---- the new one ---- */

/* target NULL: it is made by name, not before it is known that there is something to write. */
static int open_out(cmb_salvage *s, cmb_device *target)
{
    cmb_store_options o = {.alloc = s->alloc, .env = s->options->env, .allow_no_durability = true};
    cmb_device_options made = {.alloc = s->alloc};
    if (!target) {
        int e = cmb_device_open(s->target, s->options->force ? CMB_OPEN_CREATE_FORCE : CMB_OPEN_CREATE, &made, &s->made);
        if (e)
            return e;
        target = s->made;
    }
    cmb_init_options init = {.node_size = s->in->tree.target, .hash = s->in->tree.hash, .seed = s->in->tree.seed, .force = s->options->force};
    int error = cmb_store_init_device(target, &init, &o);
    if (!error)
        error = cmb_store_open_device(target, &o, &s->out);
    return error ? error : cmb_intake_open(s->out, &s->intake);
}

static int publish(cmb_salvage *s)
{
    cmb_intake *intake = s->intake;
    s->intake = NULL; /* gone in any case */
    cmb_sv_progress(s, "writing refs", 0, 0);
    return cmb_intake_publish(intake);
}

/* ---- all of it ---- */

static int make_sets(cmb_salvage *s)
{
    cmb_addrset **const sets[] = {&s->seen, &s->noted, &s->bad, &s->told, &s->whole, &s->copied};
    unsigned shift = cmb_log_params(s->in->log)->segment_shift;
    int error = 0;
    for (size_t i = 0; i < CMB_COUNTOF(sets) && !error; i++)
        error = cmb_addrset_create(&s->alloc, shift, sets[i]);
    if (!error)
        error = cmb_buffer_create(&s->alloc, &s->values);
    return error ? error : cmb_buffer_create(&s->alloc, &s->moved);
}

static int run(cmb_salvage *s, cmb_device *image, cmb_device *target)
{
    int error = open_exact(s, image);
    if (!error)
        error = open_in(s, image);
    if (!error)
        error = make_sets(s);
    if (!error)
        error = cmb_sv_gather(s);
    if (!error)
        error = find_node_size(s);
    if (!error)
        error = open_out(s, target);
    if (!error)
        error = cmb_sv_commits(s);
    if (!error)
        error = cmb_sv_refs(s);
    if (!error)
        s->result.commits = cmb_buffer_count(s->moved);
    if (!error)
        error = publish(s);
    if (!error)
        error = cmb_sv_working(s);
    if (!error)
        error = cmb_sv_tell_keys(s);
    return error ? error : cmb_sv_found(s);
}

static void free_pieces(cmb_salvage *s)
{
    cmb_sv_piece *p = s->pieces.items;
    for (size_t i = 0; i < s->pieces.n; i++) {
        cmb_release(&s->alloc, (void *)(uintptr_t)p[i].range.after.data, p[i].range.after.size);
        cmb_release(&s->alloc, (void *)(uintptr_t)p[i].range.last.data, p[i].range.last.size);
    }
    cmb_sv_list_free(&s->alloc, &s->pieces, sizeof *p);
}

static void free_grafts(cmb_salvage *s)
{
    cmb_sv_graft *g = s->grafts.items;
    for (size_t i = 0; i < s->grafts.n; i++) {
        for (uint32_t k = 0; k < g[i].count; k++)
            cmb_release(&s->alloc, g[i].children[k].last, g[i].children[k].last_size + (size_t)g[i].children[k].first_size);
        cmb_release(&s->alloc, g[i].children, g[i].capacity * sizeof *g[i].children);
    }
    cmb_sv_list_free(&s->alloc, &s->grafts, sizeof *g);
}

/* The error is that of closing the new image. */
static int teardown(cmb_salvage *s)
{
    cmb_intake_abort(s->intake);
    int error = cmb_store_close(s->out);
    for (unsigned t = 0; t < CMB_TABLES; t++) {
        cmb_buffer_destroy(s->known[t]);
        cmb_sv_ranges_free(&s->alloc, &s->holes[t]);
    }
    cmb_buffer_destroy(s->older);
    cmb_buffer_destroy(s->moved);
    cmb_buffer_destroy(s->values);
    cmb_release(&s->alloc, s->piece, s->piece ? CMB_CHUNK_SIZE : 0);
    cmb_sv_list_free(&s->alloc, &s->nodes, sizeof(cmb_sv_node));
    cmb_sv_list_free(&s->alloc, &s->records, sizeof(cmb_sv_record));
    cmb_sv_list_free(&s->alloc, &s->epochs, sizeof(cmb_sv_record));
    cmb_sv_intents_free(s);
    cmb_sv_list_free(&s->alloc, &s->commits_found, sizeof(cmb_commit_at));
    free_grafts(s);
    free_pieces(s);
    cmb_sv_ranges_free(&s->alloc, &s->lost);
    cmb_idset_destroy(&s->inner);
    cmb_idset_destroy(&s->epochs_seen);
    cmb_addrset_destroy(s->seen);
    cmb_addrset_destroy(s->noted);
    cmb_addrset_destroy(s->bad);
    cmb_addrset_destroy(s->told);
    cmb_addrset_destroy(s->whole);
    cmb_addrset_destroy(s->copied);
    (void)cmb_store_close(s->in); /* read-only, like the other */
    (void)cmb_store_close(s->exact);
    cmb_device_close(s->made);
    return error;
}

/* target NULL: by `name`. */
static int salvage(cmb_device *image, cmb_device *target, const char *name, const cmb_salvage_options *options, cmb_salvage_result *out_result)
{
    cmb_allocator alloc = cmb_allocator_or_default(&options->alloc);
    uint32_t node_size = options->node_size;
    if (node_size && (node_size < NODE_SIZE_MIN || node_size > NODE_SIZE_MAX || node_size & (node_size - 1)))
        return cmb_fail(CMB_EINVAL, "a node size of %u bytes: a power of two from %u to %u is needed", node_size, NODE_SIZE_MIN, NODE_SIZE_MAX);
    cmb_salvage *s = cmb_zalloc(&alloc, sizeof *s);
    if (!s)
        return CMB_ENOMEM;
    s->options = options;
    s->alloc = alloc;
    s->target = name;
    cmb_idset_init(&s->inner, &alloc);
    cmb_idset_init(&s->epochs_seen, &alloc);
    int error = run(s, image, target);
    int closed = teardown(s);
    error = error ? error : closed;
    if (!error)
        *out_result = s->result;
    cmb_release(&alloc, s, sizeof *s);
    return error;
}

static const cmb_salvage_options defaults;

int cmb_salvage_device(cmb_device *image, cmb_device *target, const cmb_salvage_options *options, cmb_salvage_result *out_result)
{
    if (image == target)
        return cmb_fail(CMB_EINVAL, "%s: the target is the image itself", target->name);
    return salvage(image, target, NULL, options ? options : &defaults, out_result);
}

/* The image must not be overwritten, by whatever name; and who has to choose another target learns it before everything is read. */
static int check_names(const char *image, const char *target, const cmb_salvage_options *o)
{
    cmb_allocator alloc = cmb_allocator_or_default(&o->alloc);
    cmb_where from, to;
    int error = cmb_device_look(image, &alloc, &from);
    if (!error)
        error = cmb_device_look(target, &alloc, &to);
    if (error)
        return error;
    if (cmb_where_same(&from, &to))
        return cmb_fail(CMB_EINVAL, "%s: the target is the image itself", target);
    if (to.kind == CMB_WHERE_FILE && !o->force)
        return cmb_fail(CMB_EEXIST, "%s: exists already", target);
    return 0;
}

int cmb_salvage_image(const char *image, const char *target, const cmb_salvage_options *options, cmb_salvage_result *out_result)
{
    const cmb_salvage_options *o = options ? options : &defaults;
    cmb_device_options d = {.alloc = o->alloc};
    cmb_device *from;
    int error = check_names(image, target, o);
    if (!error)
        error = cmb_device_open(image, CMB_OPEN_READ, &d, &from);
    if (error)
        return error;
    error = salvage(from, NULL, target, o, out_result);
    cmb_device_close(from);
    return error;
}
