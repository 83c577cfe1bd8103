/* Text codes: RFC 4648's vectors, every length there and back, strictness. */
#include "core/base/text_code.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void lengths_go_there_and_back(void **state)
{
    char data[100];
    char text[200];
    char back[200];

    (void)state;
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (char)(i * 37);
    }
    for (size_t length = 0; length <= sizeof data; length++) {
        for (int kind = PERI_BASE64; kind <= PERI_BASE64_URL; kind++) {
            size_t written =
                peri_base64_encode((peri_base64)kind, data, length, text);
            size_t read;

            assert_true(written <= peri_base64_room(length));
            assert_true(peri_base64_decode((peri_base64)kind, text, written,
                                           back, &read));
            assert_int_equal(read, length);
            assert_memory_equal(back, data, length);
        }
        peri_hex_encode(data, length, text);
        assert_true(peri_hex_decode(text, 2 * length, back));
        assert_memory_equal(back, data, length);
    }
}

static bool is_base64(peri_base64 kind, const char *text)
{
    char out[64];
    size_t length;

    return peri_base64_decode(kind, text, strlen(text), out, &length);
}

static void one_text_stands_for_each_bytes(void **state)
{
    static const char *const wrong[] = {
        "Z",  "Zg",   "Zg=",  "Zh==",   "Zm9=", "=",
        "==", "====", "Z===", "Zg==\n", "Zm 9", "Zg==Zg=="};
    char out[4];

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(is_base64(PERI_BASE64, wrong[i]));
    }
    assert_true(is_base64(PERI_BASE64_URL, "Zg"));
    assert_false(is_base64(PERI_BASE64_URL, "Zg=="));
    assert_false(is_base64(PERI_BASE64_URL, "Zh"));
    assert_true(is_base64(PERI_BASE64, "+/+/"));
    assert_false(is_base64(PERI_BASE64, "-_-_"));
    assert_true(is_base64(PERI_BASE64_URL, "-_-_"));
    assert_false(peri_hex_decode("0", 1, out));
    assert_false(peri_hex_decode("0g", 2, out));
    assert_true(peri_hex_decode("aF", 2, out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_go_there_and_back),
        cmocka_unit_test(one_text_stands_for_each_bytes),
    };

    return cmocka_run_group_tests_name("text code", tests, NULL, NULL);
}
