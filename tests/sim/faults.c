/* SPDX-License-Identifier: ISC */
/* faults.c: what is wrong with places and operations of a simulated disk. */
#include "disk.h"

#include <assert.h>
#include <stdlib.h>

/* ---- places ---- */

void sim_damage(sim_disk *disk, sim_place kind, uint64_t offset, uint64_t length)
{
    cmb_mutex_lock(&disk->lock);
    sim_bad *bad = realloc(disk->bad, (disk->n_bad + 1) * sizeof *bad);
    if (!bad)
        abort();
    disk->bad = bad;
    bad[disk->n_bad++] = (sim_bad){offset, length, kind};
    sim_pages_free(&disk->view); /* what was cached and clean is read anew */
    sim_pages_share(&disk->view, &disk->medium);
    for (size_t i = 0; i < disk->n_unflushed; i++)
        sim_pages_write(&disk->view, disk->unflushed[i].offset, disk->unflushed[i].data, disk->unflushed[i].length);
    cmb_mutex_unlock(&disk->lock);
}

/* Written sectors are whole again. What is left of a damaged run before and behind them stays. */
void sim_heal(sim_disk *disk, uint64_t offset, uint64_t length)
{
    size_t n = disk->n_bad;
    for (size_t i = 0; i < n; i++) {
        sim_bad b = disk->bad[i];
        if (b.offset >= offset + length || b.offset + b.length <= offset)
            continue;
        uint64_t before = b.offset < offset ? offset - b.offset : 0;
        uint64_t end = b.offset + b.length, behind = end > offset + length ? end - (offset + length) : 0;
        disk->bad[i].length = before;
        if (!behind)
            continue;
        sim_bad *bad = realloc(disk->bad, (disk->n_bad + 1) * sizeof *bad);
        if (!bad)
            abort();
        disk->bad = bad;
        bad[disk->n_bad++] = (sim_bad){offset + length, behind, b.kind};
    }
}

static void spoil_sector(const sim_disk *disk, sim_place kind, uint64_t offset, uint8_t *sector)
{
    uint64_t noise = disk->options.seed ^ offset;
    if (kind == SIM_ROT) {
        uint64_t bit = sim_random(&noise) % (8 * SIM_SECTOR);
        sector[bit / 8] ^= (uint8_t)(1u << bit % 8);
        return;
    }
    for (unsigned i = 0; i < SIM_SECTOR; i += 8) {
        uint64_t word = sim_random(&noise);
        memcpy(sector + i, &word, 8);
    }
}

int sim_read_medium(sim_disk *disk, uint64_t offset, uint8_t *buffer, uint64_t length)
{
    sim_pages_read(&disk->medium, offset, buffer, length);
    for (size_t i = 0; i < disk->n_bad; i++) {
        const sim_bad *b = &disk->bad[i];
        for (uint64_t at = b->offset; at < b->offset + b->length; at += SIM_SECTOR) {
            if (at < offset || at >= offset + length)
                continue;
            if (b->kind == SIM_LATENT)
                return cmb_fail(CMB_EIO, "sim: the sector at %llu cannot be read", (unsigned long long)at);
            spoil_sector(disk, b->kind, at, buffer + (at - offset));
        }
    }
    return 0;
}

/* ---- operations ---- */

static cmb_op slips(sim_slip kind)
{
    switch (kind) {
    case SIM_STRAY_WRITE:
    case SIM_SHORT_WRITE:
    case SIM_FULL_WRITE:
        return CMB_OP_WRITE;
    case SIM_STRAY_READ:
    case SIM_SHORT_READ:
        return CMB_OP_READ;
    default:
        return CMB_OP_FLUSH;
    }
}

void sim_slip_at(sim_disk *disk, const sim_rule *rule)
{
    cmb_mutex_lock(&disk->lock);
    assert(disk->n_rules < SIM_RULES);
    disk->rules[disk->n_rules++] = *rule;
    cmb_mutex_unlock(&disk->lock);
}

bool sim_take_rule(sim_disk *disk, cmb_op op, sim_rule *out_rule)
{
    bool due = false;
    for (size_t i = 0; i < disk->n_rules;) {
        sim_rule *rule = &disk->rules[i];
        if (slips(rule->kind) != op || due || rule->nth-- > 0) {
            i++;
            continue;
        }
        *out_rule = *rule;
        *rule = disk->rules[--disk->n_rules];
        disk->counts.slips++;
        due = true;
    }
    return due;
}

static void mark_stale(sim_disk *disk, const sim_write *w)
{
    uint64_t sectors = (disk->options.max_size ? disk->options.max_size : disk->options.size) / SIM_SECTOR;
    if (!disk->stale && !(disk->stale = calloc(1, (size_t)(sectors + 7) / 8)))
        abort();
    for (uint64_t s = w->offset / SIM_SECTOR; s < (w->offset + w->length) / SIM_SECTOR; s++)
        disk->stale[s / 8] |= (uint8_t)(1u << s % 8);
}

void sim_fail_flush(sim_disk *disk, sim_slip kind)
{
    if (kind == SIM_FLUSH_KEEPS_DIRTY)
        return;
    for (size_t i = 0; i < disk->n_unflushed; i++) {
        sim_land(disk, &disk->unflushed[i], &disk->random);
        if (kind == SIM_FLUSH_CLEANS)
            mark_stale(disk, &disk->unflushed[i]);
    }
    sim_forget_unflushed(disk);
    if (kind == SIM_FLUSH_REVERTS) {
        sim_pages_free(&disk->view);
        sim_pages_share(&disk->view, &disk->medium);
    }
}
