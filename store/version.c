/* SPDX-License-Identifier: ISC */
/* version.c: which version is running. */
#include <cambium/store.h>

const char *cmb_version(void)
{
    return CMB_VERSION_STRING;
}
