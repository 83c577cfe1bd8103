/* URL: where a Redis is, and as whom to go there.
 *
 *     redis://[[user]:password@]host[:port][/db]     also ?db=N
 *     unix:///path or redis+unix:///path             ?db=N
 *     redis+cluster://[login@]host[:port],host...    nodes to begin with
 *     redis+sentinel://[login@]host[:port],host.../master[/db]
 *         ?sentinel_user=U&sentinel_password=P: the sentinels' own login
 *
 * rediss: is the same over TLS. Names and passwords are percent-decoded. */
#ifndef PERI_REDIS_URL_H
#define PERI_REDIS_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/slice.h"

#define PERI_REDIS_HOSTS_MAX 64

typedef enum peri_redis_mode {
    PERI_REDIS_SINGLE,
    PERI_REDIS_CLUSTER,
    PERI_REDIS_SENTINEL
} peri_redis_mode;

typedef struct peri_redis_host {
    char *name;
    uint32_t port;
} peri_redis_host;

typedef struct peri_redis_url {
    peri_redis_mode mode;
    bool tls;
    char *host; /* the first; NULL: a UNIX socket */
    char *path; /* of the socket, or NULL */
    char *user; /* NULL: none */
    char *password;
    uint32_t port;
    uint32_t db;
    peri_redis_host *hosts; /* of a cluster, or sentinels; else NULL */
    uint32_t host_count;
    char *master; /* its name, for sentinels */
    char *sentinel_user;
    char *sentinel_password;
} peri_redis_url;

/* 0, or negative with *why (static text). Release with fini(). */
int peri_redis_url_parse(peri_slice text, peri_redis_url *out,
                         const char **why);

void peri_redis_url_fini(peri_redis_url *url);

#endif
