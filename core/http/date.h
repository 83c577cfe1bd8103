/* Dates as HTTP writes them (RFC 9110, section 5.6.7). */
#ifndef PERI_HTTP_DATE_H
#define PERI_HTTP_DATE_H

#include <stdint.h>

#include "core/base/slice.h"

#define PERI_DATE_BYTES 29

/* "Tue, 24 Nov 2026 00:04:06 GMT", not ended by NUL. Unix time. */
void peri_date_write(char out[PERI_DATE_BYTES], int64_t seconds);

/* All three forms. 0 or PERI_EFORMAT. */
int peri_date_parse(peri_slice text, int64_t *seconds);

#endif
