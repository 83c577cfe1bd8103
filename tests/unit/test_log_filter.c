/* Log filter: which lines somebody wants to see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/log_filter.h"

#define TEST(name) static void name(void **state)

/* The line lies in memory that ends with it, as in a reader's buffer. */
static bool passes(const peri_log_filter *filter, const char *line)
{
    size_t length = strlen(line);
    char *alone = malloc(length > 0 ? length : 1);
    bool result;

    memcpy(alone, line, length);
    result = peri_log_filter_passes(filter, peri_slice_of(alone, length));
    free(alone);
    return result;
}

TEST(a_level_and_what_is_above_it_pass)
{
    const peri_log_filter warn = {.level = 40};

    (void)state;
    assert_true(passes(&warn, "{\"level\":40,\"msg\":\"a\"}\n"));
    assert_true(passes(&warn, "{\"msg\":\"a\",\"level\":50}"));
    assert_false(passes(&warn, "{\"level\":30,\"msg\":\"a\"}\r\n"));
    assert_true(passes(&warn, "{\"level\":\"error\",\"msg\":\"a\"}"));
    assert_false(passes(&warn, "{\"level\":\"info\",\"msg\":\"a\"}"));
    assert_false(passes(&warn, "{\"level\":\"loud\",\"msg\":\"a\"}"));
    assert_false(passes(&warn, "{\"level\":"));
    assert_false(passes(&warn, "no JSON"));
    assert_false(passes(&warn, ""));
}

TEST(a_trace_passes_by_how_it_begins)
{
    const peri_log_filter trace = {.trace_id = "ab12"};

    (void)state;
    assert_true(passes(&trace, "{\"level\":30,\"trace_id\":\"ab12cd\"}"));
    assert_false(passes(&trace, "{\"level\":30,\"trace_id\":\"ab1\"}"));
    assert_false(passes(&trace, "{\"level\":30,\"trace_id\":7}"));
}

TEST(a_route_passes_by_name_and_by_url)
{
    const peri_log_filter route = {.route = "/users/:id"};

    (void)state;
    assert_true(passes(&route, "{\"route\":\"/users/:id\"}"));
    assert_true(passes(&route, "{\"req\":{\"url\":\"/users/7?a=1\"}}"));
    assert_false(passes(&route, "{\"req\":{\"url\":\"/users\"}}"));
    assert_false(passes(&route, "{\"req\":{\"url\":\"/users/7/x\"}}"));
    assert_false(passes(&route, "{\"msg\":\"no request\"}"));
}

TEST(without_a_filter_all_passes)
{
    const peri_log_filter none = {.level = 0};

    (void)state;
    assert_true(passes(&none, "no JSON"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_level_and_what_is_above_it_pass),
        cmocka_unit_test(a_trace_passes_by_how_it_begins),
        cmocka_unit_test(a_route_passes_by_name_and_by_url),
        cmocka_unit_test(without_a_filter_all_passes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
