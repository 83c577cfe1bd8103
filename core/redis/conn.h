/* Conn: one connection to a Redis, from the attempt to its end.
 *
 * Commands may be submitted at once: they wait until the login is through.
 * Replies come in the order of the commands. Each command has an entry in a
 * ring; one that was given up leaves its entry, so that its late reply is
 * dropped and never meets another. What cannot be told apart any more ends the
 * connection. What a loop turn submits goes out in one write.
 *
 * Belongs to a client (client.h) and its loop thread. */
#ifndef PERI_REDIS_CONN_H
#define PERI_REDIS_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/base/list.h"
#include "core/redis/reply.h"

typedef struct peri_redis_client peri_redis_client;
typedef struct peri_redis_conn peri_redis_conn;
typedef struct peri_redis_op peri_redis_op;

/* Why something failed: rc is libuv's or ours; 0: the server said so, and code
 * is its first word. */
typedef struct peri_redis_fault {
    int rc;
    char code[PERI_REDIS_CODE_BYTES];
    char message[256];
} peri_redis_fault;

/* Embedded in whatever waits for the replies of one command or of several that
 * were submitted together. */
struct peri_redis_op {
    uint32_t replies;
    peri_redis_conn *conn; /* NULL: not under way */
    uint64_t sequence;
    /* Once, never from inside submit. fault NULL: reply holds the values. */
    void (*done)(peri_redis_op *op, const peri_redis_fault *fault,
                 const peri_redis_reply *reply);
};

/* What its holder wants to know; all may be NULL. */
typedef struct peri_redis_holder {
    void *data;
    void (*up)(void *data);
    /* It has ended; its commands get their faults after that. */
    void (*down)(void *data, const peri_redis_fault *fault, bool was_up);
    /* Replies are messages of subscriptions. */
    void (*message)(void *data, const peri_redis_reply *reply);
} peri_redis_holder;

/* 0, or negative with the fault filled in. timeout_ms 0: it may last. */
int peri_redis_conn_submit(peri_redis_conn *conn, peri_redis_op *op,
                           peri_slice command, uint64_t timeout_ms,
                           peri_redis_fault *fault);

/* Gives it up: done will not come. */
void peri_redis_cancel(peri_redis_op *op);

#endif
