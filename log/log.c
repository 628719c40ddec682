/* SPDX-License-Identifier: ISC */
/* log.c: making, opening and closing an image's log. */
#include "log/rescue_private.h"

#define FIXED_MIN (16u << 20)

unsigned cmb_log_segment_shift(uint64_t size)
{
    if (size == 0)
        return CMB_SEGMENT_SHIFT_FILE;
    unsigned shift = CMB_SEGMENT_SHIFT_MIN;
    while (shift < CMB_SEGMENT_SHIFT_MAX && size >> (shift + 1) >= 256)
        shift++;
    return shift;
}

/* ---- making ---- */

static int format_check(cmb_device *dev, const cmb_image_params *params)
{
    cmb_caps caps;
    cmb_device_caps(dev, &caps);
    if (params->segment_shift < CMB_SEGMENT_SHIFT_MIN || params->segment_shift > CMB_SEGMENT_SHIFT_MAX)
        return cmb_fail(CMB_EINVAL, "segments of 2^%u bytes", (unsigned)params->segment_shift);
    if (params->fixed_size && params->fixed_size > caps.size)
        return cmb_fail(CMB_ENOSPC, "%s: %llu bytes, the image is to have %llu", dev->name,
                        (unsigned long long)caps.size, (unsigned long long)params->fixed_size);
    if (!params->fixed_size && !(caps.flags & CMB_CAP_GROW))
        return cmb_fail(CMB_EINVAL, "%s: cannot grow, so the image needs a fixed size", dev->name);
    uint64_t first = cmb_first_physical(params->segment_shift);
    if (params->fixed_size
        && (params->fixed_size < FIXED_MIN || params->fixed_size >> params->segment_shift < first + 1))
        return cmb_fail(CMB_ENOSPC, "%s: %llu bytes are too small for an image", dev->name,
                        (unsigned long long)params->fixed_size);
    return 0;
}

/* The first superblock. Its generation goes on from what the device held, and so does the epoch. */
static int first_super(const cmb_image_params *params, const cmb_env *env, uint64_t generation, cmb_super *out)
{
    uint8_t bytes[8];
    int e = env->random(env->ctx, bytes, sizeof bytes);
    if (e)
        return cmb_fail(e, "no randomness for the epoch");
    unsigned shift = params->segment_shift;
    uint64_t first = cmb_first_physical(shift), next = CMB_NEXT_TARGET;
    cmb_super s = {.params = *params, .generation = generation, .next_logical = 2};
    s.epoch = cmb_hash64(bytes, sizeof bytes, generation);
    s.count = params->fixed_size ? params->fixed_size >> shift : first + 1 + next;
    if (s.count > UINT32_MAX)
        s.count = UINT32_MAX;
    if (params->fixed_size)
        next = s.count / 8 < 2 ? 2 : s.count / 8 > CMB_NEXT_TARGET ? CMB_NEXT_TARGET : s.count / 8;
    if (next > s.count - first - 1)
        next = s.count - first - 1;
    s.pos = (cmb_position){1, 0, (uint32_t)first, 1, 0};
    s.n_next = (uint32_t)next;
    for (uint32_t i = 0; i < s.n_next; i++)
        s.next[i] = (uint32_t)first + 1 + i;
    s.fresh = first + 1 + next;
    *out = s;
    return 0;
}

static int format_flush(cmb_queue *queue, uint64_t connection)
{
    int e = cmb_io_flush(queue);
    return e ? e : cmb_same_connection(queue->dev, connection);
}

/* Superblocks zeroed and flushed, the newer generation last; then the new pair, flushed. */
static int format_write(cmb_queue *queue, const cmb_super *s, unsigned newest_pair, uint8_t *block)
{
    int e = 0;
    cmb_caps caps;
    cmb_device_caps(queue->dev, &caps);
    const uint64_t connection = caps.generation;
    unsigned order[2] = {newest_pair ^ 0xfu, newest_pair};
    for (unsigned step = 0; step < 2 && !e; step++) {
        memset(block, 0, CMB_BLOCK);
        for (unsigned slot = 0; slot < CMB_SUPER_SLOTS && !e; slot++) {
            if (order[step] >> slot & 1)
                e = cmb_io_write(queue, (uint64_t)slot * CMB_SUPER_SPACING, block, CMB_BLOCK);
        }
        if (!e)
            e = format_flush(queue, connection);
    }
    if (!e) /* nothing of an earlier image may continue the new chain */
        e = cmb_io_write(queue, (uint64_t)s->pos.physical << s->params.segment_shift, block, CMB_BLOCK);
    if (!e)
        e = format_flush(queue, connection);
    if (!e)
        e = cmb_super_write(queue, s, cmb_super_pair(s->generation), block);
    if (!e)
        e = format_flush(queue, connection);
    return e;
}

int cmb_log_format(cmb_device *dev, const cmb_image_params *params, const cmb_allocator *alloc, const cmb_env *env)
{
    cmb_allocator a = cmb_allocator_or_default(alloc);
    cmb_env en = cmb_env_or_default(env);
    int e = format_check(dev, params);
    if (e)
        return e;
    cmb_queue *queue;
    e = cmb_queue_open(dev, 1, &queue);
    if (e)
        return e;
    uint8_t *block = cmb_io_buffer(&a, CMB_BLOCK);
    cmb_super_slots old;
    cmb_super s;
    uint64_t generation = 2;
    unsigned newest = 0x5;
    e = block ? 0 : CMB_ENOMEM;
    if (!e && cmb_super_load(dev, queue, &a, &old) == 0) {
        generation = old.best.generation + 1;
        newest = cmb_super_pair(old.best.generation);
    }
    if (!e)
        e = first_super(params, &en, generation, &s);
    cmb_caps caps;
    cmb_device_caps(dev, &caps);
    if (!e && !params->fixed_size && caps.size < s.count << params->segment_shift)
        e = dev->ops->grow(dev, s.count << params->segment_shift);
    if (!e)
        e = format_write(queue, &s, newest, block);
    cmb_io_buffer_release(&a, block, CMB_BLOCK);
    cmb_queue_close(queue);
    return e;
}

int cmb_log_probe(cmb_device *dev, const cmb_allocator *alloc, cmb_image_params *out_params)
{
    cmb_allocator a = cmb_allocator_or_default(alloc);
    cmb_queue *queue;
    int e = cmb_queue_open(dev, 1, &queue);
    if (e)
        return e;
    cmb_super_slots slots;
    e = cmb_super_load(dev, queue, &a, &slots);
    cmb_queue_close(queue);
    if (!e)
        *out_params = slots.best.params;
    return e;
}

/* ---- opening ---- */

static int locks_init(cmb_log *log)
{
    cmb_mutex *const mutexes[] = {&log->lock, &log->table_lock, &log->map_lock, &log->pool_lock, &log->scratch_lock, &log->flush_lock};
    size_t i = 0;
    int e = 0;
    for (; i < CMB_COUNTOF(mutexes) && !e; i++)
        e = cmb_mutex_init(mutexes[i]);
    if (!e) {
        e = cmb_cond_init(&log->changed);
        if (!e)
            return 0;
    } else {
        i--;
    }
    while (i--)
        cmb_mutex_destroy(mutexes[i]);
    return e;
}

static void locks_destroy(cmb_log *log)
{
    cmb_cond_destroy(&log->changed);
    cmb_mutex_destroy(&log->flush_lock);
    cmb_mutex_destroy(&log->scratch_lock);
    cmb_mutex_destroy(&log->pool_lock);
    cmb_mutex_destroy(&log->map_lock);
    cmb_mutex_destroy(&log->table_lock);
    cmb_mutex_destroy(&log->lock);
}

static void batches_free(cmb_log *log, cmb_batch *batch)
{
    while (batch) {
        cmb_batch *next = batch->next;
        cmb_frames_drop(log, batch->first);
        cmb_release(&log->alloc, batch, sizeof *batch);
        batch = next;
    }
}

/* What one attempt to open builds up. */
static void state_free(cmb_log *log)
{
    batches_free(log, log->flight);
    batches_free(log, log->cut);
    batches_free(log, log->open);
    log->flight = log->cut = log->cut_last = log->open = NULL;
    cmb_release(&log->alloc, log->spare_batch, log->spare_batch ? sizeof *log->spare_batch : 0);
    log->spare_batch = NULL;
    log->n_spare = CMB_SPARE_FRAMES; /* keep none any more */
    while (log->spare) {
        cmb_frame *frame = log->spare;
        log->spare = frame->next;
        cmb_frame_release(log, frame);
    }
    log->n_spare = 0;
    cmb_release(&log->alloc, log->root, log->root ? log->super.root_length : 0);
    log->root = NULL;
    cmb_runs_free(log);
    cmb_radix_free(&log->table);
    cmb_radix_free(&log->map);
    cmb_space_free(&log->space, &log->alloc);
}

static void log_free(cmb_log *log)
{
    cmb_allocator alloc = log->alloc;
    state_free(log);
    while (log->scratches)
        cmb_scratch_drop(log->scratches);
    while (log->n_pool)
        cmb_queue_close(log->pool[--log->n_pool]);
    cmb_queue_close(log->wq);
    cmb_queue_close(log->mq);
    cmb_queue_close(log->cq);
    cmb_io_buffer_release(&alloc, log->page_buffer, CMB_BLOCK);
    cmb_prepare_free(log);
    locks_destroy(log);
    cmb_release(&alloc, log, sizeof *log);
}

static int open_check(const cmb_log *log)
{
    if (log->writable && log->caps.flags & CMB_CAP_READ_ONLY)
        return cmb_fail(CMB_EREADONLY, "%s: the device cannot be written", log->dev->name);
    if (log->writable && !log->durable && !log->options.no_durability)
        return cmb_fail(CMB_ENODURABLE, "%s: no flush", log->dev->name);
    return 0;
}

static int resources_take(cmb_log *log)
{
    int e = cmb_queue_open(log->dev, log->caps.queue_depth, &log->mq);
    if (!e && log->writable)
        e = cmb_queue_open(log->dev, log->caps.queue_depth, &log->wq);
    if (!e && log->writable)
        e = cmb_queue_open(log->dev, log->caps.queue_depth, &log->cq);
    if (!e && !(log->page_buffer = cmb_io_buffer(&log->alloc, CMB_BLOCK)))
        e = CMB_ENOMEM;
    return e;
}

/* From the superblocks to the end of the log. */
static int attempt(cmb_log *log)
{
    cmb_super_slots slots;
    int e = log->rescued ? cmb_rescue_super(log, log->mq, &slots) : cmb_super_load(log->dev, log->mq, &log->alloc, &slots);
    if (e)
        return e;
    log->super = slots.best;
    log->params = slots.best.params;
    log->bad_copies = slots.bad_copies;
    log->shift = slots.best.params.segment_shift;
    log->size = UINT64_C(1) << log->shift;
    log->meta_segment = slots.best.meta_segment;
    log->meta_next = slots.best.meta_next;
    log->meta_pages = slots.best.meta_pages;
    log->n_next = 0;
    log->head_bytes = 0;
    log->recovered_batches = log->recovered_bytes = 0;
    cmb_device_caps(log->dev, &log->caps);
    if (!(log->caps.flags & CMB_CAP_UNCACHED)) /* the medium may have none of it: a flush may have failed */
        log->bad_copies = cmb_super_pair(slots.best.generation);
    cmb_radix_init(&log->table, log, CMB_PAGE_TABLE, &slots.best.table);
    cmb_radix_init(&log->map, log, CMB_PAGE_MAP, &slots.best.map);
    log->space.count = slots.best.params.fixed_size ? slots.best.count : log->caps.size >> log->shift;
    if (log->space.count > UINT32_MAX)
        log->space.count = UINT32_MAX;
    log->space.fresh = slots.best.fresh;
    e = cmb_runs_init(log);
    if (!e)
        e = log->rescued ? cmb_rescue_map(log, log->mq) : cmb_recover(log, log->mq);
    if (!e && log->writable) {
        log->open = cmb_zalloc(&log->alloc, sizeof *log->open);
        if (!log->open)
            return CMB_ENOMEM;
        log->open->seq = log->durable_seq + 1;
    }
    return e;
}

#define READER_ATTEMPTS 5 /* a live writer may change what a reader stands on */
#define READER_CHASES 32  /* the same when it is known that it did */

static int open_log(cmb_log *log)
{
    int e = resources_take(log);
    if (e)
        return e;
    for (unsigned tries = 1, chases = 1;;) {
        state_free(log);
        e = attempt(log);
        if (log->writable || log->rescued || (e != CMB_ECORRUPT && e != CMB_ESTALE))
            return e;
        bool stale = e == CMB_ESTALE || cmb_log_is_stale(log);
        if (log->replayed || (stale ? chases++ == READER_CHASES : tries++ == READER_ATTEMPTS))
            return stale ? cmb_fail(CMB_ESTALE, "%s: a writer changes it faster than it can be opened", log->dev->name) : e;
    }
}

static int open_any(cmb_device *dev, const cmb_log_options *options, const cmb_image_params *rescue, cmb_log **out_log)
{
    cmb_allocator alloc = cmb_allocator_or_default(&options->alloc);
    cmb_log *log = cmb_zalloc(&alloc, sizeof *log);
    if (!log)
        return CMB_ENOMEM;
    log->alloc = alloc;
    log->env = cmb_env_or_default(&options->env);
    log->dev = dev;
    log->options = *options;
    log->writable = options->writable && !rescue;
    log->rescue = rescue;
    log->rescued = rescue != NULL;
    cmb_device_caps(dev, &log->caps);
    log->durable = log->caps.flags & CMB_CAP_FLUSH;
    int e = locks_init(log);
    if (e) {
        cmb_release(&alloc, log, sizeof *log);
        return e;
    }
    e = open_check(log);
    if (!e)
        e = open_log(log);
    if (e) {
        log_free(log);
        return e;
    }
    log->rescue = NULL;
    *out_log = log;
    return 0;
}

int cmb_log_open(cmb_device *dev, const cmb_log_options *options, cmb_log **out_log)
{
    return open_any(dev, options, /* rescue= */ NULL, out_log);
}

int cmb_log_open_rescue(cmb_device *dev, const cmb_log_options *options, const cmb_image_params *params, cmb_log **out_log)
{
    return open_any(dev, options, params, out_log);
}

int cmb_log_close(cmb_log *log)
{
    if (!log)
        return 0;
    int e = cmb_log_seal(log);
    log_free(log);
    return e;
}

/* ---- asking ---- */

const cmb_image_params *cmb_log_params(const cmb_log *log)
{
    return &log->params;
}

bool cmb_log_is_durable(const cmb_log *log)
{
    return log->durable;
}

void cmb_log_root(const cmb_log *log, uint64_t *out_addr, uint32_t *out_length)
{
    cmb_log *l = (cmb_log *)log; /* the lock is the only thing touched */
    cmb_mutex_lock(&l->lock);
    *out_addr = log->super.root_addr;
    *out_length = log->super.root_length;
    cmb_mutex_unlock(&l->lock);
}

void cmb_log_extent(const cmb_log *log, uint64_t *out_first, uint64_t *out_end)
{
    cmb_log *l = (cmb_log *)log; /* the lock is the only thing touched */
    cmb_mutex_lock(&l->lock);
    *out_first = UINT64_C(1) << log->shift;
    *out_end = log->next_logical << log->shift;
    cmb_mutex_unlock(&l->lock);
}
