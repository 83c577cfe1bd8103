/* Client conn: bytes of one connection, in use or kept. */
#include <stdlib.h>
#include <sys/socket.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/http/client_internal.h"

static void on_conn_closed(uv_handle_t *handle)
{
    peri_client_conn *conn = handle->data;
    peri_origin *origin = conn->origin;
    peri_client *client = origin->client;

    peri_buf_fini(&conn->out);
    peri_buf_fini(&conn->flying);
    peri_buf_fini(&conn->tunnel_head);
    peri_tls_destroy(conn->tls);
    free(conn);
    peri_origin_unref(origin);
    peri_client_handle_closed(client);
}

void peri_client_conn_close(peri_client_conn *conn)
{
    peri_origin *origin = conn->origin;

    if (conn->closing) {
        return;
    }
    if (conn->tls != NULL) {
        peri_client_tls_finish(conn);
    }
    conn->closing = true;
    conn->connect = NULL;
    peri_list_remove(&conn->link);
    peri_client_timer_stop(&conn->idle);
    if (conn->established) {
        origin->open--;
        origin->client->stats.open--;
        peri_origin_serve_later(origin);
    }
    uv_close(&conn->u.handle, on_conn_closed);
}

/* ---- sending ---- */

static void flush(peri_client_conn *conn);

static void send_failed(peri_client_conn *conn)
{
    conn->broken = true;
    peri_buf_fini(&conn->out);
}

static void on_written(uv_write_t *request, int status)
{
    peri_client_conn *conn = request->data;
    peri_call *call = conn->call;

    peri_buf_clear(&conn->flying);
    if (conn->closing) {
        return;
    }
    if (status < 0) {
        send_failed(conn); /* an answer may be there all the same */
    } else {
        flush(conn);
    }
    if (call != NULL && call->waits_drain &&
        (conn->broken || peri_call_writable(call))) {
        call->waits_drain = false;
        call->on_event(call->data);
    }
}

static void flush(peri_client_conn *conn)
{
    peri_buf swap = conn->flying;
    uv_buf_t buf;

    if (conn->flying.length > 0 || conn->out.length == 0 || conn->broken) {
        return;
    }
    conn->flying = conn->out;
    conn->out = swap;
    buf = uv_buf_init(conn->flying.data, (unsigned)conn->flying.length);
    conn->write.data = conn;
    if (uv_write(&conn->write, &conn->u.stream, &buf, 1, on_written) < 0) {
        peri_buf_clear(&conn->flying);
        send_failed(conn);
    }
}

void peri_client_conn_put(peri_client_conn *conn, peri_slice data)
{
    if (conn->tls != NULL) {
        peri_client_tls_put(conn, data);
    } else {
        peri_client_conn_put_raw(conn, data);
    }
}

void peri_client_conn_put_raw(peri_client_conn *conn, peri_slice data)
{
    size_t sent = 0;

    if (conn->broken) {
        return;
    }
    if (conn->flying.length == 0 && conn->out.length == 0 && data.length > 0) {
        uv_buf_t buf;
        int rc;

        memcpy(&buf.base, &data.data, sizeof buf.base); /* it only reads */
        buf.len = data.length;
        rc = uv_try_write(&conn->u.stream, &buf, 1);
        if (rc < 0 && rc != UV_EAGAIN) {
            send_failed(conn);
            return;
        }
        sent = rc > 0 ? (size_t)rc : 0;
    }
    peri_buf_append(&conn->out, data.data + sent, data.length - sent);
    flush(conn);
}

size_t peri_client_conn_pending(const peri_client_conn *conn)
{
    return conn->out.length + conn->flying.length;
}

/* ---- receiving ---- */

void peri_client_conn_alloc(uv_handle_t *handle, size_t suggested,
                            uv_buf_t *buf)
{
    peri_client_conn *conn = handle->data;
    peri_client *client = conn->origin->client;

    (void)suggested;
    if (client->read_buffer == NULL) {
        client->read_buffer =
            peri_alloc(PERI_CLIENT_READ_BYTES + PERI_SCAN_PADDING);
    }
    buf->base = client->read_buffer;
    buf->len = PERI_CLIENT_READ_BYTES;
}

/* Back to the pool, or closed; the call goes on without it. */
static void detach(peri_client_conn *conn, peri_call *call, bool keep)
{
    peri_origin *origin = conn->origin;

    conn->call = NULL;
    call->conn = NULL;
    keep = keep && call->reply.keep_alive && call->body_finished &&
           !conn->broken && peri_client_conn_pending(conn) == 0 &&
           !origin->client->closing &&
           (origin->client->limits.idle_ms > 0 || origin->waiting > 0);
    if (!keep) {
        peri_client_conn_close(conn);
        return;
    }
    peri_list_remove(&conn->link);
    peri_list_prepend(&origin->idle, &conn->link);
    peri_client_timer_set(origin->client, &conn->idle,
                          uv_now(origin->client->loop) +
                              origin->client->limits.idle_ms);
    peri_client_conn_read(conn, true);
    if (origin->waiting > 0) {
        peri_origin_serve(origin);
    }
}

static void answer_complete(peri_client_conn *conn, peri_call *call, bool keep)
{
    call->wire_done = true;
    detach(conn, call, keep);
    peri_call_pump(call);
    if (call->fault.rc == 0) {
        peri_call_set_stage(call, PERI_CALL_DONE);
    }
}

/* Closed by the other side before it can have looked at the request. */
static bool retry(peri_client_conn *conn, peri_call *call)
{
    peri_origin *origin = conn->origin;

    if (conn->uses < 2 || call->fresh || !call->idempotent ||
        call->streams_body || call->reply.head.length > 0 ||
        call->reply.interim_count > 0 || origin->client->closing) {
        return false;
    }
    call->fresh = true;
    call->conn = NULL;
    conn->call = NULL;
    peri_client_conn_close(conn);
    peri_origin_drop_idle(origin); /* they are no younger */
    peri_list_prepend(&origin->waiters, &call->link);
    origin->waiting++;
    origin->client->stats.waiting++;
    peri_call_set_stage(call, PERI_CALL_QUEUED);
    peri_origin_serve(origin);
    return true;
}

void peri_client_conn_ended(peri_client_conn *conn, int rc)
{
    peri_call *call = conn->call;

    if (call == NULL) {
        peri_client_conn_close(conn);
        return;
    }
    if (rc == UV_EOF && peri_reply_end(&call->reply) == 0) {
        answer_complete(conn, call, false);
    } else if (retry(conn, call)) {
        return;
    } else {
        peri_call_fail(call, rc == UV_EOF ? PERI_EGONE : rc, NULL);
    }
    call->on_event(call->data);
}

/* 1: the answer is complete; 0: more must come; negative: it is malformed. */
static int take(peri_call *call, const char *data, size_t length, size_t *used)
{
    *used = 0;
    while (*used < length) {
        bool had_head = call->reply.got_head;
        ptrdiff_t rc =
            peri_reply_feed(&call->reply, data + *used, length - *used,
                            call->decoder != NULL ? &call->raw : &call->body);

        if (rc < 0) {
            return (int)rc;
        }
        *used += (size_t)rc;
        if (!had_head && call->reply.got_head) {
            peri_call_on_head(call);
        }
        if (call->reply.state == PERI_REPLY_DONE) {
            return 1;
        }
        if (rc == 0) {
            break;
        }
    }
    return 0;
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    if (nread < 0) {
        peri_client_conn_ended(stream->data, (int)nread);
    } else if (nread > 0) {
        peri_client_conn_take(stream->data, buf->base, (size_t)nread, false);
    }
}

void peri_client_conn_take(peri_client_conn *conn, char *data, size_t length,
                           bool more)
{
    peri_call *call = conn->call;
    size_t used;
    int rc;

    if (call == NULL) {
        peri_client_conn_close(conn); /* nobody asked */
        return;
    }
    memset(data + length, 0, PERI_SCAN_PADDING);
    if (call->stage == PERI_CALL_SENT) {
        peri_call_set_stage(call, PERI_CALL_HEAD);
    }
    rc = take(call, data, length, &used);
    if (rc < 0) {
        peri_call_fail(call, rc, call->reply.detail);
    } else if (rc > 0) {
        answer_complete(conn, call, used == length && !more);
    } else {
        peri_call_pump(call);
    }
    call->on_event(call->data);
}

void peri_client_conn_read(peri_client_conn *conn, bool on)
{
    if (on == conn->reading || conn->closing) {
        return;
    }
    conn->reading = on;
    if (on) {
        uv_read_start(&conn->u.stream, peri_client_conn_alloc,
                      conn->tls != NULL ? peri_client_tls_read : on_read);
    } else {
        uv_read_stop(&conn->u.stream);
    }
}

bool peri_client_conn_quiet(const peri_client_conn *conn)
{
    uv_os_fd_t fd;
    char byte;

    return uv_fileno(&conn->u.handle, &fd) == 0 &&
           recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
}

/* ---- life ---- */

static void on_idle(peri_client_timer *timer)
{
    peri_client_conn *conn = PERI_CONTAINER(timer, peri_client_conn, idle);

    if (conn->connect != NULL) {
        peri_connect_refused(conn, UV_ETIMEDOUT); /* in the handshake */
    } else {
        peri_client_conn_close(conn);
    }
}

peri_client_conn *peri_client_conn_create(peri_origin *origin)
{
    peri_client_conn *conn = peri_calloc(1, sizeof *conn);
    peri_client *client = origin->client;

    conn->origin = origin;
    origin->refs++;
    client->open_handles++;
    if (origin->local) {
        uv_pipe_init(client->loop, &conn->u.pipe, 0);
    } else {
        uv_tcp_init(client->loop, &conn->u.tcp);
    }
    conn->u.handle.data = conn;
    peri_list_init(&conn->link);
    peri_buf_init(&conn->out, SIZE_MAX / 2);
    peri_buf_init(&conn->flying, SIZE_MAX / 2);
    peri_client_timer_init(&conn->idle, on_idle);
    return conn;
}

void peri_client_conn_established(peri_client_conn *conn)
{
    peri_origin *origin = conn->origin;
    peri_client *client = origin->client;

    conn->established = true;
    origin->open++;
    client->stats.open++;
    client->stats.connects++;
    if (!origin->local) {
        uv_tcp_nodelay(&conn->u.tcp, 1);
    }
    peri_list_prepend(&origin->idle, &conn->link);
    peri_client_timer_set(client, &conn->idle,
                          uv_now(client->loop) + client->limits.idle_ms);
    peri_client_conn_read(conn, true);
    peri_origin_serve(origin);
}

void peri_client_conn_use(peri_client_conn *conn, peri_call *call)
{
    peri_origin *origin = conn->origin;

    peri_client_timer_stop(&conn->idle);
    peri_list_remove(&conn->link);
    peri_list_append(&origin->conns, &conn->link);
    origin->client->stats.requests++;
    origin->client->stats.reused += conn->uses > 0;
    conn->uses++;
    conn->call = call;
    call->conn = conn;
    peri_reply_reset(&call->reply, call->head_request);
    peri_call_set_stage(call, PERI_CALL_SENT);
    peri_client_conn_put(conn, peri_buf_slice(&call->request));
    if (call->streams_body) {
        peri_buf_fini(&call->request); /* it cannot be sent twice */
        if (call->waits_drain) {
            peri_call_notify_later(call);
        }
    }
}
