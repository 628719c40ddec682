/* SPDX-License-Identifier: ISC */
/**
 * @file error.h
 * Error codes. Every function of the library returns 0 (or a count) on success and a negative
 * CMB_E… on failure. Results go through `out_` parameters, which stay untouched on failure.
 *
 * The list below is the only place where codes are written down: the enum, cmb_strerror(), the
 * command line's exit statuses, the manual and a test that compares them are all made from it.
 */
#ifndef CAMBIUM_ERROR_H
#define CAMBIUM_ERROR_H

#include <cambium/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/** X(name, number, text). Numbers are stable for ever; never reuse one. */
#define CMB_ERROR_LIST(X)                                                                          \
    X(EIO, 1, "input/output error")                                                                \
    X(ENOMEM, 2, "out of memory")                                                                  \
    X(ENOSPC, 3, "no space left in the image")                                                     \
    X(EINVAL, 4, "invalid argument")                                                               \
    X(ENOTFOUND, 5, "not found")                                                                   \
    X(EEXIST, 6, "already exists")                                                                 \
    X(ECORRUPT, 7, "the image is damaged")                                                         \
    X(ENOTIMAGE, 8, "not a Cambium image")                                                         \
    X(EVERSION, 9, "the image was made by a newer version")                                        \
    X(EBUSY, 10, "in use")                                                                         \
    X(EREADONLY, 11, "opened read-only")                                                           \
    X(ECONFLICT, 12, "changed by someone else meanwhile")                                          \
    X(EUNKNOWN, 13, "outcome unknown: the device failed while the commit was being made durable")  \
    X(ESTALE, 14, "a recycled block was met: reopen the image")                                    \
    X(EAMBIGUOUS, 15, "ambiguous name")                                                            \
    X(EWORKING, 16, "a working state has no commit id")                                            \
    X(ETOOBIG, 17, "larger than the limit")                                                        \
    X(ENOTSUP, 18, "not supported")                                                                \
    X(ESTOPPED, 19, "stopped by a callback")                                                       \
    X(ENODURABLE, 20, "the device cannot flush, so nothing on it can be made durable")             \
    X(EPERM, 21, "permission denied")                                                              \
    X(ESYNTAX, 22, "malformed input")

typedef enum cmb_error {
    CMB_OK = 0,
#define CMB_ERROR_ENUM(name, number, text) CMB_##name = -(number),
    CMB_ERROR_LIST(CMB_ERROR_ENUM)
#undef CMB_ERROR_ENUM
} cmb_error;

/** The text of a code, never NULL, static. Thread-safe. */
CMB_API const char *cmb_strerror(int error);

/** The symbol of a code ("CMB_EIO"), never NULL, static. Thread-safe. */
CMB_API const char *cmb_error_name(int error);

/**
 * What exactly went wrong in this thread's last failed call: names the thing and the place, one
 * line without a newline, at most 511 bytes. Empty when nothing failed yet. Valid until the next
 * failing call in the same thread.
 */
CMB_API const char *cmb_error_detail(void);

#ifdef __cplusplus
}
#endif
#endif
