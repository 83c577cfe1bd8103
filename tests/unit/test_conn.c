/* Connections: what goes over the wire, in which order, and when it ends. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/err.h"
#include "core/http/conn.h"
#include "core/http/server.h"

#define TEST(name) static void name(void **state)
#define TEXT_MAX_BYTES (4 << 20)
#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

/* A server, one client of it, and an application that does as paths say. */
typedef struct rig {
    uv_loop_t loop;
    peri_http_server *server;
    int client;
    char *got; /* all that the client received */
    size_t got_bytes;
    bool got_eof;
    peri_exchange *held; /* of /later */
    unsigned requests;
    unsigned gone;
    unsigned done;
    uint16_t last_status;
    int body_rc;
    bool closed;
    bool drained;
    unsigned drains;
    char body[1 << 16];
    size_t body_bytes;
} rig;

static peri_conn *only_conn(const rig *r)
{
    return PERI_CONTAINER(r->server->conns.next, peri_conn, link);
}

static void hold(rig *r, peri_exchange *ex)
{
    r->held = ex;
    peri_exchange_ref(ex);
}

static void text(peri_exchange *ex, peri_slice body)
{
    peri_exchange_answer(ex, 200, PERI_SLICE("text/plain"), NULL, 0, body);
}

/* The answer to what /later held. */
static void release(rig *r, const char *body)
{
    peri_exchange *ex = r->held;

    r->held = NULL;
    if (body != NULL) {
        text(ex, peri_slice_str(body));
    }
    peri_exchange_unref(ex);
}

static rig *current; /* cmocka has one test at a time */

static void on_body(void *data, int rc, peri_slice chunk)
{
    peri_exchange *ex = data;

    (void)chunk;
    current->body_rc = rc;
    if (rc < 0) {
        peri_exchange_problem(ex,
                              rc == PERI_ELIMIT     ? 413
                              : rc == PERI_ETIMEOUT ? 408
                                                    : 400,
                              PERI_SLICE("the body"), NULL, 0);
        return;
    }
    text(ex, peri_exchange_body(ex));
}

static void on_chunk(void *data, int rc, peri_slice chunk)
{
    peri_exchange *ex = data;
    rig *r = current;

    r->body_rc = rc;
    if (rc < 0) {
        return;
    }
    if (chunk.length == 0) {
        text(ex, peri_slice_of(r->body, r->body_bytes));
        return;
    }
    assert_true(r->body_bytes + chunk.length <= sizeof r->body);
    memcpy(r->body + r->body_bytes, chunk.data, chunk.length);
    r->body_bytes += chunk.length;
    peri_exchange_read_chunk(ex, on_chunk, ex);
}

static void echo(peri_exchange *ex)
{
    if (ex->body_complete) {
        on_body(ex, 0, PERI_SLICE(""));
    } else if (peri_exchange_body_limit(ex, 100000) < 0) {
        on_body(ex, PERI_ELIMIT, PERI_SLICE(""));
    } else {
        peri_exchange_read_all(ex, on_body, ex);
    }
}

static void stream(peri_exchange *ex)
{
    peri_field field = {PERI_SLICE("X-A"), PERI_SLICE("b")};

    peri_exchange_begin(ex, 200, &field, 1, -1);
    peri_exchange_write(ex, PERI_SLICE("one "));
    peri_exchange_write(ex, PERI_SLICE(""));
    peri_exchange_write(ex, PERI_SLICE("and a little more"));
    peri_exchange_end(ex);
}

static void strange_fields(peri_exchange *ex)
{
    peri_field fields[] = {
        {PERI_SLICE("Good"), PERI_SLICE("yes")},
        {PERI_SLICE("Split"), PERI_SLICE("a\r\nInjected: b")},
        {PERI_SLICE("Bad name"), PERI_SLICE("x")},
        {PERI_SLICE("Content-Length"), PERI_SLICE("7")},
        {PERI_SLICE("Transfer-Encoding"), PERI_SLICE("chunked")},
        {PERI_SLICE("Content-Type"), PERI_SLICE("a/b")},
    };

    peri_exchange_answer(ex, 200, PERI_SLICE("text/plain"), fields, 6,
                         PERI_SLICE("x"));
}

static void big(peri_exchange *ex)
{
    char *body = calloc(1, 1 << 20);

    memset(body, 'b', 1 << 20);
    text(ex, peri_slice_of(body, 1 << 20));
    free(body);
}

static bool is(peri_exchange *ex, const char *path)
{
    return peri_slice_equal(peri_exchange_text(ex, ex->path),
                            peri_slice_str(path));
}

static void on_request(void *data, peri_exchange *ex)
{
    rig *r = data;

    r->requests++;
    if (is(ex, "/later")) {
        hold(r, ex);
    } else if (is(ex, "/echo")) {
        echo(ex);
    } else if (is(ex, "/chunks")) {
        peri_exchange_read_chunk(ex, on_chunk, ex);
    } else if (is(ex, "/stream")) {
        stream(ex);
    } else if (is(ex, "/short")) {
        peri_exchange_begin(ex, 200, NULL, 0, 10);
        peri_exchange_write(ex, PERI_SLICE("12345"));
        peri_exchange_end(ex);
    } else if (is(ex, "/cut")) {
        peri_exchange_begin(ex, 200, NULL, 0, -1);
        peri_exchange_write(ex, PERI_SLICE("12345"));
        peri_exchange_abort(ex);
    } else if (is(ex, "/fields")) {
        strange_fields(ex);
    } else if (is(ex, "/big")) {
        big(ex);
    } else if (is(ex, "/nothing")) {
        peri_exchange_answer(ex, 204, PERI_SLICE(""), NULL, 0, PERI_SLICE(""));
    } else if (is(ex, "/remote")) {
        text(ex, peri_exchange_remote(ex));
    } else {
        text(ex, peri_exchange_text(ex, ex->path));
    }
}

static void on_gone(void *data, peri_exchange *ex)
{
    rig *r = data;

    r->gone++;
    assert_true(ex->gone);
    if (r->held == ex) {
        release(r, NULL);
    }
}

static void on_done(void *data, peri_exchange *ex)
{
    rig *r = data;

    r->done++;
    r->last_status = ex->status;
}

/* ---- the rig ---- */

static void connect_client(rig *r)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair),
                     0);
    r->client = pair[0];
    r->got_bytes = 0;
    r->got_eof = false;
    assert_int_equal(peri_http_server_adopt(r->server, pair[1]), 0);
}

static rig *rig_create_with(const peri_http_limits *limits)
{
    rig *r = calloc(1, sizeof *r);
    peri_http_app app = {r, on_request, on_gone, on_done};
    static const char *const proxies[] = {"10.0.0.0/8", "::1", NULL};

    current = r;
    r->got = malloc(TEXT_MAX_BYTES + 1);
    uv_loop_init(&r->loop);
    r->server = peri_http_server_create(&r->loop, limits, &app, NULL, proxies);
    connect_client(r);
    return r;
}

static rig *rig_create(void)
{
    peri_http_limits limits;

    peri_http_limits_default(&limits);
    return rig_create_with(&limits);
}

static void on_server_closed(void *data)
{
    ((rig *)data)->closed = true;
}

static void rig_destroy(rig *r)
{
    if (r->held != NULL) {
        release(r, NULL);
    }
    peri_http_server_close(r->server, on_server_closed, r);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    assert_true(r->closed);
    assert_int_equal(uv_loop_close(&r->loop), 0);
    if (r->client >= 0) {
        close(r->client);
    }
    free(r->got);
    free(r);
}

static void receive(rig *r)
{
    ssize_t n;

    while (r->client >= 0 &&
           (n = recv(r->client, r->got + r->got_bytes,
                     TEXT_MAX_BYTES - r->got_bytes, 0)) >= 0) {
        if (n == 0) {
            r->got_eof = true;
            break;
        }
        r->got_bytes += (size_t)n;
    }
    r->got[r->got_bytes] = '\0';
}

static void turn(rig *r)
{
    for (int i = 0; i < 6; i++) {
        uv_run(&r->loop, UV_RUN_NOWAIT);
        receive(r);
    }
}

static void turn_for(rig *r, uint64_t ms)
{
    uint64_t end = uv_hrtime() + ms * 1000000;

    while (uv_hrtime() < end) {
        turn(r);
        usleep(2000);
    }
}

static void put(rig *r, const char *data, size_t length)
{
    while (length != 0) {
        ssize_t n = send(r->client, data, length, MSG_NOSIGNAL);

        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            turn(r);
            continue;
        }
        data += n;
        length -= (size_t)n;
    }
    turn(r);
}

static void say(rig *r, const char *data)
{
    put(r, data, strlen(data));
}

/* How many status lines with this status have come. */
static int answers(const rig *r, int status)
{
    char line[20];
    int count = 0;

    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    for (const char *at = r->got; (at = strstr(at, line)) != NULL; at++) {
        count++;
    }
    return count;
}

static bool has(const rig *r, const char *what)
{
    return strstr(r->got, what) != NULL;
}

static bool ends(const rig *r, const char *tail)
{
    size_t length = strlen(tail);

    return r->got_bytes >= length &&
           memcmp(r->got + r->got_bytes - length, tail, length) == 0;
}

/* ---- ordinary life ---- */

TEST(an_answer_has_what_it_needs)
{
    rig *r = rig_create();

    (void)state;
    say(r, GET("/now"));
    assert_int_equal(answers(r, 200), 1);
    assert_true(has(r, "\r\nDate: "));
    assert_true(has(r, " GMT\r\n"));
    assert_true(has(r, "\r\nX-Request-Id: "));
    assert_true(has(r, "\r\nContent-Type: text/plain\r\n"));
    assert_true(has(r, "\r\nContent-Length: 4\r\n"));
    assert_false(has(r, "Connection:"));
    assert_true(ends(r, "\r\n\r\n/now"));
    assert_false(r->got_eof);
    assert_int_equal(r->done, 1);
    assert_null(only_conn(r)->exchange);
    rig_destroy(r);
}

TEST(an_idle_connection_holds_nothing_but_itself)
{
    rig *r = rig_create();
    const peri_conn *conn;

    (void)state;
    say(r, GET("/now"));
    conn = only_conn(r);
    assert_null(conn->exchange);
    assert_null(conn->in);
    assert_null(conn->out);
    assert_true(sizeof *conn <= 400);
    rig_destroy(r);
}

TEST(pipelined_answers_keep_their_order)
{
    rig *r = rig_create();

    (void)state;
    say(r, GET("/1") GET("/later") GET("/2") GET("/3"));
    assert_int_equal(answers(r, 200), 1);
    assert_int_equal(r->requests, 2);
    release(r, "answer of later");
    turn(r);
    assert_int_equal(answers(r, 200), 4);
    assert_true(strstr(r->got, "answer of later") < strstr(r->got, "/2"));
    assert_true(ends(r, "\r\n\r\n/3"));
    rig_destroy(r);
}

TEST(thousands_of_pipelined_requests_are_answered)
{
    enum { COUNT = 5000 };
    static const char one[] = GET("/now");
    char *all = malloc(COUNT * sizeof one);
    rig *r = rig_create();

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        memcpy(all + i * (sizeof one - 1), one, sizeof one);
    }
    put(r, all, COUNT * (sizeof one - 1));
    for (int i = 0; i < 50 && answers(r, 200) < COUNT; i++) {
        turn(r);
    }
    assert_int_equal(answers(r, 200), COUNT);
    assert_int_equal(r->requests, COUNT);
    free(all);
    rig_destroy(r);
}

TEST(a_request_may_come_a_byte_at_a_time)
{
    static const char request[] =
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" GET(
            "/next");
    rig *r = rig_create();

    (void)state;
    for (size_t i = 0; i < sizeof request - 1; i++) {
        put(r, request + i, 1);
    }
    assert_int_equal(answers(r, 200), 2);
    assert_true(has(r, "\r\n\r\nhello"));
    assert_true(ends(r, "/next"));
    rig_destroy(r);
}

TEST(http_1_0_closes_unless_asked)
{
    rig *r = rig_create();

    (void)state;
    say(r, "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_true(has(r, "\r\nConnection: keep-alive\r\n"));
    assert_false(r->got_eof);
    say(r, "GET /b HTTP/1.0\r\n\r\n");
    assert_true(has(r, "\r\nConnection: close\r\n"));
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(head_and_no_content_have_no_body)
{
    rig *r = rig_create();

    (void)state;
    say(r, "HEAD /now HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(has(r, "\r\nContent-Length: 4\r\n"));
    assert_true(ends(r, "\r\n\r\n"));
    say(r, GET("/nothing"));
    assert_int_equal(answers(r, 204), 1);
    assert_true(ends(r, "\r\n\r\n"));
    assert_false(has(r, "Content-Length: 0"));
    say(r, "HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(ends(r, "\r\n\r\n"));
    assert_false(has(r, "one"));
    say(r, GET("/now"));
    assert_true(ends(r, "/now"));
    rig_destroy(r);
}

TEST(fields_of_the_application_are_checked)
{
    rig *r = rig_create();

    (void)state;
    say(r, GET("/fields"));
    assert_true(has(r, "\r\nGood: yes\r\n"));
    assert_false(has(r, "Injected"));
    assert_false(has(r, "Bad name"));
    assert_true(has(r, "\r\nContent-Length: 1\r\n"));
    assert_false(has(r, "Content-Length: 7"));
    assert_false(has(r, "Transfer-Encoding"));
    assert_true(has(r, "\r\nContent-Type: a/b\r\n"));
    assert_false(has(r, "text/plain"));
    rig_destroy(r);
}

TEST(made_request_ids_count_up)
{
    peri_exchange one;
    peri_exchange two;
    rig *r = rig_create();

    (void)state;
    r->server->id_count = 0x09abcdef - 1;
    peri_server_make_id(r->server, &one);
    peri_server_make_id(r->server, &two);
    assert_string_equal(one.request_id + 8, "09abcdef");
    assert_string_equal(two.request_id + 8, "09abcdf0");
    assert_memory_equal(one.request_id, two.request_id, 8);
    rig_destroy(r);
}

TEST(a_sane_request_id_is_taken)
{
    rig *r = rig_create();

    (void)state;
    say(r, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: Ab-1._\r\n\r\n");
    assert_true(has(r, "\r\nX-Request-Id: Ab-1._\r\n"));
    say(r, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: a b\r\n\r\n");
    assert_false(has(r, "a b"));
    rig_destroy(r);
}

TEST(the_client_is_who_no_proxy_vouches_for)
{
    rig *r = rig_create();
    peri_conn *conn = only_conn(r);

    (void)state;
    say(r,
        "GET /remote HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n");
    assert_true(ends(r, "\r\n\r\nunix"));
    assert_int_equal(peri_net_addr_parse(PERI_SLICE("::1"), &conn->addr), 0);
    say(r, "GET /remote HTTP/1.1\r\nHost: a\r\n"
           "X-Forwarded-For: 9.9.9.9, 1.2.3.4:80 , 10.1.1.1\r\n\r\n");
    assert_true(ends(r, "\r\n\r\n1.2.3.4"));
    say(r, "GET /remote HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n"
           "X-Forwarded-For: junk, 10.1.1.1\r\n\r\n");
    assert_true(ends(r, "\r\n\r\n10.1.1.1"));
    rig_destroy(r);
}

/* ---- bodies in ---- */

TEST(a_body_may_come_after_its_head)
{
    rig *r = rig_create();

    (void)state;
    say(r, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    assert_int_equal(r->requests, 1);
    say(r, "01234");
    assert_int_equal(answers(r, 200), 0);
    say(r, "56789" GET("/next"));
    assert_true(has(r, "\r\n\r\n0123456789HTTP/1.1"));
    assert_true(ends(r, "/next"));
    rig_destroy(r);
}

TEST(a_chunked_body_is_put_together)
{
    rig *r = rig_create();

    (void)state;
    say(r,
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n2\r\nde\r\n0\r\nHost: evil\r\n\r\n" GET("/next"));
    assert_true(has(r, "\r\n\r\nabcdeHTTP/1.1"));
    assert_true(ends(r, "/next"));
    rig_destroy(r);
}

TEST(a_body_is_read_by_chunks)
{
    rig *r = rig_create();

    (void)state;
    say(r, "POST /chunks HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
    say(r, "abc");
    say(r, "def");
    assert_true(ends(r, "\r\n\r\nabcdef"));
    r->body_bytes = 0;
    say(r, "POST /chunks HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nghi");
    assert_true(ends(r, "\r\n\r\nghi"));
    r->body_bytes = 0;
    say(r, "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
           "chunked\r\n\r\n");
    say(r, "1\r\nj\r\n");
    say(r, "1\r");
    say(r, "\nk\r\n0\r\n\r\n");
    assert_true(ends(r, "\r\n\r\njk"));
    rig_destroy(r);
}

TEST(continue_is_sent_when_the_body_is_wanted)
{
    rig *r = rig_create();

    (void)state;
    say(r, "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
           "Content-Length: 2\r\n\r\n");
    assert_string_equal(r->got, "HTTP/1.1 100 Continue\r\n\r\n");
    say(r, "ab");
    assert_true(ends(r, "\r\n\r\nab"));
    assert_false(has(r, "Connection: close"));
    rig_destroy(r);
}

TEST(continue_is_not_sent_for_a_body_nobody_wants)
{
    rig *r = rig_create();

    (void)state;
    say(r, "POST /now HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
           "Content-Length: 2\r\n\r\n");
    assert_int_equal(answers(r, 100), 0);
    assert_int_equal(answers(r, 200), 1);
    assert_true(has(r, "\r\nConnection: close\r\n"));
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(too_large_a_body_is_refused_before_it_is_read)
{
    rig *r = rig_create();

    (void)state;
    say(r, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n"
           "Expect: 100-continue\r\n\r\n");
    assert_int_equal(answers(r, 100), 1);
    rig_destroy(r);
    r = rig_create();
    say(r, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n"
           "Expect: 100-continue\r\n\r\n");
    assert_int_equal(answers(r, 100), 0);
    assert_int_equal(answers(r, 413), 1);
    assert_true(has(r, "application/problem+json"));
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(too_large_a_chunked_body_is_refused)
{
    rig *r = rig_create();

    (void)state;
    say(r,
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "186a1\r\n");
    assert_int_equal(answers(r, 413), 1);
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(an_unread_body_is_skipped)
{
    char *body = calloc(1, 200000);
    rig *r = rig_create();

    (void)state;
    memset(body, 'x', 200000);
    say(r, "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
    assert_int_equal(answers(r, 200), 1);
    put(r, body, 200000);
    say(r, GET("/next"));
    assert_true(ends(r, "/next"));
    say(r, "POST /now HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
           "3\r\nabc\r\n");
    say(r, "0\r\n\r\n" GET("/last"));
    assert_true(ends(r, "/last"));
    assert_false(r->got_eof);
    say(r, "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
    assert_true(has(r, "\r\nConnection: close\r\n"));
    assert_true(r->got_eof);
    free(body);
    rig_destroy(r);
}

TEST(a_malformed_chunk_is_a_400_and_the_end)
{
    rig *r = rig_create();

    (void)state;
    say(r,
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabcXX" GET("/smuggled"));
    assert_int_equal(answers(r, 400), 1);
    assert_int_equal(r->requests, 1);
    assert_int_equal(r->body_rc, PERI_EFORMAT);
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(reading_stops_while_nobody_takes_the_body)
{
    char *body = calloc(1, 1 << 20);
    rig *r = rig_create();
    size_t sent = 0;

    (void)state;
    say(r, "POST /later HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n");
    for (int i = 0; i < 200; i++) {
        ssize_t n = send(r->client, body, 1 << 16, MSG_NOSIGNAL);

        sent += n > 0 ? (size_t)n : 0;
        turn(r);
    }
    assert_true(only_conn(r)->in->length <=
                PERI_CONN_IN_MAX_BYTES + PERI_CONN_READ_BYTES);
    assert_true(sent < (1 << 20) * 4);
    peri_exchange_body_limit(r->held, 100000);
    peri_exchange_read_all(r->held, on_body, r->held);
    turn(r);
    assert_int_equal(answers(r, 200), 1);
    release(r, NULL);
    free(body);
    rig_destroy(r);
}

/* ---- bodies out ---- */

TEST(a_stream_is_chunked)
{
    rig *r = rig_create();

    (void)state;
    say(r, GET("/stream") GET("/next"));
    assert_true(has(r, "\r\nTransfer-Encoding: chunked\r\n"));
    assert_true(has(r, "\r\nX-A: b\r\n"));
    assert_true(has(r,
                    "\r\n\r\n4\r\none \r\n11\r\nand a little more\r\n0\r\n\r\n"
                    "HTTP/1.1 200"));
    assert_true(ends(r, "/next"));
    rig_destroy(r);
}

TEST(a_stream_to_http_1_0_ends_with_the_connection)
{
    rig *r = rig_create();

    (void)state;
    say(r, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_false(has(r, "chunked"));
    assert_true(has(r, "\r\nConnection: close\r\n"));
    assert_true(ends(r, "\r\n\r\none and a little more"));
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(a_cut_answer_does_not_look_complete)
{
    rig *r = rig_create();

    (void)state;
    say(r, GET("/cut") GET("/next"));
    assert_true(ends(r, "5\r\n12345\r\n"));
    assert_true(r->got_eof);
    assert_int_equal(r->done, 1);
    rig_destroy(r);
    r = rig_create();
    say(r, GET("/short") GET("/next"));
    assert_true(ends(r, "\r\n\r\n12345"));
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(a_large_answer_arrives_whole)
{
    rig *r = rig_create();

    (void)state;
    say(r, GET("/big") GET("/next"));
    for (int i = 0; i < 100 && !ends(r, "/next"); i++) {
        turn(r);
    }
    assert_true(has(r, "\r\nContent-Length: 1048576\r\n"));
    assert_true(ends(r, "/next"));
    assert_true(r->got_bytes > 1 << 20);
    rig_destroy(r);
}

static void on_drained(void *data, int rc)
{
    rig *r = data;

    assert_int_equal(rc, 0);
    r->drains++;
}

TEST(a_writer_waits_for_a_slow_client)
{
    char *chunk = calloc(1, 1 << 16);
    rig *r = rig_create();
    size_t written = 0;
    int rc = 0;

    (void)state;
    say(r, GET("/later"));
    peri_exchange_begin(r->held, 200, NULL, 0, -1);
    while (rc == 0) {
        rc = peri_exchange_write(r->held, peri_slice_of(chunk, 1 << 16));
        written += 1 << 16;
        assert_true(written < 1 << 24);
    }
    assert_int_equal(rc, PERI_EAGAIN);
    peri_exchange_on_drain(r->held, on_drained, r);
    assert_int_equal(r->drains, 0);
    for (int i = 0; i < 20; i++) {
        turn(r);
    }
    assert_int_equal(r->drains, 1);
    assert_true(r->got_bytes > written);
    peri_exchange_end(r->held);
    turn(r);
    assert_true(ends(r, "\r\n0\r\n\r\n"));
    release(r, NULL);
    free(chunk);
    rig_destroy(r);
}

/* ---- refusals ---- */

TEST(answers_owed_go_out_before_a_refusal)
{
    rig *r = rig_create();

    (void)state;
    say(r,
        GET("/1") GET("/later") "GET / HTTP/1.1\nHost: a\r\n\r\n" GET("/no"));
    assert_int_equal(answers(r, 400), 0);
    release(r, "held");
    turn(r);
    assert_int_equal(answers(r, 200), 2);
    assert_int_equal(answers(r, 400), 1);
    assert_true(strstr(r->got, "held") < strstr(r->got, "HTTP/1.1 400"));
    assert_int_equal(r->requests, 2);
    assert_int_equal(r->done, 3);
    assert_int_equal(r->last_status, 400);
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(nothing_follows_a_request_that_closes)
{
    rig *r = rig_create();

    (void)state;
    say(r, "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" GET("/2"));
    assert_int_equal(answers(r, 200), 1);
    assert_int_equal(answers(r, 400), 0);
    assert_int_equal(r->requests, 1);
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(an_upgrade_is_overlooked_and_nothing_is_lost)
{
    rig *r = rig_create();

    (void)state;
    say(r, "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
           "Upgrade: websocket\r\nContent-Length: 3\r\n\r\nabc" GET("/2"));
    say(r, "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
           "Upgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
           "1\r\nx\r\n0\r\n\r\n" GET("/3"));
    assert_int_equal(answers(r, 200), 4);
    assert_true(ends(r, "/3"));
    rig_destroy(r);
}

TEST(a_refusal_says_why)
{
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"GET / HTTP/2.0\r\n\r\n", 505},
        {"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417},
        {"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rig *r = rig_create();

        say(r, cases[i].request);
        assert_int_equal(answers(r, cases[i].status), 1);
        assert_true(has(r, "\r\nContent-Type: application/problem+json\r\n"));
        assert_true(has(r, "\r\nConnection: close\r\n"));
        assert_true(has(r, "\"request_id\":\""));
        assert_true(r->got_eof);
        assert_int_equal(r->requests, 0);
        assert_int_equal(r->done, 1);
        rig_destroy(r);
    }
}

TEST(a_refusal_is_not_lost_to_what_the_client_still_sends)
{
    char *junk = calloc(1, 1 << 17);
    rig *r = rig_create();

    (void)state;
    memset(junk, 'x', 1 << 17);
    say(r, "GET / HTTP/1.1\nHost: a\r\n\r\n");
    assert_int_equal(send(r->client, junk, 1000, MSG_NOSIGNAL), 1000);
    turn(r);
    assert_int_equal(answers(r, 400), 1);
    assert_int_equal(only_conn(r)->state, PERI_CONN_FINAL);
    for (int i = 0; i < 10; i++) {
        send(r->client, junk, 1 << 14, MSG_NOSIGNAL);
        turn(r);
        assert_int_equal(only_conn(r)->state, PERI_CONN_FINAL);
    }
    only_conn(r)->dropped_bytes = PERI_CONN_LINGER_MAX_BYTES - 1000;
    send(r->client, junk, 1 << 14, MSG_NOSIGNAL);
    turn(r);
    assert_true(peri_list_empty(&r->server->conns));
    free(junk);
    rig_destroy(r);
}

TEST(a_client_that_is_refused_and_stays_is_left)
{
    rig *r = rig_create();

    (void)state;
    say(r, "GET / HTTP/1.1\nHost: a\r\n\r\n");
    assert_int_equal(answers(r, 400), 1);
    assert_int_equal(only_conn(r)->state, PERI_CONN_FINAL);
    for (int i = 0; i < 20 && !peri_list_empty(&r->server->conns); i++) {
        turn_for(r, PERI_CONN_LINGER_MS / 2);
    }
    assert_true(peri_list_empty(&r->server->conns));
    rig_destroy(r);
}

/* ---- going away ---- */

TEST(a_client_that_goes_is_told)
{
    rig *r = rig_create();

    (void)state;
    say(r, GET("/later"));
    close(r->client);
    r->client = -1;
    turn_for(r, PERI_CONN_HALF_CLOSED_MS * 2 + 200);
    assert_int_equal(r->gone, 1);
    assert_int_equal(r->done, 1);
    assert_int_equal(r->last_status, 499);
    assert_null(r->held);
    rig_destroy(r);
}

TEST(a_client_that_shut_its_side_gets_its_answers)
{
    rig *r = rig_create();

    (void)state;
    say(r, GET("/1") GET("/later") GET("/2"));
    shutdown(r->client, SHUT_WR);
    turn(r);
    assert_int_equal(r->gone, 0);
    release(r, "held");
    turn(r);
    assert_int_equal(answers(r, 200), 3);
    assert_true(r->got_eof);
    rig_destroy(r);
}

/* Slower than several looks at whether the client is there. */
TEST(a_client_that_shut_its_side_may_wait_long)
{
    rig *r = rig_create();

    (void)state;
    say(r, GET("/later") GET("/1"));
    shutdown(r->client, SHUT_WR);
    turn_for(r, PERI_CONN_HALF_CLOSED_MS * 5);
    assert_int_equal(r->gone, 0);
    assert_true(r->got_bytes >= 1 && r->got_bytes < 9);
    assert_memory_equal(r->got, "HTTP/1.1 ", r->got_bytes);
    release(r, "held");
    turn(r);
    assert_int_equal(answers(r, 200), 2);
    assert_memory_equal(r->got, "HTTP/1.1 200 OK\r\nDate: ", 23);
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(a_slow_stream_to_a_client_that_shut_its_side_is_whole)
{
    rig *r = rig_create();
    peri_exchange *ex;

    (void)state;
    say(r, GET("/later"));
    ex = r->held;
    peri_exchange_begin(ex, 200, NULL, 0, -1);
    peri_exchange_write(ex, PERI_SLICE("one"));
    shutdown(r->client, SHUT_WR);
    turn_for(r, PERI_CONN_HALF_CLOSED_MS * 5);
    assert_int_equal(r->gone, 0);
    peri_exchange_write(ex, PERI_SLICE("two"));
    peri_exchange_end(ex);
    release(r, NULL);
    turn(r);
    assert_non_null(strstr(r->got, "\r\n\r\n3\r\none\r\n0"));
    assert_true(ends(r, "03\r\ntwo\r\n0\r\n\r\n"));
    assert_true(r->got_eof);
    rig_destroy(r);
}

static void on_release(uv_async_t *async)
{
    release(async->data, "held");
    uv_close((uv_handle_t *)async, NULL);
}

/* It was looked at again after its connection had been freed: when the answer
 * came while sockets are served, just before closed ones are freed. */
TEST(what_follows_the_last_request_is_dropped_with_its_connection)
{
    rig *r = rig_create();
    uv_async_t async;

    (void)state;
    uv_async_init(&r->loop, &async, on_release);
    async.data = r;
    say(r, "GET /later HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" GET(
               "/1"));
    shutdown(r->client, SHUT_WR);
    turn(r);
    uv_async_send(&async);
    turn(r);
    turn(r);
    assert_int_equal(answers(r, 200), 1);
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(a_body_that_stops_coming_is_the_end)
{
    rig *r = rig_create();

    (void)state;
    say(r, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n012");
    shutdown(r->client, SHUT_WR);
    turn(r);
    assert_int_equal(r->gone, 1);
    assert_int_equal(r->body_rc, PERI_EGONE);
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(a_body_that_came_before_the_end_is_read_late)
{
    rig *r = rig_create();

    (void)state;
    say(r, "POST /later HTTP/1.1\r\nHost: a\r\n"
           "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    shutdown(r->client, SHUT_WR);
    turn(r);
    assert_int_equal(r->gone, 0);
    peri_exchange_read_all(r->held, on_body, r->held);
    turn(r);
    assert_true(ends(r, "\r\n\r\nabc"));
    assert_true(r->got_eof);
    rig_destroy(r);
    r = rig_create();
    say(r, "POST /later HTTP/1.1\r\nHost: a\r\n"
           "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    shutdown(r->client, SHUT_WR);
    turn(r);
    assert_int_equal(r->gone, 0);
    peri_exchange_read_all(r->held, on_body, r->held);
    turn(r);
    assert_int_equal(r->gone, 1);
    rig_destroy(r);
}

TEST(late_calls_on_a_gone_exchange_do_nothing)
{
    rig *r = rig_create();
    peri_exchange *ex;

    (void)state;
    say(r, GET("/later"));
    ex = r->held;
    peri_exchange_ref(ex);
    peri_http_server_drain(r->server, NULL, NULL);
    close(r->client);
    r->client = -1;
    turn_for(r, PERI_CONN_HALF_CLOSED_MS * 2 + 200);
    assert_true(ex->gone);
    text(ex, PERI_SLICE("x"));
    assert_int_equal(peri_exchange_write(ex, PERI_SLICE("x")), PERI_EGONE);
    r->body_rc = 0;
    peri_exchange_read_all(ex, on_body, ex);
    assert_int_equal(r->body_rc, 0);
    turn(r);
    assert_int_equal(r->body_rc, PERI_EGONE);
    assert_true(peri_slice_equal(peri_exchange_text(ex, ex->path),
                                 PERI_SLICE("/later")));
    peri_exchange_unref(ex);
    rig_destroy(r);
}

/* ---- time ---- */

static rig *rig_create_hasty(uint32_t keepalive, uint32_t header, uint32_t body)
{
    peri_http_limits limits;

    peri_http_limits_default(&limits);
    limits.keepalive_timeout_ms = keepalive;
    limits.header_timeout_ms = header;
    limits.body_timeout_ms = body;
    limits.body_rate_min = 0;
    return rig_create_with(&limits);
}

TEST(a_silent_connection_is_closed)
{
    rig *r = rig_create_hasty(60, 10000, 10000);

    (void)state;
    turn_for(r, 40);
    assert_false(r->got_eof);
    turn_for(r, 150);
    assert_true(r->got_eof);
    assert_int_equal(r->got_bytes, 0);
    rig_destroy(r);
}

TEST(a_head_that_drips_is_refused)
{
    rig *r = rig_create_hasty(10000, 60, 10000);

    (void)state;
    say(r, GET("/1") "GET / HT");
    for (int i = 0; i < 10 && !r->got_eof; i++) {
        send(r->client, "T", 1, MSG_NOSIGNAL);
        turn_for(r, 20);
    }
    assert_int_equal(answers(r, 200), 1);
    assert_int_equal(answers(r, 408), 1);
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(a_body_that_stalls_is_told)
{
    rig *r = rig_create_hasty(10000, 10000, 600);

    (void)state;
    say(r, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n012");
    turn_for(r, 350);
    say(r, "34");
    turn_for(r, 350);
    assert_int_equal(answers(r, 408), 0);
    turn_for(r, 1200);
    assert_int_equal(answers(r, 408), 1);
    assert_int_equal(r->body_rc, PERI_ETIMEOUT);
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(a_client_that_takes_nothing_is_dropped)
{
    rig *r = rig_create_hasty(10000, 10000, 60);
    uint64_t end;

    (void)state;
    send(r->client, GET("/big"), sizeof GET("/big") - 1, MSG_NOSIGNAL);
    end = uv_hrtime() + 300000000;
    while (uv_hrtime() < end) {
        uv_run(&r->loop, UV_RUN_NOWAIT);
        usleep(2000);
    }
    assert_int_equal(r->done, 1);
    assert_true(peri_list_empty(&r->server->conns));
    rig_destroy(r);
}

TEST(a_waiting_handler_has_no_time_out_here)
{
    rig *r = rig_create_hasty(50, 50, 50);

    (void)state;
    say(r, GET("/later"));
    turn_for(r, 200);
    assert_false(r->got_eof);
    release(r, "done");
    turn(r);
    assert_true(ends(r, "done"));
    rig_destroy(r);
}

TEST(a_keepalive_of_0_answers_once_and_closes)
{
    peri_http_limits limits;
    rig *r;

    (void)state;
    peri_http_limits_default(&limits);
    limits.keepalive_timeout_ms = 0;
    r = rig_create_with(&limits);
    turn_for(r, 2 * PERI_WHEEL_TICK_MS + 50);
    assert_false(r->got_eof);
    say(r, GET("/1"));
    assert_true(ends(r, "/1"));
    assert_true(has(r, "\r\nConnection: close\r\n"));
    assert_true(r->got_eof);
    rig_destroy(r);
}

/* ---- drain ---- */

static void on_drained_server(void *data)
{
    ((rig *)data)->drained = true;
}

TEST(drain_closes_the_idle_and_lets_the_others_end)
{
    rig *r = rig_create();
    int idle;

    (void)state;
    say(r, GET("/1"));
    idle = r->client;
    turn_for(r, PERI_CONN_DRAIN_IDLE_MS + 50);
    connect_client(r);
    say(r, GET("/later"));
    peri_http_server_drain(r->server, on_drained_server, r);
    assert_false(r->drained);
    turn(r);
    assert_int_equal(recv(idle, r->body, 1000, 0), 0);
    assert_false(r->drained);
    release(r, "last");
    turn(r);
    assert_true(has(r, "\r\nConnection: close\r\n"));
    assert_true(r->got_eof);
    close(r->client);
    r->client = -1;
    turn(r);
    assert_true(r->drained);
    close(idle);
    rig_destroy(r);
}

TEST(drain_still_answers_a_connection_that_is_busy)
{
    rig *r = rig_create();

    (void)state;
    say(r, GET("/1"));
    peri_http_server_drain(r->server, on_drained_server, r);
    turn(r);
    assert_false(r->got_eof);
    say(r, GET("/2"));
    assert_true(ends(r, "/2"));
    assert_true(has(r, "\r\nConnection: close\r\n"));
    assert_true(r->got_eof);
    rig_destroy(r);
}

TEST(drain_closes_what_was_busy_and_is_silent_now)
{
    rig *r = rig_create();

    (void)state;
    say(r, GET("/1"));
    peri_http_server_drain(r->server, on_drained_server, r);
    turn_for(r, PERI_CONN_DRAIN_IDLE_MS + 200);
    assert_true(r->got_eof);
    assert_true(r->drained);
    rig_destroy(r);
}

TEST(drain_waits_for_what_is_still_being_sent)
{
    rig *r = rig_create();

    (void)state;
    send(r->client, GET("/big"), sizeof GET("/big") - 1, MSG_NOSIGNAL);
    uv_run(&r->loop, UV_RUN_NOWAIT);
    assert_int_equal(r->done, 1);
    peri_http_server_drain(r->server, on_drained_server, r);
    turn_for(r, PERI_CONN_DRAIN_IDLE_MS + 200);
    assert_true(r->got_bytes > 1 << 20);
    assert_true(r->got_eof);
    assert_true(r->drained);
    rig_destroy(r);
}

TEST(drain_without_connections_is_done_soon)
{
    rig *r = rig_create();

    (void)state;
    close(r->client);
    r->client = -1;
    turn(r);
    peri_http_server_drain(r->server, on_drained_server, r);
    assert_false(r->drained);
    turn(r);
    assert_true(r->drained);
    rig_destroy(r);
}

TEST(one_connection_too_many_is_told)
{
    peri_http_limits limits;
    rig *r;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof(sa_family_t); /* the kernel picks a name */

    (void)state;
    peri_http_limits_default(&limits);
    limits.connections_max = 2;
    r = rig_create_with(&limits);
    assert_int_equal(bind(listener, (void *)&address, length), 0);
    assert_int_equal(listen(listener, 10), 0);
    length = sizeof address;
    getsockname(listener, (void *)&address, &length);
    assert_int_equal(peri_http_server_listen(r->server, listener), 0);
    for (int i = 0; i < 2; i++) {
        close(r->client);
        r->got_bytes = 0;
        r->got_eof = false;
        if (i == 0) {
            turn(r);
            connect_client(r);
            connect_client(r);
        }
        r->client = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(connect(r->client, (void *)&address, length), 0);
        fcntl(r->client, F_SETFL, O_NONBLOCK);
        turn(r);
        assert_int_equal(answers(r, 503), 1);
        assert_true(r->got_eof);
    }
    rig_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_has_what_it_needs),
        cmocka_unit_test(an_idle_connection_holds_nothing_but_itself),
        cmocka_unit_test(pipelined_answers_keep_their_order),
        cmocka_unit_test(thousands_of_pipelined_requests_are_answered),
        cmocka_unit_test(a_request_may_come_a_byte_at_a_time),
        cmocka_unit_test(http_1_0_closes_unless_asked),
        cmocka_unit_test(head_and_no_content_have_no_body),
        cmocka_unit_test(fields_of_the_application_are_checked),
        cmocka_unit_test(made_request_ids_count_up),
        cmocka_unit_test(a_sane_request_id_is_taken),
        cmocka_unit_test(the_client_is_who_no_proxy_vouches_for),
        cmocka_unit_test(a_body_may_come_after_its_head),
        cmocka_unit_test(a_chunked_body_is_put_together),
        cmocka_unit_test(a_body_is_read_by_chunks),
        cmocka_unit_test(continue_is_sent_when_the_body_is_wanted),
        cmocka_unit_test(continue_is_not_sent_for_a_body_nobody_wants),
        cmocka_unit_test(too_large_a_body_is_refused_before_it_is_read),
        cmocka_unit_test(too_large_a_chunked_body_is_refused),
        cmocka_unit_test(an_unread_body_is_skipped),
        cmocka_unit_test(a_malformed_chunk_is_a_400_and_the_end),
        cmocka_unit_test(reading_stops_while_nobody_takes_the_body),
        cmocka_unit_test(a_stream_is_chunked),
        cmocka_unit_test(a_stream_to_http_1_0_ends_with_the_connection),
        cmocka_unit_test(a_cut_answer_does_not_look_complete),
        cmocka_unit_test(a_large_answer_arrives_whole),
        cmocka_unit_test(a_writer_waits_for_a_slow_client),
        cmocka_unit_test(answers_owed_go_out_before_a_refusal),
        cmocka_unit_test(nothing_follows_a_request_that_closes),
        cmocka_unit_test(an_upgrade_is_overlooked_and_nothing_is_lost),
        cmocka_unit_test(a_refusal_says_why),
        cmocka_unit_test(a_refusal_is_not_lost_to_what_the_client_still_sends),
        cmocka_unit_test(a_client_that_is_refused_and_stays_is_left),
        cmocka_unit_test(a_client_that_goes_is_told),
        cmocka_unit_test(a_client_that_shut_its_side_gets_its_answers),
        cmocka_unit_test(a_client_that_shut_its_side_may_wait_long),
        cmocka_unit_test(
            what_follows_the_last_request_is_dropped_with_its_connection),
        cmocka_unit_test(a_slow_stream_to_a_client_that_shut_its_side_is_whole),
        cmocka_unit_test(a_body_that_stops_coming_is_the_end),
        cmocka_unit_test(a_body_that_came_before_the_end_is_read_late),
        cmocka_unit_test(late_calls_on_a_gone_exchange_do_nothing),
        cmocka_unit_test(a_silent_connection_is_closed),
        cmocka_unit_test(a_head_that_drips_is_refused),
        cmocka_unit_test(a_body_that_stalls_is_told),
        cmocka_unit_test(a_client_that_takes_nothing_is_dropped),
        cmocka_unit_test(a_waiting_handler_has_no_time_out_here),
        cmocka_unit_test(a_keepalive_of_0_answers_once_and_closes),
        cmocka_unit_test(drain_closes_the_idle_and_lets_the_others_end),
        cmocka_unit_test(drain_still_answers_a_connection_that_is_busy),
        cmocka_unit_test(drain_closes_what_was_busy_and_is_silent_now),
        cmocka_unit_test(drain_waits_for_what_is_still_being_sent),
        cmocka_unit_test(drain_without_connections_is_done_soon),
        cmocka_unit_test(one_connection_too_many_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
