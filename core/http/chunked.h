/* Chunked: the body of a request with Transfer-Encoding: chunked.
 *
 * llhttp in its strict mode reads the chunks; the trailer section is scanned
 * by us (scan.h), since llhttp hands trailers over as if they were fields of
 * the head. It never sees a head that a client wrote: its state is set up from
 * one of ours, which is why neither Upgrade nor Connection can disturb it. */
#ifndef PERI_HTTP_CHUNKED_H
#define PERI_HTTP_CHUNKED_H

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"

#if !defined(LLHTTP_STRICT_MODE) || !LLHTTP_STRICT_MODE
#error "llhttp must be built with LLHTTP_STRICT_MODE=1"
#endif

/* Bytes that a body may spend on extensions and leading zeros. */
#define PERI_CHUNKED_EXCESS_MAX_BYTES 8192

typedef struct peri_chunked {
    llhttp_t parser;
    peri_buf *out;
    const char *from;      /* what is fed now */
    uint64_t fed_bytes;    /* before that */
    uint64_t data_end;     /* where the last data ended, in all that was fed */
    uint64_t excess_bytes; /* of size lines longer than they need be */
    uint64_t total_bytes;  /* of the chunks begun */
    uint64_t max_bytes;
    int rc;
    bool in_trailers;
    bool ended;
} peri_chunked;

void peri_chunked_init(peri_chunked *chunked, uint64_t max_bytes);

/* Appends the data in it to *out, which has no maximum of its own; reads
 * data[length..] as scan.h says. Bytes used (all of them, but for a cut trailer
 * section or after the end), or PERI_EFORMAT, or PERI_ELIMIT. */
ptrdiff_t peri_chunked_feed(peri_chunked *chunked, const char *data,
                            size_t length, peri_buf *out);

/* Whether the llhttp that we were linked with is as strict as the one we were
 * compiled for. */
bool peri_chunked_self_test(void);

#endif
