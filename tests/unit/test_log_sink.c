/* Where log lines are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/loop/log_sink.h"

#define TEST(name) static void name(void **state)

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

TEST(a_pretty_sink_writes_text)
{
    char path[] = "/tmp/perigee-sink-XXXXXX";
    int fd = mkstemp(path);
    peri_log_sink *sink;
    char text[200] = "";

    (void)state;
    assert_int_equal(peri_log_sink_open(path, true, &sink), 0);
    peri_log_sink_write(sink, PERI_SLICE("{\"level\":30,\"time\":1,\"msg\":"
                                         "\"hello\"}\n"));
    assert_true(read(fd, text, sizeof text - 1) > 0);
    assert_non_null(strstr(text, "INFO"));
    assert_null(strchr(text, '{'));
    peri_log_sink_close(sink);
    close(fd);
    unlink(path);
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
        cmocka_unit_test(a_file_is_reopened_under_the_same_descriptor),
        cmocka_unit_test(a_pretty_sink_writes_text),
        cmocka_unit_test(lines_that_a_full_disk_refuses_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
