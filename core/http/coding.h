/* Coding: which content coding an answer may have (RFC 9110, section 12.5.3).
 */
#ifndef PERI_HTTP_CODING_H
#define PERI_HTTP_CODING_H

#include "core/http/exchange.h"

typedef enum peri_coding {
    PERI_CODING_IDENTITY,
    PERI_CODING_GZIP,
    PERI_CODING_BR
} peri_coding;

#define PERI_CODINGS_MAX 2

/* http.compression. All zero: off. */
typedef struct peri_compression {
    uint32_t min_bytes; /* shorter answers are sent as they are */
    uint8_t level;      /* 1 to 9 */
    uint8_t count;      /* of codings; 0: off */
    uint8_t codings[PERI_CODINGS_MAX]; /* the best first */
} peri_compression;

/* "gzip" or "br". */
peri_slice peri_coding_name(peri_coding coding);

/* Fills in what both sides know, what the client likes best first and, of
 * those alike, what we do; returns how many. None where the client prefers an
 * answer as it is. There is no answer that nobody may have: a client that
 * refuses all of it gets it as it is. */
size_t peri_coding_accepted(const peri_compression *compression,
                            const peri_exchange *ex,
                            peri_coding out[PERI_CODINGS_MAX]);

/* Whether bodies of this Content-Type get shorter. */
bool peri_coding_helps(peri_slice content_type);

#endif
