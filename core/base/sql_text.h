/* SQL text: a statement as traces may show it. */
#ifndef PERI_BASE_SQL_TEXT_H
#define PERI_BASE_SQL_TEXT_H

#include <stddef.h>

#include "core/base/slice.h"

/* Copies a statement, at most out_bytes of it. One without parameters has its
 * literals replaced by "?": text, numbers and blobs that a program has put
 * into it may be anybody's. One with parameters stays as it is: its author
 * keeps data apart. Returns the length. */
size_t peri_sql_masked(peri_slice sql, char *out, size_t out_bytes);

#endif
