/* Settings: what C reads of the effective configuration. */
#include "core/base/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void gives_values_by_key(void **state)
{
    peri_settings *s = peri_settings_create(
        PERI_SLICE("http.port\t8080\nhttp.host\t127.0.0.1\nlog.x\ta\tb\n"
                   "http.tls\tfalse\nreload.watch\ttrue\nhttp.big\t1e+15\n"));

    (void)state;
    assert_int_equal(peri_settings_int(s, "http.port", 1), 8080);
    assert_string_equal(peri_settings_str(s, "http.host", "x"), "127.0.0.1");
    assert_string_equal(peri_settings_str(s, "log.x", "x"), "a\tb");
    assert_false(peri_settings_bool(s, "http.tls", true));
    assert_true(peri_settings_bool(s, "reload.watch", false));
    assert_true(peri_settings_int(s, "http.big", 0) == 1000000000000000);
    peri_settings_destroy(s);
}

static void gives_the_fallback_for_what_is_absent_or_no_number(void **state)
{
    peri_settings *s =
        peri_settings_create(PERI_SLICE("a\tword\nb\t\nno tab here\n\tx"));

    (void)state;
    assert_int_equal(peri_settings_int(s, "a", 7), 7);
    assert_int_equal(peri_settings_int(s, "b", 7), 7);
    assert_int_equal(peri_settings_int(s, "c", 7), 7);
    assert_true(peri_settings_bool(s, "a", true));
    assert_null(peri_settings_str(s, "", NULL));
    assert_string_equal(peri_settings_str(s, "b", "x"), "");
    peri_settings_destroy(s);
}

static void the_last_line_of_a_key_counts(void **state)
{
    peri_settings *s =
        peri_settings_create(PERI_SLICE("k\t1\na\t0\nk\t2\nz\t0\nk\t3"));

    (void)state;
    assert_int_equal(peri_settings_int(s, "k", 0), 3);
    peri_settings_destroy(s);
}

static void nothing_is_allowed(void **state)
{
    peri_settings *s = peri_settings_create((peri_slice){NULL, 0});

    (void)state;
    assert_int_equal(peri_settings_int(s, "k", 4), 4);
    peri_settings_destroy(s);
    peri_settings_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_values_by_key),
        cmocka_unit_test(gives_the_fallback_for_what_is_absent_or_no_number),
        cmocka_unit_test(the_last_line_of_a_key_counts),
        cmocka_unit_test(nothing_is_allowed),
    };

    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
