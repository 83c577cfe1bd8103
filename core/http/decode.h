/* Decode: bodies with Content-Encoding, a piece at a time.
 *
 * What comes out is bounded by the caller in each step, so that a small body
 * that unpacks to a huge one costs no memory. */
#ifndef PERI_HTTP_DECODE_H
#define PERI_HTTP_DECODE_H

#include <stdbool.h>

#include "core/base/buf.h"

typedef struct peri_decoder peri_decoder;

/* For "gzip", "x-gzip", "deflate" and "br"; NULL for any other. */
peri_decoder *peri_decoder_create(peri_slice coding);
void peri_decoder_destroy(peri_decoder *decoder);

/* Takes from the front of in and appends at most max_bytes to out. 0, or
 * PERI_EFORMAT. Call it until neither moves. */
int peri_decoder_step(peri_decoder *decoder, peri_slice *in, size_t max_bytes,
                      peri_buf *out);

/* All input was given and all output taken: whether it was complete. */
bool peri_decoder_complete(const peri_decoder *decoder);

#endif
