/* Reply: what a Redis answers, read by hiredis and kept flat.
 *
 * Nodes stand in the order of the wire: an array is followed by its elements.
 * One reply object is used again and again by its connection; what it holds is
 * valid until the next clear. */
#ifndef PERI_REDIS_REPLY_H
#define PERI_REDIS_REPLY_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/slice.h"

typedef enum peri_redis_type {
    PERI_REDIS_NIL,
    PERI_REDIS_INTEGER,
    PERI_REDIS_STRING,
    PERI_REDIS_STATUS,
    PERI_REDIS_ERROR,
    PERI_REDIS_ARRAY
} peri_redis_type;

typedef struct peri_redis_node {
    peri_redis_type type;
    int64_t value; /* INTEGER; ARRAY: how many elements follow */
    size_t offset; /* of a text in bytes */
    size_t length;
} peri_redis_node;

typedef struct peri_redis_reply {
    struct redisReader *reader;
    peri_redis_node *nodes;
    size_t count;
    size_t capacity;
    peri_buf bytes;
    size_t max_bytes; /* of what is held and not yet whole */
    bool too_large;
} peri_redis_reply;

void peri_redis_reply_init(peri_redis_reply *reply, size_t max_bytes);
void peri_redis_reply_fini(peri_redis_reply *reply);

/* Takes bytes of the wire; next is to be called until it gives 0. 0,
 * PERI_ELIMIT or PERI_EFORMAT: the connection can then not be used any more. */
int peri_redis_reply_feed(peri_redis_reply *reply, peri_slice bytes);

/* Adds the next whole reply to the nodes: 1; 0: it is not there yet; else as
 * feed. */
int peri_redis_reply_next(peri_redis_reply *reply);

/* Forgets the nodes of whole replies. */
void peri_redis_reply_clear(peri_redis_reply *reply);

static inline peri_slice peri_redis_text(const peri_redis_reply *reply,
                                         const peri_redis_node *node)
{
    if (node->length == 0) {
        return PERI_SLICE(""); /* there may be no bytes at all */
    }
    return peri_slice_of(reply->bytes.data + node->offset, node->length);
}

/* The first word of an error: at most 31 of A-Z, else "ERR". */
#define PERI_REDIS_CODE_BYTES 32
void peri_redis_code(peri_slice message, char code[PERI_REDIS_CODE_BYTES]);

#endif
