/* SPDX-License-Identifier: ISC */
/* refname.c: which names refs may have: git's rules, so that histories can be exchanged with it. */
#include "store/internal.h"

#include <stdio.h>

static int bad(const char *name, const char *rule)
{
    return cmb_fail(CMB_EINVAL, "'%.*s' is no name for a branch or tag: %s", 255, name, rule);
}

/* One part between slashes. */
static int check_component(const char *name, const char *part, size_t size)
{
    if (size == 0)
        return bad(name, "it has an empty component or begins or ends with a slash");
    if (part[0] == '.')
        return bad(name, "a component begins with a dot");
    if (size >= 5 && memcmp(part + size - 5, ".lock", 5) == 0)
        return bad(name, "a component ends with '.lock'");
    return 0;
}

static int check_byte(const char *name, const char *p)
{
    unsigned char c = (unsigned char)*p;
    if (c < 0x20 || c == 0x7f)
        return bad(name, "it contains a control character");
    if (strchr(" ~^:?*[\\", c))
        return bad(name, "it contains a space or one of ~ ^ : ? * [ \\");
    if (c == '.' && p[1] == '.')
        return bad(name, "it contains '..'");
    if (c == '@' && p[1] == '{')
        return bad(name, "it contains '@{'");
    return 0;
}

int cmb_ref_name_check(const char *name)
{
    size_t size = name ? strlen(name) : 0;
    if (size == 0)
        return cmb_fail(CMB_EINVAL, "the name of a branch or tag is empty");
    if (size > CMB_REF_NAME_MAX)
        return cmb_fail(CMB_EINVAL, "a name of %zu bytes for a branch or tag: at most %u", size, CMB_REF_NAME_MAX);
    if (strcmp(name, "@") == 0)
        return bad(name, "it is the single character '@'");
    if (name[size - 1] == '.')
        return bad(name, "it ends with a dot");
    const char *part = name;
    for (const char *p = name;; p++) {
        if (*p != '/' && *p) {
            int error = check_byte(name, p);
            if (error)
                return error;
            continue;
        }
        int error = check_component(name, part, (size_t)(p - part));
        if (error || !*p)
            return error;
        part = p + 1;
    }
}

int cmb_ref_full_name(const char *prefix, const char *name, char out_full[CMB_REF_FULL_SIZE])
{
    int error = cmb_ref_name_check(name);
    if (!error)
        snprintf(out_full, CMB_REF_FULL_SIZE, "%s%s", prefix, name);
    return error;
}
