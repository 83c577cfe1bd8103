/* What a transport (conn.c, local.c) does for its exchanges; exchange.c has
 * checked the state before it calls. */
#ifndef PERI_HTTP_EXCHANGE_OPS_H
#define PERI_HTTP_EXCHANGE_OPS_H

#include "core/http/exchange.h"

struct peri_compression;
struct uv_loop_s;

struct peri_exchange_ops {
    peri_slice (*remote)(peri_exchange *ex);
    /* The connection's; NULL: plain, or the client has gone. May be NULL. */
    const struct peri_tls *(*tls)(peri_exchange *ex);
    /* Sets request_id and id_length. */
    void (*make_id)(peri_exchange *ex);
    /* How answers are compressed, NULL: not; where loop is not NULL also who
     * can wait for a thread. */
    const struct peri_compression *(*compression)(peri_exchange *ex,
                                                  struct uv_loop_s **loop);
    int (*body_limit)(peri_exchange *ex, uint64_t max_bytes);
    /* ex->reader was set: serve it, later. */
    void (*read)(peri_exchange *ex);
    void (*answer)(peri_exchange *ex, int status, peri_slice content_type,
                   const peri_field *fields, size_t field_count,
                   peri_slice body);
    void (*begin)(peri_exchange *ex, int status, const peri_field *fields,
                  size_t field_count, int64_t length);
    int (*write)(peri_exchange *ex, peri_slice chunk);
    /* ex->drain was set: call it, later. */
    void (*drain)(peri_exchange *ex);
    /* The head of what was begun is taken off again, if it is still here and
     * nothing follows it. */
    bool (*take_back)(peri_exchange *ex);
    void (*end)(peri_exchange *ex);
    void (*abort)(peri_exchange *ex);
    /* The last reference is gone. */
    void (*release)(peri_exchange *ex);
};

/* From a scanned head; all else is as in a new exchange. */
void peri_exchange_init(peri_exchange *ex, const peri_exchange_ops *ops,
                        const char *data, const peri_head *head,
                        uint32_t head_bytes);

/* For the transport: the reader's or the waiter's one call, if there is one. */
void peri_exchange_tell_reader(peri_exchange *ex, int rc, peri_slice chunk);
void peri_exchange_tell_drain(peri_exchange *ex, int rc);

/* The client has gone: tells the application all of it. conn holds a reference
 * over the call. */
void peri_exchange_tell_gone(peri_exchange *ex, const peri_http_app *app,
                             int rc);

#endif
