/* Conn, TLS: below the commands and replies. */
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/redis/conn_internal.h"

/* Certificates on disk may have been renewed: for a connection made later they
 * are read again. */
#define CONTEXT_LIFE_MS 60000

static peri_slice slice_of(const char *text)
{
    return peri_slice_str(text != NULL ? text : "");
}

/* 0, or negative and why. */
static int make_context(peri_redis_client *client, char *why, size_t why_bytes)
{
    const peri_redis_tls *tls = &client->config.tls;
    peri_tls_client_options options = {
        .ca = slice_of(tls->ca),
        .cert = slice_of(tls->cert),
        .key = slice_of(tls->key),
        .insecure = tls->insecure,
    };
    uint64_t now_ms = uv_now(client->loop);
    peri_tls_context *fresh;
    int rc;

    if (client->tls != NULL && now_ms - client->tls_made_ms < CONTEXT_LIFE_MS) {
        return 0;
    }
    rc = peri_tls_client_context_from(&options, &fresh, why, why_bytes);
    if (rc < 0) {
        return rc;
    }
    peri_tls_context_unref(client->tls);
    client->tls = fresh;
    client->tls_made_ms = now_ms;
    if (client->sessions == NULL) {
        client->sessions = peri_tls_sessions_create();
    }
    if (client->plain_buffer == NULL) {
        client->plain_buffer = peri_alloc(PERI_REDIS_READ_BYTES);
    }
    return 0;
}

static void take_output(peri_redis_conn *conn)
{
    peri_buf_append_slice(&conn->sealed, peri_tls_output(conn->tls));
    peri_tls_sent(conn->tls);
}

int peri_redis_conn_tls_seal(peri_redis_conn *conn)
{
    int rc = 0;

    if (conn->out.length > 0 && peri_tls_is_ready(conn->tls)) {
        rc = peri_tls_write(conn->tls, conn->out.data, conn->out.length);
        peri_buf_clear(&conn->out);
        take_output(conn);
    }
    return rc;
}

/* True while there may be more to decrypt. */
static bool step(peri_redis_conn *conn)
{
    char *buffer = conn->client->plain_buffer;
    ssize_t n = peri_tls_read(conn->tls, buffer, PERI_REDIS_READ_BYTES);

    take_output(conn);
    if (conn->sealed.length > 0) {
        peri_redis_conn_flush_raw(conn);
    }
    if (!conn->shaken && !conn->closing && peri_tls_is_ready(conn->tls)) {
        conn->shaken = true;
        peri_redis_conn_login(conn);
    }
    if (conn->closing) {
        return false;
    }
    if (n == UV_EOF) {
        peri_redis_conn_fail_rc(conn, UV_EOF, "the connection was lost");
    } else if (n < 0) {
        peri_redis_conn_fail_rc(conn, (int)n, "TLS");
    } else if (n > 0) {
        peri_redis_conn_take(conn, peri_slice_of(buffer, (size_t)n));
    }
    return n > 0 && !conn->closing && peri_tls_has_more(conn->tls);
}

void peri_redis_conn_tls_read(uv_stream_t *stream, ssize_t n,
                              const uv_buf_t *buf)
{
    peri_redis_conn *conn = ((redis_socket *)stream->data)->conn;

    if (conn->closing) {
        return;
    }
    if (n < 0) {
        peri_redis_conn_fail_rc(
            conn, (int)n, conn->shaken ? "the connection was lost" : "TLS");
    } else if (n > 0) {
        peri_tls_feed(conn->tls, buf->base, (size_t)n);
        while (step(conn)) {
        }
    }
}

void peri_redis_conn_tls_begin(peri_redis_conn *conn)
{
    peri_redis_client *client = conn->client;
    const char *name = client->config.tls.server_name;
    peri_redis_fault fault;
    char why[128];

    if (make_context(client, why, sizeof why) < 0) {
        peri_redis_fault_set(client, &fault, PERI_ETLS, "%s", why);
        peri_redis_conn_fail(conn, &fault);
        return;
    }
    conn->tls = peri_tls_client(
        client->tls, name != NULL ? name : client->config.target.host,
        client->sessions);
    uv_read_start(&conn->socket->as.stream, peri_redis_conn_alloc,
                  peri_redis_conn_tls_read);
    step(conn); /* the greeting */
}

void peri_redis_conn_tls_finish(peri_redis_conn *conn)
{
    uv_buf_t buf;

    if (!conn->shaken || conn->is_sending || conn->sealed.length > 0) {
        return;
    }
    peri_tls_finish(conn->tls);
    take_output(conn);
    if (conn->sealed.length > 0) {
        buf = uv_buf_init(conn->sealed.data, (unsigned)conn->sealed.length);
        uv_try_write(&conn->socket->as.stream, &buf, 1);
        peri_buf_clear(&conn->sealed);
    }
}
