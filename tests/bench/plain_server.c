/* The HTTP core alone, for profiles: answers from C, without Lua.
 *
 *     plain_server PORT      GET /plaintext, POST /echo, GET /stream, /later
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/http/server.h"

typedef struct later {
    uv_timer_t timer;
    peri_exchange *exchange;
} later;

static void on_body(void *data, int rc, peri_slice chunk)
{
    peri_exchange *ex = data;

    (void)chunk;
    if (rc < 0) {
        peri_exchange_problem(ex, rc == PERI_ELIMIT ? 413 : 400,
                              PERI_SLICE("bad body"), NULL, 0);
        return;
    }
    peri_exchange_answer(ex, 200, PERI_SLICE("text/plain"), NULL, 0,
                         peri_exchange_body(ex));
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle);
}

static void on_timer(uv_timer_t *timer)
{
    later *l = timer->data;

    peri_exchange_answer(l->exchange, 200, PERI_SLICE("text/plain"), NULL, 0,
                         PERI_SLICE("later\n"));
    peri_exchange_unref(l->exchange);
    uv_close((uv_handle_t *)timer, on_timer_closed);
}

static void answer_later(peri_exchange *ex)
{
    later *l = calloc(1, sizeof *l);

    uv_timer_init(uv_default_loop(), &l->timer);
    l->timer.data = l;
    l->exchange = ex;
    peri_exchange_ref(ex);
    uv_timer_start(&l->timer, on_timer, 300, 0);
}

static void stream(peri_exchange *ex)
{
    peri_exchange_begin(ex, 200, NULL, 0, -1);
    for (int i = 0; i < 10; i++) {
        peri_exchange_write(ex, PERI_SLICE("a line of the stream\n"));
    }
    peri_exchange_end(ex);
}

static void echo(peri_exchange *ex)
{
    if (ex->body_complete) {
        on_body(ex, 0, (peri_slice){NULL, 0});
    } else if (peri_exchange_body_limit(ex, 1 << 20) < 0) {
        on_body(ex, PERI_ELIMIT, (peri_slice){NULL, 0});
    } else {
        peri_exchange_read_all(ex, on_body, ex);
    }
}

static void on_request(void *data, peri_exchange *ex)
{
    const peri_router *router = data;
    peri_route_match match;
    peri_slice path = peri_exchange_text(ex, ex->path);

    if (!peri_router_match(router, (peri_method)ex->method, path, &match)) {
        peri_exchange_problem(ex, match.allowed != 0 ? 405 : 404,
                              PERI_SLICE(""), NULL, 0);
        return;
    }
    ex->route = match.route;
    switch (match.route->id) {
    case 0:
        peri_exchange_answer(ex, 200, PERI_SLICE("text/plain"), NULL, 0,
                             PERI_SLICE("Hello, World!"));
        break;
    case 1:
        echo(ex);
        break;
    case 2:
        stream(ex);
        break;
    default:
        answer_later(ex);
        break;
    }
}

static void on_gone(void *data, peri_exchange *ex)
{
    (void)data;
    fprintf(stderr, "gone %d\n", ex->status);
}

static int listen_on(int port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    addr.sin_port = htons((uint16_t)port);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
        listen(fd, 1024) < 0) {
        perror("listen");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    static const char *const paths[] = {"/plaintext", "/echo", "/stream",
                                        "/later"};
    peri_http_limits limits;
    peri_router *router = peri_router_create();
    peri_http_app app = {
        .data = router, .on_request = on_request, .on_gone = on_gone};

    for (uint32_t i = 0; i < 4; i++) {
        peri_route route = {.id = i};
        peri_method method = i == 1 ? PERI_METHOD_POST : PERI_METHOD_GET;

        peri_router_add(router, 1u << method, paths[i], &route, NULL, 0);
    }
    peri_http_limits_default(&limits);
    peri_http_server_listen(
        peri_http_server_create(uv_default_loop(), &limits, &app, NULL, NULL),
        listen_on(argc > 1 ? atoi(argv[1]) : 0));
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
