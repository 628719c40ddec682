/* SPDX-License-Identifier: ISC */
/* take.h: a record's payload, taken apart piece by piece without reading beyond its end. */
#ifndef CMB_STORE_TAKE_H
#define CMB_STORE_TAKE_H

#include "io/base.h"

typedef struct cmb_taker {
    const uint8_t *p, *end;
    bool short_of; /* something did not fit */
} cmb_taker;

static inline size_t cmb_take_left(const cmb_taker *t)
{
    return (size_t)(t->end - t->p);
}

/* The next n bytes. What does not fit reads as zeros: n is at most 64 then, or was compared before. */
static inline const uint8_t *cmb_take(cmb_taker *t, size_t n)
{
    static const uint8_t nothing[64];
    const uint8_t *p = t->p;
    if (t->short_of || n > cmb_take_left(t)) {
        t->short_of = true;
        return nothing;
    }
    t->p += n;
    return p;
}

/* u32 size and so many bytes; of size 0 if they do not fit. */
static inline const uint8_t *cmb_take_text(cmb_taker *t, size_t *out_size)
{
    size_t size = cmb_get32(cmb_take(t, 4));
    if (t->short_of || size > cmb_take_left(t)) {
        t->short_of = true;
        size = 0;
    }
    *out_size = size;
    return cmb_take(t, size);
}

#endif
