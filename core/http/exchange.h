/* Exchange: one request with its answer.
 *
 * Made by a connection (conn.c) or without a socket (local.c) once a request's
 * head has been read, parsed and found sound. The application is told through
 * peri_http_app and answers now or later, with exactly one of answer, problem,
 * or begin + write... + end. All of it belongs to the loop thread.
 *
 * Lifetime: counted. The transport holds one reference until the answer is
 * complete or the client has gone; an application that answers later takes
 * one (peri_exchange_ref, dropped when its task has ended). After `gone`, all
 * calls are allowed and do nothing or fail with PERI_EGONE.
 *
 * Request text (target, fields) lies in the read buffer while on_request runs.
 * peri_exchange_keep() moves it into the arena; it must be called before
 * on_request returns without an answer. Offsets stay true, pointers do not:
 * read text through the functions here. */
#ifndef PERI_HTTP_EXCHANGE_H
#define PERI_HTTP_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/http/router.h"
#include "core/http/scan.h"

typedef struct peri_exchange peri_exchange;
typedef struct peri_exchange_ops peri_exchange_ops;

/* rc: 0, PERI_ELIMIT (413), PERI_ETIMEOUT (408), PERI_EFORMAT (400),
 * PERI_EGONE. chunk is borrowed during the call; by chunks, rc 0 and length 0
 * is the end; for read_all it is empty and the body is peri_exchange_body(). */
typedef void (*peri_body_fn)(void *data, int rc, peri_slice chunk);

/* One header field to send. Names and values are checked: a CR, LF, NUL or a
 * bad name is dropped with a log line, never sent. */
typedef struct peri_field {
    peri_slice name;
    peri_slice value;
} peri_field;

/* What the server asks of the application above it. */
typedef struct peri_http_app {
    void *data;
    /* A request's head is there. May answer before returning. */
    void (*on_request)(void *data, peri_exchange *exchange);
    /* The client went away before the answer was complete. The exchange is
     * gone already; drop the reference when the task has ended. */
    void (*on_gone)(void *data, peri_exchange *exchange);
    /* Once for every exchange, whatever became of it, just before the answer's
     * last byte is handed to the transport (or at gone: status 499 where no
     * other had been sent). For the access log and the request metrics. Also
     * for requests that the host refused before they could be told by
     * on_request: what is known of them is set, method_text and path may be
     * empty. May be NULL. */
    void (*on_done)(void *data, peri_exchange *exchange);
} peri_http_app;

struct peri_exchange {
    /* request: read only for the application */
    const char *head; /* what spans count from */
    peri_head_field *fields;
    uint16_t field_count;
    uint8_t method;        /* peri_method */
    uint8_t version_minor; /* HTTP/1.x */
    peri_span method_text;
    peri_span target; /* as sent */
    peri_span path; /* of the target, raw; always starts with '/' (or is "*") */
    peri_span query; /* after '?', without it; length 0 when none */
    uint64_t started_ns;
    int64_t content_length; /* -1: chunked or none */
    bool has_body;          /* a body is announced */
    bool body_complete;     /* all of it is in `body` or was taken */
    bool is_tls;
    bool gone; /* the client has left; nothing can be sent */
    bool cut;  /* we broke the answer off; the client can tell */

    /* answer: read only for the application */
    bool begun; /* the head has been handed over */
    bool ended; /* the answer is complete */
    uint16_t status;
    uint64_t sent_bytes; /* of the body */

    /* the application's own */
    void *user;              /* its task, or NULL */
    const peri_route *route; /* for logs and metrics; NULL: none matched */
    /* NULL: it is not traced. Whoever set it sets it to NULL at on_done: an
     * exchange that is recycled does not. */
    struct peri_trace_span *trace;

    uint32_t refs;
    uint16_t id_field; /* index of X-Request-Id, or PERI_SCAN_NONE */
    bool kept;         /* the text lies in the arena */
    uint16_t refusal;  /* 4xx: what a reader of the body was told; or 1 */
    uint8_t id_length; /* of request_id; 0: not made yet */
    uint32_t head_bytes;
    bool keep_alive;              /* the client's wish */
    const peri_exchange_ops *ops; /* the transport's */
    peri_slice body;              /* peri_exchange_body() */
    struct peri_exchange_reader {
        peri_body_fn fn; /* NULL: nobody reads */
        void *data;
        bool whole; /* read_all */
    } reader;
    struct peri_exchange_drain {
        void (*fn)(void *data, int rc);
        void *data;
    } drain;
    struct peri_encoding *encoding; /* of a compressed stream; or NULL */
    peri_arena *arena;   /* made on first use: peri_exchange_arena() */
    char request_id[65]; /* "" until asked for */
};

static inline peri_slice peri_exchange_text(const peri_exchange *ex,
                                            peri_span span)
{
    return (peri_slice){ex->head + span.offset, span.length};
}

/* First field of that name (any case), or a NULL slice. */
peri_slice peri_exchange_field(const peri_exchange *ex, peri_slice name);

/* The peer's address without port, as text: "127.0.0.1", "::1", or "unix". With
 * trust_proxies, the first untrusted one of X-Forwarded-For. Borrowed. */
peri_slice peri_exchange_remote(peri_exchange *ex);

/* What TLS the connection itself speaks (not a proxy's in front of it). NULL:
 * none, or the client has gone. Borrowed during the call into the application.
 */
const struct peri_tls *peri_exchange_tls(peri_exchange *ex);

/* X-Request-Id: the client's where it is sane (1 to 64 of A-Za-z0-9._-), else
 * made. Borrowed, for the life of the exchange. */
peri_slice peri_exchange_id(peri_exchange *ex);

/* What an exchange that is over failed with: "aborted" (the client had gone),
 * "cut_off" (the answer was), the status from 500 on, written to text; else "".
 */
peri_slice peri_exchange_error_type(const peri_exchange *ex, char text[8]);

peri_arena *peri_exchange_arena(peri_exchange *ex);

void peri_exchange_ref(peri_exchange *ex);
void peri_exchange_unref(peri_exchange *ex);

/* See the opening comment. Idempotent. */
void peri_exchange_keep(peri_exchange *ex);

/* ---- the request's body ---- */

/* Sets the limit before anything is read: 0, or PERI_ELIMIT when Content-Length
 * is over it already (the caller answers 413). */
int peri_exchange_body_limit(peri_exchange *ex, uint64_t max_bytes);

/* The whole body when body_complete and never read by chunks. Borrowed until
 * the exchange ends. */
peri_slice peri_exchange_body(peri_exchange *ex);

/* Tells once when the whole body is there. Sends 100 Continue if it is awaited.
 * Never calls back from inside. One read at a time. */
void peri_exchange_read_all(peri_exchange *ex, peri_body_fn fn, void *data);

/* Tells once, with the next bytes. */
void peri_exchange_read_chunk(peri_exchange *ex, peri_body_fn fn, void *data);

/* The reader has lost interest (a cancelled task): fn will not be called. If
 * the answer is 504 then, it becomes 408: the body was what it waited for. */
void peri_exchange_read_cancel(peri_exchange *ex);

/* ---- the answer ---- */

/* A whole answer; everything is copied before it returns. Adds Date, X-Request-
 * Id, Content-Length, and Connection where needed; content_type with length 0
 * adds none. May be compressed (compress.h), and is then sent later. Leaves the
 * body out for HEAD, 204 and 304. A reader of the body that was told of a
 * malformed, too large or late one cannot accept it: any answer but 4xx becomes
 * the host's 400, 413 or 408. A 200 whose fields hold ETag or Last-Modified may
 * become 304 or 412 (condition.h). */
void peri_exchange_answer(peri_exchange *ex, int status,
                          peri_slice content_type, const peri_field *fields,
                          size_t field_count, peri_slice body);

/* An RFC 9457 problem made by the host. detail may be empty. */
void peri_exchange_problem(peri_exchange *ex, int status, peri_slice detail,
                           const peri_field *fields, size_t field_count);

/* A streamed answer. length -1: unknown (chunked; for HTTP/1.0 until close).
 * Ended at once where a condition was answered in its place. */
void peri_exchange_begin(peri_exchange *ex, int status,
                         const peri_field *fields, size_t field_count,
                         int64_t length);

/* Copies. 0; PERI_EAGAIN: taken, but call on_drain and wait before the next;
 * PERI_EGONE. */
int peri_exchange_write(peri_exchange *ex, peri_slice chunk);

/* Calls fn once when the client has taken enough (rc 0) or has gone
 * (PERI_EGONE; PERI_ETIMEOUT: it took nothing for the send time-out). */
void peri_exchange_on_drain(peri_exchange *ex, void (*fn)(void *data, int rc),
                            void *data);
void peri_exchange_drain_cancel(peri_exchange *ex);

void peri_exchange_end(peri_exchange *ex);

/* True: what was begun never was, since nothing of it has left, and may be
 * answered in another way. */
bool peri_exchange_take_back(peri_exchange *ex);

/* Ends a begun answer in a way the client can tell from a complete one. */
void peri_exchange_abort(peri_exchange *ex);

/* Reason phrase of RFC 9110, "" when unknown. */
const char *peri_status_reason(int status);

#endif
