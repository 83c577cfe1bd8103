/* Server: the connections' common store, its life, drain and close. */
#include "core/http/server.h"

#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/http/conn.h"
#include "core/http/date.h"

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

void peri_server_handle_closed(peri_http_server *server)
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
    peri_server_handle_closed(server);
}

static void on_part_closed(void *data)
{
    peri_server_handle_closed(data);
}

static void on_timer_closed(uv_handle_t *handle)
{
    peri_server_handle_closed(handle->data);
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
    peri_server_handle_closed(server);
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
    peri_server_prefix_ids(server);
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

void peri_http_server_drain(peri_http_server *server, void (*done)(void *data),
                            void *data)
{
    server->drained = done;
    server->drained_data = data;
    server->draining = true;
    peri_server_stop_accepting(server, true);
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
    peri_server_stop_accepting(server, false);
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
