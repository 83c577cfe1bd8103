/* Conn, inside: what conn.c, conn_connect.c, client.c and sub.c share. */
#ifndef PERI_REDIS_CONN_INTERNAL_H
#define PERI_REDIS_CONN_INTERNAL_H

#include "core/loop/tls.h"
#include "core/redis/client.h"
#include "core/redis/conn.h"

/* Bytes that wait to be sent on one connection. */
#define PERI_REDIS_OUT_MAX_BYTES ((size_t)64 << 20)
#define PERI_REDIS_READ_BYTES ((size_t)64 << 10)

/* One command, or several, whose replies are owed. */
typedef struct redis_entry {
    peri_redis_op *op; /* NULL: given up */
    uint64_t due_ms;   /* 0: never */
    uint32_t replies;  /* still owed */
    uint32_t bytes;    /* of it in `out`, while the connection is made */
} redis_entry;

/* A socket and the attempt to connect it. */
typedef struct redis_socket {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } as;
    uv_connect_t connect;
    peri_redis_conn *conn;
} redis_socket;

struct peri_redis_conn {
    peri_redis_client *client;
    peri_redis_holder holder;
    peri_list link; /* of all connections of the client */
    peri_list idle; /* of those that nobody uses */
    redis_socket *socket;
    uv_timer_t timer;
    uv_prepare_t prepare;
    uv_getaddrinfo_t resolve;
    struct addrinfo *addresses; /* what resolve gave */
    struct addrinfo *address;   /* the one to try next */
    uv_write_t write;
    peri_buf out;     /* to be sent */
    peri_buf sending; /* libuv has it */
    peri_tls *tls;    /* NULL: plain */
    peri_buf sealed;  /* with TLS: encrypted, to be sent */
    peri_redis_reply reply;
    redis_entry *ring;
    uint32_t ring_size; /* a power of two */
    uint64_t head;      /* sequence of the oldest entry */
    uint64_t tail;      /* of the next one */
    uint32_t owed;      /* entries that were given up */
    uint32_t logins;    /* replies to the login that are to come */
    uint64_t timer_due_ms;
    uint64_t stage_due_ms; /* until it is up: when this stage ends, and how */
    void (*stage_end)(peri_redis_conn *conn);
    uint32_t handles; /* closed handles free the memory */
    peri_redis_fault fault;
    bool shared; /* all commands have the same time-out */
    bool up;
    bool closing;
    bool is_sending;
    bool shaken; /* TLS: the handshake is done */
    bool paused;
};

/* Starts connecting after delay_ms. */
peri_redis_conn *peri_redis_conn_open(peri_redis_client *client, bool shared,
                                      uint64_t delay_ms);

/* Ends it: tells the holder, then fails its commands. */
void peri_redis_conn_fail(peri_redis_conn *conn, const peri_redis_fault *fault);
void peri_redis_conn_fail_rc(peri_redis_conn *conn, int rc, const char *what);

/* Ends it without telling the holder. */
void peri_redis_conn_drop(peri_redis_conn *conn);

/* Stops and goes on with reading. */
void peri_redis_conn_pause(peri_redis_conn *conn, bool pause);

void peri_redis_conn_flush(peri_redis_conn *conn);
/* For conn_tls.c: what is encrypted already; replies as they came. */
void peri_redis_conn_flush_raw(peri_redis_conn *conn);
void peri_redis_conn_take(peri_redis_conn *conn, peri_slice bytes);
void peri_redis_conn_arm(peri_redis_conn *conn, uint64_t due_ms);
/* Fails what is overdue; when the next one is. 0: none. */
uint64_t peri_redis_conn_expire(peri_redis_conn *conn, uint64_t now_ms);
redis_entry *peri_redis_conn_entry(peri_redis_conn *conn, uint64_t sequence);
void peri_redis_conn_closed(uv_handle_t *handle);

/* conn_connect.c */
void peri_redis_conn_begin(peri_redis_conn *conn);
/* While it is not up: this stage ends then, by that. */
void peri_redis_conn_stage(peri_redis_conn *conn, uint64_t delay_ms,
                           void (*end)(peri_redis_conn *conn));
/* The timer of one that is not up: the stage, and commands that are overdue. */
void peri_redis_conn_wait(peri_redis_conn *conn, uint64_t now_ms);
/* Takes what was given up out of what is to be sent. */
void peri_redis_conn_forget(peri_redis_conn *conn);
void peri_redis_conn_login(peri_redis_conn *conn);
/* Takes a reply to the login. */
void peri_redis_conn_login_reply(peri_redis_conn *conn);
/* For conn.c: starts reading, with the connection up. */
void peri_redis_conn_on_up(peri_redis_conn *conn);
void peri_redis_conn_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf);
void peri_redis_conn_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

/* conn_tls.c: the handshake, then the login. */
void peri_redis_conn_tls_begin(peri_redis_conn *conn);
void peri_redis_conn_tls_read(uv_stream_t *stream, ssize_t n,
                              const uv_buf_t *buf);
/* Moves out into sealed. 0 or negative. */
int peri_redis_conn_tls_seal(peri_redis_conn *conn);
void peri_redis_conn_tls_finish(peri_redis_conn *conn);

/* client.c */
__attribute__((format(printf, 4, 5))) void
peri_redis_fault_set(peri_redis_client *client, peri_redis_fault *fault, int rc,
                     const char *format, ...);
void peri_redis_client_conn_up(peri_redis_client *client);
void peri_redis_client_conn_down(peri_redis_client *client,
                                 peri_redis_conn *conn, bool was_up);
void peri_redis_client_conn_closed(peri_redis_client *client);
/* A new connection of the caller's own; as peri_redis_take(). */
peri_redis_conn *peri_redis_open_own(peri_redis_client *client,
                                     const peri_redis_holder *holder,
                                     peri_redis_fault *fault);
/* How long the next attempt to connect has to wait. */
uint64_t peri_redis_client_slot(peri_redis_client *client);

struct peri_redis_client {
    uv_loop_t *loop;
    peri_redis_config config;
    char *label;
    char *read_buffer;     /* shared by all connections */
    char *plain_buffer;    /* the same, for what was encrypted */
    peri_tls_context *tls; /* NULL: none yet */
    uint64_t tls_made_ms;
    peri_tls_sessions *sessions;
    peri_redis_conn *main;
    peri_list conns;
    peri_list idle;
    uint32_t idle_count;
    uint32_t own_count; /* connections besides the main one */
    uv_timer_t retry;
    uint32_t failures;      /* attempts in a row; 0: not known to be down */
    uint64_t *next_slot_ms; /* its set's */
    uint64_t lost_ms;       /* when a connection ended last; 0: never */
    uint64_t random;
    peri_redis_fault cause; /* of being down */
    peri_redis_stats stats;
    uint32_t open; /* handles and connections */
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

#endif
