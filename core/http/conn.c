/* Conn: its life, reading, time-outs. See conn.h for the map. */
#include "core/http/conn.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/alloc.h"

/* ---- bytes that wait ---- */

static void in_free(peri_conn *conn)
{
    free(conn->in);
    conn->in = NULL;
}

/* Appends, with the padding that scan.h asks for. */
static void in_append(peri_conn *conn, const char *data, size_t length)
{
    peri_conn_in *in = conn->in;
    size_t used = in != NULL ? in->length : 0;
    size_t capacity = in != NULL ? in->capacity : 0;

    if (in != NULL && in->start != 0) {
        memmove(in->data, in->data + in->start, in->length);
        in->start = 0;
    }
    if (length > capacity - used) {
        capacity = used + length < 1024 ? 1024 : (used + length) * 2;
        in = peri_realloc(in, sizeof *in + capacity + PERI_SCAN_PADDING);
        if (conn->in == NULL) {
            *in = (peri_conn_in){.length = 0};
        }
        in->capacity = capacity;
        conn->in = in;
    }
    assert(in != NULL); /* nobody appends nothing */
    memcpy(in->data + in->length, data, length);
    in->length += length;
    memset(in->data + in->length, 0, PERI_SCAN_PADDING);
}

static size_t drop(peri_conn *conn, size_t length)
{
    conn->dropped_bytes += (uint32_t)length;
    return length;
}

/* Bytes used of data; 0: nothing can be done with it now. */
static size_t input_step(peri_conn *conn, char *data, size_t length)
{
    switch (conn->state) {
    case PERI_CONN_HEAD:
        if (peri_conn_pending(conn) > PERI_CONN_OUT_HIGH_BYTES) {
            peri_conn_flush(conn);
        }
        return peri_conn_pending(conn) > PERI_CONN_OUT_HIGH_BYTES ||
                       conn->broken
                   ? 0
                   : peri_conn_take_head(conn, data, length);
    case PERI_CONN_ACTIVE:
        return peri_conn_take_body(conn, data, length);
    case PERI_CONN_SKIP:
        return peri_conn_skip_body(conn, data, length);
    default:
        return drop(conn, length);
    }
}

static size_t input(peri_conn *conn, char *data, size_t length)
{
    size_t used = 0;

    conn->corked = true;
    while (used < length) {
        size_t n = input_step(conn, data + used, length - used);

        if (n == 0) {
            break;
        }
        used += n;
    }
    conn->corked = false;
    return used;
}

static void input_waiting(peri_conn *conn)
{
    peri_conn_in *in = conn->in;
    size_t used = input(conn, in->data + in->start, in->length);

    in->start += used;
    in->length -= used;
    in->scanned = conn->state == PERI_CONN_HEAD ? in->length : 0;
    if (in->length == 0) {
        in_free(conn);
    }
}

/* An incomplete head is not scanned again before a line or twice as much has
 * come: a byte at a time would cost the square of its length. One that is too
 * long is refused at once. */
static bool worth_scanning(const peri_conn *conn, const char *data,
                           size_t length)
{
    return conn->state != PERI_CONN_HEAD || conn->in->scanned == 0 ||
           conn->in->length >= conn->in->scanned * 2 ||
           conn->in->length > conn->server->scan_limits.head_max_bytes ||
           memchr(data, '\n', length) != NULL;
}

void peri_conn_input(peri_conn *conn, char *data, size_t length)
{
    if (conn->in == NULL) {
        size_t used;

        memset(data + length, 0, PERI_SCAN_PADDING);
        used = input(conn, data, length);
        if (used < length && conn->state != PERI_CONN_CLOSED) {
            in_append(conn, data + used, length - used);
            conn->in->scanned =
                conn->state == PERI_CONN_HEAD ? length - used : 0;
        }
        return;
    }
    in_append(conn, data, length);
    if (worth_scanning(conn, data, length)) {
        input_waiting(conn);
    }
}

/* ---- reading ---- */

/* The client has shut its side before the end of the body. What waits unread
 * may still hold the rest of it. */
static bool body_is_cut(const peri_conn *conn)
{
    const peri_conn_exchange *ex = conn->exchange;

    return conn->eof && conn->state == PERI_CONN_ACTIVE && !ex->body_ended &&
           ex->body_rc == 0 && (conn->in == NULL || ex->base.reader.fn != NULL);
}

void peri_conn_on_eof(peri_conn *conn)
{
    conn->eof = true;
    switch (conn->state) {
    case PERI_CONN_ACTIVE:
        if (body_is_cut(conn)) {
            peri_conn_gone(conn, PERI_EGONE);
            return;
        }
        peri_conn_half_begin(conn);
        break;
    case PERI_CONN_CLOSED:
        return;
    default:
        if (peri_conn_pending(conn) == 0) {
            peri_conn_gone(conn, PERI_EGONE);
            return;
        }
        conn->state = PERI_CONN_FINAL;
        conn->linger = false;
        break;
    }
    peri_conn_settle(conn);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    peri_conn *conn = handle->data;

    (void)suggested;
    *buf = uv_buf_init(conn->server->read_buffer, PERI_CONN_READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    peri_conn *conn = stream->data;

    if (nread > 0) {
        conn->server->read_ns = 0;
        peri_conn_input(conn, buf->base, (size_t)nread);
        peri_conn_settle(conn);
    } else if (nread == UV_EOF) {
        conn->reading = false;
        peri_conn_on_eof(conn);
    } else if (nread < 0) {
        peri_conn_gone(conn, PERI_EGONE);
    }
}

static void settle_reading(peri_conn *conn)
{
    bool want = !conn->eof;

    if (conn->state == PERI_CONN_FINAL) {
        want = want && conn->dropped_bytes < PERI_CONN_LINGER_MAX_BYTES;
    } else {
        want = want &&
               (conn->in == NULL || conn->in->length < PERI_CONN_IN_MAX_BYTES);
    }
    if (want == conn->reading) {
        return;
    }
    conn->reading = want;
    if (want) {
        uv_read_start((uv_stream_t *)&conn->tcp, on_alloc,
                      conn->tls == NULL ? on_read : peri_conn_tls_read);
    } else {
        uv_read_stop((uv_stream_t *)&conn->tcp);
    }
}

/* ---- time-outs ---- */

void peri_conn_due_in(peri_conn *conn, uint64_t ms)
{
    peri_wheel_set(&conn->server->wheel, &conn->timer,
                   uv_now(conn->server->loop) + ms);
}

static void settle_head_timer(peri_conn *conn)
{
    const peri_http_limits *limits = &conn->server->limits;

    if (conn->in == NULL) {
        conn->timing = false;
        peri_conn_due_in(conn, conn->server->draining ? PERI_CONN_DRAIN_IDLE_MS
                               : limits->keepalive_timeout_ms != 0
                                   ? limits->keepalive_timeout_ms
                                   : limits->header_timeout_ms);
    } else if (!conn->timing) {
        conn->timing = true; /* from the first byte; more bytes don't help */
        peri_conn_due_in(conn, limits->header_timeout_ms);
    }
}

static void settle_timer(peri_conn *conn)
{
    const peri_http_limits *limits = &conn->server->limits;
    const peri_conn_exchange *ex = conn->exchange;

    if (conn->state == PERI_CONN_SKIP ||
        (conn->state == PERI_CONN_FINAL && conn->fin_sent)) {
        return; /* set on entry, for all of it */
    }
    if (peri_conn_pending(conn) != 0) {
        peri_conn_due_in(conn, limits->body_timeout_ms);
    } else if (conn->state == PERI_CONN_HEAD) {
        settle_head_timer(conn);
    } else if (conn->state == PERI_CONN_ACTIVE && !ex->body_ended &&
               ex->body_rc == 0 && ex->base.reader.fn != NULL) {
        peri_wheel_set(&conn->server->wheel, &conn->timer,
                       peri_conn_body_due(ex));
    } else if (conn->eof && conn->state == PERI_CONN_ACTIVE) {
        peri_conn_due_in(conn, PERI_CONN_HALF_CLOSED_MS);
    } else if (conn->state != PERI_CONN_SHAKING) { /* that is conn_tls.c's */
        peri_wheel_clear(&conn->timer);
    }
}

/* Whether the client took anything since the last look. */
static bool out_progressed(peri_conn *conn)
{
    size_t bytes = peri_conn_unsent(conn);
    bool progressed = bytes != conn->out->flying_bytes;

    conn->out->flying_bytes = bytes;
    return progressed;
}

/* What the kernel holds for us came before the time-out did. */
static bool input_waits_in_kernel(const peri_conn *conn)
{
    char byte;
    int fd = -1;

    uv_fileno((const uv_handle_t *)&conn->tcp, &fd);
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void on_due_head(peri_conn *conn)
{
    if (conn->timing) {
        peri_conn_refuse(conn, 408, PERI_SLICE("the head took too long"));
        peri_conn_settle(conn);
    } else if (input_waits_in_kernel(conn)) {
        peri_conn_due_in(conn, conn->server->limits.header_timeout_ms);
    } else {
        peri_conn_gone(conn, PERI_ETIMEOUT);
    }
}

void peri_conn_on_due(peri_wheel_entry *entry)
{
    peri_conn *conn = PERI_CONTAINER(entry, peri_conn, timer);

    if (conn->state != PERI_CONN_SKIP && peri_conn_pending(conn) != 0 &&
        out_progressed(conn)) {
        peri_conn_due_in(conn, conn->server->limits.body_timeout_ms);
        return;
    }
    if (conn->state == PERI_CONN_SKIP) {
        peri_conn_skip_end(conn, true);
        peri_conn_settle(conn);
    } else if (conn->state == PERI_CONN_HEAD && peri_conn_pending(conn) == 0) {
        on_due_head(conn);
    } else if (conn->state == PERI_CONN_ACTIVE &&
               peri_conn_pending(conn) == 0) {
        if (conn->eof) {
            peri_conn_half_due(conn);
        } else if (conn->exchange->base.reader.fn != NULL) {
            peri_conn_body_failed(conn->exchange, PERI_ETIMEOUT);
            peri_conn_settle(conn);
        }
    } else {
        peri_conn_gone(conn, PERI_ETIMEOUT);
    }
}

/* ---- the end of it ---- */

static void on_closed(uv_handle_t *handle)
{
    peri_conn *conn = handle->data;
    peri_http_server *server = conn->server;

    in_free(conn);
    peri_conn_out_free(conn);
    peri_tls_destroy(conn->tls);
    free(conn);
    peri_server_conn_closed(server);
}

void peri_conn_close(peri_conn *conn)
{
    if (conn->state == PERI_CONN_CLOSED) {
        return; /* a time-out and a reset may both get here */
    }
    if (conn->tls != NULL) {
        peri_conn_tls_finish(conn);
    }
    conn->state = PERI_CONN_CLOSED;
    peri_list_remove(&conn->link);
    peri_wheel_remove(&conn->timer);
    peri_later_cancel(&conn->later);
    if (!conn->reset || uv_tcp_close_reset(&conn->tcp, on_closed) < 0) {
        uv_close((uv_handle_t *)&conn->tcp, on_closed);
    }
}

void peri_conn_gone(peri_conn *conn, int rc)
{
    peri_conn_exchange *ex = conn->exchange;

    conn->exchange = NULL;
    if (ex != NULL) {
        ex->conn = NULL;
        if (!ex->base.ended) {
            conn->server->stats.requests_active--;
            peri_exchange_tell_gone(&ex->base, &conn->server->app, rc);
        }
        peri_exchange_unref(&ex->base);
    }
    peri_conn_close(conn);
}

/* The last answer is with the kernel. */
static void finish(peri_conn *conn)
{
    int fd = -1;

    if (!conn->linger || conn->eof || conn->reset) {
        peri_conn_close(conn);
        return;
    }
    if (conn->fin_sent) {
        if (conn->dropped_bytes >= PERI_CONN_LINGER_MAX_BYTES) {
            peri_conn_close(conn);
        }
        return;
    }
    if (conn->tls != NULL) {
        peri_conn_tls_finish(conn);
    }
    conn->fin_sent = true;
    uv_fileno((uv_handle_t *)&conn->tcp, &fd);
    shutdown(fd, SHUT_WR);
    peri_conn_due_in(conn, PERI_CONN_LINGER_MS);
}

/* Whoever waits to write more is told soon, whichever way the bytes left. */
static void settle_drain(peri_conn *conn)
{
    peri_conn_exchange *ex = conn->exchange;

    if (ex != NULL && ex->base.drain.fn != NULL &&
        peri_conn_pending(conn) <= PERI_CONN_OUT_LOW_BYTES) {
        peri_later_call(&conn->server->later, &ex->later);
    }
}

void peri_conn_settle(peri_conn *conn)
{
    if (conn->state == PERI_CONN_CLOSED) {
        return;
    }
    if (conn->out != NULL) {
        peri_conn_flush(conn);
        settle_drain(conn);
    }
    if (conn->broken) {
        peri_conn_call_later(conn);
        return;
    }
    if (conn->eof && conn->state == PERI_CONN_HEAD && conn->in == NULL) {
        conn->state = PERI_CONN_FINAL;
        conn->linger = false;
    }
    if (conn->state == PERI_CONN_FINAL && conn->out == NULL) {
        finish(conn);
    }
    if (conn->state != PERI_CONN_CLOSED) {
        settle_reading(conn);
        settle_timer(conn);
    }
}

/* What waited while an answer was made or sent. */
static void input_again(peri_conn *conn)
{
    if (conn->state == PERI_CONN_CLOSED || conn->in == NULL) {
        return;
    }
    input_waiting(conn);
    if (conn->eof && conn->state == PERI_CONN_HEAD && conn->in != NULL &&
        peri_conn_pending(conn) <= PERI_CONN_OUT_HIGH_BYTES) {
        in_free(conn); /* a head that will never be complete */
    }
}

void peri_conn_on_later(peri_later_entry *entry)
{
    peri_conn *conn = PERI_CONTAINER(entry, peri_conn, later);

    input_again(conn);
    if (conn->broken || body_is_cut(conn)) {
        peri_conn_gone(conn, PERI_EGONE);
        return;
    }
    peri_conn_settle(conn);
}

void peri_conn_on_sent(peri_conn *conn)
{
    input_again(conn);
    peri_conn_settle(conn);
}

/* How long ago its last request was answered; its timer runs since then. */
static uint64_t idle_ms(const peri_conn *conn)
{
    uint64_t due_ms = conn->timer.deadline_ms;
    uint64_t now_ms = uv_now(conn->server->loop);
    uint64_t left_ms = due_ms > now_ms ? due_ms - now_ms : 0;
    uint64_t all_ms = conn->server->limits.keepalive_timeout_ms;

    return all_ms > left_ms ? all_ms - left_ms : 0;
}

void peri_conn_drain(peri_conn *conn)
{
    if (conn->state == PERI_CONN_SHAKING) {
        peri_conn_due_in(conn, PERI_CONN_DRAIN_IDLE_MS);
        return;
    }
    if (conn->state != PERI_CONN_HEAD || conn->in != NULL ||
        conn->out != NULL) {
        return;
    }
    if (!conn->served || idle_ms(conn) < PERI_CONN_DRAIN_IDLE_MS) {
        peri_conn_due_in(conn, PERI_CONN_DRAIN_IDLE_MS);
    } else if (!input_waits_in_kernel(conn)) {
        peri_conn_close(conn);
    }
}

/* ---- the beginning of it ---- */

static void on_fd_closed(uv_handle_t *handle)
{
    free(handle->data);
}

int peri_conn_open(peri_http_server *server, int fd, const peri_net_addr *addr,
                   peri_conn **out)
{
    peri_conn *conn = peri_calloc(1, sizeof *conn);
    int rc = uv_tcp_init(server->loop, &conn->tcp);

    if (rc < 0) {
        free(conn);
        close(fd);
        return rc;
    }
    conn->tcp.data = conn;
    rc = uv_tcp_open(&conn->tcp, fd);
    if (rc < 0) {
        close(fd);
        uv_close((uv_handle_t *)&conn->tcp, on_fd_closed);
        return rc;
    }
    conn->server = server;
    conn->addr = *addr;
    conn->state = PERI_CONN_HEAD;
    peri_list_append(&server->conns, &conn->link);
    peri_wheel_entry_init(&conn->timer);
    peri_later_entry_init(&conn->later, peri_conn_on_later);
    server->stats.connections_accepted++;
    server->stats.connections_open++;
    *out = conn;
    if (server->tls != NULL) {
        peri_conn_tls_open(conn);
    }
    peri_conn_settle(conn);
    return 0;
}

void peri_conn_refuse_busy(peri_conn *conn)
{
    static const peri_slice detail = {
        "this host has all the connections that it takes", 47};

    if (conn->state == PERI_CONN_SHAKING) {
        conn->surplus = true; /* comes here again */
        return;
    }
    peri_conn_refuse(conn, 503, detail);
    peri_conn_settle(conn);
}
