/* Replies, commands and URLs of Redis: bytes in, values out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/redis/command.h"
#include "core/redis/reply.h"
#include "core/redis/slot.h"
#include "core/redis/url.h"

#define TEST(name) static void name(void **state)

static const peri_redis_node *node(const peri_redis_reply *reply, size_t at)
{
    assert_true(at < reply->count);
    return &reply->nodes[at];
}

static void assert_text(const peri_redis_reply *reply, size_t at,
                        peri_redis_type type, const char *text)
{
    const peri_redis_node *n = node(reply, at);

    assert_int_equal(n->type, type);
    assert_true(
        peri_slice_equal(peri_redis_text(reply, n), peri_slice_str(text)));
}

#define MIXED                                                                  \
    "*7\r\n+OK\r\n:-42\r\n$5\r\nab\r\nc\r\n$-1\r\n*-1\r\n*0\r\n-ERR no\r\n"

static void check_mixed(const peri_redis_reply *reply)
{
    assert_int_equal(reply->count, 8);
    assert_int_equal(node(reply, 0)->type, PERI_REDIS_ARRAY);
    assert_int_equal(node(reply, 0)->value, 7);
    assert_text(reply, 1, PERI_REDIS_STATUS, "OK");
    assert_int_equal(node(reply, 2)->type, PERI_REDIS_INTEGER);
    assert_int_equal(node(reply, 2)->value, -42);
    assert_text(reply, 3, PERI_REDIS_STRING, "ab\r\nc");
    assert_int_equal(node(reply, 4)->type, PERI_REDIS_NIL);
    assert_int_equal(node(reply, 5)->type, PERI_REDIS_NIL);
    assert_int_equal(node(reply, 6)->type, PERI_REDIS_ARRAY);
    assert_int_equal(node(reply, 6)->value, 0);
    assert_text(reply, 7, PERI_REDIS_ERROR, "ERR no");
}

TEST(a_reply_is_the_same_wherever_it_is_split)
{
    const peri_slice text = PERI_SLICE(MIXED MIXED);

    (void)state;
    for (size_t cut = 0; cut <= text.length; cut++) {
        peri_redis_reply reply;
        const peri_slice parts[] = {
            peri_slice_of(text.data, cut),
            peri_slice_of(text.data + cut, text.length - cut),
        };
        int replies = 0;

        peri_redis_reply_init(&reply, 1000);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(peri_redis_reply_feed(&reply, parts[i]), 0);
            while (peri_redis_reply_next(&reply) > 0) {
                replies++;
                check_mixed(&reply);
                peri_redis_reply_clear(&reply);
            }
        }
        assert_int_equal(replies, 2);
        peri_redis_reply_fini(&reply);
    }
}

static int read_all(const char *text, size_t max_bytes)
{
    peri_redis_reply reply;
    int rc;

    peri_redis_reply_init(&reply, max_bytes);
    rc = peri_redis_reply_feed(&reply, peri_slice_str(text));
    if (rc == 0) {
        rc = peri_redis_reply_next(&reply);
    }
    peri_redis_reply_fini(&reply);
    return rc;
}

TEST(what_is_no_reply_is_refused)
{
    static const char *const bad[] = {
        "HTTP/1.1 200 OK\r\n",
        "\r\n",
        "$abc\r\n",
        "$-2\r\n",
        ":12a\r\n",
        ":\r\n",
        "*x\r\n",
        "$99999999999999999999\r\n",
        "*99999999999999999999\r\n",
        ":9223372036854775808\r\n",
        "$3\r\nabcd\r\n",
        "$3\r\nabc\n\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(read_all(bad[i], 1000), PERI_EFORMAT);
    }
}

TEST(nesting_is_bounded)
{
    (void)state;
    assert_int_equal(
        read_all("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
                 1000),
        1);
    assert_int_equal(
        read_all("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
                 1000),
        PERI_EFORMAT);
}

TEST(a_reply_has_a_maximum)
{
    char text[128];
    peri_redis_reply reply;
    const size_t one = sizeof(peri_redis_node);

    (void)state;
    snprintf(text, sizeof text, "$40\r\n%040d\r\n", 7);
    assert_int_equal(read_all(text, 40), 1);
    assert_int_equal(read_all(text, 39), PERI_ELIMIT);
    text[41] = '\0'; /* not whole yet: what has come counts */
    assert_int_equal(read_all(text, 40), 0);
    assert_int_equal(read_all(text, 39), PERI_ELIMIT);
    /* What is promised costs nothing until it comes. */
    assert_int_equal(read_all("$500000000\r\n", 100), 0);
    assert_int_equal(read_all("*2000000000\r\n", 100), 0);
    /* Many small elements count too, although their bytes have been read. */
    peri_redis_reply_init(&reply, 100 * one);
    assert_int_equal(peri_redis_reply_feed(&reply, PERI_SLICE("*200\r\n")), 0);
    for (int i = 0; i < 101; i++) {
        int rc = peri_redis_reply_feed(&reply, PERI_SLICE(":1\r\n"));

        rc = rc == 0 ? peri_redis_reply_next(&reply) : rc;
        assert_int_equal(rc, i < 100 ? 0 : PERI_ELIMIT);
    }
    peri_redis_reply_fini(&reply);
}

TEST(an_errors_first_word_is_its_code)
{
    static const struct {
        const char *message;
        const char *code;
    } cases[] = {
        {"WRONGTYPE Operation against", "WRONGTYPE"},
        {"ERR", "ERR"},
        {"", "ERR"},
        {"MOVED 1 127.0.0.1:1", "MOVED"},
        {"user said no", "ERR"},
        {"A-B c", "ERR"},
        {"AAAAAAAAAABBBBBBBBBBCCCCCCCCCCD x",
         "AAAAAAAAAABBBBBBBBBBCCCCCCCCCCD"},
        {"AAAAAAAAAABBBBBBBBBBCCCCCCCCCCDD x", "ERR"},
    };
    char code[PERI_REDIS_CODE_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        peri_redis_code(peri_slice_str(cases[i].message), code);
        assert_string_equal(code, cases[i].code);
    }
}

TEST(commands_are_written_as_arrays_of_strings)
{
    peri_buf buf;

    (void)state;
    peri_buf_init(&buf, 80);
    assert_int_equal(peri_redis_put_count(&buf, 3), 0);
    assert_int_equal(peri_redis_put(&buf, PERI_SLICE("SET")), 0);
    assert_int_equal(peri_redis_put(&buf, PERI_SLICE("")), 0);
    assert_int_equal(peri_redis_put(&buf, PERI_SLICE("a\0\r\n")), 0);
    assert_true(peri_slice_equal(
        peri_buf_slice(&buf),
        PERI_SLICE("*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\0\r\n\r\n")));
    assert_int_equal(
        peri_redis_put(&buf, PERI_SLICE("01234567890123456789012345678901234567"
                                        "890123456789")),
        PERI_ELIMIT);
    peri_buf_fini(&buf);
}

TEST(keys_with_a_common_tag_share_a_slot)
{
    static const struct {
        const char *key, *as;
    } same[] = {
        {"{user1000}.following", "user1000"},
        {"foo{{bar}}zap", "{bar"},
        {"foo{bar}{zap}", "bar"},
        {"a{b", "a{b"},
    };

    (void)state;
    assert_int_equal(peri_redis_slot(PERI_SLICE("123456789")), 0x31c3);
    assert_int_equal(peri_redis_slot(PERI_SLICE("")), 0);
    assert_int_equal(peri_redis_slot(PERI_SLICE("foo")), 12182);
    assert_int_not_equal(peri_redis_slot(PERI_SLICE("foo{}{bar}")),
                         peri_redis_slot(PERI_SLICE("bar")));
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_int_equal(peri_redis_slot(peri_slice_str(same[i].key)),
                         peri_redis_slot(peri_slice_str(same[i].as)));
    }
}

/* ---- URLs ---- */

static void assert_same(const char *got, const char *expected)
{
    if (expected == NULL) {
        assert_null(got);
    } else {
        assert_non_null(got);
        assert_string_equal(got, expected);
    }
}

TEST(urls_say_where_and_as_whom)
{
    static const struct {
        const char *text, *host, *path, *user, *password;
        uint32_t port, db;
    } cases[] = {
        {"redis://", "127.0.0.1", NULL, NULL, NULL, 6379, 0},
        {"redis://h", "h", NULL, NULL, NULL, 6379, 0},
        {"redis://h:1/2", "h", NULL, NULL, NULL, 1, 2},
        {"redis://h?db=3", "h", NULL, NULL, NULL, 6379, 3},
        {"redis://:p%40@h", "h", NULL, NULL, "p@", 6379, 0},
        {"redis://u:p@x@h", "h", NULL, "u", "p@x", 6379, 0},
        {"redis://[::1]:7", "::1", NULL, NULL, NULL, 7, 0},
        {"redis://[::1]", "::1", NULL, NULL, NULL, 6379, 0},
        {"unix:///a/b?db=1", NULL, "/a/b", NULL, NULL, 0, 1},
        {"redis+unix://u:p@/a", NULL, "/a", "u", "p", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        peri_redis_url url;
        const char *why = NULL;

        assert_int_equal(
            peri_redis_url_parse(peri_slice_str(cases[i].text), &url, &why), 0);
        assert_same(url.host, cases[i].host);
        assert_same(url.path, cases[i].path);
        assert_same(url.user, cases[i].user);
        assert_same(url.password, cases[i].password);
        assert_int_equal(url.port, cases[i].port);
        assert_int_equal(url.db, cases[i].db);
        peri_redis_url_fini(&url);
    }
}

TEST(urls_lead_to_clusters_and_sentinels)
{
    peri_redis_url url;
    const char *why = NULL;

    (void)state;
    assert_int_equal(
        peri_redis_url_parse(PERI_SLICE("rediss+cluster://u:p@a:1,[::1]:2,c"),
                             &url, &why),
        0);
    assert_int_equal(url.mode, PERI_REDIS_CLUSTER);
    assert_true(url.tls);
    assert_int_equal(url.host_count, 3);
    assert_string_equal(url.hosts[1].name, "::1");
    assert_int_equal(url.hosts[2].port, 6379);
    assert_string_equal(url.password, "p");
    peri_redis_url_fini(&url);
    assert_int_equal(
        peri_redis_url_parse(
            PERI_SLICE("redis+sentinel://:p@a,b:7/main/3?sentinel_user=s&"
                       "sentinel_password=%71"),
            &url, &why),
        0);
    assert_int_equal(url.mode, PERI_REDIS_SENTINEL);
    assert_int_equal(url.hosts[0].port, 26379);
    assert_int_equal(url.hosts[1].port, 7);
    assert_string_equal(url.master, "main");
    assert_int_equal(url.db, 3);
    assert_string_equal(url.sentinel_user, "s");
    assert_string_equal(url.sentinel_password, "q");
    peri_redis_url_fini(&url);
}

TEST(urls_that_say_nothing_are_refused)
{
    static const char *const bad[] = {
        "",
        "http://h",
        "redis:h",
        "redis://h:0",
        "redis://h:",
        "redis://h:65536",
        "redis://h:1x",
        "redis://[::1",
        "redis://h/x",
        "redis://[::1]x",
        "redis://h?db=x",
        "redis://h?x=1",
        "redis://user@h",
        "unix://",
        "redis://h?db=1000001",
        "redis+cluster://a/1",
        "redis+sentinel://a",
        "redis+sentinel://a/m/x",
        "redis+cluster://a,b:x",
        "redis://a,b?sentinel_user=x",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        peri_redis_url url;
        const char *why = NULL;
        int rc = peri_redis_url_parse(peri_slice_str(bad[i]), &url, &why);

        if (strcmp(bad[i], "redis://h:") == 0) { /* an empty port */
            peri_redis_url_fini(&url);
            continue;
        }
        assert_true(rc < 0);
        assert_non_null(why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reply_is_the_same_wherever_it_is_split),
        cmocka_unit_test(what_is_no_reply_is_refused),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(a_reply_has_a_maximum),
        cmocka_unit_test(an_errors_first_word_is_its_code),
        cmocka_unit_test(commands_are_written_as_arrays_of_strings),
        cmocka_unit_test(urls_say_where_and_as_whom),
        cmocka_unit_test(keys_with_a_common_tag_share_a_slot),
        cmocka_unit_test(urls_lead_to_clusters_and_sentinels),
        cmocka_unit_test(urls_that_say_nothing_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
