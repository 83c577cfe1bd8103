/* Conn whose client has shut its side after a whole request.
 *
 * It may wait for its answer, or be gone: both look the same. So that a client
 * that waits gets its answer however long that takes, and the work for one
 * that is gone is cancelled, the answer's first bytes, which do not depend on
 * what the answer will be, are sent one by one: a kernel whose process is gone
 * answers them with a reset. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "core/http/conn.h"

#define STATUS_START "HTTP/1.1 "
#define PROBES_MAX (sizeof STATUS_START - 1)
/* Eight zeros; some clients take no more than 16 digits in all. */
#define ZERO_TICKS_MAX 128

static int fd_of(const peri_conn *conn)
{
    int fd = -1;

    uv_fileno((const uv_handle_t *)&conn->tcp, &fd);
    return fd;
}

/* A host that was switched off sends no reset: the kernel asks it. */
void peri_conn_half_begin(peri_conn *conn)
{
    const int on = 1;
    const int idle_seconds = 15;
    const int count = 3;
    int fd = fd_of(conn);

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds,
               sizeof idle_seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle_seconds,
               sizeof idle_seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

static bool is_reset(const peri_conn *conn)
{
    struct pollfd poller = {.fd = fd_of(conn)};

    return poll(&poller, 1, 0) > 0 && (poller.revents & (POLLERR | POLLHUP));
}

/* The next byte that any answer has; between chunks, a leading zero of the
 * next one's length. Where there is none, what is written next will show. */
static void probe(peri_conn *conn)
{
    const peri_conn_exchange *ex = conn->exchange;

    if (!ex->base.begun && conn->probes < PROBES_MAX) {
        peri_conn_put(conn, &STATUS_START[conn->probes], 1);
        conn->probes++;
    } else if (ex->out_chunked && !ex->out_none &&
               conn->half_ticks <= ZERO_TICKS_MAX) {
        peri_conn_put(conn, "0", 1);
    }
    if (conn->out != NULL) {
        peri_conn_flush(conn);
    }
}

void peri_conn_half_due(peri_conn *conn)
{
    if (is_reset(conn)) {
        peri_conn_gone(conn, PERI_EGONE);
        return;
    }
    if (conn->half_ticks < UINT16_MAX) {
        conn->half_ticks++;
    }
    if ((conn->half_ticks & (conn->half_ticks - 1)) == 0) {
        probe(conn); /* less and less often */
    }
    if (conn->broken) {
        peri_conn_gone(conn, PERI_EGONE);
        return;
    }
    peri_conn_settle(conn);
}

char *peri_conn_half_strip(peri_conn *conn, char *head, char *end)
{
    size_t sent = conn->probes;

    conn->probes = 0;
    conn->half_ticks = 0;
    memmove(head, head + sent, (size_t)(end - head) - sent);
    return end - sent;
}
