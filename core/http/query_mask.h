/* Query: what may be told of it. */
#ifndef PERI_HTTP_QUERY_MASK_H
#define PERI_HTTP_QUERY_MASK_H

#include <stdbool.h>

#include "core/base/buf.h"
#include "core/base/slice.h"

/* What masking makes of a query, at most. */
#define PERI_QUERY_MASKED_MAX(bytes) ((bytes)*3 + 16)

/* Appends the query with REDACTED for the values of parameters that sign or
 * name whoever asks, as OpenTelemetry wants it. query: raw, without '?'. False:
 * there are none, and nothing was appended. */
bool peri_query_mask(peri_slice query, peri_buf *out);

#endif
