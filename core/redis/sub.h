/* Sub: a subscription, with a connection of its own that comes back (unless
 * told otherwise: where another server may have the channel then).
 *
 * Messages that wait are bounded: when nobody takes them the connection is
 * not read, and the server sees it. What is published while the connection is
 * away is lost, as Redis has it. */
#ifndef PERI_REDIS_SUB_H
#define PERI_REDIS_SUB_H

#include "core/redis/client.h"

typedef struct peri_redis_sub peri_redis_sub;

typedef struct peri_redis_message {
    peri_list link;
    bool has_pattern;
    peri_slice channel;
    peri_slice pattern;
    peri_slice payload;
} peri_redis_message;

typedef enum peri_redis_sub_state {
    PERI_REDIS_SUB_WAITING, /* for its first confirmation */
    PERI_REDIS_SUB_LIVE,    /* confirmed once; comes back */
    PERI_REDIS_SUB_ENDED
} peri_redis_sub_state;

/* command subscribes to count channels or patterns; copied. changed is called
 * when there is a message, or the state is another; never from inside. */
peri_redis_sub *peri_redis_sub_open(peri_redis_client *client,
                                    peri_slice command, uint32_t count,
                                    void (*changed)(void *data), void *data);
void peri_redis_sub_close(peri_redis_sub *sub);

/* Told before sub_open() has returned to the loop: from now on
 * - each time that it becomes live there is a message without channel: what
 *   was sent before may have been missed;
 * - it asks for signs of life, and a server that gives none is left;
 * - with before and after (encoded, copied; both may be empty) it sends them
 *   first, with the connection's own id between: CLIENT TRACKING that redirects
 *   to this connection. Each key of an invalidation is a message then, one of
 *   all keys is a message without channel. */
void peri_redis_sub_watch(peri_redis_sub *sub, peri_slice before,
                          peri_slice after);

/* Told as early: it ends when its connection is lost. */
void peri_redis_sub_once(peri_redis_sub *sub);

peri_redis_sub_state peri_redis_sub_state_of(const peri_redis_sub *sub);

bool peri_redis_sub_has(const peri_redis_sub *sub);

/* Why it ended. */
const peri_redis_fault *peri_redis_sub_fault(const peri_redis_sub *sub);

/* The next message, to be freed with free(); NULL: none is there. */
peri_redis_message *peri_redis_sub_take(peri_redis_sub *sub);

#endif
