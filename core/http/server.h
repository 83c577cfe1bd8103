/* Server: connections of one or more listeners on one loop.
 *
 * Owns its connections; the application (peri_http_app) is told of requests.
 * Belongs to the loop thread. */
#ifndef PERI_HTTP_SERVER_H
#define PERI_HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/base/log.h"
#include "core/http/coding.h"
#include "core/http/exchange.h"
#include "core/loop/tls.h"

typedef struct peri_http_server peri_http_server;

/* Times in ms, sizes in bytes; see http.* in the configuration reference. */
typedef struct peri_http_limits {
    uint32_t keepalive_timeout_ms;
    uint32_t header_timeout_ms;
    uint32_t body_timeout_ms;    /* without a byte, either way */
    uint32_t request_timeout_ms; /* enforced by the application's tasks */
    uint32_t header_max_bytes;   /* request line and fields together */
    uint32_t header_count_max;
    uint32_t url_max_bytes;
    uint64_t body_max_bytes;
    uint32_t connections_max; /* over it: 503 and close */
    uint32_t body_rate_min;   /* bytes a second, beyond body_timeout_ms */
    bool server_timing;       /* tells how long the answer took */
    bool health_paths;        /* unused here: for the application */
    peri_compression compression;
} peri_http_limits;

void peri_http_limits_default(peri_http_limits *limits);

/* Ignores SIGPIPE unless that is handled already: libuv's writes may raise it.
 * app, logger and trust_proxies (CIDR texts, NULL-ended, may be NULL) are
 * borrowed until the close callback. */
peri_http_server *peri_http_server_create(uv_loop_t *loop,
                                          const peri_http_limits *limits,
                                          const peri_http_app *app,
                                          const peri_logger *logger,
                                          const char *const *trust_proxies);

/* Other limits from now on, but for those of the head (header_max,
 * header_count_max, url_max): what is allocated fits the first ones. */
void peri_http_server_set_limits(peri_http_server *server,
                                 const peri_http_limits *limits);

/* Connections accepted from now on speak TLS; NULL: plain. Those that are there
 * stay as they are. Takes a reference. */
void peri_http_server_set_tls(peri_http_server *server,
                              peri_tls_context *context);

/* Starts accepting on a bound and listening socket; takes the descriptor. 0 or
 * a libuv status. May be called for several. */
int peri_http_server_listen(peri_http_server *server, int fd);

/* Adopts a connection that somebody else accepted; takes the descriptor. */
int peri_http_server_adopt(peri_http_server *server, int fd);

/* Graceful: accepts what waits in the backlog, then closes the listeners; idle
 * connections are closed, the others after the answer they owe (Connection:
 * close). done is called when none is left. Repeatable. */
void peri_http_server_drain(peri_http_server *server, void (*done)(void *data),
                            void *data);

/* Closes everything at once; done is called when the memory is freed, which is
 * after the application has dropped its last reference to an exchange. */
void peri_http_server_close(peri_http_server *server, void (*done)(void *data),
                            void *data);

typedef struct peri_http_server_stats {
    uint64_t connections_accepted;
    uint32_t connections_open;
    uint32_t requests_active; /* head read, answer not complete */
    uint64_t requests_total;
    uint64_t handshakes_total; /* of TLS, complete */
    uint64_t handshakes_resumed;
    uint64_t handshakes_failed;
} peri_http_server_stats;

void peri_http_server_get_stats(const peri_http_server *server,
                                peri_http_server_stats *out);

/* Of llhttp, "8.1.0". Static. */
const char *peri_http_parser_version(void);

#endif
