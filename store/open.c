/* SPDX-License-Identifier: ISC */
/* open.c: making an image, opening and closing it, and what it says about itself. */
#include "store/intents.h"

#include <stdio.h>

#include "log/rescue.h"

#define NODE_SIZE 4096u
#define NODE_SIZE_MIN 256u
#define NODE_SIZE_MAX 65536u
#define TXN_MEMORY ((size_t)64 << 20)
#define STALE_ATTEMPTS 8u /* to open an image that its writer changes meanwhile */

int cmb_store_check_writable(const cmb_store *store)
{
    if (CMB_UNLIKELY(!store->writable))
        return cmb_fail(CMB_EREADONLY, "%s was opened read-only", store->dev->name);
    if (CMB_UNLIKELY(__atomic_load_n(&store->failed, __ATOMIC_RELAXED)))
        return cmb_fail(CMB_EREADONLY, "%s failed while it was written; what was acknowledged is safe, reopen to go on",
                        store->dev->name);
    return 0;
}

int cmb_store_note(cmb_store *store, int error)
{
    if (CMB_UNLIKELY(error == CMB_EUNKNOWN))
        __atomic_store_n(&store->failed, true, __ATOMIC_RELAXED);
    return error;
}

/* ---- opening ---- */

static void on_remapped(void *ctx, uint64_t segment)
{
    cmb_store *store = ctx;
    if (store->nodes)
        cmb_nodes_remapped(store->nodes, segment);
}

/* Everything that needs no disk. */
static int prepare(cmb_store *store)
{
    store->intents_merge_at = CMB_INTENTS_MERGE;
    store->notes_end = &store->notes;
    store->runs = cmb_zalloc(&store->alloc, sizeof *store->runs);
    int error = store->runs ? cmb_refs_init(store) : CMB_ENOMEM;
    for (unsigned i = 0; !error && i < CMB_TABLES; i++)
        error = cmb_table_init(store, &store->tables[i]);
    return error;
}

static int check_params(const cmb_store *store, const cmb_image_params *p)
{
    uint32_t t = p->node_target;
    int error = cmb_hash_check(p->hash_kind);
    if (error)
        return cmb_fail_in(error, "%s", store->dev->name);
    if (t < NODE_SIZE_MIN || t > NODE_SIZE_MAX || (t & (t - 1)))
        return cmb_fail(CMB_ECORRUPT, "%s: a node size of %u bytes", store->dev->name, t);
    return 0;
}

static int open_nodes(cmb_store *store, const cmb_store_options *o)
{
    static const cmb_residency kinds[] = {[CMB_RESIDENT_AUTO] = CMB_RESIDENCY_AUTO,
                                          [CMB_RESIDENT_MAP] = CMB_RESIDENCY_MAP,
                                          [CMB_RESIDENT_POOL] = CMB_RESIDENCY_POOL};
    if ((unsigned)o->residency >= CMB_COUNTOF(kinds))
        return cmb_fail(CMB_EINVAL, "unknown residency %u", (unsigned)o->residency);
    return cmb_nodes_create(&store->alloc, store->log, kinds[o->residency], o->pool_size, &store->nodes);
}

static int open_log(cmb_store *store, const cmb_store_options *o, const cmb_image_params *rescue)
{
    cmb_log_options options = {.alloc = store->alloc,
                               .env = store->env,
                               .writable = store->writable,
                               .no_durability = o->allow_no_durability,
                               .replay = cmb_edits_replay,
                               .ctx = store,
                               .remapped = on_remapped};
    int error = rescue ? cmb_log_open_rescue(store->dev, &options, rescue, &store->log) : cmb_log_open(store->dev, &options, &store->log);
    if (error)
        return error;
    const cmb_image_params *p = cmb_log_params(store->log);
    error = check_params(store, p);
    if (!error)
        error = open_nodes(store, o);
    store->tree = (cmb_tree){.alloc = store->alloc,
                             .log = store->log,
                             .nodes = store->nodes,
                             .hash = (cmb_hash_kind)p->hash_kind,
                             .target = p->node_target,
                             .seed = p->boundary_seed};
    store->table_tree = store->tree;
    if (store->table_tree.target < CMB_TABLE_NODE_MIN)
        store->table_tree.target = CMB_TABLE_NODE_MIN;
    return error;
}

static int open_tables(cmb_store *store, bool rescue)
{
    uint64_t addr;
    uint32_t length;
    for (unsigned i = 0; i < CMB_TABLES; i++)
        cmb_tree_empty(&store->tree, &store->tables[i].root);
    cmb_log_root(store->log, &addr, &length);
    int error = length && !rescue ? cmb_root_read(store, addr, length) : 0;
    return error || rescue ? error : cmb_intents_load_notes(store);
}

static void describe(cmb_store *store)
{
    const char *more = store->dev->ops->describe ? store->dev->ops->describe(store->dev) : NULL;
    snprintf(store->device_line, sizeof store->device_line, "%s%s%s", store->dev->name, more ? ": " : "", more ? more : "");
}

/* Whatever is there; the error is the log's. */
static int teardown(cmb_store *store)
{
    cmb_allocator alloc = store->alloc;
    if (store->runs)
        cmb_intents_teardown(store);
    if (store->nodes)
        cmb_nodes_destroy(store->nodes);
    if (store->scratch)
        cmb_append_abort(store->scratch);
    int error = store->log ? cmb_log_close(store->log) : 0;
    for (unsigned i = 0; i < CMB_TABLES; i++)
        if (store->tables[i].buckets)
            cmb_table_destroy(store, &store->tables[i]);
    cmb_watches_destroy(store);
    if (store->ref_buckets)
        cmb_refs_destroy(store);
    cmb_cond_destroy(&store->checkpointed);
    cmb_mutex_destroy(&store->lock);
    cmb_mutex_destroy(&store->unit);
    if (store->owns_dev)
        cmb_device_close(store->dev);
    cmb_release(&alloc, store, sizeof *store);
    return error;
}

static int init_locks(cmb_store *store, const cmb_store_options *o)
{
    int error = cmb_mutex_init(&store->lock);
    if (error)
        return error;
    error = cmb_mutex_init(&store->unit);
    if (!error && (error = cmb_cond_init(&store->checkpointed)))
        cmb_mutex_destroy(&store->unit);
    if (!error && (error = cmb_watches_init(&store->watches, o))) {
        cmb_cond_destroy(&store->checkpointed);
        cmb_mutex_destroy(&store->unit);
    }
    if (error)
        cmb_mutex_destroy(&store->lock);
    return error;
}

/* A store without a log yet. */
static int create(cmb_device *dev, const cmb_store_options *o, cmb_store **out_store)
{
    cmb_allocator alloc = cmb_allocator_or_default(&o->alloc);
    cmb_store *store = cmb_zalloc(&alloc, sizeof *store);
    if (!store)
        return CMB_ENOMEM;
    store->alloc = alloc;
    store->env = cmb_env_or_default(&o->env);
    store->dev = dev;
    store->writable = !o->read_only;
    store->txn_memory = o->txn_memory ? o->txn_memory : TXN_MEMORY;
    int error = init_locks(store, o);
    if (error) {
        cmb_release(&alloc, store, sizeof *store);
        return error;
    }
    describe(store);
    *out_store = store;
    return 0;
}

/* rescue: not NULL for a log that is put together from what is there; its tables are empty. *out_stale: a writer that went on meanwhile may
 * have taken away what was looked for. */
static int open_once(cmb_device *dev, const cmb_store_options *o, const cmb_image_params *rescue, cmb_store **out_store, bool *out_stale)
{
    cmb_store *store;
    *out_stale = false;
    int error = create(dev, o, &store);
    if (error)
        return error;
    error = prepare(store);
    if (!error)
        error = open_log(store, o, rescue);
    if (!error)
        error = open_tables(store, rescue != NULL);
    if (error) {
        *out_stale = o->read_only && store->log && cmb_log_is_stale(store->log);
        (void)teardown(store); /* nothing was written, so there is nothing to seal */
        return error;
    }
    *out_store = store;
    return 0;
}

static int open_device(cmb_device *dev, const cmb_store_options *options, const cmb_image_params *rescue, cmb_store **out_store)
{
    static const cmb_store_options defaults;
    bool stale = true;
    int error = 0;
    for (unsigned i = 0; i < STALE_ATTEMPTS && stale; i++)
        error = open_once(dev, options ? options : &defaults, rescue, out_store, &stale);
    return stale ? cmb_fail_in(CMB_ESTALE, "%s: its writer is faster than this reader", dev->name) : error;
}

int cmb_store_open_device(cmb_device *dev, const cmb_store_options *options, cmb_store **out_store)
{
    return open_device(dev, options, /* rescue= */ NULL, out_store);
}

int cmb_store_open_rescue(cmb_device *dev, const cmb_store_options *options, const cmb_image_params *params, cmb_store **out_store)
{
    return open_device(dev, options, params, out_store);
}

static int open_own(const char *name, cmb_open_mode mode, const cmb_store_options *o, uint64_t size, cmb_device **out_dev)
{
    cmb_device_options d = {.alloc = o->alloc, .size = size};
    return cmb_device_open(name, mode, &d, out_dev);
}

/* Opens the device, and makes the image if that is wished and there is no file. */
static int open_or_create(const char *name, const cmb_store_options *o, cmb_device **out_dev)
{
    if (o->read_only || !o->create)
        return open_own(name, o->read_only ? CMB_OPEN_READ : CMB_OPEN_WRITE, o, 0, out_dev);
    int error = open_own(name, CMB_OPEN_CREATE, o, o->init ? o->init->size : 0, out_dev);
    if (error == CMB_EEXIST)
        return open_own(name, CMB_OPEN_WRITE, o, 0, out_dev);
    if (error)
        return error;
    error = cmb_store_init_device(*out_dev, o->init, o);
    if (error == CMB_EEXIST)
        error = 0; /* a block device that holds an image: it is opened as it is */
    if (error)
        cmb_device_close(*out_dev);
    return error;
}

int cmb_store_open(const char *name, const cmb_store_options *options, cmb_store **out_store)
{
    static const cmb_store_options defaults;
    const cmb_store_options *o = options ? options : &defaults;
    cmb_device *dev;
    cmb_store *store;
    int error = open_or_create(name, o, &dev);
    if (error)
        return error;
    error = cmb_store_open_device(dev, o, &store);
    if (error) {
        cmb_device_close(dev);
        return error;
    }
    store->owns_dev = true;
    *out_store = store;
    return 0;
}

int cmb_store_close(cmb_store *store)
{
    if (!store)
        return 0;
    /* An image that was written has its content in trees when it is left. Where that cannot be, the next writer sees to it. */
    if (store->last_seq && !cmb_store_check_writable(store))
        (void)cmb_intents_settle_all(store);
    return teardown(store);
}

int cmb_store_sync(cmb_store *store)
{
    if (!store->writable)
        return 0;
    cmb_mutex_lock(&store->lock);
    uint64_t seq = store->last_seq;
    cmb_mutex_unlock(&store->lock);
    return seq ? cmb_store_settle(store, seq) : 0;
}

bool cmb_store_is_durable(const cmb_store *store)
{
    return cmb_log_is_durable(store->log);
}

void cmb_store_get_info(const cmb_store *store, cmb_store_info *out_info)
{
    const cmb_image_params *p = cmb_log_params(store->log);
    cmb_caps caps;
    cmb_device_caps(store->dev, &caps);
    memset(out_info, 0, sizeof *out_info);
    memcpy(out_info->uuid, p->uuid, sizeof p->uuid);
    out_info->hash = (cmb_hash_kind)p->hash_kind;
    out_info->node_size = p->node_target;
    out_info->seed = p->boundary_seed;
    out_info->size = caps.size;
    out_info->fixed_size = p->fixed_size;
    out_info->segment_size = (uint64_t)1 << p->segment_shift;
    out_info->residency =
        cmb_nodes_residency(store->nodes) == CMB_RESIDENCY_POOL ? CMB_RESIDENT_POOL : CMB_RESIDENT_MAP;
    out_info->device = store->device_line;
}

/* ---- making an image ---- */

static bool is_power_of_two(uint32_t v)
{
    return v && !(v & (v - 1));
}

static int choose_segment(const cmb_init_options *init, cmb_image_params *p)
{
    unsigned shift = cmb_log_segment_shift(p->fixed_size);
    if (init->segment_size) {
        if (!is_power_of_two(init->segment_size) || init->segment_size < 1u << CMB_SEGMENT_SHIFT_MIN ||
            init->segment_size > 1u << CMB_SEGMENT_SHIFT_MAX)
            return cmb_fail(CMB_EINVAL, "a segment of %u bytes: a power of two from 2 MiB to 64 MiB is needed",
                            init->segment_size);
        shift = (unsigned)__builtin_ctz(init->segment_size);
    }
    p->segment_shift = (uint8_t)shift;
    return 0;
}

static int choose_params(cmb_device *dev, const cmb_init_options *init, const cmb_env *env, cmb_image_params *p)
{
    cmb_caps caps;
    cmb_device_caps(dev, &caps);
    memset(p, 0, sizeof *p);
    p->hash_kind = (uint8_t)(init->hash ? init->hash : CMB_HASH_XXH3);
    p->node_target = init->node_size ? init->node_size : NODE_SIZE;
    p->boundary_seed = init->seed ? init->seed : CMB_SEED_DEFAULT;
    p->fixed_size = init->size ? init->size : caps.flags & CMB_CAP_GROW ? 0 : caps.size;
    if (init->hash && !cmb_hash_kind_name(init->hash))
        return cmb_fail(CMB_EINVAL, "unknown hash %u", (unsigned)init->hash);
    if (!is_power_of_two(p->node_target) || p->node_target < NODE_SIZE_MIN || p->node_target > NODE_SIZE_MAX)
        return cmb_fail(CMB_EINVAL, "a node size of %u bytes: a power of two from %u to %u is needed", p->node_target,
                        NODE_SIZE_MIN, NODE_SIZE_MAX);
    if (p->fixed_size > caps.max_size)
        return cmb_fail(CMB_EINVAL, "%s holds %llu bytes, not %llu", dev->name, (unsigned long long)caps.max_size,
                        (unsigned long long)p->fixed_size);
    int error = cmb_hash_check(p->hash_kind);
    if (error)
        return cmb_fail_in(error, "%s", dev->name);
    error = choose_segment(init, p);
    return error ? error : env->random(env->ctx, p->uuid, sizeof p->uuid);
}

/* May the device be overwritten? */
static int check_overwrite(cmb_device *dev, const cmb_init_options *init, const cmb_allocator *alloc)
{
    cmb_image_params old;
    if (init->force)
        return 0;
    int error = cmb_log_probe(dev, alloc, &old);
    if (error == CMB_ENOTIMAGE)
        return 0;
    if (!error || error == CMB_EVERSION || error == CMB_ECORRUPT)
        return cmb_fail(CMB_EEXIST, "%s holds an image", dev->name);
    return error;
}

/* The first root record, so that a fresh image opens read-only as well; with the empty branch "main". */
static int make_main(cmb_store *store)
{
    static const char main_ref[] = CMB_HEADS "main";
    cmb_unit unit;
    cmb_refobj *ref;
    cmb_state state;
    uint64_t seq;
    int error = cmb_ref_use(store, main_ref, sizeof main_ref - 1, &ref);
    if (error)
        return error;
    error = cmb_unit_begin(store, &unit);
    if (!error) {
        cmb_state_empty(store, &state);
        error = cmb_unit_move(&unit, ref, &state, CMB_REFLOG_CREATED);
        if (error)
            cmb_unit_abort(&unit);
        else
            error = cmb_unit_publish(&unit, &seq);
    }
    cmb_ref_unuse(store, ref);
    return error ? error : cmb_store_checkpoint(store);
}

int cmb_store_init_device(cmb_device *dev, const cmb_init_options *init, const cmb_store_options *options)
{
    static const cmb_init_options init_defaults;
    static const cmb_store_options defaults;
    cmb_store_options o = options ? *options : defaults;
    cmb_allocator alloc = cmb_allocator_or_default(&o.alloc);
    cmb_env env = cmb_env_or_default(&o.env);
    cmb_image_params params;
    cmb_store *store;
    init = init ? init : &init_defaults;
    o.read_only = false;
    int error = choose_params(dev, init, &env, &params);
    if (!error)
        error = check_overwrite(dev, init, &alloc);
    if (!error)
        error = cmb_log_format(dev, &params, &alloc, &env);
    if (!error)
        error = cmb_store_open_device(dev, &o, &store);
    if (error)
        return error;
    error = make_main(store);
    int closed = cmb_store_close(store);
    return error ? error : closed;
}

int cmb_store_init(const char *name, const cmb_init_options *init, const cmb_store_options *options)
{
    static const cmb_store_options defaults;
    const cmb_store_options *o = options ? options : &defaults;
    cmb_device *dev;
    bool force = init && init->force;
    int error = init && init->hash && cmb_hash_kind_name(init->hash) ? cmb_hash_check(init->hash) : 0;
    if (error) /* before there is a file */
        return cmb_fail_in(error, "%s", name);
    error = open_own(name, force ? CMB_OPEN_CREATE_FORCE : CMB_OPEN_CREATE, o, init ? init->size : 0, &dev);
    if (error)
        return error;
    error = cmb_store_init_device(dev, init, o);
    cmb_device_close(dev);
    return error;
}
