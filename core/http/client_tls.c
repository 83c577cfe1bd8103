/* Client, TLS: between a connection's bytes and those on the wire. */
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/http/client_internal.h"

static void send_output(peri_client_conn *conn)
{
    peri_slice output = peri_tls_output(conn->tls);

    if (output.length > 0) {
        peri_client_conn_put_raw(conn, output);
        peri_tls_sent(conn->tls);
    }
}

static void failed(peri_client_conn *conn, int rc)
{
    if (conn->connect == NULL) {
        peri_client_conn_ended(conn, rc);
        return;
    }
    /* Closed in the handshake: that is no address that does not answer. */
    peri_connect_refused(conn,
                         rc == UV_EOF || rc == PERI_EGONE ? UV_ECONNRESET : rc);
}

static char *plain_buffer(peri_client *client)
{
    if (client->plain_buffer == NULL) {
        client->plain_buffer =
            peri_alloc(PERI_CLIENT_READ_BYTES + PERI_SCAN_PADDING);
    }
    return client->plain_buffer;
}

/* True while there may be more to decrypt. */
static bool step(peri_client_conn *conn)
{
    char *buffer = plain_buffer(conn->origin->client);
    ssize_t n = peri_tls_read(conn->tls, buffer, PERI_CLIENT_READ_BYTES);
    bool more;

    send_output(conn);
    if (conn->connect != NULL && peri_tls_is_ready(conn->tls)) {
        peri_client_timer_stop(&conn->idle);
        peri_connect_done(conn);
    }
    if (conn->closing) {
        return false;
    }
    if (n < 0) {
        failed(conn, (int)n);
        return false;
    }
    more = peri_tls_has_more(conn->tls);
    if (n > 0) {
        peri_client_conn_take(conn, buffer, (size_t)n, more);
    }
    return n > 0 && more && !conn->closing;
}

void peri_client_tls_read(uv_stream_t *stream, ssize_t nread,
                          const uv_buf_t *buf)
{
    peri_client_conn *conn = stream->data;

    if (nread < 0) {
        /* Without close_notify it is no proper end: the answer may be cut. */
        failed(conn, nread == UV_EOF ? PERI_EGONE : (int)nread);
    } else if (nread > 0) {
        peri_tls_feed(conn->tls, buf->base, (size_t)nread);
        while (step(conn)) {
        }
    }
}

void peri_client_tls_begin(peri_client_conn *conn)
{
    peri_origin *origin = conn->origin;
    peri_client *client = origin->client;

    conn->tls = peri_tls_client(peri_client_identity_context(origin->identity),
                                origin->server_name, origin->session->tickets);
    if (!origin->local) {
        uv_tcp_nodelay(&conn->u.tcp, 1);
    }
    peri_client_timer_set(client, &conn->idle,
                          uv_now(client->loop) + PERI_CLIENT_HANDSHAKE_MS);
    peri_client_conn_read(conn, true);
    step(conn); /* the greeting */
}

void peri_client_tls_put(peri_client_conn *conn, peri_slice data)
{
    if (!conn->broken &&
        peri_tls_write(conn->tls, data.data, data.length) < 0) {
        return; /* reading will say why */
    }
    send_output(conn);
}

void peri_client_tls_finish(peri_client_conn *conn)
{
    if (conn->closing || conn->broken || !conn->established ||
        peri_client_conn_pending(conn) > 0) {
        return;
    }
    peri_tls_finish(conn->tls);
    send_output(conn);
}
