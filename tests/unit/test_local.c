/* Exchanges without a socket: judged and answered as over the wire. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/err.h"
#include "core/http/local.h"

#define TEST(name) static void name(void **state)

typedef struct rig {
    uv_loop_t loop;
    peri_http_app app;
    int status; /* -1: no answer yet */
    int answers;
    char fields[2000];
    char body[200];
    char chunks[200];
    unsigned done;
    unsigned drains;
} rig;

static void answer_text(peri_exchange *ex, peri_slice body)
{
    peri_field fields[] = {
        {PERI_SLICE("X-A"), PERI_SLICE("b")},
        {PERI_SLICE("X-Bad"), PERI_SLICE("a\nb")},
    };

    peri_exchange_answer(ex, 200, PERI_SLICE("text/plain"), fields, 2, body);
}

static rig *current;

static void on_chunk(void *data, int rc, peri_slice chunk)
{
    peri_exchange *ex = data;

    assert_int_equal(rc, 0);
    if (chunk.length == 0) {
        answer_text(ex, peri_slice_str(current->chunks));
        return;
    }
    strncat(current->chunks, chunk.data, chunk.length);
    peri_exchange_read_chunk(ex, on_chunk, ex);
}

static void on_body(void *data, int rc, peri_slice chunk)
{
    assert_int_equal(rc, 0);
    assert_int_equal(chunk.length, 0);
    answer_text(data, peri_exchange_body(data));
}

static void on_drain(void *data, int rc)
{
    peri_exchange *ex = data;

    assert_int_equal(rc, 0);
    current->drains++;
    peri_exchange_end(ex);
}

static void on_request(void *data, peri_exchange *ex)
{
    peri_slice path = peri_exchange_text(ex, ex->path);
    char first = path.length > 1 ? path.data[1] : ' ';

    (void)data;
    switch (first) {
    case 'b':
        peri_exchange_read_all(ex, on_body, ex);
        break;
    case 'c':
        peri_exchange_read_chunk(ex, on_chunk, ex);
        break;
    case 's':
        peri_exchange_begin(ex, 200, NULL, 0, -1);
        peri_exchange_write(ex, PERI_SLICE("a"));
        peri_exchange_write(ex, PERI_SLICE("b"));
        peri_exchange_on_drain(ex, on_drain, ex);
        break;
    case 'x':
        peri_exchange_abort(ex);
        break;
    case 'r':
        answer_text(ex, peri_exchange_remote(ex));
        break;
    case 'l':
        peri_exchange_problem(ex,
                              peri_exchange_body_limit(ex, 3) < 0 ? 413 : 400,
                              PERI_SLICE("no"), NULL, 0);
        break;
    default:
        answer_text(ex, path);
        break;
    }
}

static void on_gone(void *data, peri_exchange *ex)
{
    (void)data;
    (void)ex;
    fail();
}

static void on_done(void *data, peri_exchange *ex)
{
    ((rig *)data)->done++;
    assert_true(ex->ended);
}

static void on_answer(void *data, const peri_local_answer *a)
{
    rig *r = data;

    r->status = a->status;
    r->answers++;
    for (size_t i = 0; i < a->field_count; i++) {
        snprintf(r->fields + strlen(r->fields),
                 sizeof r->fields - strlen(r->fields), "%.*s: %.*s\n",
                 (int)a->fields[i].name.length, a->fields[i].name.data,
                 (int)a->fields[i].value.length, a->fields[i].value.data);
    }
    if (a->body.length != 0) {
        memcpy(r->body, a->body.data, a->body.length);
    }
}

static rig *rig_create(void)
{
    rig *r = calloc(1, sizeof *r);

    r->app = (peri_http_app){r, on_request, on_gone, on_done};
    r->status = -1;
    current = r;
    uv_loop_init(&r->loop);
    return r;
}

static void rig_destroy(rig *r)
{
    uv_run(&r->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&r->loop), 0);
    free(r);
}

static int start(rig *r, const char *method, const char *target,
                 const char *body, const peri_field *fields, size_t count)
{
    peri_local_request request = {
        .method = peri_slice_str(method),
        .target = peri_slice_str(target),
        .fields = fields,
        .field_count = count,
        .body = peri_slice_str(body),
    };

    return peri_local_start(&r->loop, &r->app, &request, on_answer, r);
}

static void run(rig *r, const char *method, const char *target,
                const char *body)
{
    assert_int_equal(start(r, method, target, body, NULL, 0), 0);
    assert_int_equal(r->status, -1);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    assert_int_equal(r->answers, 1);
    assert_int_equal(r->done, 1);
}

TEST(an_answer_comes_as_over_the_wire)
{
    rig *r = rig_create();

    (void)state;
    run(r, "GET", "/a?b", "");
    assert_int_equal(r->status, 200);
    assert_string_equal(r->body, "/a");
    assert_non_null(strstr(r->fields, "Date: "));
    assert_non_null(strstr(r->fields, "X-Request-Id: "));
    assert_non_null(strstr(r->fields, "Content-Length: 2\n"));
    assert_non_null(strstr(r->fields, "Content-Type: text/plain\n"));
    assert_non_null(strstr(r->fields, "X-A: b\n"));
    assert_null(strstr(r->fields, "X-Bad"));
    rig_destroy(r);
}

TEST(head_has_no_body)
{
    rig *r = rig_create();

    (void)state;
    run(r, "HEAD", "/a", "");
    assert_string_equal(r->body, "");
    assert_non_null(strstr(r->fields, "Content-Length: 2\n"));
    rig_destroy(r);
}

TEST(bodies_are_read_whole_or_by_chunks)
{
    rig *r = rig_create();

    (void)state;
    run(r, "POST", "/body", "hello");
    assert_string_equal(r->body, "hello");
    rig_destroy(r);
    r = rig_create();
    run(r, "POST", "/chunks", "hello");
    assert_string_equal(r->body, "hello");
    rig_destroy(r);
    r = rig_create();
    run(r, "POST", "/chunks", "");
    assert_string_equal(r->body, "");
    rig_destroy(r);
    r = rig_create();
    run(r, "POST", "/limit", "hello");
    assert_int_equal(r->status, 413);
    rig_destroy(r);
}

TEST(streams_are_collected)
{
    rig *r = rig_create();

    (void)state;
    run(r, "GET", "/stream", "");
    assert_string_equal(r->body, "ab");
    assert_int_equal(r->drains, 1);
    assert_null(strstr(r->fields, "Content-Length"));
    rig_destroy(r);
}

TEST(an_abort_is_status_0)
{
    rig *r = rig_create();

    (void)state;
    run(r, "GET", "/x", "");
    assert_int_equal(r->status, 0);
    rig_destroy(r);
}

TEST(the_client_is_local_unless_told)
{
    rig *r = rig_create();

    (void)state;
    run(r, "GET", "/remote", "");
    assert_string_equal(r->body, "127.0.0.1");
    rig_destroy(r);
}

TEST(what_a_server_would_refuse_is_refused)
{
    rig *r = rig_create();
    peri_field split = {PERI_SLICE("X"), PERI_SLICE("a\r\nY: b")};
    peri_field length = {PERI_SLICE("Content-Length"), PERI_SLICE("3")};
    peri_field coding = {PERI_SLICE("Transfer-Encoding"),
                         PERI_SLICE("chunked")};
    peri_field host = {PERI_SLICE("Host"), PERI_SLICE("a b")};

    (void)state;
    assert_int_equal(start(r, "GET", "a", "", NULL, 0), PERI_EFORMAT);
    assert_int_equal(start(r, "GET", "/a b", "", NULL, 0), PERI_EFORMAT);
    assert_int_equal(start(r, "G T", "/", "", NULL, 0), PERI_EFORMAT);
    assert_int_equal(start(r, "GET", "/\r\nX:", "", NULL, 0), PERI_EFORMAT);
    assert_int_equal(start(r, "GET", "/", "", &split, 1), PERI_EFORMAT);
    assert_int_equal(start(r, "POST", "/", "hello", &length, 1), PERI_EFORMAT);
    assert_int_equal(start(r, "POST", "/", "", &coding, 1), PERI_EFORMAT);
    assert_int_equal(start(r, "GET", "/", "", &host, 1), PERI_EFORMAT);
    assert_int_equal(start(r, "POST", "/b", "abc", &length, 1), 0);
    rig_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_comes_as_over_the_wire),
        cmocka_unit_test(head_has_no_body),
        cmocka_unit_test(bodies_are_read_whole_or_by_chunks),
        cmocka_unit_test(streams_are_collected),
        cmocka_unit_test(an_abort_is_status_0),
        cmocka_unit_test(the_client_is_local_unless_told),
        cmocka_unit_test(what_a_server_would_refuse_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
