/* Protobuf: the wire format, written field by field into a buf.
 *
 * Each function appends one field and gives 0, or PERI_ELIMIT when the buf is
 * full: then part of it may be there, and the caller cuts it off. What is 0 or
 * empty is left out, as proto3 does. */
#ifndef PERI_BASE_PROTOBUF_H
#define PERI_BASE_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"

#define PERI_PROTOBUF_VARINT_MAX 10 /* bytes of one */

typedef enum peri_protobuf_type {
    PERI_PROTOBUF_VARINT = 0,
    PERI_PROTOBUF_FIXED64 = 1,
    PERI_PROTOBUF_BYTES = 2,
    PERI_PROTOBUF_FIXED32 = 5
} peri_protobuf_type;

int peri_protobuf_number(peri_buf *out, unsigned field, uint64_t value);
/* These are there when they are 0, too. */
int peri_protobuf_fixed64(peri_buf *out, unsigned field, uint64_t value);
int peri_protobuf_fixed32(peri_buf *out, unsigned field, uint32_t value);
int peri_protobuf_double(peri_buf *out, unsigned field, double value);
int peri_protobuf_bytes(peri_buf *out, unsigned field, const void *data,
                        size_t length);
int peri_protobuf_text(peri_buf *out, unsigned field, peri_slice text);

/* A message inside, between both: its length is known at the end only. start
 * is what open gave; 0 is a buf that is full, which close tells. */
size_t peri_protobuf_open(peri_buf *out, unsigned field);
int peri_protobuf_close(peri_buf *out, size_t start);

/* The same for messages that are large or many: room is kept for a length like
 * likely_bytes, so that close, which is told it too, has nothing to move. */
size_t peri_protobuf_open_likely(peri_buf *out, unsigned field,
                                 size_t likely_bytes);
int peri_protobuf_close_likely(peri_buf *out, size_t start,
                               size_t likely_bytes);

/* ---- bare pieces, for who has reserved room ---- */

static inline size_t peri_protobuf_varint_bytes(uint64_t value)
{
    size_t n = 1;

    while (value >= 128) {
        value >>= 7;
        n++;
    }
    return n;
}

/* Returns the place behind it. */
static inline char *peri_protobuf_put_varint(char *at, uint64_t value)
{
    while (value >= 128) {
        *at++ = (char)(value | 128);
        value >>= 7;
    }
    *at++ = (char)value;
    return at;
}

/* Signed numbers (sint32, sint64) as varints: the small ones are short. */
static inline uint64_t peri_protobuf_zigzag(int64_t value)
{
    return (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
}

/* ---- reading ---- */

typedef struct peri_protobuf_field {
    uint32_t number;
    peri_protobuf_type type;
    uint64_t value;   /* of all but BYTES */
    peri_slice bytes; /* of BYTES; borrowed */
} peri_protobuf_field;

/* Takes the next field off the front of rest; false: the end, or malformed. */
bool peri_protobuf_next(peri_slice *rest, peri_protobuf_field *out);

#endif
