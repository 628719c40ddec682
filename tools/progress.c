/* SPDX-License-Identifier: ISC */
#include "tools/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "io/os.h"
#include "tools/text.h"

#define SECOND UINT64_C(1000000000)

void progress_begin(progress *p, const char *what)
{
    uint64_t now = cmb_os_monotonic();
    *p = (progress){.what = what, .on = isatty(STDERR_FILENO) == 1, .begun = now, .next = now + SECOND};
}

uint64_t progress_elapsed(const progress *p)
{
    return cmb_os_monotonic() - p->begun;
}

static void show(progress *p, uint64_t elapsed, uint64_t entries, uint64_t bytes, uint64_t total)
{
    text_buf a, b, c;
    fprintf(stderr, "\r%s: ", p->what);
    if (total > 0)
        fprintf(stderr, "%3.0f %%, ", bytes < total ? 100.0 * (double)bytes / (double)total : 100.0);
    if (entries > 0)
        fprintf(stderr, "%s entries, ", text_count(&c, entries));
    fprintf(stderr, "%s, %s", text_size(&a, bytes), text_rate(&b, bytes, elapsed));
    if (bytes > 0 && bytes < total)
        fprintf(stderr, ", %.0f s left", (double)elapsed / 1e9 * ((double)total / (double)bytes - 1));
    fputs("\033[K", stderr);
    fflush(stderr);
    p->shown = true;
}

void progress_at(progress *p, uint64_t entries, uint64_t bytes, uint64_t total)
{
    if (!p->on || ++p->calls % 64 != 0)
        return;
    uint64_t now = cmb_os_monotonic();
    if (now < p->next)
        return;
    p->next = now + SECOND / 5;
    show(p, now - p->begun, entries, bytes, total);
}

void progress_end(progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}
