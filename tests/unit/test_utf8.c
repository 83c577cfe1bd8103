/* UTF-8: what is well formed, byte by byte, wherever it lies in a text. */
#include "core/base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The characters next to every border. */
static const char *const sound[] = {
    "\x7f",         "\xc2\x80",     "\xdf\xbf",         "\xe0\xa0\x80",
    "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",     "\xf0\x90\x80\x80",
    "\xe1\x80\x80", "\xec\xbf\xbf", "\xf4\x8f\xbf\xbf", "\xf3\x80\x80\x80"};

static const char *const unsound[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2\x41",
                                      "\xc2\xc2",
                                      "\xe0\x80\x80",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xe2\x82",
                                      "\xe2\x82\x41",
                                      "\xe2\x41\x80",
                                      "\xf0\x80\x80\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xf0\x90\x80"};

static void borders_are_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sound / sizeof sound[0]; i++) {
        size_t length = strlen(sound[i]);

        assert_int_equal(peri_utf8_width(sound[i], length), length);
        assert_true(peri_utf8_valid(sound[i], length));
        if (length > 1) {
            assert_false(peri_utf8_valid(sound[i], length - 1));
        }
    }
    for (size_t i = 0; i < sizeof unsound / sizeof unsound[0]; i++) {
        assert_int_equal(peri_utf8_width(unsound[i], strlen(unsound[i])), 0);
        assert_int_equal(peri_utf8_span(unsound[i], strlen(unsound[i])), 0);
    }
    assert_true(peri_utf8_valid("", 0));
}

static void a_span_ends_at_the_first_fault(void **state)
{
    char text[64];

    (void)state;
    for (size_t before = 0; before < 20; before++) {
        for (size_t i = 0; i < sizeof sound / sizeof sound[0]; i++) {
            size_t width = strlen(sound[i]);

            memset(text, 'a', sizeof text);
            memcpy(text + before, sound[i], width);
            assert_int_equal(peri_utf8_span(text, 40), 40);
            text[before + width] = '\xff';
            assert_int_equal(peri_utf8_span(text, 40), before + width);
            assert_false(peri_utf8_valid(text, 40));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(borders_are_kept),
        cmocka_unit_test(a_span_ends_at_the_first_fault),
    };

    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
