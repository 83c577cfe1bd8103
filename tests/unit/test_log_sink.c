/* Where log lines are written. */
#include <errno.h>
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
#include "core/base/syslog.h"
#include "core/loop/log_sink.h"

#define TEST(name) static void name(void **state)

static _Atomic uint64_t lost;

static int open_sink(const char *destination, bool pretty, peri_log_sink **out)
{
    peri_log_options options = {
        .destination = destination, .pretty = pretty, .lost = &lost};

    atomic_store(&lost, 0);
    return peri_log_sink_open(&options, out);
}

/* All of the lines, waiting for a second at most. */
static void send_all(peri_log_sink *sink, const char *lines)
{
    peri_slice rest = peri_slice_str(lines);

    for (int i = 0; rest.length > 0; i++) {
        ssize_t n = peri_log_sink_send(sink, rest);

        assert_true(i < 1000);
        if (n > 0) {
            rest.data += n;
            rest.length -= (size_t)n;
        } else {
            peri_log_sink_wait(sink, 1000);
        }
    }
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

TEST(a_file_is_reopened_when_it_was_moved)
{
    char dir[] = "/tmp/perigee-sink-XXXXXX";
    char path[64];
    char moved[64];
    peri_log_sink *sink;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/a.log", dir);
    snprintf(moved, sizeof moved, "%s/a.log.1", dir);
    assert_int_equal(open_sink(path, false, &sink), 0);
    send_all(sink, "one\n");
    assert_int_equal(rename(path, moved), 0);
    send_all(sink, "two\n");
    assert_int_equal(peri_log_sink_reopen(sink), 0);
    send_all(sink, "three\n");
    assert_int_equal(file_size(moved), 8);
    assert_int_equal(file_size(path), 6);
    peri_log_sink_close(sink);
    assert_int_equal(open_sink("/nowhere/x.log", false, &sink), -ENOENT);
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
    assert_int_equal(open_sink(path, true, &sink), 0);
    send_all(sink, "{\"level\":30,\"time\":1,\"msg\":\"hello\"}\n"
                   "{\"level\":40,\"time\":1,\"msg\":\"there\"}\n");
    assert_true(read(fd, text, sizeof text - 1) > 0);
    assert_non_null(strstr(text, "INFO: hello\n"));
    assert_non_null(strstr(text, "WARN: there\n"));
    assert_null(strchr(text, '{'));
    peri_log_sink_close(sink);
    close(fd);
    unlink(path);
}

TEST(a_full_disk_takes_nothing)
{
    peri_log_sink *sink;

    (void)state;
    assert_int_equal(open_sink("/dev/full", false, &sink), 0);
    assert_int_equal(peri_log_sink_send(sink, PERI_SLICE("one\n")), -ENOSPC);
    peri_log_sink_close(sink);
}

TEST(only_files_are_files)
{
    (void)state;
    assert_string_equal(peri_log_sink_file("var/app.log"), "var/app.log");
    assert_null(peri_log_sink_file("stdout"));
    assert_null(peri_log_sink_file("syslog"));
    assert_null(peri_log_sink_file("syslog://127.0.0.1:514"));
    assert_null(peri_log_sink_file("unix:/run/x"));
}

/* ---- sockets ---- */

static int listen_at(const char *path, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    unlink(path);
    assert_int_equal(
        bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    if (type == SOCK_STREAM) {
        assert_int_equal(listen(fd, 4), 0);
    }
    return fd;
}

static void assert_received(int fd, const char *expected)
{
    char text[4096];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);

    assert_true(n > 0);
    text[n] = '\0';
    assert_string_equal(text, expected);
}

static void socket_path(char *path, size_t bytes)
{
    snprintf(path, bytes, "/tmp/perigee-sink-%d.sock", (int)getpid());
}

TEST(syslog_gets_a_message_a_line_with_its_severity)
{
    static const int severities[6] = {7, 7, 6, 4, 3, 2};
    char hostname[65] = "";
    char path[64];
    char name[80];
    char line[128];
    char expected[512];
    peri_log_sink *sink;
    int fd;

    (void)state;
    gethostname(hostname, sizeof hostname - 1);
    socket_path(path, sizeof path);
    snprintf(name, sizeof name, "syslog:%s", path);
    fd = listen_at(path, SOCK_DGRAM);
    assert_int_equal(open_sink(name, false, &sink), 0);
    for (int i = 0; i < 6; i++) {
        snprintf(line, sizeof line,
                 "{\"level\":%d,\"time\":1700000000123,\"pid\":7,\"msg\":"
                 "\"m\"}\n",
                 10 * (i + 1));
        send_all(sink, line);
        line[strlen(line) - 1] = '\0';
        snprintf(expected, sizeof expected,
                 "<%d>1 2023-11-14T22:13:20.123Z %s perigee 7 - - %s",
                 24 + severities[i], hostname, line);
        assert_received(fd, expected);
    }
    peri_log_sink_close(sink);
    close(fd);
    unlink(path);
}

TEST(syslog_names_are_what_the_form_allows)
{
    peri_syslog syslog;
    peri_buf out;

    (void)state;
    assert_int_equal(peri_syslog_facility("local7"), 23);
    assert_int_equal(peri_syslog_facility("none"), -1);
    peri_syslog_init(&syslog, "local0", "my app\n");
    assert_string_equal(syslog.app_name, "my-app-");
    peri_buf_init(&out, 1 << 20);
    assert_int_equal(peri_syslog_format(&syslog, PERI_SLICE("no JSON\n"), &out),
                     0);
    peri_buf_append_byte(&out, '\0');
    assert_ptr_equal(strstr(out.data, "<134>1 20"), out.data);
    assert_non_null(strstr(out.data, " my-app- "));
    assert_string_equal(out.data + strlen(out.data) - 11, "- - no JSON");
    peri_buf_fini(&out);
}

#define BIG_BYTES ((size_t)1 << 20) /* more than a socket takes at once */

static peri_slice big_line(void)
{
    char *text = malloc(BIG_BYTES);

    memset(text, 'x', BIG_BYTES);
    text[BIG_BYTES - 1] = '\n';
    return peri_slice_of(text, BIG_BYTES);
}

/* What has come, behind length bytes of text. */
static size_t receive(int peer, char *text, size_t length)
{
    ssize_t n = recv(peer, text + length, 2 * BIG_BYTES - length, MSG_DONTWAIT);

    return n > 0 ? length + (size_t)n : length;
}

/* Until the line is taken, while the other side reads. */
static size_t send_to_reader(peri_log_sink *sink, peri_slice line, int peer,
                             char *text, size_t length)
{
    for (int i = 0; peri_log_sink_send(sink, line) <= 0; i++) {
        assert_true(i < 10000);
        peri_log_sink_wait(sink, 10);
        length = receive(peer, text, length);
    }
    return length;
}

TEST(a_stream_is_connected_again_and_begins_with_a_whole_line)
{
    peri_slice big = big_line();
    char *text = malloc(2 * BIG_BYTES);
    size_t length = 0;
    char path[64];
    char name[80];
    peri_log_sink *sink;
    int fd;
    int peer;

    (void)state;
    socket_path(path, sizeof path);
    snprintf(name, sizeof name, "unix:%s", path);
    unlink(path);
    assert_int_equal(open_sink(name, false, &sink), 0);
    assert_int_equal(peri_log_sink_send(sink, PERI_SLICE("early\n")), -ENOENT);
    assert_int_equal(peri_log_sink_send(sink, PERI_SLICE("early\n")), 0);
    fd = listen_at(path, SOCK_STREAM);
    send_all(sink, "one\n");
    peer = accept(fd, NULL, NULL);
    assert_received(peer, "one\n");

    /* Half of a line is out when the other side goes. */
    assert_int_equal(peri_log_sink_send(sink, big), 0);
    close(peer);
    assert_true(peri_log_sink_send(sink, big) < 0);
    while (peri_log_sink_wait(sink, 1000) != 0) {
    }
    assert_int_equal(peri_log_sink_send(sink, big), 0);
    peer = accept(fd, NULL, NULL);
    length = send_to_reader(sink, big, peer, text, length);
    while (length < BIG_BYTES) {
        length = receive(peer, text, length);
    }
    assert_memory_equal(text, big.data, BIG_BYTES);
    assert_int_equal(atomic_load(&lost), 0);
    send_all(sink, "two\n");
    assert_received(peer, "two\n");
    close(peer);
    close(fd);
    free((char *)(uintptr_t)big.data);
    free(text);
    peri_log_sink_close(sink);
    unlink(path);
}

TEST(lines_of_two_rings_do_not_mix)
{
    peri_slice big = big_line();
    peri_slice other = PERI_SLICE("other\n");
    char *text = malloc(2 * BIG_BYTES);
    size_t length = 0;
    char path[64];
    char name[80];
    peri_log_sink *sink;
    int fd;
    int peer;

    (void)state;
    socket_path(path, sizeof path);
    snprintf(name, sizeof name, "unix:%s", path);
    fd = listen_at(path, SOCK_STREAM);
    assert_int_equal(open_sink(name, false, &sink), 0);
    assert_int_equal(peri_log_sink_send(sink, big), 0); /* half of it is out */
    assert_int_equal(peri_log_sink_send(sink, other), 0);
    peer = accept(fd, NULL, NULL);
    length = send_to_reader(sink, other, peer, text, length);
    assert_int_equal(peri_log_sink_send(sink, big), BIG_BYTES);
    while (length < BIG_BYTES + other.length) {
        length = receive(peer, text, length);
    }
    assert_memory_equal(text, big.data, BIG_BYTES);
    assert_memory_equal(text + BIG_BYTES, other.data, other.length);
    assert_int_equal(receive(peer, text, length), length);
    close(peer);
    close(fd);
    free((char *)(uintptr_t)big.data);
    free(text);
    peri_log_sink_close(sink);
    unlink(path);
}

TEST(a_datagram_is_a_line)
{
    char path[64];
    char name[80];
    peri_log_sink *sink;
    int fd;

    (void)state;
    socket_path(path, sizeof path);
    snprintf(name, sizeof name, "unix-dgram:%s", path);
    fd = listen_at(path, SOCK_DGRAM);
    assert_int_equal(open_sink(name, false, &sink), 0);
    send_all(sink, "one\ntwo\n");
    assert_received(fd, "one\n");
    assert_received(fd, "two\n");
    peri_log_sink_close(sink);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_reopened_when_it_was_moved),
        cmocka_unit_test(a_pretty_sink_writes_text),
        cmocka_unit_test(a_full_disk_takes_nothing),
        cmocka_unit_test(only_files_are_files),
        cmocka_unit_test(syslog_gets_a_message_a_line_with_its_severity),
        cmocka_unit_test(syslog_names_are_what_the_form_allows),
        cmocka_unit_test(
            a_stream_is_connected_again_and_begins_with_a_whole_line),
        cmocka_unit_test(lines_of_two_rings_do_not_mix),
        cmocka_unit_test(a_datagram_is_a_line),
    };

    return cmocka_run_group_tests_name("log sink", tests, NULL, NULL);
}
