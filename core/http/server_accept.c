/* Accept: listeners, and what becomes of those who knock. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/http/conn.h"

#define ACCEPTS_A_TURN 64
#define ACCEPT_PAUSE_MS 100
/* Over connections_max: so many are told why; the rest is closed at once. */
#define REFUSALS_MAX 64

static void accepted(peri_http_server *server, int fd,
                     const struct sockaddr *from)
{
    peri_net_addr addr;
    peri_conn *conn;
    uint32_t open = server->stats.connections_open;

    if (open >= server->limits.connections_max &&
        open - server->limits.connections_max >= REFUSALS_MAX) {
        close(fd);
        return;
    }
    peri_net_addr_set(&addr, from);
    if (peri_conn_open(server, fd, &addr, &conn) < 0) {
        return;
    }
    server->open_handles++;
    if (open >= server->limits.connections_max) {
        peri_conn_refuse_busy(conn);
    }
}

static void on_connection(uv_poll_t *poll, int status, int events);

static void on_accept_timer(uv_timer_t *timer)
{
    peri_http_server *server = timer->data;

    for (peri_list *l = server->listeners.next; l != &server->listeners;
         l = l->next) {
        peri_http_listener *listener =
            PERI_CONTAINER(l, peri_http_listener, link);

        uv_poll_start(&listener->poll, UV_READABLE, on_connection);
    }
}

static void accept_pause(peri_http_server *server)
{
    for (peri_list *l = server->listeners.next; l != &server->listeners;
         l = l->next) {
        uv_poll_stop(&PERI_CONTAINER(l, peri_http_listener, link)->poll);
    }
    uv_timer_start(&server->accept_timer, on_accept_timer, ACCEPT_PAUSE_MS, 0);
}

/* Out of descriptors: the spare one is given up, so that who waits is told by
 * a close instead of being left hanging. False: not even that. */
static bool accept_and_drop(peri_http_server *server, int listener_fd)
{
    int fd;

    if (server->spare_fd < 0) {
        return false;
    }
    close(server->spare_fd);
    fd = accept4(listener_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        close(fd);
    }
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return fd >= 0;
}

/* True when there may be more to accept. */
static bool accept_one(peri_http_server *server, int listener_fd)
{
    struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof from;
    struct sockaddr *any = (void *)&from;
    int fd = accept4(listener_fd, any, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0) {
        accepted(server, fd, any);
        return true;
    }
    switch (errno) {
    case EAGAIN:
        return false;
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
        return true;
    case EMFILE:
    case ENFILE:
        peri_log(server->logger, PERI_LOG_WARN,
                 "a connection was refused: no descriptor left");
        if (accept_and_drop(server, listener_fd)) {
            return true;
        }
        break;
    default:
        peri_log(server->logger, PERI_LOG_WARN, "accept: %s", strerror(errno));
        break;
    }
    accept_pause(server);
    return false;
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    peri_http_listener *listener = poll->data;

    (void)events;
    if (status < 0) {
        accept_pause(listener->server);
        return;
    }
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        if (!accept_one(listener->server, listener->fd)) {
            return;
        }
    }
}

int peri_http_server_listen(peri_http_server *server, int fd)
{
    peri_http_listener *listener = peri_calloc(1, sizeof *listener);
    int on = 1;
    int rc = uv_poll_init(server->loop, &listener->poll, fd);

    if (rc < 0) {
        free(listener);
        return rc;
    }
    /* Accepted sockets inherit it; fails harmlessly on a Unix socket. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    listener->poll.data = listener;
    listener->server = server;
    listener->fd = fd;
    server->open_handles++;
    peri_list_append(&server->listeners, &listener->link);
    return uv_poll_start(&listener->poll, UV_READABLE, on_connection);
}

int peri_http_server_adopt(peri_http_server *server, int fd)
{
    struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof from;
    peri_net_addr addr;
    peri_conn *conn;
    int on = 1;
    int rc;

    if (getpeername(fd, (void *)&from, &length) < 0) {
        from.ss_family = AF_UNSPEC;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    peri_net_addr_set(&addr, (void *)&from);
    rc = peri_conn_open(server, fd, &addr, &conn);
    if (rc == 0) {
        server->open_handles++;
    }
    return rc;
}

static void on_listener_closed(uv_handle_t *handle)
{
    peri_http_listener *listener = handle->data;
    peri_http_server *server = listener->server;

    free(listener);
    peri_server_handle_closed(server);
}

static void listener_close(peri_http_listener *listener)
{
    peri_list_remove(&listener->link);
    uv_poll_stop(&listener->poll);
    close(listener->fd);
    uv_close((uv_handle_t *)&listener->poll, on_listener_closed);
}

void peri_server_stop_accepting(peri_http_server *server, bool take_all)
{
    while (!peri_list_empty(&server->listeners)) {
        peri_http_listener *listener =
            PERI_CONTAINER(server->listeners.next, peri_http_listener, link);

        while (take_all && accept_one(server, listener->fd)) {
        }
        listener_close(listener);
    }
}
