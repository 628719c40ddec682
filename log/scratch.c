/* SPDX-License-Identifier: ISC */
/*
 * scratch.c: records that live in memory only, at addresses above every real one. For trees that
 * somebody needs to read and cannot, or does not want to, write.
 *
 * Records lie in pieces, which grow from 64 KiB to 1 MiB. A piece is never moved nor given back before
 * the whole scratch is, and addresses are never used twice by one log.
 */
#include "log/internal.h"

#define PIECE_MIN (64u << 10)
#define PIECE_MAX (1u << 20)

int cmb_log_scratch(cmb_log *log, cmb_appender **out_app)
{
    cmb_appender *app = cmb_zalloc(&log->alloc, sizeof *app);
    if (!app)
        return CMB_ENOMEM;
    app->log = log;
    app->scratch = true;
    cmb_mutex_lock(&log->scratch_lock);
    app->next = log->scratches;
    log->scratches = app;
    cmb_mutex_unlock(&log->scratch_lock);
    *out_app = app;
    return 0;
}

static int pieces_reserve(cmb_appender *app)
{
    if (app->n_pieces < app->pieces_capacity)
        return 0;
    cmb_log *log = app->log;
    size_t capacity = app->pieces_capacity ? app->pieces_capacity * 2 : 8;
    cmb_piece *pieces = cmb_alloc(&log->alloc, capacity * sizeof *pieces);
    if (!pieces)
        return CMB_ENOMEM;
    if (app->n_pieces)
        memcpy(pieces, app->pieces, app->n_pieces * sizeof *pieces);
    cmb_mutex_lock(&log->scratch_lock); /* readers search it */
    cmb_piece *old = app->pieces;
    size_t old_capacity = app->pieces_capacity;
    app->pieces = pieces;
    app->pieces_capacity = capacity;
    cmb_mutex_unlock(&log->scratch_lock);
    cmb_release(&log->alloc, old, old_capacity * sizeof *old);
    return 0;
}

static int piece_add(cmb_appender *app, uint32_t aligned)
{
    cmb_log *log = app->log;
    int e = pieces_reserve(app);
    if (e)
        return e;
    uint32_t size = app->n_pieces ? app->pieces[app->n_pieces - 1].size : PIECE_MIN / 2;
    size = size >= PIECE_MAX / 2 ? PIECE_MAX : size * 2;
    if (size < aligned)
        size = aligned;
    uint8_t *buf = cmb_io_buffer(&log->alloc, size);
    if (!buf)
        return CMB_ENOMEM;
    memset(buf, 0, size);
    cmb_mutex_lock(&log->scratch_lock);
    app->pieces[app->n_pieces++] = (cmb_piece){CMB_SCRATCH_BASE + log->scratch_used, buf, 0, size};
    log->scratch_used += cmb_align_up(size, CMB_BLOCK);
    cmb_mutex_unlock(&log->scratch_lock);
    return 0;
}

int cmb_scratch_append(cmb_appender *app, uint32_t length, uint64_t *out_addr, void **out_buf)
{
    cmb_log *log = app->log;
    uint32_t aligned = (uint32_t)cmb_align_up(length, CMB_RECORD_ALIGN);
    const cmb_piece *last = app->n_pieces ? &app->pieces[app->n_pieces - 1] : NULL;
    int e = !last || last->size - last->fill < aligned ? piece_add(app, aligned) : 0;
    if (e)
        return e;
    cmb_piece *piece = &app->pieces[app->n_pieces - 1];
    *out_addr = piece->addr + piece->fill;
    *out_buf = piece->buf + piece->fill;
    cmb_mutex_lock(&log->scratch_lock);
    piece->fill += aligned;
    cmb_mutex_unlock(&log->scratch_lock);
    app->bytes += aligned;
    return 0;
}

/* The piece that holds the address, or NULL. */
static const cmb_piece *piece_at(const cmb_appender *app, uint64_t addr)
{
    size_t low = 0, high = app->n_pieces; /* pieces[low - 1].addr <= addr < pieces[high].addr */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (app->pieces[mid].addr <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    const cmb_piece *piece = low ? &app->pieces[low - 1] : NULL;
    return piece && addr - piece->addr < piece->fill ? piece : NULL;
}

bool cmb_scratch_read(cmb_log *log, uint64_t addr, uint32_t length, void *out_buf)
{
    const cmb_piece *piece = NULL;
    cmb_mutex_lock(&log->scratch_lock);
    for (const cmb_appender *app = log->scratches; app && !piece; app = app->next)
        piece = piece_at(app, addr);
    bool found = piece && length <= piece->fill - (addr - piece->addr);
    if (found)
        memcpy(out_buf, piece->buf + (addr - piece->addr), length);
    cmb_mutex_unlock(&log->scratch_lock);
    return found;
}

void cmb_scratch_drop(cmb_appender *app)
{
    cmb_log *log = app->log;
    cmb_mutex_lock(&log->scratch_lock);
    cmb_appender **at = &log->scratches;
    while (*at != app)
        at = &(*at)->next;
    *at = app->next;
    cmb_mutex_unlock(&log->scratch_lock);
    for (size_t i = 0; i < app->n_pieces; i++)
        cmb_io_buffer_release(&log->alloc, app->pieces[i].buf, app->pieces[i].size);
    cmb_release(&log->alloc, app->pieces, app->pieces_capacity * sizeof *app->pieces);
    cmb_release(&log->alloc, app, sizeof *app);
}
