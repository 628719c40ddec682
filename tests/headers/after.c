/* SPDX-License-Identifier: ISC */
/* What follows the headers under test (-include), as C or as C++: a translation unit declares something. */
extern int after_the_header;
