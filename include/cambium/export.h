/* SPDX-License-Identifier: ISC */
/** @file export.h  Marks what the shared library exports; everything else is hidden. */
#ifndef CAMBIUM_EXPORT_H
#define CAMBIUM_EXPORT_H

#if defined(__GNUC__) || defined(__clang__)
#define CMB_API __attribute__((visibility("default")))
#else
#define CMB_API
#endif

#endif
