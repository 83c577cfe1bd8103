/* The parser of answers: what it takes, what it refuses, and that the verdict
 * does not depend on how the bytes arrived. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/err.h"
#include "core/http/client_internal.h"

#define TEST(name) static void name(void **state)
#define OK_LINE "HTTP/1.1 200 OK\r\n"

typedef struct verdict {
    bool refused;
    bool done;
    bool keep_alive;
    int status;
    unsigned fields;
    size_t used;
    char body[256];
} verdict;

/* In pieces of at most step bytes, each in memory of exactly its size. */
static verdict parse(const char *text, size_t length, size_t step,
                     bool bodiless)
{
    verdict v = {0};
    peri_reply reply;
    peri_buf out;
    size_t at = 0;

    peri_reply_init(&reply);
    peri_reply_reset(&reply, bodiless);
    peri_buf_init(&out, SIZE_MAX / 2);
    while (at < length && !v.refused && reply.state != PERI_REPLY_DONE) {
        size_t part = length - at < step ? length - at : step;
        char *copy = malloc(part + PERI_SCAN_PADDING);
        size_t used = 0;

        memcpy(copy, text + at, part);
        memset(copy + part, 0, PERI_SCAN_PADDING);
        while (used < part && !v.refused && reply.state != PERI_REPLY_DONE) {
            ptrdiff_t rc =
                peri_reply_feed(&reply, copy + used, part - used, &out);

            v.refused = rc < 0;
            used += rc > 0 ? (size_t)rc : 0;
        }
        at += used;
        free(copy);
    }
    v.done = reply.state == PERI_REPLY_DONE;
    v.keep_alive = reply.keep_alive;
    v.status = reply.status;
    v.fields = reply.field_count;
    v.used = v.refused ? 0 : at;
    memcpy(v.body, out.data != NULL ? out.data : "",
           out.length < sizeof v.body ? out.length : sizeof v.body - 1);
    peri_buf_fini(&out);
    peri_reply_fini(&reply);
    return v;
}

static verdict whole(const char *text)
{
    return parse(text, strlen(text), SIZE_MAX, false);
}

static const char *const sound[] = {
    OK_LINE "Content-Length: 5\r\n\r\nhello",
    OK_LINE "Content-Length: 0\r\n\r\n",
    OK_LINE "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    OK_LINE "transfer-encoding: Chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n"
            "X-Trailer: 1\r\nY: 2\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n" OK_LINE "Content-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.0 999 What\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n",
};

static const char *const unsound[] = {
    "HTTP/1.1  200 OK\r\n\r\n",
    "HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/1.1 20 OK\r\n\r\n",
    "HTTP/1.1 2000 OK\r\n\r\n",
    "HTTP/1.1 099 OK\r\n\r\n",
    "HTTP/1.1\t200 OK\r\n\r\n",
    "http/1.1 200 OK\r\n\r\n",
    "\r\nHTTP/1.1 200 OK\r\n\r\n",
    "HTTP/1.1 200 OK\n\n",
    OK_LINE "X: a\r\n b\r\n\r\n",
    OK_LINE " X: a\r\n\r\n",
    OK_LINE "X: a\rb\r\n\r\n",
    OK_LINE "X: a\x01\r\n\r\n",
    OK_LINE "X : a\r\n\r\n",
    OK_LINE ": a\r\n\r\n",
    OK_LINE "X\r\n\r\n",
    OK_LINE "X: a\r\n\n",
    OK_LINE "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    OK_LINE "Content-Length: 5, 5\r\n\r\nhello",
    OK_LINE "Content-Length: +5\r\n\r\nhello",
    OK_LINE "Content-Length:\r\n\r\n",
    OK_LINE "Content-Length: 9999999999999999999\r\n\r\n",
    OK_LINE "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    OK_LINE "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    OK_LINE "Transfer-Encoding:\r\n\r\n",
    OK_LINE "Transfer-Encoding: identity\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 101 Up\r\n\r\n",
    "HTTP/1.1 100 Go\r\nContent-Length: 1\r\n\r\n",
    OK_LINE "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX",
    OK_LINE "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    OK_LINE "Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n b\r\n\r\n",
};

TEST(sound_answers_are_read_however_they_are_split)
{
    (void)state;
    for (size_t i = 0; i < sizeof sound / sizeof sound[0]; i++) {
        verdict first = whole(sound[i]);

        if (!first.done || first.used != strlen(sound[i])) {
            fail_msg("not read: %s", sound[i]);
        }
        for (size_t step = 1; step < strlen(sound[i]); step++) {
            verdict v = parse(sound[i], strlen(sound[i]), step, false);

            assert_memory_equal(&v, &first, sizeof v);
        }
    }
}

TEST(what_can_be_read_two_ways_is_refused_however_it_is_split)
{
    (void)state;
    for (size_t i = 0; i < sizeof unsound / sizeof unsound[0]; i++) {
        for (size_t step = 1; step <= strlen(unsound[i]); step++) {
            if (!parse(unsound[i], strlen(unsound[i]), step, false).refused) {
                fail_msg("taken in steps of %zu: %s", step, unsound[i]);
            }
        }
    }
}

TEST(bytes_behind_an_answer_are_left)
{
    (void)state;
    for (size_t i = 0; i < sizeof sound / sizeof sound[0]; i++) {
        char text[512];

        snprintf(text, sizeof text, "%sHTTP/1.1 200", sound[i]);
        assert_int_equal(whole(text).used, strlen(sound[i]));
    }
}

TEST(an_answer_to_head_has_no_body)
{
    static const char text[] = OK_LINE "Content-Length: 5\r\n\r\n";
    verdict v = parse(text, sizeof text - 1, 3, true);

    (void)state;
    assert_true(v.done);
    assert_true(v.keep_alive);
}

TEST(connections_stay_as_the_versions_say)
{
    (void)state;
#define EMPTY "Content-Length: 0\r\n"
    assert_true(whole(OK_LINE EMPTY "\r\n").keep_alive);
    assert_false(
        whole(OK_LINE EMPTY "Connection: x, Close\t\r\n\r\n").keep_alive);
    assert_false(whole("HTTP/1.0 200 OK\r\n" EMPTY "\r\n").keep_alive);
    assert_true(
        whole("HTTP/1.0 200 OK\r\n" EMPTY "Connection: keep-alive\r\n\r\n")
            .keep_alive);
    assert_false(
        whole("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n").keep_alive);
    assert_false(whole(OK_LINE "\r\n").keep_alive);
}

TEST(an_end_without_length_ends_the_answer_and_cuts_any_other)
{
    peri_reply reply;
    peri_buf out;
    char text[] = OK_LINE "\r\nhello\0\0\0\0\0\0\0\0";

    (void)state;
    peri_reply_init(&reply);
    peri_buf_init(&out, 1000);
    assert_int_equal(peri_reply_end(&reply), PERI_EGONE);
    assert_int_equal(peri_reply_feed(&reply, text, 19, &out), 19);
    assert_int_equal(peri_reply_feed(&reply, text + 19, 5, &out), 5);
    assert_int_equal(peri_reply_end(&reply), 0);
    assert_int_equal(out.length, 5);
    peri_buf_fini(&out);
    peri_reply_fini(&reply);
}

static verdict with_head_of(size_t length)
{
    char *text = malloc(length + 1);
    verdict v;

    memset(text, 'x', length);
    memcpy(text, OK_LINE EMPTY "X: ", sizeof(OK_LINE EMPTY "X: ") - 1);
    memcpy(text + length - 4, "\r\n\r\n", 5);
    v = parse(text, length, 4096, false);
    free(text);
    return v;
}

TEST(a_head_has_a_limit)
{
    (void)state;
    assert_true(with_head_of(PERI_REPLY_HEAD_MAX_BYTES).done);
    assert_true(with_head_of(PERI_REPLY_HEAD_MAX_BYTES + 1).refused);
}

static verdict with_fields(unsigned count)
{
    char *text = malloc(count * 6 + 64);
    size_t length = (size_t)sprintf(text, OK_LINE EMPTY);
    verdict v;

    for (unsigned i = 1; i < count; i++) {
        length += (size_t)sprintf(text + length, "X: a\r\n");
    }
    length += (size_t)sprintf(text + length, "\r\n");
    v = parse(text, length, SIZE_MAX, false);
    free(text);
    return v;
}

TEST(fields_have_a_limit)
{
    (void)state;
    assert_true(with_fields(PERI_REPLY_FIELDS_MAX).done);
    assert_true(with_fields(PERI_REPLY_FIELDS_MAX + 1).refused);
}

static verdict with_interim(unsigned count)
{
    char text[4096] = "";

    for (unsigned i = 0; i < count; i++) {
        strcat(text, "HTTP/1.1 103 Early\r\n\r\n");
    }
    strcat(text, OK_LINE EMPTY "\r\n");
    return whole(text);
}

TEST(interim_answers_have_a_limit)
{
    (void)state;
    assert_true(with_interim(PERI_REPLY_INTERIM_MAX).done);
    assert_true(with_interim(PERI_REPLY_INTERIM_MAX + 1).refused);
}

static bool is_private(const char *text)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (uv_ip4_addr(text, 80, &v4) == 0) {
        return peri_address_private((struct sockaddr *)&v4);
    }
    assert_int_equal(uv_ip6_addr(text, 80, &v6), 0);
    return peri_address_private((struct sockaddr *)&v6);
}

TEST(private_addresses_are_known_in_all_their_clothes)
{
    static const char *const yes[] = {
        "127.0.0.1",      "10.1.2.3",        "172.16.0.1", "172.31.255.255",
        "192.168.1.1",    "169.254.169.254", "0.0.0.0",    "100.64.0.1",
        "224.0.0.1",      "255.255.255.255", "::1",        "::",
        "fe80::1",        "fd00::1",         "ff02::1",    "::ffff:10.0.0.1",
        "64:ff9b::a00:1", "2002:7f00:1::",   "2001::1",    "::127.0.0.1",
    };
    static const char *const no[] = {
        "1.1.1.1",        "172.15.255.255",   "172.32.0.0",
        "100.128.0.0",    "11.0.0.0",         "2606:4700:4700::1111",
        "::ffff:1.1.1.1", "64:ff9b::808:808",
    };

    (void)state;
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        if (!is_private(yes[i])) {
            fail_msg("%s", yes[i]);
        }
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        if (is_private(no[i])) {
            fail_msg("%s", no[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_answers_are_read_however_they_are_split),
        cmocka_unit_test(
            what_can_be_read_two_ways_is_refused_however_it_is_split),
        cmocka_unit_test(bytes_behind_an_answer_are_left),
        cmocka_unit_test(an_answer_to_head_has_no_body),
        cmocka_unit_test(connections_stay_as_the_versions_say),
        cmocka_unit_test(
            an_end_without_length_ends_the_answer_and_cuts_any_other),
        cmocka_unit_test(a_head_has_a_limit),
        cmocka_unit_test(fields_have_a_limit),
        cmocka_unit_test(interim_answers_have_a_limit),
        cmocka_unit_test(private_addresses_are_known_in_all_their_clothes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
