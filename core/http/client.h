/* Client: requests to other servers, over connections that are kept.
 *
 * One client serves a host and outlives its generations. Calls to one origin
 * share its connections, up to a number; further calls
 * wait in a queue with a limit of its own. A connection goes back to its pool
 * only after an answer that was read to its end and nothing behind it. A kept
 * connection that turns out to be closed before any byte of an answer is tried
 * once more, with a fresh one, where the method allows it.
 *
 * Loop thread. A call's on_event comes from the loop, never from inside of a
 * function below, and may destroy the call. */
#ifndef PERI_HTTP_CLIENT_H
#define PERI_HTTP_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/base/buf.h"
#include "core/base/pool_counts.h"
#include "core/http/client_parse.h"
#include "core/http/exchange.h"

#define PERI_CLIENT_CONNECTIONS_MAX 64
#define PERI_CLIENT_WAITING_MAX 10000
#define PERI_CLIENT_IDLE_MS 4000
#define PERI_CLIENT_DNS_MS 5000
/* Of an answer's body that nobody takes; then reading stops. */
#define PERI_CLIENT_BODY_HIGH_BYTES 131072
#define PERI_CLIENT_OUT_HIGH_BYTES 65536

typedef struct peri_client peri_client;
typedef struct peri_call peri_call;

/* What a call was at when it failed. */
typedef enum peri_call_stage {
    PERI_CALL_QUEUED,
    PERI_CALL_CONNECTING,
    PERI_CALL_SENT, /* or sending; no byte of an answer yet */
    PERI_CALL_HEAD, /* some of the head */
    PERI_CALL_BODY,
    PERI_CALL_DONE
} peri_call_stage;

/* How TLS is spoken: whom to trust, and as whom to go. Calls with the same
 * identity may share connections. */
typedef struct peri_client_identity peri_client_identity;

typedef struct peri_client_identity_options {
    /* PEM, or the path of a file with it; empty: see peri_tls_client_options */
    peri_slice ca;
    peri_slice cert;
    peri_slice key;
    bool insecure;
    bool from_1_3;
} peri_client_identity_options;

/* Borrowed until the next call of this function, unless a call uses it. Files
 * are read here, and again when they have changed. Negative, and why. */
int peri_client_identity_get(peri_client *client,
                             const peri_client_identity_options *options,
                             peri_client_identity **out, char *why,
                             size_t why_bytes);

typedef struct peri_call_options {
    peri_client_identity *identity; /* NULL: without TLS */
    peri_slice server_name;         /* of the certificate; empty: host */
    /* With identity: host is a proxy that is to connect to this "host:port";
     * the value of Proxy-Authorization for it. Empty: none. */
    peri_slice tunnel;
    peri_slice tunnel_auth;
    peri_slice host; /* a name or an address, without brackets; or the path of a
                        UNIX socket */
    uint16_t port;
    bool local;        /* host is a path */
    bool deny_private; /* refuse addresses that are not public */
    bool decompress;
    bool whole;        /* keep the whole body, up to body_max_bytes */
    bool streams_body; /* the body comes through peri_call_write() */
    peri_slice method;
    /* Instead of target and fields: the head as it is sent, up to where more
     * fields could follow. Made by us: it is not looked at. */
    peri_slice prepared;
    peri_slice target;
    const peri_field *fields; /* Host among them */
    size_t field_count;
    peri_slice body;
    uint64_t body_max_bytes; /* with whole: of the answer, unpacked */
    uint32_t connect_ms;     /* 0: no limit but the total */
    uint32_t first_byte_ms;
    uint32_t total_ms; /* without whole: until the head */
} peri_call_options;

/* A failure: rc is a libuv status, or PERI_ETIMEOUT, PERI_EFORMAT (the answer
 * is malformed), one of PERI_ETLS and its kin, PERI_ELIMIT (QUEUED: the queue
 * is full; else the body is too large), PERI_EGONE (cut), PERI_ESTATE (the
 * address is private). */
typedef struct peri_call_fault {
    int rc;
    peri_call_stage stage;
    const char *detail; /* static; may be NULL */
} peri_call_fault;

peri_client *peri_client_create(uv_loop_t *loop);

/* Calls must have been destroyed. closed comes from the loop, the client is
 * freed then. */
void peri_client_close(peri_client *client, void (*closed)(void *data),
                       void *data);

/* For each origin, but for dns_ms. */
typedef struct peri_client_limits {
    uint32_t connections;
    uint32_t waiting; /* calls without a connection */
    uint32_t idle_ms; /* then a kept connection is closed; 0: none is kept */
    uint32_t dns_ms;  /* how long addresses are believed */
} peri_client_limits;

/* From now on; PERI_CLIENT_... below hold as long as nobody says otherwise. */
void peri_client_set_limits(peri_client *client,
                            const peri_client_limits *limits);

typedef struct peri_client_stats {
    uint64_t connects;
    uint64_t requests;
    uint64_t reused;
    uint32_t open;
    uint32_t waiting;
} peri_client_stats;

void peri_client_get_stats(const peri_client *client, peri_client_stats *out);

/* One origin's connections. */
typedef struct peri_client_pool {
    peri_slice host; /* behind a proxy's tunnel, if there is one; or a path */
    peri_slice port; /* digits; empty: host is the path of a UNIX socket */
    bool tls;
    peri_pool_counts counts; /* waiting: calls without a connection */
} peri_client_pool;

/* Each origin that has connections or calls, as it is now. Two may have the
 * same name: those that trust or log in differently share no connections. */
void peri_client_each_pool(const peri_client *client,
                           void (*fn)(void *data, const peri_client_pool *pool),
                           void *data);

/* Copies what options refers to. PERI_EFORMAT: the method, the target or a
 * field cannot be sent. Caller owns *out. */
int peri_call_start(peri_client *client, const peri_call_options *options,
                    void (*on_event)(void *data), void *data, peri_call **out);

/* The head of a request as peri_call_start() would send it, without framing and
 * its end, appended to out. 0 or PERI_EFORMAT, as there. */
int peri_call_prepare(const peri_call_options *options, peri_buf *out);

/* Gives the answer up when it is not complete: its connection is closed. */
void peri_call_destroy(peri_call *call);

/* A stretch of a streamed body. 0; PERI_EAGAIN: taken, wait for an event; or
 * PERI_EGONE: no more is wanted, see the answer. */
int peri_call_write(peri_call *call, peri_slice data);
bool peri_call_writable(const peri_call *call);
void peri_call_finish(peri_call *call);

/* NULL as long as the head has not come. Valid until destroy. */
const peri_reply *peri_call_reply(const peri_call *call);

/* Whether the body was unpacked: Content-Length and -Encoding do not hold. */
bool peri_call_decoded(const peri_call *call);

/* The part of the body that is here. */
peri_slice peri_call_body(const peri_call *call);
void peri_call_consume(peri_call *call, size_t length);

/* All of the answer has come; some of it may still be in peri_call_body(). */
bool peri_call_complete(const peri_call *call);

/* fault.rc is 0 as long as all is well. */
peri_call_fault peri_call_get_fault(const peri_call *call);

/* From now on the wait for more of the body is limited: PERI_ETIMEOUT; 0 stops
 * it. */
void peri_call_set_timeout(peri_call *call, uint32_t timeout_ms);

#endif
