/* Chunked bodies: what llhttp and we take and refuse together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/err.h"
#include "core/http/chunked.h"
#include "core/http/scan.h"

#define TEST(name) static void name(void **state)
#define INCOMPLETE (-1)

/* Feeds text in pieces, as a connection would: what was not used comes again
 * with more behind it. The body's length, INCOMPLETE, or the error. */
static int feed(const char *text, size_t length, size_t piece, char *body,
                uint64_t max_bytes)
{
    peri_chunked chunked;
    peri_buf out;
    size_t start = 0;
    size_t end = 0;
    ptrdiff_t rc = 0;

    peri_buf_init(&out, 1 << 20);
    peri_chunked_init(&chunked, max_bytes);
    while (rc >= 0 && !chunked.ended && end < length) {
        char *copy;

        end = end + piece < length ? end + piece : length;
        copy = malloc(end - start + PERI_SCAN_PADDING);
        memcpy(copy, text + start, end - start);
        memset(copy + (end - start), 0, PERI_SCAN_PADDING);
        rc = peri_chunked_feed(&chunked, copy, end - start, &out);
        free(copy);
        start += rc > 0 ? (size_t)rc : 0;
    }
    if (rc >= 0) {
        rc = chunked.ended ? (ptrdiff_t)out.length : INCOMPLETE;
    }
    if (body != NULL) {
        memcpy(body, out.data, out.length);
        body[out.length] = '\0';
    }
    peri_buf_fini(&out);
    return (int)rc;
}

static int verdict(const char *text)
{
    size_t length = strlen(text);
    int whole = feed(text, length, length, NULL, 10000);

    for (size_t piece = 1; piece < 8; piece++) {
        assert_int_equal(feed(text, length, piece, NULL, 10000), whole);
    }
    return whole;
}

TEST(the_linked_llhttp_is_strict)
{
    (void)state;
    assert_true(peri_chunked_self_test());
}

TEST(chunks_are_joined)
{
    char body[100];
    static const char text[] = "4\r\nWiki\r\n5;x=y\r\npedia\r\n0\r\n\r\nGET";

    (void)state;
    assert_int_equal(feed(text, sizeof text - 1, 1000, body, 100), 9);
    assert_string_equal(body, "Wikipedia");
    assert_int_equal(feed(text, sizeof text - 1, 1, body, 100), 9);
    assert_string_equal(body, "Wikipedia");
    assert_int_equal(verdict("0\r\n\r\n"), 0);
    assert_int_equal(verdict("0003\r\nabc\r\n00\r\n\r\n"), 3);
    assert_int_equal(verdict("A\r\n0123456789\r\n0\r\n\r\n"), 10);
    assert_int_equal(verdict("3\r\nabc\r\n"), INCOMPLETE);
}

TEST(what_follows_the_end_is_not_taken)
{
    char text[] =
        "1\r\na\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\0\0\0\0\0\0\0\0";
    size_t length = sizeof text - 9;
    peri_chunked chunked;
    peri_buf out;

    (void)state;
    peri_buf_init(&out, 100);
    peri_chunked_init(&chunked, 100);
    assert_int_equal(peri_chunked_feed(&chunked, text, length, &out), 17);
    assert_true(chunked.ended);
    peri_buf_fini(&out);
}

TEST(malformed_chunks_are_refused)
{
    static const char *const bad[] = {
        "3\r\nabcXX",
        "3\r\nabcd\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "g\r\n",
        "\r\n",
        " 3\r\nabc\r\n",
        "3 \r\nabc\r\n",
        "-3\r\nabc\r\n",
        "+3\r\nabc\r\n",
        "0x3\r\nabc\r\n",
        "3\rabc\r\n",
        "ffffffffffffffff1\r\na",
        "0\r\n\n",
        "0\n\r\n",
        "0\r\nX: a\r\n b\r\n\r\n",
        "0\r\n: a\r\n\r\n",
        "0\r\nX: a\n\r\n",
        "0\r\nX a\r\n\r\n",
        "0\r\n\rX",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int rc = verdict(bad[i]);

        if (rc != PERI_EFORMAT) {
            fail_msg("%s: %d", bad[i], rc);
        }
    }
}

TEST(trailers_are_taken_and_dropped)
{
    (void)state;
    assert_int_equal(verdict("1\r\na\r\n0\r\nX: y\r\nHost: z\r\n\r\n"), 1);
    assert_int_equal(verdict("0\r\nConnection: close\r\n\r\n"), 0);
    assert_int_equal(verdict("0\r\nX: y\r\n"), INCOMPLETE);
}

TEST(sizes_are_held_against_the_limit)
{
    static const char text[] = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";

    (void)state;
    assert_int_equal(feed(text, sizeof text - 1, 100, NULL, 5), 5);
    assert_int_equal(feed(text, sizeof text - 1, 100, NULL, 4), PERI_ELIMIT);
    assert_int_equal(verdict("ffffffffffffffff\r\n"), PERI_ELIMIT);
    assert_int_equal(verdict("7fffffffffffffff\r\n"), PERI_ELIMIT);
}

/* Something, then `filler` repeated, then the rest. */
static int padded(const char *before, char filler, size_t count,
                  const char *after, size_t piece)
{
    size_t front = strlen(before);
    size_t length = front + count + strlen(after);
    char *text = malloc(length + 1);
    int rc;

    strcpy(text, before);
    memset(text + front, filler, count);
    strcpy(text + front + count, after);
    rc = feed(text, length, piece, NULL, 1 << 20);
    free(text);
    return rc;
}

TEST(extensions_zeros_and_trailers_have_an_end)
{
    static const size_t pieces[] = {1 << 20, 1000};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        size_t piece = pieces[i];

        assert_int_equal(padded("1;", 'x', 8000, "\r\na\r\n0\r\n\r\n", piece),
                         1);
        assert_int_equal(padded("1;", 'x', 9000, "\r\na\r\n0\r\n\r\n", piece),
                         PERI_EFORMAT);
        assert_int_equal(padded("1;", 'x', 9000, "", piece), PERI_EFORMAT);
        assert_int_equal(padded("", '0', 9000, "1\r\na", piece), PERI_EFORMAT);
        assert_int_equal(padded("0\r\nX: ", 'x', 8000, "\r\n\r\n", piece), 0);
        assert_int_equal(padded("0\r\nX: ", 'x', 9000, "\r\n\r\n", piece),
                         PERI_ELIMIT);
        assert_int_equal(padded("0\r\nX: ", 'x', 9000, "", piece), PERI_ELIMIT);
    }
}

TEST(many_small_chunks_are_no_attack)
{
    enum { CHUNKS = 20000 };
    static const char one[] = "1\r\nx\r\n";
    size_t part = sizeof one - 1;
    char *text = malloc(CHUNKS * part + 6);

    (void)state;
    for (size_t i = 0; i < CHUNKS; i++) {
        memcpy(text + i * part, one, part);
    }
    memcpy(text + CHUNKS * part, "0\r\n\r\n", 6);
    assert_int_equal(feed(text, CHUNKS * part + 5, 60000, NULL, 1 << 20),
                     CHUNKS);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_linked_llhttp_is_strict),
        cmocka_unit_test(chunks_are_joined),
        cmocka_unit_test(what_follows_the_end_is_not_taken),
        cmocka_unit_test(malformed_chunks_are_refused),
        cmocka_unit_test(trailers_are_taken_and_dropped),
        cmocka_unit_test(sizes_are_held_against_the_limit),
        cmocka_unit_test(extensions_zeros_and_trailers_have_an_end),
        cmocka_unit_test(many_small_chunks_are_no_attack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
