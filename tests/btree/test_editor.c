/* SPDX-License-Identifier: ISC */
/* The canonical oracle: whatever the order, batching or history, the same pairs give the same root. */
#include "bed.h"

#include "btree/boundary.h"

static const uint32_t targets[] = {256, 512, 4096};

/* ---- random scripts ---- */

static cmb_bytes random_key(void)
{
    static uint8_t key[CMB_KEY_MAX];
    size_t size;
    switch (below(100)) {
    case 0: /* huge */
        size = 1 + below(CMB_KEY_MAX);
        memset(key, 'h', size);
        key[below(size)] = (uint8_t)below(256);
        key[size - 1] = (uint8_t)below(256);
        break;
    case 1 ... 20: /* tiny, and prefixes of each other */
        size = 1 + below(4);
        for (size_t i = 0; i < size; i++)
            key[i] = (uint8_t)(below(3) * 127);
        break;
    case 21 ... 40: /* a long common prefix */
        size = 60 + below(20);
        memset(key, 'p', size);
        for (size_t i = 52; i < size; i++)
            key[i] = (uint8_t)('a' + below(4));
        break;
    default:
        size = (size_t)snprintf((char *)key, sizeof(key), "key-%06u", (unsigned)below(3000));
        break;
    }
    return bytes_copy((cmb_bytes){key, size});
}

static cmb_bytes random_value(uint32_t target)
{
    static uint8_t value[65536];
    size_t size = below(24);
    switch (below(40)) {
    case 0:
        size = target / 4;
        break;
    case 1:
        size = target / 4 + 1;
        break;
    case 2:
        size = below(3 * target);
        break;
    case 3 ... 8:
        size = below(target / 4);
        break;
    }
    for (size_t i = 0; i < size; i += 16)
        value[i] = (uint8_t)below(4);
    return bytes_copy((cmb_bytes){value, size});
}

static cmb_edit put_edit(cmb_bytes key, cmb_bytes value)
{
    return (cmb_edit){.kind = CMB_EDIT_PUT, .key = key, .value = value};
}
static cmb_edit delete_edit(cmb_bytes key)
{
    return (cmb_edit){.kind = CMB_EDIT_DELETE, .key = key};
}

static size_t random_batch(const model *m, uint32_t target, cmb_edit *edit, size_t limit)
{
    size_t n = 0, want = 1 + (below(3) ? below(12) : below(limit));
    unsigned kind = below(16);
    if (kind == 0 && m->n) { /* a range goes */
        size_t from = below(m->n), to = from + below(m->n - from + 1);
        for (size_t i = from; i < to && n < limit; i++)
            edit[n++] = delete_edit(bytes_copy(m->pair[i].key));
    } else if (kind == 1 && below(3) == 0) { /* everything, or nearly */
        for (size_t i = 0; i < m->n && n < limit; i++)
            if (i % 100 || below(2))
                edit[n++] = delete_edit(bytes_copy(m->pair[i].key));
    } else if (kind == 2 && m->n) { /* the two ends */
        for (size_t i = 0; i < want && i < m->n; i++)
            edit[n++] = delete_edit(bytes_copy(m->pair[below(2) ? i : m->n - 1 - i].key));
    } else if (kind == 3 || kind == 4) { /* appends, prepends */
        for (size_t i = 0; i < want; i++)
            edit[n++] = put_edit(text_bytes(kind == 3 ? "~%08llx" : "!%08llx", (unsigned long long)(rng() >> 32)), random_value(target));
    } else {
        for (size_t i = 0; i < want; i++) {
            unsigned what = below(10);
            cmb_bytes key = what < 6 && m->n ? bytes_copy(m->pair[below(m->n)].key) : random_key();
            if (what < (kind < 10 ? 2 : 5))
                edit[n++] = delete_edit(key);
            else
                edit[n++] = put_edit(key, random_value(target));
        }
    }
    return edits_sort(edit, n);
}

static void run_script(uint32_t target, unsigned batches, size_t limit)
{
    bed b;
    bed_open(&b, target);
    model m = {0};
    cmb_noderef root;
    cmb_tree_empty(&b.tree, &root);
    for (unsigned i = 0; i < batches; i++) {
        cmb_edit *edit = malloc((limit + m.n + 1) * sizeof(*edit));
        size_t n = random_batch(&m, target, edit, limit);
        cmb_noderef before = root;
        apply(&b, &root, edit, n, NULL);
        model_apply(&m, edit, n);
        assert_canonical(&b, &root, &m);
        if (root.addr == before.addr)
            assert_same_tree(&root, &before);
        edits_free(edit, n);
    }
    model_clear(&m);
    bed_close(&b);
}

static void any_history_of_the_same_pairs_gives_the_same_root(void **state)
{
    uint64_t scripts = 6 * env_number("CMB_BUDGET", 1);
    for (uint64_t i = 0; i < scripts; i++) {
        uint64_t seed = rng_state;
        printf("script %llu: CMB_SEED=%llu\n", (unsigned long long)i, (unsigned long long)seed);
        run_script(targets[i % 3], 60, i % 2 ? 1000 : 60);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_history_of_the_same_pairs_gives_the_same_root),
    };
    rng_state = env_number("CMB_SEED", 20240608);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
