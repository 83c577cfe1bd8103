/* Conn, the head: from bytes to an exchange that the application is told of. */
#include "core/http/conn.h"

#include "core/base/alloc.h"
#include "core/base/clock.h"

static uint64_t read_time_ns(peri_http_server *server)
{
    if (server->read_ns == 0) {
        server->read_ns = peri_clock_monotonic_ns();
    }
    return server->read_ns;
}

static void exchange_begin(peri_conn *conn, peri_conn_exchange *ex,
                           const char *data, const peri_head *head,
                           uint32_t head_bytes)
{
    peri_http_server *server = conn->server;

    peri_exchange_init(&ex->base, &peri_conn_exchange_ops, data, head,
                       head_bytes);
    ex->base.started_ns = read_time_ns(server);
    ex->base.is_tls = conn->tls != NULL;
    ex->conn = conn;
    ex->body_max_bytes = server->limits.body_max_bytes;
    ex->body_left = head->content_length > 0 ? head->content_length : 0;
    ex->body_ended = !ex->base.has_body;
    ex->body_taken = false;
    ex->body_rc = 0;
    ex->waited_ms = 0;
    ex->got_bytes = 0;
    ex->continues = head->expect_continue && ex->base.has_body;
    ex->out_left = -1;
    ex->head_bytes = 0;
    ex->out_chunked = false;
    ex->out_none = false;
    ex->close = false;
    ex->remote_length = 0;
    ex->addr = conn->addr;
    conn->exchange = ex;
    conn->state = PERI_CONN_ACTIVE;
    if (server->proxy_count != 0) {
        peri_conn_proxy_scheme(ex);
    }
    conn->timing = false;
    server->stats.requests_active++;
    server->stats.requests_total++;
}

static void answer_refused(peri_conn *conn, peri_conn_exchange *ex, int status,
                           peri_slice detail)
{
    ex->base.keep_alive = true; /* closed with care, not at once */
    ex->body_rc = PERI_EFORMAT; /* what follows can't be read as a request */
    ex->body_ended = false;
    peri_exchange_keep(&ex->base);
    peri_exchange_problem(&ex->base, status, detail, NULL, 0);
    conn->served = true;
}

void peri_conn_refuse(peri_conn *conn, int status, peri_slice detail)
{
    peri_conn_exchange *ex = peri_server_take_exchange(conn->server);
    peri_head head = {
        .fields = ex->fields,
        .method = PERI_METHOD_OTHER,
        .version_minor = 1,
        .content_length = -1,
        .request_id = PERI_SCAN_NONE,
    };

    exchange_begin(conn, ex, "", &head, 0);
    answer_refused(conn, ex, status, detail);
}

/* The whole body came with the head: no need to wait for anything. */
static size_t take_ready_body(peri_conn_exchange *ex, const char *data,
                              size_t length)
{
    size_t body_bytes = (size_t)ex->body_left;

    if (ex->body_left == 0 || (uint64_t)ex->body_left > length) {
        return 0;
    }
    ex->base.body = peri_slice_of(data, body_bytes);
    ex->base.body_complete = true;
    ex->body_left = 0;
    ex->body_ended = true;
    ex->continues = false;
    return body_bytes;
}

size_t peri_conn_take_head(peri_conn *conn, char *data, size_t length)
{
    peri_http_server *server = conn->server;
    peri_conn_exchange *ex = peri_server_take_exchange(server);
    peri_head head;
    size_t used;
    int rc;

    head.fields = ex->fields;
    rc = peri_scan_head(data, length, &server->scan_limits, &head);
    if (rc == 0) {
        peri_server_give_exchange(server, ex);
        return 0;
    }
    if (rc < 0) {
        if (head.refusal.status == 414) {
            head.path.length = 0;
            head.query.length = 0;
        }
        exchange_begin(conn, ex, data, &head, (uint32_t)length);
        answer_refused(conn, ex, head.refusal.status,
                       peri_slice_str(head.refusal.detail));
        return length;
    }
    exchange_begin(conn, ex, data, &head, (uint32_t)rc);
    if (head.chunked) {
        ex->chunked = peri_alloc(sizeof *ex->chunked);
        peri_chunked_init(ex->chunked, ex->body_max_bytes);
    }
    used = (size_t)rc + take_ready_body(ex, data + rc, length - (size_t)rc);
    /* Held until the text has been dealt with: it lies in data. */
    peri_exchange_ref(&ex->base);
    server->app.on_request(server->app.data, &ex->base);
    if (ex->base.refs > 1) {
        peri_exchange_keep(&ex->base);
    }
    peri_exchange_unref(&ex->base);
    return used;
}
