/* SPDX-License-Identifier: ISC */
/*
 * Lower bound within a node. The heads are counted, not branched on: whole vectors of them are
 * compared at once, over cache lines that lie in a row, so that no load waits for an earlier one.
 * Above LINEAR_MAX heads a branch-free binary search narrows down first.
 */
#include "btree/node_private.h"

#define LINEAR_MAX 128u

static inline uint64_t head_at(const uint8_t *heads, size_t i) { return cmb_get64(heads + 8 * i); }

/* Narrows n words down to at most `linear`, adding what was found to be below to *below; returns the words left. */
static inline uint32_t narrow(const uint8_t **heads, uint32_t n, uint64_t head, uint32_t linear, uint32_t *below)
{
    uint32_t skipped = 0;
    while (n > linear) {
        uint32_t half = n / 2;
        skipped += head_at(*heads, skipped + half - 1) < head ? half : 0;
        n -= half;
    }
    *heads += 8 * (size_t)skipped;
    *below = skipped;
    return n;
}

static uint32_t count_below_scalar(const uint8_t *heads, uint32_t n, uint64_t head)
{
    uint32_t below;
    n = narrow(&heads, n, head, 1, &below);
    return below + (n && head_at(heads, 0) < head);
}

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>

__attribute__((target("avx2"))) static uint32_t count_below_avx2(const uint8_t *heads, uint32_t n, uint64_t head)
{
    uint32_t below;
    n = narrow(&heads, n, head, LINEAR_MAX / 2, &below);
    const __m256i sign = _mm256_set1_epi64x(INT64_MIN); /* comparisons are signed: shift both sides */
    const __m256i wanted = _mm256_xor_si256(_mm256_set1_epi64x((int64_t)head), sign);
    __m256i minus = _mm256_setzero_si256(); /* every lane below adds -1 */
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        __m256i words = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(const void *)(heads + 8 * (size_t)i)), sign);
        minus = _mm256_add_epi64(minus, _mm256_cmpgt_epi64(wanted, words));
    }
    __m128i sum = _mm_add_epi64(_mm256_castsi256_si128(minus), _mm256_extracti128_si256(minus, 1));
    below += (uint32_t)-(_mm_extract_epi64(sum, 0) + _mm_extract_epi64(sum, 1));
    for (; i < n; i++)
        below += head_at(heads, i) < head;
    return below;
}

__attribute__((target("avx512f,popcnt"))) static uint32_t count_below_avx512(const uint8_t *heads, uint32_t n, uint64_t head)
{
    uint32_t below;
    n = narrow(&heads, n, head, LINEAR_MAX, &below);
    const __m512i wanted = _mm512_set1_epi64((int64_t)head), one = _mm512_set1_epi64(1);
    __m512i sum = _mm512_setzero_si512(); /* a count in every lane: no vector waits for the one before */
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __mmask8 less = _mm512_cmplt_epu64_mask(_mm512_loadu_si512(heads + 8 * (size_t)i), wanted);
        sum = _mm512_mask_add_epi64(sum, less, sum, one);
    }
    __mmask8 tail = (__mmask8)((1u << (n - i)) - 1);
    __m512i words = _mm512_maskz_loadu_epi64(tail, heads + 8 * (size_t)i);
    sum = _mm512_mask_add_epi64(sum, _mm512_mask_cmplt_epu64_mask(tail, words, wanted), sum, one);
    return below + (uint32_t)_mm512_reduce_add_epi64(sum);
}

unsigned cmb_head_counters(cmb_head_counter out[CMB_HEAD_COUNTERS])
{
    unsigned n = 0;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        out[n++] = (cmb_head_counter){"avx512", count_below_avx512};
    if (__builtin_cpu_supports("avx2"))
        out[n++] = (cmb_head_counter){"avx2", count_below_avx2};
    out[n++] = (cmb_head_counter){"scalar", count_below_scalar};
    return n;
}
#else
unsigned cmb_head_counters(cmb_head_counter out[CMB_HEAD_COUNTERS])
{
    out[0] = (cmb_head_counter){"scalar", count_below_scalar};
    return 1;
}
#endif

static uint32_t choose_and_count(const uint8_t *heads, uint32_t n, uint64_t head);

/* Written once, with what gives the same results as any other value: no order is needed. */
static cmb_count_below_fn count_below = choose_and_count;

static uint32_t choose_and_count(const uint8_t *heads, uint32_t n, uint64_t head)
{
    cmb_head_counter counters[CMB_HEAD_COUNTERS];
    cmb_head_counters(counters);
    __atomic_store_n(&count_below, counters[0].count, __ATOMIC_RELAXED);
    return counters[0].count(heads, n, head);
}

uint32_t cmb_node_count_below(const uint8_t *heads, uint32_t n, uint64_t head)
{
    return __atomic_load_n(&count_below, __ATOMIC_RELAXED)(heads, n, head);
}

/* Several entries share the wanted head: `first` is the first of them. */
static uint32_t search_ties(const cmb_node *node, uint32_t first, const cmb_suffix *suffix, bool *equal)
{
    uint32_t end = node->count;
    if (suffix->head != UINT64_MAX)
        end = first + cmb_node_count_below(node->heads + 8 * (size_t)first, node->count - first, suffix->head + 1);
    uint32_t low = first, n = end - first;
    *equal = false;
    while (n > 0) {
        uint32_t half = n / 2;
        int c = cmb_node_compare_tied(node, low + half, suffix);
        if (c < 0) {
            low += half + 1;
            n -= half + 1;
        } else {
            *equal |= c == 0;
            n = half;
        }
    }
    return low;
}

uint32_t cmb_node_lower_bound(const cmb_node *node, const uint8_t *key, size_t key_size, bool *out_equal)
{
    uint32_t prefix = node->prefix_size;
    bool equal = false;
    uint32_t i;
    int c = cmb_compare_equal_sized(key, node->prefix, key_size < prefix ? (uint32_t)key_size : prefix);
    if (CMB_UNLIKELY(c != 0 || key_size < prefix)) {
        i = c > 0 ? node->count : 0; /* a proper prefix of the prefix is below all */
    } else {
        cmb_suffix suffix;
        cmb_suffix_of(key + prefix, key_size - prefix, &suffix);
        i = cmb_node_count_below(node->heads, node->count, suffix.head);
        if (i < node->count && cmb_node_head(node, i) == suffix.head) {
            if (i + 1 == node->count || cmb_node_head(node, i + 1) != suffix.head) {
                c = cmb_node_compare_tied(node, i, &suffix);
                equal = c == 0;
                i += c < 0;
            } else {
                i = search_ties(node, i, &suffix, &equal);
            }
        }
    }
    if (out_equal)
        *out_equal = equal;
    return i;
}
