/* SPDX-License-Identifier: ISC */
#include "tools/marks.h"

#include "tools/text.h"

void marks_line(FILE *out, uint64_t mark, cmb_bytes original, const cmb_name *id)
{
    text_buf name;
    fprintf(out, ":%llu %s", (unsigned long long)mark, text_name(&name, id, 2 * CMB_NAME_MAX));
    if (original.size)
        fprintf(out, " %.*s", (int)original.size, (const char *)original.data);
    putc('\n', out);
}
