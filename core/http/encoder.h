/* Encoder: gzip and brotli, piece by piece.
 *
 * Touches nothing but its own memory: one thread at a time, any thread. */
#ifndef PERI_HTTP_ENCODER_H
#define PERI_HTTP_ENCODER_H

#include "core/base/buf.h"
#include "core/http/coding.h"

typedef struct peri_encoder peri_encoder;

typedef enum peri_encoder_op {
    PERI_ENCODER_MORE,  /* may keep bytes back */
    PERI_ENCODER_FLUSH, /* the client can read all there is */
    PERI_ENCODER_END
} peri_encoder_op;

/* size_bytes: of all that will be fed; -1: unknown, and much of the time none
 * (an event stream): such an encoder is small. Caller owns. */
peri_encoder *peri_encoder_create(peri_coding coding, unsigned level,
                                  int64_t size_bytes);
void peri_encoder_destroy(peri_encoder *encoder);

/* Appends what data becomes. 0, or PERI_ELIMIT when out is full. */
int peri_encoder_feed(peri_encoder *encoder, peri_slice data,
                      peri_encoder_op op, peri_buf *out);

/* All of it at once. 0, or PERI_ELIMIT when out would be longer than allowed:
 * what is there then is of no use. */
int peri_encode(peri_coding coding, unsigned level, peri_slice data,
                peri_buf *out);

#endif
