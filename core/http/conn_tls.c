/* Conn, TLS: from encrypted bytes to those that conn.c knows. The way out is in
 * conn_out.c, which knows the blocks.
 *
 * The handshake has header_timeout from its first byte on; a connection that
 * says nothing lives as long as a silent one without TLS. */
#include "core/base/clock.h"
#include "core/http/conn.h"

/* What TLS itself has to say goes out at once. */
static void send_output(peri_conn *conn)
{
    peri_slice output = peri_tls_output(conn->tls);

    if (output.length > 0) {
        peri_conn_send_sealed(conn, output);
        peri_tls_sent(conn->tls);
    }
}

void peri_conn_tls_open(peri_conn *conn)
{
    conn->tls = peri_tls_server(conn->server->tls);
    conn->state = PERI_CONN_SHAKING;
    peri_conn_due_in(conn, conn->server->draining
                               ? PERI_CONN_DRAIN_IDLE_MS
                               : conn->server->limits.keepalive_timeout_ms);
}

/* A handshake begins with 0x16; methods are letters. */
static bool is_plain_http(char first)
{
    return first >= 'A' && first <= 'Z';
}

static void refuse_plain_http(peri_conn *conn)
{
    static const peri_slice detail = {
        "plain HTTP was sent to a port that speaks TLS: use https://", 59};

    uv_read_stop((uv_stream_t *)&conn->tcp);
    conn->reading = false;
    peri_tls_destroy(conn->tls);
    conn->tls = NULL;
    conn->state = PERI_CONN_HEAD;
    conn->server->stats.handshakes_failed++;
    peri_conn_refuse(conn, 400, detail);
    peri_conn_settle(conn);
}

static void shaken(peri_conn *conn)
{
    peri_http_server *server = conn->server;
    peri_tls_info info;

    peri_tls_get_info(conn->tls, &info);
    server->stats.handshakes_total++;
    server->stats.handshakes_resumed += info.resumed;
    conn->state = PERI_CONN_HEAD;
    conn->timing = false;
    if (conn->surplus) {
        peri_conn_refuse_busy(conn);
    }
}

static void log_failure(peri_conn *conn, int rc)
{
    char remote[PERI_NET_TEXT_BYTES];
    const char *reason = peri_tls_reason(conn->tls);
    peri_log_field fields[2];

    if (!peri_log_enabled(conn->server->logger, PERI_LOG_DEBUG)) {
        return;
    }
    fields[0] =
        PERI_FIELD_STR("reason", *reason != '\0' ? reason : peri_err_text(rc));
    fields[1] = (peri_log_field){
        .key = "remoteAddress",
        .type = PERI_FIELD_STRING,
        .text = {remote, peri_net_addr_write(&conn->addr, remote)}};
    peri_log_fields(conn->server->logger, PERI_LOG_DEBUG,
                    "TLS handshake failed", fields, 2);
}

/* The alert that says why is on its way: what comes is dropped for a while, so
 * that closing is no reset that would overtake it. */
static void fail(peri_conn *conn, int rc)
{
    if (conn->state != PERI_CONN_SHAKING) {
        peri_conn_gone(conn, PERI_EGONE);
        return;
    }
    conn->server->stats.handshakes_failed++;
    log_failure(conn, rc);
    conn->deaf = true;
    conn->state = PERI_CONN_FINAL;
    conn->linger = true;
    conn->dropped_bytes = 0;
    peri_conn_settle(conn);
}

/* True while there may be more to decrypt. */
static bool step(peri_conn *conn)
{
    ssize_t n = peri_tls_read(conn->tls, conn->server->plain_buffer,
                              PERI_CONN_READ_BYTES);

    send_output(conn);
    if (conn->state == PERI_CONN_SHAKING && peri_tls_is_ready(conn->tls)) {
        shaken(conn);
    }
    if (n > 0) {
        peri_conn_input(conn, conn->server->plain_buffer, (size_t)n);
        return conn->state != PERI_CONN_CLOSED && !conn->deaf &&
               peri_tls_has_more(conn->tls);
    }
    if (n == UV_EOF) {
        conn->deaf = true;
        peri_conn_on_eof(conn);
    } else if (n < 0) {
        fail(conn, (int)n);
    }
    return false;
}

static void take(peri_conn *conn, char *data, size_t length)
{
    if (conn->deaf) {
        conn->dropped_bytes += (uint32_t)length;
        peri_conn_settle(conn);
        return;
    }
    if (conn->state == PERI_CONN_SHAKING && !conn->timing) {
        if (is_plain_http(*data)) {
            refuse_plain_http(conn);
            return;
        }
        conn->timing = true;
        peri_conn_due_in(conn, conn->server->limits.header_timeout_ms);
    }
    peri_tls_feed(conn->tls, data, length);
    while (step(conn)) {
    }
    peri_conn_settle(conn);
}

void peri_conn_tls_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    peri_conn *conn = stream->data;

    if (nread > 0) {
        conn->server->read_ns = 0;
        take(conn, buf->base, (size_t)nread);
    } else if (nread == UV_EOF) {
        conn->reading = false;
        peri_conn_on_eof(conn);
    } else if (nread < 0) {
        peri_conn_gone(conn, PERI_EGONE);
    }
}

void peri_conn_tls_finish(peri_conn *conn)
{
    if (conn->reset || conn->broken || peri_conn_pending(conn) > 0) {
        return; /* nobody may take it for the answer's proper end */
    }
    peri_tls_finish(conn->tls);
    send_output(conn);
}
