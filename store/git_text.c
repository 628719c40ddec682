/* SPDX-License-Identifier: ISC */
/* git_text.c: words of a stream: quoted paths, names of refs, lines that say who and when. */
#include "store/git.h"

#include <stdio.h>

/* ---- paths ---- */

static int octal(const uint8_t *p, const uint8_t *end)
{
    if (end - p < 3 || p[0] < '0' || p[0] > '3' || p[1] < '0' || p[1] > '7' || p[2] < '0' || p[2] > '7')
        return -1;
    return (p[0] - '0') << 6 | (p[1] - '0') << 3 | (p[2] - '0');
}

static int escaped(uint8_t c)
{
    static const char names[] = "abtnvfr\"\\", values[] = "\a\b\t\n\v\f\r\"\\";
    const char *at = c ? strchr(names, c) : NULL;
    return at ? (uint8_t)values[at - names] : -1;
}

/* From behind the opening quote to behind the closing one; NULL: not quoted well. `out` has room for all of it. */
static const uint8_t *unquote(const uint8_t *p, const uint8_t *end, uint8_t *out, size_t *out_size)
{
    size_t n = 0;
    while (p < end && *p != '"') {
        int c = *p++;
        if (c == '\\') {
            if (p == end)
                return NULL;
            c = escaped(*p);
            if (c >= 0) {
                p++;
            } else if ((c = octal(p, end)) >= 0) {
                p += 3;
            } else {
                return NULL;
            }
        }
        out[n++] = (uint8_t)c;
    }
    *out_size = n;
    return p < end ? p + 1 : NULL;
}

const char *cmb_git_path_fault(cmb_bytes path)
{
    const uint8_t *p = path.data;
    if (path.size > CMB_GIT_PATH_MAX)
        return "it is too long";
    if (!path.size || p[0] == '/' || p[path.size - 1] == '/')
        return "it has an empty component";
    if (memchr(p, 0, path.size))
        return "it has a zero byte";
    for (const uint8_t *slash = p; (slash = memchr(slash, '/', (size_t)(p + path.size - slash))); slash++)
        if (slash[1] == '/')
            return "it has an empty component";
    return NULL;
}

int cmb_git_path_take(const cmb_allocator *alloc, cmb_bytes *rest, bool last, bool may_be_root, cmb_blob *room,
                      cmb_bytes *out_path)
{
    const uint8_t *p = rest->data, *end = p + rest->size;
    size_t size = 0;
    int error = cmb_blob_reserve(alloc, room, rest->size ? rest->size : 1);
    if (error)
        return error;
    if (p < end && *p == '"') {
        p = unquote(p + 1, end, room->data, &size);
        if (!p)
            return cmb_fail(CMB_ESYNTAX, "a path that is not quoted well");
    } else {
        const uint8_t *stop = last ? NULL : memchr(p, ' ', rest->size);
        size = (size_t)((stop ? stop : end) - p);
        if (size)
            memcpy(room->data, p, size);
        p += size;
    }
    cmb_bytes path = {room->data, size};
    const char *fault = size || !may_be_root ? cmb_git_path_fault(path) : NULL;
    if (fault) {
        char shown[44];
        return cmb_fail(size > CMB_GIT_PATH_MAX ? CMB_ETOOBIG : CMB_ESYNTAX, "path '%s' of %zu bytes: %s",
                        cmb_git_shown(path, shown), size, fault);
    }
    if (last ? p != end : p == end || *p != ' ')
        return cmb_fail(CMB_ESYNTAX, "%s after a path", last ? "something" : "nothing");
    *rest = (cmb_bytes){p + !last, (size_t)(end - p) - !last};
    *out_path = path;
    return 0;
}

bool cmb_git_path_is_plain(cmb_bytes path)
{
    const uint8_t *p = path.data;
    for (size_t i = 0; i < path.size; i++)
        if (p[i] <= ' ' || p[i] >= 0x7f || p[i] == '"' || p[i] == '\\')
            return false;
    return true;
}

/* ---- names of refs ---- */

#define GIT_HEADS "refs/heads/"
#define GIT_TAGS  "refs/tags/"

static bool begins(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

/* The full names that git gives to refs, those of worktrees' detached heads included. A branch of git's that is called
 * so cannot have its own name here. */
static bool is_taken(const char *name)
{
    return begins(name, "refs/") || begins(name, "worktrees/") || strcmp(name, "HEAD") == 0;
}

int cmb_git_ref_here(cmb_bytes git_name, char out_full[CMB_REF_FULL_SIZE])
{
    char name[CMB_REF_FULL_SIZE + sizeof GIT_HEADS], shown[44];
    if (git_name.size >= sizeof name)
        return cmb_fail(CMB_EINVAL, "a ref's name of %zu bytes: at most %u", git_name.size, CMB_REF_NAME_MAX);
    if (memchr(git_name.data, 0, git_name.size))
        return cmb_fail(CMB_EINVAL, "ref '%s' has a zero byte", cmb_git_shown(git_name, shown));
    memcpy(name, git_name.data, git_name.size);
    name[git_name.size] = 0;
    if (begins(name, GIT_TAGS))
        return cmb_ref_full_name(CMB_TAGS, name + strlen(GIT_TAGS), out_full);
    if (begins(name, GIT_HEADS) && !is_taken(name + strlen(GIT_HEADS)))
        return cmb_ref_full_name(CMB_HEADS, name + strlen(GIT_HEADS), out_full);
    if (is_taken(name))
        return cmb_ref_full_name(CMB_HEADS, name, out_full);
    return cmb_fail(CMB_EINVAL, "ref '%s' does not begin with 'refs/'", cmb_git_shown(git_name, shown));
}

void cmb_git_ref_there(const char *full, char out_git_name[CMB_GIT_REF_SIZE])
{
    const char *name = full + (begins(full, CMB_TAGS) ? strlen(CMB_TAGS) : strlen(CMB_HEADS));
    const char *prefix = begins(full, CMB_TAGS) ? GIT_TAGS : is_taken(name) ? "" : GIT_HEADS;
    snprintf(out_git_name, CMB_GIT_REF_SIZE, "%s%s", prefix, name);
}

/* ---- who and when ---- */

/* Digits from *p on, at most `limit`. */
static uint64_t number(const uint8_t **p, const uint8_t *end, uint64_t limit)
{
    uint64_t v = 0;
    for (; *p < end && **p >= '0' && **p <= '9'; ++*p)
        v = v <= (limit - 9) / 10 ? v * 10 + (uint64_t)(**p - '0') : limit;
    return v;
}

/* " SECONDS ZONE": git wants one blank each, a sign, four digits at most 1400, and nothing else. */
static void parse_date(const uint8_t *p, const uint8_t *end, cmb_git_person *out)
{
    const int64_t limit = INT64_MAX / 1000000 - 1;
    out->time = 0;
    out->strict = false;
    if (p == end || *p != ' ')
        return;
    const uint8_t *digits = ++p;
    uint64_t seconds = number(&p, end, (uint64_t)limit);
    out->time = (int64_t)seconds * 1000000;
    if (p == digits || end - p != 6 || p[0] != ' ' || (p[1] != '+' && p[1] != '-'))
        return;
    p += 2;
    out->strict = number(&p, end, 100000) <= 1400 && p == end && seconds < (uint64_t)limit;
}

bool cmb_git_person_parse(cmb_bytes line, cmb_git_person *out_person)
{
    const uint8_t *begin = line.data, *end = begin + line.size;
    const uint8_t *open = memchr(begin, '<', line.size);
    const uint8_t *close = open ? memchr(open, '>', (size_t)(end - open)) : NULL;
    if (!close || (open > begin && open[-1] != ' '))
        return false;
    out_person->who = (cmb_bytes){begin, (size_t)(close + 1 - begin)};
    parse_date(close + 1, end, out_person);
    return true;
}
