/* URL: where a Redis is, and as whom to go there.
 *
 *     redis://[[user]:password@]host[:port][/db]     also ?db=N
 *     unix:///path or redis+unix:///path             ?db=N
 *
 * Names and passwords are percent-decoded. */
#ifndef PERI_REDIS_URL_H
#define PERI_REDIS_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/slice.h"

typedef struct peri_redis_url {
    char *host; /* NULL: a UNIX socket */
    char *path; /* of the socket, or NULL */
    char *user; /* NULL: none */
    char *password;
    uint32_t port;
    uint32_t db;
} peri_redis_url;

/* 0, or negative with *why (static text). Release with fini(). */
int peri_redis_url_parse(peri_slice text, peri_redis_url *out,
                         const char **why);

void peri_redis_url_fini(peri_redis_url *url);

#endif
