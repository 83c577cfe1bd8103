/* Conn: one connection of a server. Private to this folder.
 *
 * Between requests it is this struct alone (under 400 bytes); whatever a
 * request needs more comes from the server's free lists while it lasts.
 *
 *   SHAKING TLS only: the handshake is not done
 *   HEAD    waiting for a head, or reading one
 *   ACTIVE  the application has an exchange; its body is read as it asks
 *   SKIP    answered; the rest of the request's body is thrown away
 *   FINAL   the last answer was given: flush, half-close, drop what comes,
 * close CLOSED  uv_close was called
 *
 * conn.c: life, reading, time-outs. conn_half.c: clients that have shut their
 * side. conn_tls.c: what lies between them and the socket where TLS is spoken.
 * conn_head.c: from bytes to an exchange.
 * conn_body.c: the request's body. conn_out.c: bytes to send. conn_answer.c:
 * what an exchange asks of it. Callbacks into the application come from the
 * loop only: functions named `_later` or `on_`, and peri_conn_input(). */
#ifndef PERI_HTTP_CONN_H
#define PERI_HTTP_CONN_H

#include <uv.h>

#include "core/base/list.h"
#include "core/http/chunked.h"
#include "core/http/exchange_ops.h"
#include "core/http/net.h"
#include "core/http/server.h"
#include "core/loop/later.h"
#include "core/loop/tls.h"
#include "core/loop/wheel.h"

#define PERI_CONN_READ_BYTES 65536
/* Bytes that wait their turn before reading stops. */
#define PERI_CONN_IN_MAX_BYTES 65536
#define PERI_CONN_OUT_HIGH_BYTES 65536
#define PERI_CONN_OUT_LOW_BYTES 16384
/* Of an unread request body, before the connection is given up instead. */
#define PERI_CONN_SKIP_MAX_BYTES 262144
#define PERI_CONN_SKIP_MS 5000
/* After the last answer: what a client is still sending is read and dropped, or
 * its reset would overtake the answer that most clients read afterwards. The
 * time is the bound; the bytes are what a fast network brings in it. */
#define PERI_CONN_LINGER_MAX_BYTES (64u << 20)
#define PERI_CONN_LINGER_MS 1000
/* How often it is looked whether a client that has shut its side is there. */
#define PERI_CONN_HALF_CLOSED_MS 250
/* While draining: for a connection whose request may be on the way, which is
 * one that has just been opened or was used so short a time ago. */
#define PERI_CONN_DRAIN_IDLE_MS 500
#define PERI_BLOCK_BYTES 16320

typedef enum peri_conn_state {
    PERI_CONN_SHAKING,
    PERI_CONN_HEAD,
    PERI_CONN_ACTIVE,
    PERI_CONN_SKIP,
    PERI_CONN_FINAL,
    PERI_CONN_CLOSED
} peri_conn_state;

/* Bytes that were read and not used yet. */
typedef struct peri_conn_in {
    size_t start;
    size_t length;
    size_t capacity; /* PERI_SCAN_PADDING more are there */
    size_t scanned;  /* an incomplete head this long was looked at in vain */
    char data[];
} peri_conn_in;

/* Bytes to send. */
typedef struct peri_block {
    struct peri_block *next;
    size_t start;
    size_t length; /* filled, from data */
    size_t capacity;
    char data[];
} peri_block;

typedef struct peri_conn peri_conn;

typedef struct peri_conn_out {
    peri_block *first;
    peri_block *last;
    peri_block *flying;   /* with the kernel's queue full: given to uv_write */
    size_t pending_bytes; /* flying ones included */
    size_t flying_bytes;  /* when last looked at, for stalls */
    peri_block *sealed;   /* encrypted while others were flying; or NULL */
    peri_conn *conn;
    struct peri_conn_out *next_free;
    uv_write_t write;
} peri_conn_out;

struct peri_conn {
    uv_tcp_t tcp;
    peri_list link; /* in server->conns */
    peri_wheel_entry timer;
    peri_later_entry later;
    peri_http_server *server;
    struct peri_conn_exchange *exchange; /* ACTIVE and SKIP */
    peri_conn_in *in;
    peri_conn_out *out;
    peri_tls *tls;          /* NULL: plain */
    uint32_t dropped_bytes; /* SKIP and FINAL */
    peri_net_addr addr;
    uint8_t state;
    uint8_t probes;      /* bytes of the answer sent ahead: conn_half.c */
    uint16_t half_ticks; /* looks since the client shut its side */
    bool reading : 1;
    bool corked : 1; /* answers wait for the end of peri_conn_input() */
    bool eof : 1;    /* the client has shut its side */
    bool broken : 1; /* sending failed */
    bool served : 1; /* at least one request */
    bool timing : 1; /* the header time-out runs */
    bool linger : 1; /* FINAL: half-close and wait, not close at once */
    bool fin_sent : 1;
    bool reset : 1;   /* FINAL: the answer was cut; say so with a RST */
    bool surplus : 1; /* SHAKING: one too many, to be told when it can be */
    bool deaf : 1;    /* TLS has failed: what comes is dropped */
};

typedef struct peri_conn_exchange {
    peri_exchange base;
    peri_conn *conn; /* NULL once the answer is complete or the client gone */
    peri_http_server *server;
    struct peri_conn_exchange *next_free;
    peri_later_entry later;
    peri_chunked *chunked; /* NULL for a body of known length */
    peri_buf collected;    /* read_all's, or the decoded part of a chunk */
    uint64_t body_max_bytes;
    int64_t body_left;   /* not yet taken off the wire, when not chunked */
    int64_t out_left;    /* of a streamed answer; -1: unknown */
    int body_rc;         /* why the body can't be read, or 0 */
    uint64_t asked_ms;   /* when the reader began to wait */
    uint64_t waited_ms;  /* for the body, in all */
    uint64_t got_bytes;  /* of the body, while somebody waited */
    bool body_ended;     /* all of it was taken off the wire */
    bool body_taken;     /* its end was told to a reader of chunks */
    bool continues;      /* 100 Continue is awaited */
    uint32_t head_bytes; /* of a streamed answer's head, while it is ours */
    bool out_chunked;
    bool out_none; /* HEAD, 204, 304 */
    bool close;    /* the connection ends with this answer */
    uint8_t remote_length;
    peri_net_addr addr;
    char remote[PERI_NET_TEXT_BYTES];
    peri_head_field fields[];
} peri_conn_exchange;

typedef struct peri_http_listener {
    uv_poll_t poll;
    peri_list link;
    peri_http_server *server;
    int fd;
} peri_http_listener;

struct peri_http_server {
    uv_loop_t *loop;
    peri_http_limits limits;
    peri_scan_limits scan_limits;
    peri_http_app app;
    const peri_logger *logger;
    peri_net_block *proxies;
    size_t proxy_count;
    peri_list conns;
    peri_list listeners;
    peri_later later;
    peri_wheel wheel;
    char *read_buffer;     /* shared by all: used only within one callback */
    char *plain_buffer;    /* the same, for what was encrypted */
    peri_tls_context *tls; /* of connections to come; NULL: plain */
    peri_block *free_blocks;
    peri_conn_out *free_outs;
    peri_conn_exchange *free_exchanges;
    unsigned free_block_count;
    unsigned free_out_count;
    unsigned free_exchange_count;
    uint64_t read_ns; /* when the bytes being worked on were read */
    uint64_t date_until_ms;
    uint32_t id_count;
    char id_prefix[8];
    char date_line[40];
    uv_timer_t accept_timer; /* until accepting is tried again */
    int spare_fd; /* given up to be able to refuse when out of descriptors */
    unsigned open_handles; /* and exchanges that are in use */
    bool draining;
    bool closing;
    void (*drained)(void *data);
    void *drained_data;
    void (*closed)(void *data);
    void *closed_data;
    peri_http_server_stats stats;
};

/* conn.c */

/* Takes fd. 0 or a libuv status. */
int peri_conn_open(peri_http_server *server, int fd, const peri_net_addr *addr,
                   peri_conn **out);
/* Refuses it with 503: it was one too many. */
void peri_conn_refuse_busy(peri_conn *conn);
void peri_conn_close(peri_conn *conn);
/* The client has gone, or must go: tells the application, closes. */
void peri_conn_gone(peri_conn *conn, int rc);
/* Closes it if it is idle, else lets it end after the answer it owes. */
void peri_conn_drain(peri_conn *conn);
/* After anything that changed its state: sends, closes, reads, sets timers.
 * Calls nothing of the application's. */
void peri_conn_settle(peri_conn *conn);
void peri_conn_on_later(peri_later_entry *entry);
/* Not for one that settling may just have closed: it is about to be freed. */
static inline void peri_conn_call_later(peri_conn *conn)
{
    if (conn->state != PERI_CONN_CLOSED) {
        peri_later_call(&conn->server->later, &conn->later);
    }
}
void peri_conn_on_due(peri_wheel_entry *entry);
/* Moves on once nothing of an answer's bytes keeps it back. */
void peri_conn_on_sent(peri_conn *conn);

/* conn_half.c: from on_eof on, while ACTIVE */
void peri_conn_half_begin(peri_conn *conn);
void peri_conn_half_due(peri_conn *conn);
/* Takes what was sent ahead off an answer's head; returns its new end. */
char *peri_conn_half_strip(peri_conn *conn, char *head, char *end);

/* What was read, as plain bytes with room for PERI_SCAN_PADDING. */
void peri_conn_input(peri_conn *conn, char *data, size_t length);
/* The other side has ended. */
void peri_conn_on_eof(peri_conn *conn);
void peri_conn_due_in(peri_conn *conn, uint64_t ms);

/* conn_proxy.c: with trust_proxies */
void peri_conn_proxy_client(peri_conn_exchange *ex);
void peri_conn_proxy_scheme(peri_conn_exchange *ex);

/* conn_tls.c */
void peri_conn_tls_open(peri_conn *conn);
void peri_conn_tls_read(uv_stream_t *stream, ssize_t nread,
                        const uv_buf_t *buf);
void peri_conn_tls_flush(peri_conn *conn);
/* Tells the client that nothing more will come, as far as that is possible. */
void peri_conn_tls_finish(peri_conn *conn);

/* conn_head.c */
size_t peri_conn_take_head(peri_conn *conn, char *data, size_t length);
/* Answers for the host, where no exchange has begun; the last answer. */
void peri_conn_refuse(peri_conn *conn, int status, peri_slice detail);

/* conn_body.c */
size_t peri_conn_take_body(peri_conn *conn, char *data, size_t length);
/* When a body that somebody waits for is late: after a pause of body_timeout,
 * or when all of it is slower than body_rate_min. */
uint64_t peri_conn_body_due(const peri_conn_exchange *ex);
size_t peri_conn_skip_body(peri_conn *conn, char *data, size_t length);
/* Leaves SKIP, for the next request or for good. */
void peri_conn_skip_end(peri_conn *conn, bool final);
void peri_conn_body_failed(peri_conn_exchange *ex, int rc);
void peri_conn_exchange_on_later(peri_later_entry *entry);
void peri_conn_op_read(peri_exchange *base);
int peri_conn_op_body_limit(peri_exchange *base, uint64_t max_bytes);

/* conn_out.c */
static inline size_t peri_conn_pending(const peri_conn *conn)
{
    return conn->out != NULL ? conn->out->pending_bytes : 0;
}
/* At least size_bytes in one piece; peri_conn_filled() says how many were. */
char *peri_conn_room(peri_conn *conn, size_t size_bytes);
void peri_conn_filled(peri_conn *conn, const char *end);
/* Takes the last bytes back; they are in one block. */
void peri_conn_unfill(peri_conn *conn, size_t length);
void peri_conn_put(peri_conn *conn, const char *data, size_t length);
/* As put and put; sends at once what it would be a pity to copy. */
void peri_conn_put_large(peri_conn *conn, peri_slice data, peri_slice tail);
/* What the client has not taken yet of what was given to libuv or the kernel.
 */
size_t peri_conn_unsent(const peri_conn *conn);
void peri_conn_flush(peri_conn *conn);
void peri_conn_out_free(peri_conn *conn);
/* The rest, for conn_tls.c: sends as it is; what the kernel does not take
 * follows what is flying. */
void peri_conn_send_sealed(peri_conn *conn, peri_slice bytes);

/* conn_answer.c */
extern const peri_exchange_ops peri_conn_exchange_ops;
void peri_conn_answer_done(peri_conn_exchange *ex);

/* server.c */
peri_conn_exchange *peri_server_take_exchange(peri_http_server *server);
void peri_server_give_exchange(peri_http_server *server,
                               peri_conn_exchange *ex);
void peri_server_refresh_date(peri_http_server *server);
static inline const char *peri_server_date(peri_http_server *server)
{
    if (uv_now(server->loop) >= server->date_until_ms) {
        peri_server_refresh_date(server);
    }
    return server->date_line;
}
void peri_server_conn_closed(peri_http_server *server);
void peri_server_handle_closed(peri_http_server *server);

/* server_accept.c */
/* Closes the listeners; take_all: after what waits at them was accepted. */
void peri_server_stop_accepting(peri_http_server *server, bool take_all);

/* request_id.c */
void peri_server_prefix_ids(peri_http_server *server);
void peri_server_make_id(peri_http_server *server, peri_exchange *ex);

#endif
