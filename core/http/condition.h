/* Conditions: the four If- fields (RFC 9110, section 13). */
#ifndef PERI_HTTP_CONDITION_H
#define PERI_HTTP_CONDITION_H

#include "core/http/exchange.h"

/* For a GET or HEAD of something with this tag ("\"x\"" or "W/\"x\"") and time:
 * 200, 304 or 412. */
int peri_condition_check(const peri_exchange *ex, peri_slice tag,
                         int64_t modified_seconds);

/* Whether Range is to be looked at: If-Range is absent, or names this very
 * version. */
bool peri_condition_range(const peri_exchange *ex, peri_slice tag,
                          int64_t modified_seconds);

#endif
