/* SQL text: what traces show of statements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/sql_text.h"

#define TEST(name) static void name(void **state)

static void masked(const char *sql, const char *expected)
{
    char out[256];
    size_t length = peri_sql_masked(peri_slice_str(sql), out, sizeof out);

    assert_int_equal(length, strlen(expected));
    assert_memory_equal(out, expected, length);
}

TEST(literals_are_hidden)
{
    (void)state;
    masked("insert into t1 values ('it''s', 12, -1.5e-3, x'ab', X'', .5, 0x1F)",
           "insert into t1 values (?, ?, -?, ?, ?, ?, ?)");
    masked("select a2, \"b'3\", [c 4], `d5` from t where a='x'and b=7",
           "select a2, \"b'3\", [c 4], `d5` from t where a=?and b=?");
    masked("select 1 -- it's 2\n, /* 3's */ 4",
           "select ? -- it's 2\n, /* 3's */ ?");
    masked("pragma user_version", "pragma user_version");
    masked("", "");
}

TEST(what_does_not_end_is_hidden_to_its_end)
{
    (void)state;
    masked("select 'secret", "select ?");
    masked("select x'", "select ?");
    masked("select \"a", "select \"a");
    masked("select /* a", "select /* a");
}

TEST(a_statement_with_parameters_stays)
{
    (void)state;
    masked("select * from t where a = ? limit 10",
           "select * from t where a = ? limit 10");
    masked("update t set a = :a where b = 'x'",
           "update t set a = :a where b = 'x'");
    masked("select $1, @b, 5", "select $1, @b, 5");
    masked("select '?', ':a', 5", "select ?, ?, ?");
}

TEST(a_long_statement_is_cut)
{
    char out[8];

    (void)state;
    assert_int_equal(
        peri_sql_masked(PERI_SLICE("select 'a', name from t"), out, sizeof out),
        8);
    assert_memory_equal(out, "select ?", 8);
    assert_int_equal(
        peri_sql_masked(PERI_SLICE("select ?, name"), out, sizeof out), 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_are_hidden),
        cmocka_unit_test(what_does_not_end_is_hidden_to_its_end),
        cmocka_unit_test(a_statement_with_parameters_stays),
        cmocka_unit_test(a_long_statement_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
