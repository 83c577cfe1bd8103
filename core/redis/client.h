/* Client: one Redis, as all of a host's generations use it.
 *
 * Most commands share one connection and are pipelined on it. Commands that
 * wait on the server, WATCH and subscriptions have connections of their own,
 * kept for reuse. Lost connections come back by themselves: attempts are
 * spaced by a growing, random time and never more than 20 in a second. While
 * the server is known to be down commands fail at once. Loop thread. */
#ifndef PERI_REDIS_CLIENT_H
#define PERI_REDIS_CLIENT_H

#include "core/base/pool_counts.h"
#include "core/redis/conn.h"
#include "core/redis/url.h"

/* For rediss:. Paths of PEM files; NULL: the system's store, no certificate. */
typedef struct peri_redis_tls {
    const char *ca;
    const char *cert;
    const char *key;
    const char *server_name; /* NULL: the host */
    bool insecure;           /* any certificate will do */
} peri_redis_tls;

typedef struct peri_redis_config {
    const char *name;
    const char *url; /* as configured */
    uint32_t connect_timeout_ms;
    uint32_t timeout_ms;
    uint32_t pool;      /* idle connections of their own that are kept */
    uint32_t own_max;   /* connections besides the shared one */
    uint32_t queue_max; /* commands under way on one connection */
    uint64_t reply_max_bytes;
    peri_redis_tls tls;
    /* One of several that the URL leads to; NULL: the URL's own. */
    const char *host;
    uint32_t port;
    bool sentinel;         /* it is one: logs in with the sentinels' login */
    bool readonly;         /* a replica of a cluster, to read from */
    bool transient;        /* closed when nobody uses it */
    peri_redis_url target; /* of url and host; filled in by create */
} peri_redis_config;

typedef struct peri_redis_stats {
    uint64_t commands;
    uint64_t writes;
    uint64_t timeouts;
    uint64_t connects; /* attempts */
} peri_redis_stats;

/* Copies the config; its url has been parsed before. next_slot_ms: when the
 * next attempt to connect may begin; clients that share it keep the limit
 * together. */
peri_redis_client *peri_redis_client_create(uv_loop_t *loop,
                                            const peri_redis_config *config,
                                            uint64_t *next_slot_ms);
void peri_redis_client_close(peri_redis_client *client,
                             void (*closed)(void *data), void *data);

/* The server is not used any more: its connections end, and whoever waits on
 * one or holds one is told. One that is needed all the same is made anew. */
void peri_redis_client_leave(peri_redis_client *client);
const peri_redis_config *
peri_redis_client_config(const peri_redis_client *client);
void peri_redis_client_get_stats(const peri_redis_client *client,
                                 peri_redis_stats *out);

/* Connections as they are now; the shared one is used while replies are owed on
 * it. waiting: commands given to it that have had no reply yet. */
void peri_redis_client_count(const peri_redis_client *client,
                             peri_pool_counts *out);

/* On the shared connection. 0, or negative with the fault filled in. */
int peri_redis_submit(peri_redis_client *client, peri_redis_op *op,
                      peri_slice command, peri_redis_fault *fault);

/* What was submitted is sent at the end of a turn of the loop, all at once:
 * sends it now, so that the server works while this turn goes on. */
void peri_redis_flush(peri_redis_client *client);

/* A connection of the caller's own, or NULL with the fault filled in. It goes
 * back by give_back, unless the holder has been told that it is down. */
peri_redis_conn *peri_redis_take(peri_redis_client *client,
                                 const peri_redis_holder *holder,
                                 peri_redis_fault *fault);

/* keep: nothing is owed on it and it is as it was; else it is closed. */
void peri_redis_give_back(peri_redis_conn *conn, bool keep);

#endif
