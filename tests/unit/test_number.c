/* Number: known texts, exact round trips, limits. */
#include "core/base/number.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct known {
    double value;
    const char *text; /* as JavaScript prints it */
} known;

static const known texts[] = {
    {0, "0"},
    {-0.0, "-0"},
    {1, "1"},
    {-1, "-1"},
    {10, "10"},
    {99, "99"},
    {100, "100"},
    {12345678, "12345678"},
    {9007199254740991, "9007199254740991"},
    {9007199254740992, "9007199254740992"},
    {9007199254740994, "9007199254740994"},
    {123456789012345680000.0, "123456789012345680000"},
    {1e20, "100000000000000000000"},
    {999999999999999900000.0, "999999999999999900000"},
    {1e21, "1e+21"},
    {1.5e21, "1.5e+21"},
    {0.1, "0.1"},
    {0.2, "0.2"},
    {0.1 + 0.2, "0.30000000000000004"},
    {1.0 / 3, "0.3333333333333333"},
    {2.0 / 3, "0.6666666666666666"},
    {1.25, "1.25"},
    {19.99, "19.99"},
    {1234.5678, "1234.5678"},
    {123456.789e3, "123456789"},
    {0.000001, "0.000001"},
    {0.00000123, "0.00000123"},
    {1e-7, "1e-7"},
    {1.23e-7, "1.23e-7"},
    {5e-324, "5e-324"},
    {2.2250738585072014e-308, "2.2250738585072014e-308"},
    {2.225073858507201e-308, "2.225073858507201e-308"},
    {1.7976931348623157e308, "1.7976931348623157e+308"},
    {4.35, "4.35"},
    {9.5e-3, "0.0095"},
    {5.684341886080801e-14, "5.684341886080801e-14"},
    {1e23, "1e+23"},
    {8.41e21, "8.41e+21"},
    {2e-44, "2e-44"},
};

static void numbers_are_written_as_javascript_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char out[PERI_NUMBER_TEXT_BYTES + 1];
        size_t length = peri_number_write(texts[i].value, out);

        assert_true(length <= PERI_NUMBER_TEXT_BYTES);
        out[length] = '\0';
        assert_string_equal(out, texts[i].text);
    }
}

static void assert_reads(const char *text, double expected)
{
    double value;

    assert_int_equal(peri_number_read(text, strlen(text), &value),
                     strlen(text));
    assert_memory_equal(&value, &expected, sizeof value);
}

static void written_numbers_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_reads(texts[i].text, texts[i].value);
    }
}

/* Halfway cases and long digits, where a careless reader rounds wrong. */
static void hard_numbers_are_read_as_libc_does(void **state)
{
    static const char *const hard[] = {
        "9007199254740993",
        "9007199254740993.0000000000000000000001",
        "9007199254740992.9999999999999999999999",
        "1e-400",
        "1e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "3e-324",
        "2.2250738585072011e-308",
        "2.2250738585072012e-308",
        "179769313486231570000000000000000000000e270",
        "1.7976931348623158e308",
        "100000000000000016777215",
        "100000000000000016777216",
        "9214843084008499",
        "0.500000000000000166533453693773481063544750213623046875",
        "3.518437208883201171875e13",
        "62.5364939768271845828",
        "8.10109172351e-10",
        "1.50000000000000011102230246251565",
        "1e22",
        "1e23",
        "123456789012345678901234567890e-10",
        "0.000000000000001e15",
        "6.631236846766476e-316",
        "3.2378839133029012895883524125015321748e-319",
        "7.2057594037927933e16",
        "1234567890123456789012345678901234567890",
        "1090544144181609348671888949248",
        "1090544144181609348835077142190"};

    (void)state;
    for (size_t i = 0; i < sizeof hard / sizeof hard[0]; i++) {
        assert_reads(hard[i], strtod(hard[i], NULL));
    }
}

static void too_large_is_infinite(void **state)
{
    (void)state;
    assert_reads("1e309", INFINITY);
    assert_reads("-1e309", -INFINITY);
    assert_reads("1e99999999999999999999", INFINITY);
    assert_reads("0e99999999999999999999", 0);
    assert_reads("1e-99999999999999999999", 0);
    assert_reads("1.7976931348623159e308", INFINITY);
}

static void what_is_no_json_number_is_refused(void **state)
{
    static const char *const wrong[] = {"",    "-",   "+1",   ".5",  "01",
                                        "-00", "1.",  "1.e1", "1e",  "1e+",
                                        "e1",  "-.1", "nan",  "inf", " 1"};
    double value;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(peri_number_read(wrong[i], strlen(wrong[i]), &value),
                         0);
    }
    assert_int_equal(peri_number_read("12]", 3, &value), 2);
    assert_int_equal(peri_number_read("1.5e3,", 6, &value), 5);
    assert_int_equal(peri_number_read("123", 2, &value), 2);
    assert_true(value == 12);
}

/* splitmix64: the same numbers in every run. */
static uint64_t next_bits(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void assert_round_trip(double value)
{
    char out[PERI_NUMBER_TEXT_BYTES + 1];
    size_t length = peri_number_write(value, out);
    double back;

    out[length] = '\0';
    assert_int_equal(peri_number_read(out, length, &back), length);
    assert_memory_equal(&back, &value, sizeof value);
    back = strtod(out, NULL);
    assert_memory_equal(&back, &value, sizeof value);
}

static void random_doubles_come_back(void **state)
{
    uint64_t seed = 42;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        uint64_t bits = next_bits(&seed);
        double value;

        memcpy(&value, &bits, sizeof value);
        if (isfinite(value)) {
            assert_round_trip(value);
        }
        assert_round_trip((double)(bits >> 20) / 100);
        assert_round_trip((double)bits);
    }
}

static void neighbours_of_powers_of_two_come_back(void **state)
{
    (void)state;
    for (int exponent = -1074; exponent < 1024; exponent++) {
        double power = ldexp(1, exponent);

        assert_round_trip(power);
        assert_round_trip(nextafter(power, 0));
        assert_round_trip(nextafter(power, DBL_MAX));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_written_as_javascript_does),
        cmocka_unit_test(written_numbers_are_read),
        cmocka_unit_test(hard_numbers_are_read_as_libc_does),
        cmocka_unit_test(too_large_is_infinite),
        cmocka_unit_test(what_is_no_json_number_is_refused),
        cmocka_unit_test(random_doubles_come_back),
        cmocka_unit_test(neighbours_of_powers_of_two_come_back),
    };

    return cmocka_run_group_tests_name("number", tests, NULL, NULL);
}
