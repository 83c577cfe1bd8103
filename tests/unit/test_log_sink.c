/* Log lines made pretty, and where they are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/log_pretty.h"
#include "core/loop/log_sink.h"

#define TEST(name) static void name(void **state)

static void assert_pretty(const char *line, const char *expected)
{
    peri_buf out;

    peri_buf_init(&out, 1 << 20);
    assert_int_equal(peri_log_pretty(&out, peri_slice_str(line), false), 0);
    peri_buf_append_byte(&out, '\0');
    assert_string_equal(out.data, expected);
    peri_buf_fini(&out);
}

#define HEAD "{\"level\":30,\"time\":1700000000123,\"pid\":7,\"hostname\":\"h\""

TEST(a_line_becomes_readable)
{
    (void)state;
    assert_pretty(HEAD ",\"id\":7,\"who\":\"A B\",\"msg\":\"order placed\"}\n",
                  "[22:13:20.123] INFO: order placed id=7 who=\"A B\"\n");
    assert_pretty(HEAD ",\"msg\":\"x\",\"o\":{\"a\":[1,\"}\"]}}",
                  "[22:13:20.123] INFO: x o={\"a\":[1,\"}\"]}\n");
}

TEST(an_error_shows_its_stack)
{
    (void)state;
    assert_pretty(HEAD ",\"err\":{\"type\":\"Error\",\"message\":\"m\","
                       "\"stack\":\"m\\n\\ta.lua:1\",\"code\":\"E\"},"
                       "\"msg\":\"oops\"}",
                  "[22:13:20.123] INFO: oops\n    Error: m\n    \ta.lua:1\n"
                  "    code: E\n");
    assert_pretty(HEAD ",\"err\":\"text\",\"msg\":\"oops\"}",
                  "[22:13:20.123] INFO: oops\n    text\n");
}

TEST(a_request_is_summed_up)
{
    (void)state;
    assert_pretty(HEAD ",\"req\":{\"id\":\"r\",\"method\":\"GET\",\"url\":"
                       "\"/a?b\"},\"res\":{\"statusCode\":200},"
                       "\"responseTime\":1.25,\"msg\":\"request completed\"}",
                  "[22:13:20.123] INFO: request completed GET /a?b 200 1.25 "
                  "ms\n");
}

TEST(what_is_no_log_line_passes)
{
    static const char *const lines[] = {
        "plain text", "{\"a\":1", "[1]", "",         "{\"a\":\"open}",
        "{} x",       "{\"a\"}",  "{}",  "{\"a\":1}"};

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char expected[64];

        snprintf(expected, sizeof expected, "%s\n", lines[i]);
        assert_pretty(lines[i], expected);
    }
}

TEST(control_characters_do_not_reach_the_terminal)
{
    (void)state;
    assert_pretty(HEAD ",\"msg\":\"a\\u001b[31m \\u00e9 \\\"q\\\"\"}",
                  "[22:13:20.123] INFO: a\\u001b[31m \xc3\xa9 \"q\"\n");
}

static long file_size(const char *path)
{
    FILE *file = fopen(path, "r");
    long size;

    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    fclose(file);
    return size;
}

TEST(a_file_is_reopened_under_the_same_descriptor)
{
    char dir[] = "/tmp/perigee-sink-XXXXXX";
    char path[64];
    char moved[64];
    peri_log_sink *sink;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/a.log", dir);
    snprintf(moved, sizeof moved, "%s/a.log.1", dir);
    assert_int_equal(peri_log_sink_open(path, false, &sink), 0);
    fd = peri_log_sink_fd(sink);
    peri_log_sink_write(sink, PERI_SLICE("one\n"));
    assert_int_equal(rename(path, moved), 0);
    peri_log_sink_write(sink, PERI_SLICE("two\n"));
    assert_int_equal(peri_log_sink_reopen(sink), 0);
    assert_int_equal(peri_log_sink_fd(sink), fd);
    peri_log_sink_write(sink, PERI_SLICE("three\n"));
    assert_int_equal(file_size(moved), 8);
    assert_int_equal(file_size(path), 6);
    peri_log_sink_close(sink);
    assert_int_equal(peri_log_sink_open("/nowhere/x.log", false, &sink), -2);
    unlink(path);
    unlink(moved);
    rmdir(dir);
}

TEST(lines_that_a_full_disk_refuses_are_counted)
{
    peri_log_sink *sink;

    (void)state;
    assert_int_equal(peri_log_sink_open("/dev/full", false, &sink), 0);
    peri_log_sink_write(sink, PERI_SLICE("one\n"));
    assert_int_equal(peri_log_sink_lost(sink), 1);
    peri_log_sink_close(sink);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_becomes_readable),
        cmocka_unit_test(an_error_shows_its_stack),
        cmocka_unit_test(a_request_is_summed_up),
        cmocka_unit_test(what_is_no_log_line_passes),
        cmocka_unit_test(control_characters_do_not_reach_the_terminal),
        cmocka_unit_test(a_file_is_reopened_under_the_same_descriptor),
        cmocka_unit_test(lines_that_a_full_disk_refuses_are_counted),
    };

    setenv("TZ", "UTC", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
