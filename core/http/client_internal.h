/* Client, inside: origins, connections, calls. Private to client*.c.
 *
 * client.c: pools and who gets which connection. client_connect.c: from a name
 * to a connection. client_conn.c: bytes. client_tls.c: TLS below them.
 * client_tunnel.c: through a proxy. client_identity.c: certificates, sessions.
 * client_request.c: what goes out. client_call.c: what a call sees. */
#ifndef PERI_HTTP_CLIENT_INTERNAL_H
#define PERI_HTTP_CLIENT_INTERNAL_H

#include "core/base/list.h"
#include "core/http/client.h"
#include "core/http/decode.h"
#include "core/loop/later.h"
#include "core/loop/tls.h"
#include "core/loop/wheel.h"

#define PERI_CLIENT_READ_BYTES 65536
#define PERI_CLIENT_ADDRS_MAX 8
#define PERI_CLIENT_STAGGER_MS 250

/* A deadline on the client's wheel. */
typedef struct peri_client_timer {
    peri_wheel_entry entry;
    void (*fn)(struct peri_client_timer *timer);
} peri_client_timer;

typedef struct peri_origin {
    peri_list link; /* in client->origins */
    peri_client *client;
    char *host;
    uint16_t port;
    bool local;
    bool deny_private;
    peri_client_identity *identity; /* NULL: without TLS */
    char *server_name;              /* with TLS */
    char *tunnel;                   /* NULL: not through a proxy */
    char *tunnel_auth;              /* "": without */
    struct peri_client_session *session;
    unsigned refs;       /* calls, connections, connects */
    unsigned open;       /* established connections */
    unsigned connecting; /* connects under way */
    unsigned waiting;
    peri_list conns;    /* in use */
    peri_list idle;     /* the last used first */
    peri_list waiters;  /* calls */
    peri_list connects; /* under way */
    peri_later_entry later;
    struct sockaddr_storage addrs[PERI_CLIENT_ADDRS_MAX];
    unsigned addr_count;
    uint64_t resolved_until_ms;
} peri_origin;

struct peri_client {
    uv_loop_t *loop;
    peri_list origins;
    peri_later later;
    peri_wheel wheel;
    char *read_buffer;  /* PERI_SCAN_PADDING more; for one callback */
    char *plain_buffer; /* the same, for what was encrypted */
    peri_list identities;
    peri_list sessions;
    unsigned session_count;
    unsigned open_handles;
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
    peri_list spare; /* calls that have ended, with their buffers */
    unsigned spare_count;
    peri_client_limits limits;
    peri_client_stats stats;
};

/* One attempt to get a connection for an origin, at several addresses. */
typedef struct peri_connect {
    peri_origin *origin;
    peri_list link;     /* in origin->connects */
    peri_list attempts; /* connections that are being tried */
    uv_getaddrinfo_t resolve;
    peri_client_timer stagger;
    unsigned next; /* address */
    bool resolving;
    bool over; /* given up while it resolved */
    int rc;    /* of the last address that failed */
} peri_connect;

typedef struct peri_client_conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } u;
    peri_list link; /* in origin->conns or idle, or connect->attempts */
    peri_origin *origin;
    peri_connect *connect; /* while it is being tried */
    peri_call *call;
    uv_connect_t connect_request;
    uv_write_t write;
    peri_buf out;    /* to be sent */
    peri_buf flying; /* given to uv_write */
    peri_client_timer idle;
    peri_tls *tls;
    peri_buf tunnel_head; /* the proxy's answer, as far as it has come */
    uint32_t uses;
    bool established;
    bool reading;
    bool broken; /* sending failed; an answer may still be there */
    bool closing;
} peri_client_conn;

struct peri_call {
    peri_client *client;
    peri_origin *origin;
    peri_list link; /* in origin->waiters, or of itself */
    peri_client_conn *conn;
    peri_client_timer timer;
    peri_later_entry later;
    void (*on_event)(void *data);
    void *data;
    peri_buf request; /* head and whole body */
    peri_reply reply;
    peri_decoder *decoder;
    peri_buf raw;  /* as it came, not unpacked yet */
    peri_buf body; /* for the owner */
    uint64_t body_max_bytes;
    uint64_t first_byte_at_ms; /* deadlines, uv_now() time; 0: none */
    uint64_t connect_at_ms;
    uint64_t total_at_ms;
    uint32_t first_byte_ms;
    peri_call_fault fault;
    peri_call_stage stage;
    bool head_request;
    bool idempotent;
    bool decompress;
    bool whole;
    bool streams_body;
    bool body_finished; /* all of the request was handed over */
    bool fresh;         /* tried again: only with a new connection */
    bool wire_done;     /* all of the answer came off the wire */
    bool unpacked;      /* ... and all that was packed is in body */
    bool waits_drain;
};

/* client.c */
peri_origin *peri_origin_get(peri_client *client,
                             const peri_call_options *options);
void peri_origin_unref(peri_origin *origin);
void peri_client_handle_closed(peri_client *client);
void peri_client_timer_init(peri_client_timer *timer,
                            void (*fn)(peri_client_timer *timer));
void peri_client_timer_set(peri_client *client, peri_client_timer *timer,
                           uint64_t at_ms);
void peri_client_timer_stop(peri_client_timer *timer);
/* Gives connections to those who wait; asks for more. Calls nobody back. */
void peri_origin_serve(peri_origin *origin);
void peri_origin_serve_later(peri_origin *origin);
/* A connect came to nothing: the one who waits longest is told, later. */
void peri_origin_connect_failed(peri_origin *origin, int rc);
void peri_origin_drop_idle(peri_origin *origin);

/* client_connect.c */
void peri_connect_start(peri_origin *origin);
/* No attempt of it goes on; calls nobody back. */
void peri_connect_abort(peri_connect *connect);

/* client_address.c */
bool peri_address_private(const struct sockaddr *addr);

/* Nothing more is to be done: into the pool. */
void peri_connect_done(peri_client_conn *conn);
/* This address came to nothing. */
void peri_connect_refused(peri_client_conn *conn, int rc);

/* client_tunnel.c: CONNECT, then TLS */
void peri_client_tunnel_begin(peri_client_conn *conn);

/* client_tls.c */
/* Who asked has a time-out of his own; this one is for those who have gone. */
#define PERI_CLIENT_HANDSHAKE_MS 10000
void peri_client_tls_begin(peri_client_conn *conn);
void peri_client_tls_put(peri_client_conn *conn, peri_slice data);
/* Says that it ends, when that can be said now. */
void peri_client_tls_finish(peri_client_conn *conn);
void peri_client_tls_read(uv_stream_t *stream, ssize_t nread,
                          const uv_buf_t *buf);

/* client_identity.c */
/* The server's sessions, kept while the origin comes and goes. */
typedef struct peri_client_session {
    peri_list link; /* in client->sessions, the last used first */
    peri_client_identity *identity;
    char *name; /* "host port" */
    peri_tls_sessions *tickets;
    unsigned refs; /* origins */
} peri_client_session;

void peri_origin_use_tls(peri_origin *origin, const peri_call_options *options);
void peri_origin_drop_tls(peri_origin *origin);
bool peri_origin_has_tls(const peri_origin *origin,
                         const peri_call_options *options);
peri_tls_context *
peri_client_identity_context(const peri_client_identity *identity);
void peri_client_identities_fini(peri_client *client);

/* client_conn.c */
peri_client_conn *peri_client_conn_create(peri_origin *origin);
void peri_client_conn_close(peri_client_conn *conn);
/* It is connected: into the pool. */
void peri_client_conn_established(peri_client_conn *conn);
/* Whether nothing has come on an idle connection, not even its end. */
bool peri_client_conn_quiet(const peri_client_conn *conn);
/* Begins the call's request on it. */
void peri_client_conn_use(peri_client_conn *conn, peri_call *call);
void peri_client_conn_put(peri_client_conn *conn, peri_slice data);
size_t peri_client_conn_pending(const peri_client_conn *conn);
void peri_client_conn_read(peri_client_conn *conn, bool on);
/* For client_tls.c: as they are, past any encryption. */
void peri_client_conn_put_raw(peri_client_conn *conn, peri_slice data);
void peri_client_conn_alloc(uv_handle_t *handle, size_t suggested,
                            uv_buf_t *buf);
/* Plain bytes of an answer; more: others are known to follow. */
void peri_client_conn_take(peri_client_conn *conn, char *data, size_t length,
                           bool more);
/* rc: UV_EOF, or why. */
void peri_client_conn_ended(peri_client_conn *conn, int rc);

/* client_request.c */
/* Whether all of it can be sent, as one request. */
bool peri_call_is_sound(const peri_call_options *options);
void peri_call_write_request(peri_call *call, const peri_call_options *options);
bool peri_call_method_in(peri_slice method, const char *const *names);

/* client_call.c */
/* The head has come. */
void peri_call_on_head(peri_call *call);
/* Unpacks what has come, checks limits, stops or starts reading. */
void peri_call_pump(peri_call *call);
/* Ends it, without telling. */
void peri_call_fail(peri_call *call, int rc, const char *detail);
/* on_event from the loop's next turn. */
void peri_call_notify_later(peri_call *call);
void peri_call_drop_spare(peri_client *client);
void peri_call_set_stage(peri_call *call, peri_call_stage stage);

#endif
