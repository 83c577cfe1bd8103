/* Conn, the request's body: taken off the wire only while somebody reads it. */
#include <assert.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/http/conn.h"

#define NOTHING ((peri_slice){NULL, 0})

static peri_conn_exchange *of(peri_exchange *base)
{
    return (peri_conn_exchange *)(void *)base;
}

static void call_later(peri_conn_exchange *ex)
{
    peri_later_call(&ex->server->later, &ex->later);
}

int peri_conn_op_body_limit(peri_exchange *base, uint64_t max_bytes)
{
    of(base)->body_max_bytes = max_bytes;
    return 0;
}

static void send_continue(peri_conn_exchange *ex)
{
    ex->continues = false;
    peri_conn_put(ex->conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    peri_conn_call_later(ex->conn);
}

void peri_conn_op_read(peri_exchange *base)
{
    peri_conn_exchange *ex = of(base);
    peri_conn *conn = ex->conn;

    if (conn == NULL || ex->body_ended || ex->body_rc != 0) {
        call_later(ex);
        return;
    }
    if (base->content_length > 0 &&
        (uint64_t)base->content_length > ex->body_max_bytes) {
        ex->body_rc = PERI_ELIMIT;
        call_later(ex);
        return;
    }
    if (ex->continues) {
        if (conn->in != NULL) {
            ex->continues = false; /* it did not wait */
        } else if (!base->begun) {
            send_continue(ex);
        }
    }
    ex->asked_ms = uv_now(ex->server->loop);
    if (!conn->corked) {
        peri_conn_settle(conn);
        if (conn->in != NULL) {
            peri_conn_call_later(conn);
        }
    }
}

void peri_conn_body_failed(peri_conn_exchange *ex, int rc)
{
    ex->body_rc = rc;
    peri_exchange_tell_reader(&ex->base, rc, NOTHING);
}

static void tell_whole(peri_conn_exchange *ex)
{
    if (!ex->base.body_complete) {
        ex->base.body = peri_buf_slice(&ex->collected);
        ex->base.body_complete = true;
    }
    ex->body_taken = true;
    peri_exchange_tell_reader(&ex->base, 0, NOTHING);
}

/* Reads what had come before it asked; and what can't come any more. */
void peri_conn_exchange_on_later(peri_later_entry *entry)
{
    peri_conn_exchange *ex = PERI_CONTAINER(entry, peri_conn_exchange, later);
    peri_exchange *base = &ex->base;
    bool over = base->gone || ex->conn == NULL;

    peri_exchange_ref(base);
    if (base->reader.fn != NULL) {
        if (over || ex->body_rc != 0) {
            peri_exchange_tell_reader(base, over ? PERI_EGONE : ex->body_rc,
                                      NOTHING);
        } else if (ex->body_ended && base->reader.whole) {
            tell_whole(ex);
        } else if (ex->body_ended) {
            peri_slice rest = ex->body_taken ? NOTHING : base->body;

            ex->body_taken = true;
            peri_exchange_tell_reader(base, 0, rest);
        }
    }
    if (base->drain.fn != NULL) {
        over = base->gone || ex->conn == NULL;
        if (over || peri_conn_pending(ex->conn) <= PERI_CONN_OUT_LOW_BYTES) {
            peri_exchange_tell_drain(base, over ? PERI_EGONE : 0);
        }
    }
    peri_exchange_unref(base);
}

/* ---- off the wire ---- */

static size_t take_known(peri_conn_exchange *ex, const char *data,
                         size_t length)
{
    if ((uint64_t)ex->body_left < length) {
        length = (size_t)ex->body_left;
    }
    ex->body_left -= (int64_t)length;
    ex->body_ended = ex->body_left == 0;
    if (!ex->base.reader.whole) {
        ex->body_taken = false;
        peri_exchange_tell_reader(&ex->base, 0, peri_slice_of(data, length));
        return length;
    }
    peri_buf_append(&ex->collected, data, length);
    if (ex->body_ended) {
        tell_whole(ex);
    }
    return length;
}

static size_t take_chunked(peri_conn_exchange *ex, const char *data,
                           size_t length)
{
    ptrdiff_t used;

    if (!ex->base.reader.whole) {
        peri_buf_clear(&ex->collected);
    }
    ex->chunked->max_bytes = ex->body_max_bytes;
    used = peri_chunked_feed(ex->chunked, data, length, &ex->collected);
    if (used < 0) {
        peri_conn_body_failed(ex, (int)used);
        return length;
    }
    ex->body_ended = ex->chunked->ended;
    if (ex->base.reader.whole) {
        if (ex->body_ended) {
            tell_whole(ex);
        }
    } else if (ex->collected.length != 0 || ex->body_ended) {
        ex->body_taken = ex->collected.length == 0;
        peri_exchange_tell_reader(&ex->base, 0, peri_buf_slice(&ex->collected));
    }
    return (size_t)used;
}

size_t peri_conn_take_body(peri_conn *conn, char *data, size_t length)
{
    peri_conn_exchange *ex = conn->exchange;
    size_t used;

    if (ex->body_ended || ex->base.reader.fn == NULL || ex->body_rc != 0) {
        return 0;
    }
    ex->continues = false;
    ex->waited_ms += uv_now(ex->server->loop) - ex->asked_ms;
    ex->asked_ms = uv_now(ex->server->loop);
    peri_exchange_ref(&ex->base);
    used = ex->chunked != NULL ? take_chunked(ex, data, length)
                               : take_known(ex, data, length);
    ex->got_bytes += used;
    peri_exchange_unref(&ex->base);
    return used;
}

uint64_t peri_conn_body_due(const peri_conn_exchange *ex)
{
    const peri_http_limits *limits = &ex->server->limits;
    uint64_t pause_ms = limits->body_timeout_ms;
    uint64_t allowed_ms = pause_ms;

    if (limits->body_rate_min == 0) {
        return ex->asked_ms + pause_ms;
    }
    allowed_ms += ex->got_bytes * 1000 / limits->body_rate_min;
    if (allowed_ms < ex->waited_ms) {
        return ex->asked_ms;
    }
    allowed_ms -= ex->waited_ms;
    return ex->asked_ms + (allowed_ms < pause_ms ? allowed_ms : pause_ms);
}

/* ---- thrown away ---- */

static size_t skip(peri_conn_exchange *ex, const char *data, size_t length)
{
    ptrdiff_t used;

    if (ex->chunked == NULL) {
        if ((uint64_t)ex->body_left < length) {
            length = (size_t)ex->body_left;
        }
        ex->body_left -= (int64_t)length;
        ex->body_ended = ex->body_left == 0;
        return length;
    }
    ex->chunked->max_bytes = UINT64_MAX;
    used = peri_chunked_feed(ex->chunked, data, length, &ex->collected);
    peri_buf_clear(&ex->collected);
    if (used < 0) {
        ex->body_rc = (int)used;
        return length;
    }
    ex->body_ended = ex->chunked->ended;
    return (size_t)used;
}

void peri_conn_skip_end(peri_conn *conn, bool final)
{
    peri_conn_exchange *ex = conn->exchange;

    conn->state = final ? PERI_CONN_FINAL : PERI_CONN_HEAD;
    conn->linger = true;
    conn->dropped_bytes = 0;
    conn->exchange = NULL;
    peri_exchange_unref(&ex->base);
}

size_t peri_conn_skip_body(peri_conn *conn, char *data, size_t length)
{
    peri_conn_exchange *ex = conn->exchange;
    size_t used = skip(ex, data, length);

    conn->dropped_bytes += (uint32_t)used;
    if (!ex->body_ended && ex->body_rc == 0 &&
        conn->dropped_bytes <= PERI_CONN_SKIP_MAX_BYTES) {
        return used;
    }
    peri_conn_skip_end(conn, !ex->body_ended || conn->server->draining);
    return used;
}
