/* Log member: the members of a JSON log line, found by a shallow look. For
 * display: the object is looked at, not proven. */
#ifndef PERI_BASE_LOG_MEMBER_H
#define PERI_BASE_LOG_MEMBER_H

#include "core/base/slice.h"

/* Steps through the members of a JSON object; *at is 0 before the first. 1: key
 * (between its quotes) and value are as written; 0: that was all; negative: it
 * is no object. */
int peri_log_next(peri_slice object, size_t *at, peri_slice *key,
                  peri_slice *value);

/* The value of a member, the first of that name; NULL data: there is none. */
peri_slice peri_log_member(peri_slice object, const char *key);

/* Behind the blanks that begin at `at`. */
size_t peri_log_skip_blank(peri_slice text, size_t at);

/* Behind the value that begins at `at`; 0: there is none. */
size_t peri_log_skip_value(peri_slice text, size_t at);

#endif
