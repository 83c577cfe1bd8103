/* Compress: answers that leave shorter than they were given (http.compression).
 *
 * Between peri_exchange_answer(), begin(), write(), end() and the transport.
 * Short bodies are coded at once, long ones by a thread of libuv's pool,
 * streams as they are written, each write so that the client can read it. */
#ifndef PERI_HTTP_COMPRESS_H
#define PERI_HTTP_COMPRESS_H

#include "core/http/coding.h"
#include "core/http/exchange.h"

/* Shorter bodies are never looked at. */
#define PERI_COMPRESS_FLOOR_BYTES 128

/* What an answer's fields become. */
typedef struct peri_compress_plan {
    peri_coding coding; /* IDENTITY: as it is; it only says that it may vary */
    unsigned level;
    peri_field *fields; /* in the exchange's arena; Content-Encoding is last */
    size_t field_count;
} peri_compress_plan;

/* False: it goes out as it is, with the fields as they are. length -1: unknown.
 * What the fields refer to is not copied. */
bool peri_compress_plan_make(peri_exchange *ex, int status,
                             peri_slice content_type, const peri_field *fields,
                             size_t field_count, int64_t length,
                             peri_compress_plan *out);

/* As peri_exchange_answer() and begin(). False: nothing was done. */
bool peri_compress_answer(peri_exchange *ex, int status,
                          peri_slice content_type, const peri_field *fields,
                          size_t field_count, peri_slice body);
bool peri_compress_begin(peri_exchange *ex, int status,
                         const peri_field *fields, size_t field_count,
                         int64_t length);

/* With ex->encoding: as write and end. The end may be the exchange's. */
int peri_compress_write(peri_exchange *ex, peri_slice chunk);
void peri_compress_end(peri_exchange *ex);
/* Whatever became of the answer; with none this does nothing. */
void peri_compress_drop(peri_exchange *ex);

#endif
