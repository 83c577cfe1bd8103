/* Range: which bytes of a file are asked for (RFC 9110, section 14). */
#ifndef PERI_HTTP_RANGE_H
#define PERI_HTTP_RANGE_H

#include <stdint.h>

#include "core/base/slice.h"

/* A field with more of them is overlooked: it asks for trouble. */
#define PERI_RANGES_MAX 16

typedef struct peri_range {
    int64_t first;
    int64_t last; /* inclusive */
} peri_range;

/* How many of them there are in size_bytes; 0: send all of it (the field is
 * malformed, in other units, or asks for more than there is in all);
 * PERI_ELIMIT: there is no such part, 416. */
int peri_ranges_parse(peri_slice value, int64_t size_bytes,
                      peri_range out[PERI_RANGES_MAX]);

#endif
