/* The access log's other forms. The transport's part is played by this file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/http/access.h"
#include "core/http/exchange_ops.h"

#define TEST(name) static void name(void **state)

typedef struct written {
    char text[128 << 10];
    size_t length;
} written;

static void keep(void *data, peri_slice line)
{
    written *w = data;

    assert_true(line.length < sizeof w->text);
    memcpy(w->text, line.data, line.length);
    w->text[line.length] = '\0';
    w->length = line.length;
}

static peri_slice remote(peri_exchange *ex)
{
    (void)ex;
    return PERI_SLICE("10.0.0.1");
}

static const peri_exchange_ops ops = {.remote = remote};

static void fill(peri_exchange *ex, const char *head)
{
    const char *space = strchr(head, ' ');

    memset(ex, 0, sizeof *ex);
    ex->head = head;
    if (space != NULL) {
        ex->method_text = (peri_span){0, (uint32_t)(space - head)};
        ex->target = (peri_span){(uint32_t)(space - head + 1),
                                 (uint32_t)strlen(space + 1)};
    }
    ex->version_minor = 1;
    ex->status = 200;
    ex->sent_bytes = 1234567;
    ex->started_ns = 1000000000u;
    snprintf(ex->request_id, sizeof ex->request_id, "abc");
    ex->id_length = 3;
    ex->ops = &ops;
}

static void write_as(const char *format, peri_exchange *ex, uint64_t now_ns,
                     written *w)
{
    peri_access *access;
    peri_logger logger;
    char why[64];

    peri_logger_init(&logger, PERI_LOG_SILENT, keep,
                     w); /* whatever the level */
    assert_int_equal(peri_access_create(format, &access, why, sizeof why), 0);
    peri_access_write(access, &logger, ex, now_ns);
    peri_access_destroy(access);
}

TEST(a_format_is_text_and_variables)
{
    static written w;
    peri_exchange ex;

    (void)state;
    fill(&ex, "GET /a");
    write_as("$remote_addr|$request|$status|$body_bytes_sent|$request_time|"
             "$response_time|$request_id|$scheme|$http_x|$route|$trace_id",
             &ex, 1012345678u, &w);
    assert_string_equal(w.text,
                        "10.0.0.1|GET /a HTTP/1.1|200|1234567|0.012|12.345|abc|"
                        "http|-|-|-\n");
    ex.version_minor = 0;
    write_as("$request_method $server_protocol", &ex, 0, &w);
    assert_string_equal(w.text, "GET HTTP/1.0\n");
}

TEST(what_a_client_sent_cannot_break_a_line)
{
    static written w;
    peri_exchange ex;

    (void)state;
    fill(&ex, "GET /\"\\\n\x01\x7f\xff~");
    write_as("\"$request_uri\"", &ex, 0, &w);
    assert_string_equal(w.text, "\"/\\x22\\x5C\\x0A\\x01\\x7F\\xFF~\"\n");
    fill(&ex, ""); /* refused before it could be read */
    write_as("combined", &ex, 0, &w);
    assert_non_null(strstr(w.text, "] \"-\" 200 1234567 \"-\" \"-\"\n"));
}

TEST(what_is_long_is_cut)
{
    static char head[100000];
    static written w;
    peri_exchange ex;
    char format[1024] = "";

    (void)state;
    snprintf(head, sizeof head, "GET /%0*d", 4095, 0);
    fill(&ex, head);
    write_as("$request_uri", &ex, 0, &w);
    assert_int_equal(w.length, 4096 + 1);
    snprintf(head, sizeof head, "GET /%0*d", 4096, 0);
    fill(&ex, head);
    write_as("$request_uri", &ex, 0, &w);
    assert_int_equal(w.length, 4096 + 3 + 1);
    for (int i = 0; i < 60; i++) {
        strcat(format, "$request_uri");
    }
    write_as(format, &ex, 0, &w);
    assert_in_range(w.length, 60000, (64 << 10) + 1);
    assert_int_equal(w.text[w.length - 1], '\n');
}

TEST(each_line_has_an_end_however_long_it_is)
{
    static char head[5000];
    static written w;
    char format[1024] = "";
    peri_access *access;
    peri_logger logger;
    peri_exchange ex;

    (void)state;
    memset(head, '"', sizeof head - 1);
    memcpy(head, "GET /", 5);
    fill(&ex, head);
    for (int i = 0; i < 20; i++) {
        strcat(format, "$request_uri ");
    }
    peri_logger_init(&logger, PERI_LOG_SILENT, keep, &w);
    assert_int_equal(peri_access_create(format, &access, format, 1), 0);
    for (int i = 0; i < 2; i++) {
        peri_access_write(access, &logger, &ex, 0);
        assert_in_range(w.length, 65530, 64 << 10);
        assert_int_equal(w.text[w.length - 1], '\n');
    }
    peri_access_destroy(access);
}

TEST(what_is_no_variable_is_named)
{
    peri_access *access;
    char why[64];

    (void)state;
    assert_int_equal(
        peri_access_create("$status $nothing!", &access, why, sizeof why),
        PERI_EFORMAT);
    assert_string_equal(why, "there is no variable $nothing");
    assert_true(peri_access_create("$", &access, why, sizeof why) < 0);
    assert_true(peri_access_create("$http_", &access, why, sizeof why) < 0);
    assert_true(peri_access_create("a\nb", &access, why, sizeof why) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_format_is_text_and_variables),
        cmocka_unit_test(what_a_client_sent_cannot_break_a_line),
        cmocka_unit_test(what_is_long_is_cut),
        cmocka_unit_test(each_line_has_an_end_however_long_it_is),
        cmocka_unit_test(what_is_no_variable_is_named),
    };

    return cmocka_run_group_tests_name("access", tests, NULL, NULL);
}
