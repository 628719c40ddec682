/* SPDX-License-Identifier: ISC */
#include "btree/node_private.h"

bool cmb_node_plausible(const void *record, uint32_t limit, uint64_t addr)
{
    const uint8_t *r = record;
    uint32_t length = limit < CMB_NODE_HEADER + 8 ? 0 : cmb_get32(r), body = length ? cmb_get32(r + 16) : 0;
    if (length < CMB_NODE_HEADER + 8 || length > limit || length > CMB_RECORD_MAX || length % 16 || body < CMB_NODE_HEADER - 16 ||
        body > length - 16)
        return false;
    return r[4] == (r[22] ? CMB_RECORD_NODE : CMB_RECORD_LEAF) && r[22] <= CMB_LEVEL_MAX &&
           cmb_node_check(record, addr) == cmb_record_stored_check(record);
}
