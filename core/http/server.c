/* Server: listeners, the connections' common store, drain and close. */
#include "core/http/server.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/http/conn.h"
#include "core/http/date.h"
#include "core/http/response.h"

#define ACCEPTS_A_TURN 64
#define ACCEPT_PAUSE_MS 100
/* Over connections_max: so many are told why; the rest is closed at once. */
#define REFUSALS_MAX 64
#define FREE_EXCHANGES_MAX 1024
#define METHOD_ROOM_BYTES 80

void peri_http_limits_default(peri_http_limits *limits)
{
    *limits = (peri_http_limits){
        .keepalive_timeout_ms = 75000,
        .header_timeout_ms = 10000,
        .body_timeout_ms = 30000,
        .body_rate_min = 256,
        .request_timeout_ms = 60000,
        .header_max_bytes = 32768,
        .header_count_max = 100,
        .url_max_bytes = 8192,
        .body_max_bytes = 1 << 20,
        .connections_max = 10000,
        .health_paths = true,
    };
}

/* ---- what connections share ---- */

peri_conn_exchange *peri_server_take_exchange(peri_http_server *server)
{
    peri_conn_exchange *ex = server->free_exchanges;

    server->open_handles++;
    if (ex != NULL) {
        server->free_exchanges = ex->next_free;
        server->free_exchange_count--;
        return ex;
    }
    ex = peri_calloc(1, sizeof *ex + server->scan_limits.field_count_max *
                                         sizeof ex->fields[0]);
    ex->server = server;
    peri_buf_init(&ex->collected, SIZE_MAX);
    peri_later_entry_init(&ex->later, peri_conn_exchange_on_later);
    return ex;
}

void peri_server_refresh_date(peri_http_server *server)
{
    struct timespec now;
    uint64_t spent_ms;

    clock_gettime(CLOCK_REALTIME, &now);
    spent_ms = (uint64_t)now.tv_nsec / 1000000;
    memcpy(server->date_line, "Date: ", 6);
    peri_date_write(server->date_line + 6, now.tv_sec);
    memcpy(server->date_line + 6 + PERI_DATE_BYTES, "\r\n", 2);
    server->date_until_ms = uv_now(server->loop) + 1000 - spent_ms;
}

static const char hex[] = "0123456789abcdef";

static void id_prefix_make(peri_http_server *server)
{
    uint8_t random[4];

    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        uint64_t time = uv_hrtime() ^ (uint64_t)getpid() << 32;

        memcpy(random, &time, sizeof random);
    }
    for (unsigned i = 0; i < 4; i++) {
        server->id_prefix[i * 2] = hex[random[i] >> 4];
        server->id_prefix[i * 2 + 1] = hex[random[i] & 15];
    }
}

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* The eight digits of n, all at once; the first in the lowest byte. */
static uint64_t hex_digits(uint32_t n)
{
    uint64_t v = (uint64_t)(n & 0xffff) << 32 | n >> 16;
    uint64_t letters;

    v = ((v & UINT64_C(0x000000ff000000ff)) << 16) |
        (v >> 8 & UINT64_C(0x000000ff000000ff));
    v = ((v & UINT64_C(0x000f000f000f000f)) << 8) |
        (v >> 4 & UINT64_C(0x000f000f000f000f));
    letters = (v + EACH(6)) >> 4 & EACH(1);
    return v + EACH('0') + letters * ('a' - '0' - 10);
}

void peri_server_make_id(peri_http_server *server, peri_exchange *ex)
{
    uint32_t n = ++server->id_count;
    uint64_t digits = htole64(hex_digits(n));

    if (n == 0) {
        id_prefix_make(server);
    }
    memcpy(ex->request_id, server->id_prefix, 8);
    memcpy(ex->request_id + 8, &digits, sizeof digits);
    ex->request_id[16] = '\0';
    ex->id_length = 16;
}

/* ---- the end of it ---- */

static void server_free(peri_http_server *server)
{
    void (*closed)(void *) = server->closed;
    void *data = server->closed_data;

    while (server->free_exchanges != NULL) {
        peri_conn_exchange *ex = server->free_exchanges;

        server->free_exchanges = ex->next_free;
        peri_arena_destroy(ex->base.arena);
        free(ex);
    }
    while (server->free_blocks != NULL) {
        peri_block *block = server->free_blocks;

        server->free_blocks = block->next;
        free(block);
    }
    while (server->free_outs != NULL) {
        peri_conn_out *out = server->free_outs;

        server->free_outs = out->next_free;
        free(out);
    }
    if (server->spare_fd >= 0) {
        close(server->spare_fd);
    }
    free(server->read_buffer);
    free(server->plain_buffer);
    peri_tls_context_unref(server->tls);
    free(server->proxies);
    free(server);
    if (closed != NULL) {
        closed(data);
    }
}

static void handle_closed(peri_http_server *server)
{
    assert(server->open_handles > 0);
    if (--server->open_handles == 0) {
        server_free(server);
    }
}

void peri_server_give_exchange(peri_http_server *server, peri_conn_exchange *ex)
{
    peri_later_cancel(&ex->later);
    if (ex->collected.data != NULL) {
        peri_buf_fini(&ex->collected);
    }
    if (ex->chunked != NULL) {
        free(ex->chunked);
        ex->chunked = NULL;
    }
    if (server->free_exchange_count == FREE_EXCHANGES_MAX) {
        peri_arena_destroy(ex->base.arena);
        free(ex);
    } else {
        if (ex->base.arena != NULL) {
            peri_arena_reset(ex->base.arena);
        }
        ex->next_free = server->free_exchanges;
        server->free_exchanges = ex;
        server->free_exchange_count++;
    }
    handle_closed(server);
}

static void on_part_closed(void *data)
{
    handle_closed(data);
}

static void on_timer_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static void on_listener_closed(uv_handle_t *handle)
{
    peri_http_listener *listener = handle->data;
    peri_http_server *server = listener->server;

    free(listener);
    handle_closed(server);
}

static void listener_close(peri_http_listener *listener)
{
    peri_list_remove(&listener->link);
    uv_poll_stop(&listener->poll);
    close(listener->fd);
    uv_close((uv_handle_t *)&listener->poll, on_listener_closed);
}

static void tell_drained(peri_http_server *server)
{
    void (*drained)(void *) = server->drained;

    if (drained != NULL && server->stats.connections_open == 0) {
        server->drained = NULL;
        drained(server->drained_data);
    }
}

static void on_drain_timer(uv_timer_t *timer)
{
    tell_drained(timer->data);
}

void peri_server_conn_closed(peri_http_server *server)
{
    server->stats.connections_open--;
    if (server->draining) {
        tell_drained(server);
    }
    handle_closed(server);
}

/* ---- accepting ---- */

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

/* ---- public ---- */

static void proxies_set(peri_http_server *server, const char *const *texts)
{
    size_t count = 0;

    while (texts != NULL && texts[count] != NULL) {
        count++;
    }
    server->proxies = peri_calloc(count, sizeof *server->proxies);
    for (size_t i = 0; i < count; i++) {
        if (peri_net_block_parse(texts[i],
                                 &server->proxies[server->proxy_count]) == 0) {
            server->proxy_count++;
        } else {
            peri_log(server->logger, PERI_LOG_WARN,
                     "trust_proxies: not an address block: %s", texts[i]);
        }
    }
}

/* 414 must be told before 431 wherever the target was cut. */
static void scan_limits_set(peri_http_server *server)
{
    const peri_http_limits *limits = &server->limits;
    uint32_t room = limits->header_max_bytes > METHOD_ROOM_BYTES
                        ? limits->header_max_bytes - METHOD_ROOM_BYTES
                        : 0;

    server->scan_limits = (peri_scan_limits){
        .head_max_bytes = limits->header_max_bytes,
        .url_max_bytes =
            limits->url_max_bytes < room ? limits->url_max_bytes : room,
        .field_count_max = limits->header_count_max < PERI_SCAN_NONE
                               ? (uint16_t)limits->header_count_max
                               : PERI_SCAN_NONE - 1,
    };
}

peri_http_server *peri_http_server_create(uv_loop_t *loop,
                                          const peri_http_limits *limits,
                                          const peri_http_app *app,
                                          const peri_logger *logger,
                                          const char *const *trust_proxies)
{
    peri_http_server *server = peri_calloc(1, sizeof *server);
    struct sigaction pipe;

    if (!peri_chunked_self_test()) {
        peri_log(logger, PERI_LOG_FATAL, "llhttp was not built strict");
        abort(); /* it would let requests be smuggled */
    }
    server->loop = loop;
    server->limits = *limits;
    server->app = *app;
    server->logger = logger;
    scan_limits_set(server);
    proxies_set(server, trust_proxies);
    peri_list_init(&server->conns);
    peri_list_init(&server->listeners);
    peri_later_init(&server->later, loop);
    peri_wheel_init(&server->wheel, loop, peri_conn_on_due);
    uv_timer_init(loop, &server->accept_timer);
    server->accept_timer.data = server;
    server->open_handles = 3;
    server->read_buffer = peri_alloc(PERI_CONN_READ_BYTES + PERI_SCAN_PADDING);
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    id_prefix_make(server);
    /* libuv writes to sockets without MSG_NOSIGNAL. */
    if (sigaction(SIGPIPE, NULL, &pipe) == 0 && pipe.sa_handler == SIG_DFL) {
        signal(SIGPIPE, SIG_IGN);
    }
    return server;
}

void peri_http_server_set_limits(peri_http_server *server,
                                 const peri_http_limits *limits)
{
    peri_http_limits before = server->limits;

    server->limits = *limits;
    server->limits.header_max_bytes = before.header_max_bytes;
    server->limits.header_count_max = before.header_count_max;
    server->limits.url_max_bytes = before.url_max_bytes;
}

void peri_http_server_set_tls(peri_http_server *server,
                              peri_tls_context *context)
{
    if (context != NULL) {
        peri_tls_context_ref(context);
        if (server->plain_buffer == NULL) {
            server->plain_buffer =
                peri_alloc(PERI_CONN_READ_BYTES + PERI_SCAN_PADDING);
        }
    }
    peri_tls_context_unref(server->tls);
    server->tls = context;
    server->scan_limits.tls = context != NULL;
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

void peri_http_server_drain(peri_http_server *server, void (*done)(void *data),
                            void *data)
{
    server->drained = done;
    server->drained_data = data;
    server->draining = true;
    while (!peri_list_empty(&server->listeners)) {
        peri_http_listener *listener =
            PERI_CONTAINER(server->listeners.next, peri_http_listener, link);

        while (accept_one(server, listener->fd)) {
        }
        listener_close(listener);
    }
    uv_timer_stop(&server->accept_timer);
    for (peri_list *l = server->conns.next; l != &server->conns;) {
        peri_conn *conn = PERI_CONTAINER(l, peri_conn, link);

        l = l->next;
        peri_conn_drain(conn);
    }
    /* done is never called from inside: a timer's turn comes first. */
    uv_timer_start(&server->accept_timer, on_drain_timer, 0, 0);
}

void peri_http_server_close(peri_http_server *server, void (*done)(void *data),
                            void *data)
{
    assert(!server->closing);
    server->closing = true;
    server->draining = true;
    server->drained = NULL;
    server->closed = done;
    server->closed_data = data;
    while (!peri_list_empty(&server->listeners)) {
        listener_close(
            PERI_CONTAINER(server->listeners.next, peri_http_listener, link));
    }
    while (!peri_list_empty(&server->conns)) {
        peri_conn_gone(PERI_CONTAINER(server->conns.next, peri_conn, link),
                       PERI_EGONE);
    }
    peri_wheel_close(&server->wheel, on_part_closed, server);
    peri_later_close(&server->later, on_part_closed, server);
    uv_close((uv_handle_t *)&server->accept_timer, on_timer_closed);
}

void peri_http_server_get_stats(const peri_http_server *server,
                                peri_http_server_stats *out)
{
    *out = server->stats;
}

#define TEXT_OF(number) #number
#define DOTTED(a, b, c) TEXT_OF(a) "." TEXT_OF(b) "." TEXT_OF(c)

const char *peri_http_parser_version(void)
{
    return DOTTED(LLHTTP_VERSION_MAJOR, LLHTTP_VERSION_MINOR,
                  LLHTTP_VERSION_PATCH);
}
