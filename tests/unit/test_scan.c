/* The scan of a request's head: what it takes, what it refuses, and that the
 * verdict does not depend on how the bytes arrived. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/http/router.h"
#include "core/http/scan.h"
#include "core/http/scan_field.h"

#define TEST(name) static void name(void **state)

#define MORE 0
#define TAKEN 200
#define FIELDS_MAX 20

static const peri_scan_limits limits = {.head_max_bytes = 1000,
                                        .url_max_bytes = 300,
                                        .field_count_max = FIELDS_MAX};

/* In memory of exactly the size that the scan may look at. */
static int scan(const char *text, size_t length, peri_head *head, int *used)
{
    char *copy = malloc(length + PERI_SCAN_PADDING);
    int rc;

    memcpy(copy, text, length);
    memset(copy + length, 0, PERI_SCAN_PADDING);
    rc = peri_scan_head(copy, length, &limits, head);
    free(copy);
    if (used != NULL) {
        *used = rc;
    }
    return rc == 0 ? MORE : rc > 0 ? TAKEN : head->refusal.status;
}

/* The verdict on all of it, after making sure that a byte at a time gives the
 * same one. */
static int verdict_of(const char *text, size_t length)
{
    peri_head_field fields[FIELDS_MAX];
    peri_head head = {.fields = fields};
    int used;
    int whole = scan(text, length, &head, &used);
    size_t need = whole == TAKEN ? (size_t)used : length;

    for (size_t n = 0; n <= need; n++) {
        int part_used;
        int part = scan(text, n, &head, &part_used);

        if (part != MORE) {
            assert_int_equal(part, whole);
            if (part == TAKEN) {
                assert_int_equal(n, need);
            }
            return whole;
        }
    }
    assert_int_equal(whole, MORE);
    return whole;
}

static int verdict(const char *text)
{
    return verdict_of(text, strlen(text));
}

/* A complete request around some fields. */
static int fields_verdict(const char *fields)
{
    char text[2000];

    snprintf(text, sizeof text, "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);
    return verdict(text);
}

static int target_verdict(const char *target)
{
    char text[2000];

    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target);
    return verdict(text);
}

static int host_verdict(const char *host)
{
    char text[2000];

    snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host);
    return verdict(text);
}

TEST(takes_an_ordinary_request_apart)
{
    static const char text[] = "GET /a/b?c=d&e HTTP/1.1\r\nHost:\tx:80 \r\n"
                               "X-Request-ID: id-1\r\nempty:\r\n\r\nrest";
    peri_head_field fields[FIELDS_MAX];
    peri_head head = {.fields = fields};
    int used;

    (void)state;
    assert_int_equal(scan(text, sizeof text - 1, &head, &used), TAKEN);
    assert_int_equal(used, sizeof text - 5);
    assert_int_equal(head.method, PERI_METHOD_GET);
    assert_int_equal(head.version_minor, 1);
    assert_memory_equal(text + head.target.offset, "/a/b?c=d&e ", 11);
    assert_int_equal(head.target.length, 10);
    assert_int_equal(head.path.length, 4);
    assert_memory_equal(text + head.query.offset, "c=d&e", 5);
    assert_int_equal(head.query.length, 5);
    assert_int_equal(head.field_count, 3);
    assert_memory_equal(text + fields[0].value.offset, "x:80", 4);
    assert_int_equal(fields[0].value.length, 4);
    assert_int_equal(fields[2].value.length, 0);
    assert_int_equal(head.request_id, 1);
    assert_int_equal(head.content_length, -1);
    assert_true(head.keep_alive);
    assert_false(head.chunked);
}

TEST(wants_more_of_what_is_cut)
{
    static const char text[] =
        "POST /%41?x HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n";
    peri_head_field fields[FIELDS_MAX];
    peri_head head = {.fields = fields};

    (void)state;
    for (size_t n = 0; n < sizeof text - 1; n++) {
        assert_int_equal(scan(text, n, &head, NULL), MORE);
    }
}

TEST(refuses_folded_lines)
{
    (void)state;
    assert_int_equal(fields_verdict("X: a\r\n b\r\n"), 400);
    assert_int_equal(fields_verdict("X: a\r\n\tb\r\n"), 400);
    assert_int_equal(fields_verdict("Content-Length:\r\n 5\r\n"), 400);
    assert_int_equal(fields_verdict("Transfer-Encoding:\r\n chunked\r\n"), 400);
    assert_int_equal(verdict("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400);
}

TEST(refuses_bare_line_ends)
{
    (void)state;
    assert_int_equal(verdict("GET / HTTP/1.1\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("GET / HTTP/1.1\r\nHost: a\n\r\n"), 400);
    assert_int_equal(verdict("GET / HTTP/1.1\r\nHost: a\r\n\n"), 400);
    assert_int_equal(verdict("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"), 400);
    assert_int_equal(fields_verdict("X: \rTransfer-Encoding: chunked\r\n"),
                     400);
    assert_int_equal(fields_verdict("X: a\rb\r\n"), 400);
    assert_int_equal(verdict("GET / HTTP/1.1\r\nHost: a\r\n\rX"), 400);
}

TEST(overlooks_one_empty_line_before_a_request)
{
    (void)state;
    assert_int_equal(verdict("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), TAKEN);
    assert_int_equal(verdict("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
}

TEST(refuses_other_versions)
{
    (void)state;
    assert_int_equal(verdict("GET /x\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("GET /x\n"), 400);
    assert_int_equal(verdict("POST /x\nHost: a\nContent-Length: 3\n\nabc"),
                     400);
    assert_int_equal(verdict("GET /x HTTP/0.9\r\n\r\n"), 505);
    assert_int_equal(verdict("GET /x HTTP/2.0\r\n\r\n"), 505);
    assert_int_equal(verdict("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    assert_int_equal(verdict("GET /x RTSP/1.0\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("GET /x ICE/1.0\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("GET /x http/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("GET /x HTTP/1.10\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("GET /x HTTP/11\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("GET /x HTTP/1.\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("GET /x HTTP/1.2\r\nHost: a\r\n\r\n"), TAKEN);
    assert_int_equal(verdict("GET /x HTTP/1.0\r\n\r\n"), TAKEN);
}

TEST(knows_its_methods)
{
    (void)state;
    assert_int_equal(verdict("SOURCE /x HTTP/1.1\r\nHost: a\r\n\r\n"), 501);
    assert_int_equal(verdict("get /x HTTP/1.1\r\nHost: a\r\n\r\n"), 501);
    assert_int_equal(verdict("PROPFIND /x HTTP/1.1\r\nHost: a\r\n\r\n"), 501);
    assert_int_equal(verdict("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
                     501);
    assert_int_equal(verdict("CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("G(T /x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict(" GET /x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("\x16\x03\x01"), 400);
    assert_int_equal(verdict("TRACE /x HTTP/1.1\r\nHost: a\r\n\r\n"), TAKEN);
    assert_int_equal(
        verdict("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"),
        400);
}

TEST(refuses_a_method_without_end)
{
    char text[200];

    (void)state;
    memset(text, 'A', sizeof text);
    assert_int_equal(verdict_of(text, 64), MORE);
    assert_int_equal(verdict_of(text, 65), 501);
}

TEST(wants_exactly_one_space_between_the_parts)
{
    (void)state;
    assert_int_equal(verdict("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("GET /  HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(verdict("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
}

TEST(refuses_what_is_no_target)
{
    static const char bad[] = "\"<>\\^`{|}\x7f\x01\xc3";

    (void)state;
    for (const char *c = bad; *c != '\0'; c++) {
        char target[] = "/a?b";

        target[1] = *c;
        assert_int_equal(target_verdict(target), 400);
        memcpy(target, "/a?b", 4);
        target[3] = *c;
        assert_int_equal(target_verdict(target), 400);
    }
    assert_int_equal(target_verdict("/x#frag"), 400);
    assert_int_equal(target_verdict("/%"), 400);
    assert_int_equal(target_verdict("/%4"), 400);
    assert_int_equal(target_verdict("/%zz"), 400);
    assert_int_equal(target_verdict("/?%4g"), 400);
    assert_int_equal(target_verdict("x"), 400);
    assert_int_equal(target_verdict("*"), 400);
    assert_int_equal(target_verdict("*x"), 400);
    assert_int_equal(target_verdict("?x"), 400);
    assert_int_equal(target_verdict("/%41~a_b-c.d!$&'()*+,;=:@[]?/?"), TAKEN);
    assert_int_equal(verdict("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), TAKEN);
    assert_int_equal(verdict("OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
}

TEST(takes_absolute_targets_of_its_own_host)
{
    static const char text[] = "GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n";
    peri_head_field fields[FIELDS_MAX];
    peri_head head = {.fields = fields};

    (void)state;
    assert_int_equal(target_verdict("http://a/x?y"), TAKEN);
    assert_int_equal(target_verdict("HTTP://A/x"), TAKEN);
    assert_int_equal(target_verdict("http://b/x"), 400);
    assert_int_equal(target_verdict("http://u@a/x"), 400);
    assert_int_equal(target_verdict("http:///x"), 400);
    assert_int_equal(target_verdict("http:/a"), 400);
    assert_int_equal(target_verdict("ftp://a/x"), 400);
    assert_int_equal(target_verdict("https://a/x"), 421);
    assert_int_equal(scan(text, sizeof text - 1, &head, NULL), TAKEN);
    assert_int_equal(head.path.length, 1);
    assert_int_equal(text[head.path.offset], '/');
    assert_int_equal(head.query.length, 1);
}

static int between(const char *authority, const char *host, bool tls)
{
    char text[200];
    peri_head_field fields[FIELDS_MAX];
    peri_head head = {.fields = fields};
    peri_scan_limits with = limits;
    int length = snprintf(text, sizeof text,
                          "GET %s://%s/x HTTP/1.1\r\nHost: %s\r\n\r\n",
                          tls ? "https" : "http", authority, host);
    int rc;

    with.tls = tls;
    rc = peri_scan_head(text, (size_t)length, &with, &head);
    return rc > 0 ? TAKEN : head.refusal.status;
}

TEST(a_default_port_may_be_left_out)
{
    (void)state;
    assert_int_equal(between("a:80", "a", false), TAKEN);
    assert_int_equal(between("a", "a:80", false), TAKEN);
    assert_int_equal(between("a:80", "A:80", false), TAKEN);
    assert_int_equal(between("a:", "a", false), TAKEN);
    assert_int_equal(between("a:80", "a:", false), TAKEN);
    assert_int_equal(between("[::1]:80", "[::1]", false), TAKEN);
    assert_int_equal(between("a:443", "a", true), TAKEN);
    assert_int_equal(between("a", "a:443", true), TAKEN);

    assert_int_equal(between("a:443", "a", false), 400);
    assert_int_equal(between("a", "a:443", false), 400);
    assert_int_equal(between("a:80", "a", true), 400);
    assert_int_equal(between("a", "a:80", true), 400);
    assert_int_equal(between("a:8080", "a", false), 400);
    assert_int_equal(between("a:80", "a:81", false), 400);
    assert_int_equal(between("b:80", "a", false), 400);
    assert_int_equal(between("[::1]:80", "[::80]", false), 400);
}

TEST(wants_one_sound_host)
{
    (void)state;
    assert_int_equal(verdict("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(verdict("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
                     400);
    assert_int_equal(fields_verdict("hOST: b\r\n"), 400);
    assert_int_equal(host_verdict(""), 400);
    assert_int_equal(host_verdict("a b"), 400);
    assert_int_equal(host_verdict("a/b"), 400);
    assert_int_equal(host_verdict("u@a"), 400);
    assert_int_equal(host_verdict("a:b"), 400);
    assert_int_equal(host_verdict(":80"), 400);
    assert_int_equal(host_verdict("a:123456"), 400);
    assert_int_equal(host_verdict("a:000080"), 400);
    assert_int_equal(host_verdict("a:65536"), 400);
    assert_int_equal(host_verdict("[::1]:99999"), 400);
    assert_int_equal(host_verdict("a:65535"), TAKEN);
    assert_int_equal(host_verdict("[::1"), 400);
    assert_int_equal(host_verdict("[]"), 400);
    assert_int_equal(host_verdict("[zz]"), 400);
    assert_int_equal(host_verdict("a%zz"), 400);
    assert_int_equal(host_verdict("[::1]:80"), TAKEN);
    assert_int_equal(host_verdict("a-b.c_d:65535"), TAKEN);
    assert_int_equal(host_verdict("127.0.0.1:"), TAKEN);
}

TEST(refuses_malformed_fields)
{
    static const char nul_value[] =
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n";
    static const char nul_target[] = "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n";

    (void)state;
    assert_int_equal(fields_verdict(": x\r\n"), 400);
    assert_int_equal(fields_verdict("a b: x\r\n"), 400);
    assert_int_equal(fields_verdict("a : x\r\n"), 400);
    assert_int_equal(fields_verdict("a\t: x\r\n"), 400);
    assert_int_equal(fields_verdict("a\r\n"), 400);
    assert_int_equal(fields_verdict("a(b): x\r\n"), 400);
    assert_int_equal(fields_verdict("a: x\x01y\r\n"), 400);
    assert_int_equal(fields_verdict("a: x\x7fy\r\n"), 400);
    assert_int_equal(fields_verdict("a: 0123456789abcdef\x1f\r\n"), 400);
    assert_int_equal(fields_verdict("a: x\ty \xc3\xa9\r\n"), TAKEN);
    assert_int_equal(verdict_of(nul_value, sizeof nul_value - 1), 400);
    assert_int_equal(verdict_of(nul_target, sizeof nul_target - 1), 400);
}

TEST(wants_one_sound_content_length)
{
    (void)state;
    assert_int_equal(fields_verdict("Content-Length: 5\r\n"), TAKEN);
    assert_int_equal(fields_verdict("Content-Length: 005\t\r\n"), TAKEN);
    assert_int_equal(fields_verdict("Content-Length:\r\n"), 400);
    assert_int_equal(fields_verdict("Content-Length: +5\r\n"), 400);
    assert_int_equal(fields_verdict("Content-Length: -5\r\n"), 400);
    assert_int_equal(fields_verdict("Content-Length: 5 5\r\n"), 400);
    assert_int_equal(fields_verdict("Content-Length: 5, 5\r\n"), 400);
    assert_int_equal(fields_verdict("Content-Length: 0x5\r\n"), 400);
    assert_int_equal(
        fields_verdict("Content-Length: 5\r\nContent-Length: 5\r\n"), 400);
    assert_int_equal(fields_verdict("Content-Length: 18446744073709551615\r\n"),
                     413);
    assert_int_equal(fields_verdict("Content-Length: 18446744073709551621\r\n"),
                     413);
    assert_int_equal(fields_verdict("Content-Length: 999999999999999999\r\n"),
                     TAKEN);
    assert_int_equal(fields_verdict("Content-Length: 9223372036854775808\r\n"),
                     413);
}

TEST(takes_chunked_alone)
{
    (void)state;
    assert_int_equal(fields_verdict("Transfer-Encoding: chunked\r\n"), TAKEN);
    assert_int_equal(fields_verdict("transfer-encoding: Chunked\t\r\n"), TAKEN);
    assert_int_equal(fields_verdict("Transfer-Encoding:\r\n"), 400);
    assert_int_equal(
        fields_verdict("Content-Length: 5\r\nTransfer-Encoding:\r\n"), 400);
    assert_int_equal(
        fields_verdict("Transfer-Encoding:\r\nContent-Length: 5\r\n"), 400);
    assert_int_equal(
        fields_verdict("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        400);
    assert_int_equal(fields_verdict("Transfer-Encoding: gzip, chunked\r\n"),
                     501);
    assert_int_equal(fields_verdict("Transfer-Encoding: x,chunked\r\n"), 501);
    assert_int_equal(fields_verdict("Transfer-Encoding: ,chunked\r\n"), 400);
    assert_int_equal(fields_verdict("Transfer-Encoding: chunked,\r\n"), 400);
    assert_int_equal(fields_verdict("Transfer-Encoding: chunked, gzip\r\n"),
                     400);
    assert_int_equal(fields_verdict("Transfer-Encoding: chunked, chunked\r\n"),
                     400);
    assert_int_equal(fields_verdict("Transfer-Encoding: xchunked\r\n"), 400);
    assert_int_equal(fields_verdict("Transfer-Encoding: chunked x\r\n"), 400);
    assert_int_equal(fields_verdict("Transfer-Encoding: identity\r\n"), 400);
    assert_int_equal(fields_verdict("Transfer-Encoding: identity\r\n"
                                    "Transfer-Encoding: chunked\r\n"),
                     400);
    assert_int_equal(verdict("POST / HTTP/1.0\r\nConnection: keep-alive\r\n"
                             "Transfer-Encoding: chunked\r\n\r\n"),
                     400);
}

static bool keeps_alive(const char *text)
{
    peri_head_field fields[FIELDS_MAX];
    peri_head head = {.fields = fields};

    assert_int_equal(scan(text, strlen(text), &head, NULL), TAKEN);
    return head.keep_alive;
}

TEST(reads_connection_tokens)
{
    (void)state;
    assert_false(keeps_alive(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\t\r\n\r\n"));
    assert_false(keeps_alive(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x , CLOSE\r\n\r\n"));
    assert_false(keeps_alive("GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\n"
                             "Connection: close\r\n\r\n"));
    assert_true(
        keeps_alive("GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n"));
    assert_true(keeps_alive(
        "GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n"));
    assert_true(keeps_alive("GET / HTTP/1.1\r\nHost: a\r\nConnection: "
                            "Upgrade\r\nUpgrade: x\r\n\r\n"));
    assert_false(keeps_alive("GET / HTTP/1.0\r\n\r\n"));
    assert_true(
        keeps_alive("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
}

TEST(knows_one_expectation)
{
    (void)state;
    assert_int_equal(fields_verdict("Expect: 100-Continue\r\n"), TAKEN);
    assert_int_equal(fields_verdict("Expect: 200-ok\r\n"), 417);
    assert_int_equal(fields_verdict("Expect:\r\n"), 417);
}

TEST(limits_the_target)
{
    char target[600];

    (void)state;
    memset(target, 'a', sizeof target);
    target[0] = '/';
    target[300] = '\0';
    assert_int_equal(target_verdict(target), TAKEN);
    target[300] = 'a';
    target[301] = '\0';
    assert_int_equal(target_verdict(target), 414);
    target[301] = 'a';
    target[500] = '\0';
    target[400] = '"';
    assert_int_equal(target_verdict(target), 414);
    memcpy(target, "http://", 7);
    assert_int_equal(target_verdict(target), 414);
}

TEST(limits_the_number_of_fields)
{
    char fields[2000] = "";

    (void)state;
    for (int i = 0; i < FIELDS_MAX - 1; i++) {
        strcat(fields, "a: b\r\n");
    }
    assert_int_equal(fields_verdict(fields), TAKEN);
    strcat(fields, "a: b\r\n");
    assert_int_equal(fields_verdict(fields), 431);
}

TEST(limits_the_whole_head)
{
    char fields[2000];
    /* Request line, Host, the empty line, and what is around the value. */
    size_t rest = strlen("POST / HTTP/1.1\r\nHost: a\r\n\r\na: \r\n");

    (void)state;
    memset(fields, 'b', sizeof fields);
    memcpy(fields, "a: ", 3);
    strcpy(fields + 3 + 1000 - rest, "\r\n");
    assert_int_equal(fields_verdict(fields), TAKEN);
    fields[3 + 1000 - rest] = 'b';
    strcpy(fields + 3 + 1001 - rest, "\r\n");
    assert_int_equal(fields_verdict(fields), 431);
    memset(fields + 3, 'b', 1200);
    strcpy(fields + 1200, "\x01\r\n");
    assert_int_equal(fields_verdict(fields), 431);
}

static int trailers(const char *text)
{
    size_t length = strlen(text);
    char *copy = malloc(length + PERI_SCAN_PADDING);
    peri_refusal refusal;
    int rc;

    memcpy(copy, text, length);
    memset(copy + length, 0, PERI_SCAN_PADDING);
    rc = peri_scan_trailers(copy, length, &refusal);
    free(copy);
    return rc < 0 ? -refusal.status : rc;
}

TEST(scans_trailers_by_the_same_rules)
{
    char text[PERI_SCAN_TRAILERS_MAX_BYTES + 10];

    (void)state;
    assert_int_equal(trailers("\r\nGET"), 2);
    assert_int_equal(trailers("a: b\r\n\r\n"), 8);
    assert_int_equal(trailers("a: b\r\n"), 0);
    assert_int_equal(trailers("\n"), -400);
    assert_int_equal(trailers("a: b\r\n c\r\n\r\n"), -400);
    assert_int_equal(trailers(": b\r\n\r\n"), -400);
    memset(text, 'a', sizeof text);
    text[1] = ':';
    strcpy(text + PERI_SCAN_TRAILERS_MAX_BYTES - 4, "\r\n\r\n");
    assert_int_equal(trailers(text), PERI_SCAN_TRAILERS_MAX_BYTES);
    strcpy(text + PERI_SCAN_TRAILERS_MAX_BYTES - 4, "a\r\n\r\n");
    assert_int_equal(trailers(text), -431);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_an_ordinary_request_apart),
        cmocka_unit_test(wants_more_of_what_is_cut),
        cmocka_unit_test(refuses_folded_lines),
        cmocka_unit_test(refuses_bare_line_ends),
        cmocka_unit_test(overlooks_one_empty_line_before_a_request),
        cmocka_unit_test(refuses_other_versions),
        cmocka_unit_test(knows_its_methods),
        cmocka_unit_test(refuses_a_method_without_end),
        cmocka_unit_test(wants_exactly_one_space_between_the_parts),
        cmocka_unit_test(refuses_what_is_no_target),
        cmocka_unit_test(takes_absolute_targets_of_its_own_host),
        cmocka_unit_test(a_default_port_may_be_left_out),
        cmocka_unit_test(wants_one_sound_host),
        cmocka_unit_test(refuses_malformed_fields),
        cmocka_unit_test(wants_one_sound_content_length),
        cmocka_unit_test(takes_chunked_alone),
        cmocka_unit_test(reads_connection_tokens),
        cmocka_unit_test(knows_one_expectation),
        cmocka_unit_test(limits_the_target),
        cmocka_unit_test(limits_the_number_of_fields),
        cmocka_unit_test(limits_the_whole_head),
        cmocka_unit_test(scans_trailers_by_the_same_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
