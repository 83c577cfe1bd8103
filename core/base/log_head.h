/* Log head: level and time of a JSON log line, in each form that pino can be
 * told to write them in. */
#ifndef PERI_BASE_LOG_HEAD_H
#define PERI_BASE_LOG_HEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/slice.h"

/* Values are as JSON has them, strings with their quotes. */

/* 30, "30", "info" and "INFO" are 30; what is no level is 0. */
int peri_log_level_of(peri_slice value);

/* Unix milliseconds after 1970, or ISO 8601 with a zone ("Z", "+02:00"; none is
 * UTC). False: it is neither. */
bool peri_log_time_of(peri_slice value, int64_t *unix_ms);

#endif
