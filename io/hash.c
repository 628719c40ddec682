/* SPDX-License-Identifier: ISC */
/*
 * hash.c: content hashes and the names made of them. xxHash is compiled in here and nowhere else, and so is nettle's
 * SHA-256, which allocates nothing, keeps no state and takes the processor's own instructions where there are some.
 */
#include "io/base.h"

#include <assert.h>

#include <cambium/store.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#if CMB_HAVE_NETTLE
#include <nettle/sha2.h>
#endif

const char *cmb_hash_kind_name(cmb_hash_kind kind)
{
    switch (kind) {
    case CMB_HASH_XXH3: return "xxh3";
    case CMB_HASH_SHA256: return "sha256";
    }
    return NULL;
}

int cmb_hash_check(unsigned kind)
{
    const char *name = cmb_hash_kind_name((cmb_hash_kind)kind);
    if (!name)
        return cmb_fail(CMB_EVERSION, "names are made with hash %u, which this version does not know", kind);
#if !CMB_HAVE_NETTLE
    if (kind == CMB_HASH_SHA256)
        return cmb_fail(CMB_ENOTSUP, "names are made with %s, and this library was built without the feature sha256", name);
#endif
    return 0;
}

uint64_t cmb_hash64(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}

void cmb_hash_name(cmb_hash_kind kind, const void *data, size_t size, cmb_name *out_name)
{
#if CMB_HAVE_NETTLE
    if (kind == CMB_HASH_SHA256) {
        struct sha256_ctx sha;
        sha256_init(&sha);
        sha256_update(&sha, size, data);
        out_name->size = SHA256_DIGEST_SIZE;
        sha256_digest(&sha, SHA256_DIGEST_SIZE, out_name->bytes);
        return;
    }
#endif
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
