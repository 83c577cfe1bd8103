/* Client parse: answers as they come off a connection.
 *
 * The head is proven by a scan of ours, line by line: llhttp's strict mode
 * takes folded fields, bad status codes, HTTP/2.0 and more. llhttp reads chunks
 * (chunked.h). The verdict on the same bytes does not depend on how they were
 * split. What could be read in two ways is refused. */
#ifndef PERI_HTTP_CLIENT_PARSE_H
#define PERI_HTTP_CLIENT_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/http/scan.h"

#define PERI_REPLY_HEAD_MAX_BYTES 65536
#define PERI_REPLY_FIELDS_MAX 256
/* Heads with a status of 1xx before the one that counts. */
#define PERI_REPLY_INTERIM_MAX 16

typedef enum peri_reply_state {
    PERI_REPLY_HEAD,
    PERI_REPLY_LENGTH,  /* a body of known length */
    PERI_REPLY_CHUNKED, /* ... in chunks */
    PERI_REPLY_TO_END,  /* ... to the connection's end */
    PERI_REPLY_DONE,
    PERI_REPLY_FAILED
} peri_reply_state;

typedef struct peri_reply {
    peri_reply_state state;
    peri_buf head; /* its bytes; spans of fields point into it */
    peri_head_field *fields;
    uint16_t field_count;
    uint16_t field_capacity;
    int status;
    int64_t content_length; /* -1: no such field */
    bool minor_zero;        /* HTTP/1.0 */
    bool chunked;
    bool keep_alive;
    bool bodiless;      /* set by the owner: it answers a HEAD */
    bool got_head;      /* of the answer itself, not of a 1xx */
    const char *detail; /* FAILED: static */
    /* private */
    unsigned interim_count;
    size_t line_start;
    bool has_status;
    bool close;
    bool stays;
    unsigned codings;
    uint64_t body_left;
    peri_buf rest;               /* of a trailer section that was cut */
    struct peri_chunked *chunks; /* NULL until there are any */
} peri_reply;

void peri_reply_init(peri_reply *reply);
void peri_reply_fini(peri_reply *reply);

/* For the next answer; keeps memory. */
void peri_reply_reset(peri_reply *reply, bool bodiless);

/* Takes bytes off the connection and appends those of the body to out; reads
 * data[length..] as scan.h says. Stops behind the head and behind the answer:
 * returns the bytes used, or PERI_EFORMAT (detail says why). */
ptrdiff_t peri_reply_feed(peri_reply *reply, const char *data, size_t length,
                          peri_buf *out);

/* The connection has ended: 0 when the answer ends with it, PERI_EGONE when it
 * is cut. */
int peri_reply_end(peri_reply *reply);

static inline peri_slice peri_reply_text(const peri_reply *reply,
                                         peri_span span)
{
    return peri_slice_of(reply->head.data + span.offset, span.length);
}

/* The first field of that name; NULL data: there is none. */
peri_slice peri_reply_field(const peri_reply *reply, peri_slice name);

#endif
