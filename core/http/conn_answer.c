/* Conn, answering: what an exchange asks of its connection. */
#include <assert.h>

#include "core/base/clock.h"
#include "core/http/conn.h"
#include "core/http/response.h"

/* "ffffffffffffffff\r\n" */
#define CHUNK_LINE_BYTES 18

static peri_conn_exchange *of(peri_exchange *base)
{
    return (peri_conn_exchange *)(void *)base;
}

/* Whether the rest of the request's body is worth reading. */
static bool body_can_be_skipped(const peri_conn_exchange *ex)
{
    if (ex->body_ended) {
        return true;
    }
    /* A client that still waits for 100 may send the body or not. */
    return ex->body_rc == 0 && !ex->continues &&
           (ex->base.content_length < 0 ||
            ex->body_left <= PERI_CONN_SKIP_MAX_BYTES);
}

static bool must_close(const peri_conn_exchange *ex, int status)
{
    return !ex->base.keep_alive || ex->server->draining ||
           ex->server->limits.keepalive_timeout_ms == 0 ||
           !body_can_be_skipped(ex) || (status == 413 && !ex->body_ended);
}

static void tell_done(peri_conn_exchange *ex)
{
    const peri_http_app *app = &ex->server->app;

    if (app->on_done != NULL) {
        app->on_done(app->data, &ex->base);
    }
}

/* The answer is in the conn's blocks. May drop the last reference. */
void peri_conn_answer_done(peri_conn_exchange *ex)
{
    peri_conn *conn = ex->conn;

    ex->conn = NULL;
    conn->server->stats.requests_active--;
    conn->served = true;
    if (ex->close || conn->server->draining) {
        conn->state = PERI_CONN_FINAL;
        conn->linger =
            (ex->base.keep_alive || !ex->body_ended) && !ex->base.cut;
        conn->dropped_bytes = 0;
    } else if (!ex->body_ended) {
        conn->state = PERI_CONN_SKIP;
        conn->dropped_bytes = 0;
        peri_wheel_set(&conn->server->wheel, &conn->timer,
                       uv_now(conn->server->loop) + PERI_CONN_SKIP_MS);
    } else {
        conn->state = PERI_CONN_HEAD;
    }
    if (conn->state != PERI_CONN_SKIP) {
        conn->exchange = NULL;
        peri_exchange_unref(&ex->base);
    }
    if (!conn->corked) {
        peri_conn_settle(conn);
        if (conn->in != NULL || conn->broken) {
            peri_conn_call_later(conn);
        }
    }
}

/* The bytes that it has added, all of them in the last block; 0: some have left
 * already. */
static uint32_t put_head(peri_conn_exchange *ex, peri_response *response)
{
    peri_http_server *server = ex->server;
    unsigned dropped = 0;
    uint32_t added;
    char *room;
    char *end;

    response->id = peri_exchange_id(&ex->base);
    if (server->limits.server_timing) {
        response->took_us =
            (peri_clock_monotonic_ns() - ex->base.started_ns) / 1000 + 1;
    }
    response->date_line = peri_server_date(server);
    response->close = ex->close;
    response->keep_alive = ex->base.version_minor == 0;
    room = peri_conn_room(ex->conn, peri_response_bound(response));
    end = peri_response_write(response, room, &dropped);
    if (ex->conn->probes != 0) {
        end = peri_conn_half_strip(ex->conn, room, end);
        added = 0;
    } else {
        added = (uint32_t)(end - room);
    }
    peri_conn_filled(ex->conn, end);
    if (dropped != 0) {
        peri_log(server->logger, PERI_LOG_WARN,
                 "%u fields of an answer were not sent: malformed", dropped);
    }
    return added;
}

static void op_answer(peri_exchange *base, int status, peri_slice content_type,
                      const peri_field *fields, size_t field_count,
                      peri_slice body)
{
    peri_conn_exchange *ex = of(base);
    peri_response response = {
        .status = status,
        .content_type = content_type,
        .fields = fields,
        .field_count = field_count,
        .length = (int64_t)body.length,
    };

    ex->close = must_close(ex, status) ||
                peri_response_wants_close(fields, field_count);
    put_head(ex, &response);
    base->status = (uint16_t)status;
    base->begun = true;
    base->ended = true;
    if (base->method != PERI_METHOD_HEAD && peri_status_has_body(status)) {
        base->sent_bytes = body.length;
        tell_done(ex);
        peri_conn_put_large(ex->conn, body, (peri_slice){NULL, 0});
    } else {
        tell_done(ex);
    }
    peri_conn_answer_done(ex);
}

/* ---- streamed ---- */

/* Sends now, or with what else this turn of the loop brings. */
static void send_soon(peri_conn *conn)
{
    if (conn->corked) {
        return;
    }
    peri_conn_call_later(conn);
}

static void op_begin(peri_exchange *base, int status, const peri_field *fields,
                     size_t field_count, int64_t length)
{
    peri_conn_exchange *ex = of(base);
    peri_response response = {
        .status = status,
        .fields = fields,
        .field_count = field_count,
        .length = length,
    };

    ex->out_none =
        base->method == PERI_METHOD_HEAD || !peri_status_has_body(status);
    ex->out_left = length;
    ex->out_chunked =
        length < 0 && base->version_minor != 0 && peri_status_has_body(status);
    response.chunked = ex->out_chunked;
    ex->close = must_close(ex, status) ||
                peri_response_wants_close(fields, field_count) ||
                (length < 0 && !ex->out_chunked && !ex->out_none);
    ex->head_bytes = put_head(ex, &response);
    base->status = (uint16_t)status;
    base->begun = true;
    send_soon(ex->conn);
}

static char *hex_write(char *out, size_t value)
{
    static const char digits[] = "0123456789abcdef";
    unsigned shift = 0;

    while (shift < 60 && value >> shift > 15) {
        shift += 4;
    }
    for (;;) {
        *out++ = digits[value >> shift & 15];
        if (shift == 0) {
            return out;
        }
        shift -= 4;
    }
}

static void put_chunk(peri_conn *conn, peri_slice chunk)
{
    char *room = peri_conn_room(conn, CHUNK_LINE_BYTES);
    char *at = hex_write(room, chunk.length);

    *at++ = '\r';
    *at++ = '\n';
    peri_conn_filled(conn, at);
    peri_conn_put_large(conn, chunk, PERI_SLICE("\r\n"));
}

static int op_write(peri_exchange *base, peri_slice chunk)
{
    peri_conn_exchange *ex = of(base);
    peri_conn *conn = ex->conn;

    if (ex->out_none) {
        return 0;
    }
    ex->head_bytes = 0;
    if (ex->out_left >= 0) {
        if (chunk.length > (uint64_t)ex->out_left) {
            chunk.length = (size_t)ex->out_left;
        }
        ex->out_left -= (int64_t)chunk.length;
    }
    base->sent_bytes += chunk.length;
    if (ex->out_chunked) {
        put_chunk(conn, chunk);
    } else {
        peri_conn_put_large(conn, chunk, (peri_slice){NULL, 0});
    }
    if (!conn->corked) {
        peri_conn_settle(conn);
    }
    if (conn->broken) {
        peri_conn_call_later(conn);
        return PERI_EGONE;
    }
    return peri_conn_pending(conn) > PERI_CONN_OUT_HIGH_BYTES ? PERI_EAGAIN : 0;
}

static bool op_take_back(peri_exchange *base)
{
    peri_conn_exchange *ex = of(base);
    uint32_t bytes = ex->head_bytes;

    if (bytes == 0) {
        return false;
    }
    ex->head_bytes = 0;
    peri_conn_unfill(ex->conn, bytes);
    return true;
}

static void op_drain(peri_exchange *base)
{
    peri_conn_exchange *ex = of(base);

    if (ex->conn == NULL ||
        peri_conn_pending(ex->conn) <= PERI_CONN_OUT_LOW_BYTES) {
        peri_later_call(&ex->server->later, &ex->later);
    }
}

static void op_abort(peri_exchange *base)
{
    peri_conn_exchange *ex = of(base);
    peri_conn *conn = ex->conn;

    base->begun = true;
    base->ended = true;
    base->cut = true;
    ex->close = true;
    conn->reset = ex->out_left < 0 && !ex->out_chunked && !ex->out_none;
    tell_done(ex);
    peri_conn_answer_done(ex);
}

static void op_end(peri_exchange *base)
{
    peri_conn_exchange *ex = of(base);

    if (!ex->out_none && ex->out_left > 0) {
        op_abort(base); /* shorter than was promised */
        return;
    }
    base->ended = true;
    tell_done(ex);
    if (ex->out_chunked && !ex->out_none) {
        peri_conn_put(ex->conn, "0\r\n\r\n", 5);
    }
    peri_conn_answer_done(ex);
}

/* ---- the rest ---- */

static peri_slice op_remote(peri_exchange *base)
{
    peri_conn_exchange *ex = of(base);

    if (ex->remote_length == 0) {
        if (ex->server->proxy_count != 0) {
            peri_conn_proxy_client(ex);
        }
        ex->remote_length = (uint8_t)peri_net_addr_write(&ex->addr, ex->remote);
    }
    return peri_slice_of(ex->remote, ex->remote_length);
}

static const peri_compression *op_compression(peri_exchange *base,
                                              uv_loop_t **loop)
{
    peri_http_server *server = of(base)->server;

    if (loop != NULL) {
        *loop = server->loop;
    }
    return &server->limits.compression;
}

static const struct peri_tls *op_tls(peri_exchange *base)
{
    const peri_conn *conn = of(base)->conn;

    return conn != NULL ? conn->tls : NULL;
}

static void op_make_id(peri_exchange *base)
{
    peri_server_make_id(of(base)->server, base);
}

static void op_release(peri_exchange *base)
{
    peri_server_give_exchange(of(base)->server, of(base));
}

const peri_exchange_ops peri_conn_exchange_ops = {
    .remote = op_remote,
    .tls = op_tls,
    .make_id = op_make_id,
    .compression = op_compression,
    .body_limit = peri_conn_op_body_limit,
    .read = peri_conn_op_read,
    .answer = op_answer,
    .begin = op_begin,
    .write = op_write,
    .drain = op_drain,
    .take_back = op_take_back,
    .end = op_end,
    .abort = op_abort,
    .release = op_release,
};
