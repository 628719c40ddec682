/* SPDX-License-Identifier: ISC */
/* hash.c: content hashes and the names made of them. xxHash is compiled in here and nowhere else. */
#include "io/base.h"

#include <assert.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t cmb_hash64(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}

void cmb_hash_name(cmb_hash_kind kind, const void *data, size_t size, cmb_name *out_name)
{
    assert(kind == CMB_HASH_XXH3);
    /* The canonical form is big-endian, so that names are the same bytes on every machine. */
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, size));
    *out_name = (cmb_name){.size = sizeof canonical.digest};
    memcpy(out_name->bytes, canonical.digest, sizeof canonical.digest);
}

void cmb_name_hex(const cmb_name *name, char out_hex[2 * CMB_NAME_MAX + 1])
{
    static const char digits[] = "0123456789abcdef";
    assert(name->size <= CMB_NAME_MAX);
    for (unsigned i = 0; i < name->size; i++) {
        out_hex[2 * i] = digits[name->bytes[i] >> 4];
        out_hex[2 * i + 1] = digits[name->bytes[i] & 15];
    }
    out_hex[2 * name->size] = 0;
}
