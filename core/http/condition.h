/* Conditions: the four If- fields (RFC 9110, section 13). */
#ifndef PERI_HTTP_CONDITION_H
#define PERI_HTTP_CONDITION_H

#include "core/http/exchange.h"

#define PERI_MODIFIED_UNKNOWN INT64_MIN

/* For a GET or HEAD of something with this tag ("\"x\"" or "W/\"x\"", length 0:
 * none) and time (or PERI_MODIFIED_UNKNOWN): 200, 304 or 412. */
int peri_condition_check(const peri_exchange *ex, peri_slice tag,
                         int64_t modified_seconds);

/* For an answer of 200 to a GET or HEAD whose fields hold ETag or
 * Last-Modified: true when a condition of the request's has been answered by
 * 304 or 412 in its place. body_bytes -1: unknown. */
bool peri_condition_answer(peri_exchange *ex, peri_slice content_type,
                           const peri_field *fields, size_t field_count,
                           int64_t body_bytes);

/* Whether Range is to be looked at: If-Range is absent, or names this very
 * version. */
bool peri_condition_range(const peri_exchange *ex, peri_slice tag,
                          int64_t modified_seconds);

#endif
