/* Client tunnel: through a proxy that is asked (CONNECT) to pass bytes on.
 * Behind it TLS begins: the proxy sees no more than whom it is for. */
#include <stdio.h>

#include "core/base/err.h"
#include "core/http/client_internal.h"

#define HEAD_MAX_BYTES 8192

/* "HTTP/1.1 200", whatever comes behind it; 0: it is none. */
static int status_of(peri_slice head)
{
    int status = 0;

    if (head.length < 12 ||
        (!peri_slice_starts(head, PERI_SLICE("HTTP/1.1 ")) &&
         !peri_slice_starts(head, PERI_SLICE("HTTP/1.0 ")))) {
        return 0;
    }
    for (unsigned i = 9; i < 12; i++) {
        if (head.data[i] < '0' || head.data[i] > '9') {
            return 0;
        }
        status = status * 10 + (head.data[i] - '0');
    }
    return status;
}

static void opened(peri_client_conn *conn)
{
    uv_read_stop(&conn->u.stream);
    conn->reading = false;
    peri_buf_fini(&conn->tunnel_head);
    peri_client_tls_begin(conn);
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    peri_client_conn *conn = stream->data;
    peri_buf *head = &conn->tunnel_head;
    const char *end;
    int status;

    if (nread < 0) {
        peri_connect_refused(conn, PERI_EPROXY);
        return;
    }
    if (peri_buf_append(head, buf->base, (size_t)nread) < 0) {
        peri_connect_refused(conn, PERI_EPROXY);
        return;
    }
    end = head->length > 0 ? memmem(head->data, head->length, "\r\n\r\n", 4)
                           : NULL;
    if (end == NULL) {
        return;
    }
    status = status_of(peri_buf_slice(head));
    /* In TLS we speak first: more bytes than the head are not the server's. */
    if (status < 200 || status > 299 || end + 4 != head->data + head->length) {
        peri_connect_refused(conn, PERI_EPROXY);
    } else {
        opened(conn);
    }
}

static void put(peri_client_conn *conn)
{
    const peri_origin *origin = conn->origin;
    peri_buf request;

    peri_buf_init(&request, SIZE_MAX / 2);
    peri_buf_printf(&request, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n",
                    origin->tunnel, origin->tunnel);
    if (origin->tunnel_auth[0] != '\0') {
        peri_buf_printf(&request, "Proxy-Authorization: %s\r\n",
                        origin->tunnel_auth);
    }
    peri_buf_append_str(&request, "\r\n");
    peri_client_conn_put_raw(conn, peri_buf_slice(&request));
    peri_buf_fini(&request);
}

void peri_client_tunnel_begin(peri_client_conn *conn)
{
    peri_client *client = conn->origin->client;

    peri_buf_init(&conn->tunnel_head, HEAD_MAX_BYTES);
    peri_client_timer_set(client, &conn->idle,
                          uv_now(client->loop) + PERI_CLIENT_HANDSHAKE_MS);
    conn->reading = true;
    uv_read_start(&conn->u.stream, peri_client_conn_alloc, on_read);
    put(conn);
}
