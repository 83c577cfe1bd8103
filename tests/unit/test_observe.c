/* The access log's line. The transport's part is played by this file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/http/exchange_ops.h"
#include "core/http/observe.h"

#define TEST(name) static void name(void **state)

static char written[65536];
static size_t written_length;

static void keep(void *data, peri_slice line)
{
    (void)data;
    memcpy(written, line.data, line.length);
    written[line.length] = '\0';
    written_length = line.length;
}

static peri_slice remote(peri_exchange *ex)
{
    (void)ex;
    return PERI_SLICE("10.0.0.1");
}

static const peri_exchange_ops ops = {.remote = remote};

static void fill(peri_exchange *ex, const char *head, uint16_t status)
{
    const char *space = strchr(head, ' ');

    memset(ex, 0, sizeof *ex);
    ex->head = head;
    ex->method_text = (peri_span){0, (uint32_t)(space - head)};
    ex->target =
        (peri_span){(uint32_t)(space - head + 1), (uint32_t)strlen(space + 1)};
    ex->status = status;
    ex->started_ns = 1000000000u;
    snprintf(ex->request_id, sizeof ex->request_id, "abc");
    ex->id_length = 3;
    ex->ops = &ops;
}

static void assert_tail(const char *expected)
{
    const char *at = strstr(written, "\"req\":");

    assert_non_null(at);
    assert_string_equal(at, expected);
}

TEST(a_line_is_as_pino_http_writes_it)
{
    peri_logger logger;
    peri_exchange ex;
    char head[200];

    (void)state;
    peri_logger_init(&logger, PERI_LOG_INFO, keep, NULL);
    fill(&ex, "GET /a?b=\"c\"\x01\xff\xc3\xa9", 200);
    peri_access_log(&logger, &ex, 0, 1001234567u);
    snprintf(head, sizeof head, ",\"pid\":%d,\"hostname\":\"%s\",\"req\"",
             logger.pid, logger.hostname);
    assert_memory_equal(written, "{\"level\":30,\"time\":1", 20);
    assert_non_null(strstr(written, head));
    assert_tail(
        "\"req\":{\"id\":\"abc\",\"method\":\"GET\",\"url\":\"/a?b=\\\"c"
        "\\\"\\u0001\xef\xbf\xbd\xc3\xa9\",\"remoteAddress\":"
        "\"10.0.0.1\"},\"res\":{\"statusCode\":200},\"responseTime\":"
        "1.234,\"msg\":\"request completed\"}\n");
}

TEST(what_is_hidden_is_not_in_the_line)
{
    peri_logger logger;
    peri_exchange ex;

    (void)state;
    peri_logger_init(&logger, PERI_LOG_INFO, keep, NULL);
    fill(&ex, "GET /secret", 200);
    peri_access_log(&logger, &ex,
                    PERI_ACCESS_HIDES_URL | PERI_ACCESS_HIDES_REMOTE |
                        PERI_ACCESS_HIDES_STATUS | PERI_ACCESS_HIDES_TIME,
                    0);
    assert_tail(
        "\"req\":{\"id\":\"abc\",\"method\":\"GET\",\"url\":\"[Redacted]\","
        "\"remoteAddress\":\"[Redacted]\"},\"res\":{\"statusCode\":"
        "\"[Redacted]\"},\"responseTime\":\"[Redacted]\",\"msg\":"
        "\"request completed\"}\n");
    peri_access_log(&logger, &ex, PERI_ACCESS_HIDES_REQ | PERI_ACCESS_HIDES_RES,
                    0);
    assert_tail(
        "\"req\":\"[Redacted]\",\"res\":\"[Redacted]\",\"responseTime\":"
        "0.000,\"msg\":\"request completed\"}\n");
}

TEST(levels_follow_the_status)
{
    peri_logger logger;
    peri_exchange ex;

    (void)state;
    peri_logger_init(&logger, PERI_LOG_WARN, keep, NULL);
    written_length = 0;
    fill(&ex, "GET /", 404);
    peri_access_log(&logger, &ex, 0, 0);
    assert_int_equal(written_length, 0);
    fill(&ex, "GET /", 503);
    peri_access_log(&logger, &ex, 0, 0);
    assert_memory_equal(written, "{\"level\":50", 11);
    assert_non_null(strstr(written, "\"responseTime\":0.000"));
}

TEST(a_long_url_is_cut)
{
    static char head[20000] = "GET /";
    peri_logger logger;
    peri_exchange ex;

    (void)state;
    memset(head + 5, '"', sizeof head - 6);
    peri_logger_init(&logger, PERI_LOG_INFO, keep, NULL);
    fill(&ex, head, 499);
    ex.gone = true;
    peri_access_log(&logger, &ex, 0, 0);
    assert_true(written_length < 10000);
    assert_non_null(strstr(written, "...\",\"remoteAddress\""));
    assert_non_null(strstr(written, "\"msg\":\"request aborted\"}\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_as_pino_http_writes_it),
        cmocka_unit_test(what_is_hidden_is_not_in_the_line),
        cmocka_unit_test(levels_follow_the_status),
        cmocka_unit_test(a_long_url_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
