/* The router: who wins, what is allowed, what conflicts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/err.h"
#include "core/http/router.h"

#define TEST(name) static void name(void **state)
#define BIT(method) (1u << PERI_METHOD_##method)

static int add(peri_router *router, uint32_t methods, const char *pattern,
               uint32_t id)
{
    peri_route route = {.id = id};
    char why[200];

    return peri_router_add(router, methods, pattern, &route, why, sizeof why);
}

/* The id of the route, or -1. */
static int match(const peri_router *router, peri_method method,
                 const char *path, peri_route_match *out)
{
    peri_route_match own;

    out = out != NULL ? out : &own;
    return peri_router_match(router, method, peri_slice_str(path), out)
               ? (int)out->route->id
               : -1;
}

static int get(const peri_router *router, const char *path)
{
    return match(router, PERI_METHOD_GET, path, NULL);
}

static void assert_param(const peri_route_match *m, unsigned index,
                         const char *name, const char *value)
{
    assert_true(
        peri_slice_equal(m->route->param_names[index], peri_slice_str(name)));
    assert_true(peri_slice_equal(m->params[index], peri_slice_str(value)));
}

TEST(static_wins_over_param_wins_over_rest)
{
    peri_router *r = peri_router_create();

    (void)state;
    assert_int_equal(add(r, BIT(GET), "/users/*rest", 3), 0);
    assert_int_equal(add(r, BIT(GET), "/users/:id", 2), 0);
    assert_int_equal(add(r, BIT(GET), "/users/me", 1), 0);
    assert_int_equal(get(r, "/users/me"), 1);
    assert_int_equal(get(r, "/users/m"), 2);
    assert_int_equal(get(r, "/users/mee"), 2);
    assert_int_equal(get(r, "/users/me/x"), 3);
    assert_int_equal(get(r, "/users/"), 3);
    assert_int_equal(get(r, "/users"), -1);
    peri_router_destroy(r);
}

TEST(backs_up_from_a_branch_that_leads_nowhere)
{
    peri_router *r = peri_router_create();
    peri_route_match m;

    (void)state;
    assert_int_equal(add(r, BIT(GET), "/a/b/c", 1), 0);
    assert_int_equal(add(r, BIT(GET), "/a/:x/d", 2), 0);
    assert_int_equal(add(r, BIT(GET), "/:y/b/e", 3), 0);
    assert_int_equal(add(r, BIT(GET), "/*all", 4), 0);
    assert_int_equal(match(r, PERI_METHOD_GET, "/a/b/d", &m), 2);
    assert_param(&m, 0, "x", "b");
    assert_int_equal(match(r, PERI_METHOD_GET, "/a/b/e", &m), 3);
    assert_param(&m, 0, "y", "a");
    assert_int_equal(match(r, PERI_METHOD_GET, "/a/b/f", &m), 4);
    assert_param(&m, 0, "all", "a/b/f");
    assert_int_equal(get(r, "/"), 4);
    peri_router_destroy(r);
}

TEST(backs_up_when_only_another_method_is_there)
{
    peri_router *r = peri_router_create();
    peri_route_match m;

    (void)state;
    assert_int_equal(add(r, BIT(GET), "/users/me", 1), 0);
    assert_int_equal(add(r, BIT(DELETE), "/users/:id", 2), 0);
    assert_int_equal(match(r, PERI_METHOD_DELETE, "/users/me", &m), 2);
    assert_int_equal(match(r, PERI_METHOD_PUT, "/users/me", &m), -1);
    assert_int_equal(m.allowed,
                     BIT(GET) | BIT(HEAD) | BIT(DELETE) | BIT(OPTIONS));
    peri_router_destroy(r);
}

TEST(head_falls_back_to_get)
{
    peri_router *r = peri_router_create();
    peri_route_match m;

    (void)state;
    add(r, BIT(GET), "/a", 1);
    add(r, BIT(GET), "/b", 2);
    add(r, BIT(HEAD), "/b", 3);
    add(r, BIT(POST), "/c", 4);
    assert_int_equal(match(r, PERI_METHOD_HEAD, "/a", NULL), 1);
    assert_int_equal(match(r, PERI_METHOD_HEAD, "/b", NULL), 3);
    assert_int_equal(match(r, PERI_METHOD_HEAD, "/c", &m), -1);
    assert_int_equal(m.allowed, BIT(POST) | BIT(OPTIONS));
    assert_int_equal(match(r, PERI_METHOD_OPTIONS, "/a", &m), -1);
    assert_int_equal(m.allowed, BIT(GET) | BIT(HEAD) | BIT(OPTIONS));
    assert_int_equal(match(r, PERI_METHOD_GET, "/d", &m), -1);
    assert_int_equal(m.allowed, 0);
    peri_router_destroy(r);
}

TEST(takes_parameters_raw)
{
    peri_router *r = peri_router_create();
    peri_route_match m;

    (void)state;
    add(r, BIT(GET), "/a/:one/b/:two", 1);
    assert_int_equal(match(r, PERI_METHOD_GET, "/a/x%2Fy/b/z", &m), 1);
    assert_int_equal(m.param_count, 2);
    assert_param(&m, 0, "one", "x%2Fy");
    assert_param(&m, 1, "two", "z");
    assert_string_equal(m.route->pattern, "/a/:one/b/:two");
    assert_int_equal(get(r, "/a//b/z"), -1);
    assert_int_equal(get(r, "/a/x/b/z/"), -1);
    peri_router_destroy(r);
}

TEST(names_of_parameters_do_not_part_routes)
{
    peri_router *r = peri_router_create();

    (void)state;
    assert_int_equal(add(r, BIT(GET), "/a/:x", 1), 0);
    assert_int_equal(add(r, BIT(GET), "/a/:y", 2), PERI_EEXISTS);
    assert_int_equal(add(r, BIT(POST), "/a/:y", 3), 0);
    assert_int_equal(add(r, BIT(GET) | BIT(PUT), "/a/:z", 4), PERI_EEXISTS);
    assert_int_equal(match(r, PERI_METHOD_PUT, "/a/1", NULL), -1);
    assert_int_equal(add(r, BIT(GET), "/*a", 5), 0);
    assert_int_equal(add(r, BIT(GET), "/*b", 6), PERI_EEXISTS);
    peri_router_destroy(r);
}

TEST(refuses_malformed_patterns)
{
    static const char *const bad[] = {
        "",        "a",
        "/:",      "/*",
        "/:a/:a",  "/:a/*a",
        "/*a/b",   "/:a-b",
        "/:a.txt", "/a*b",
        "/a?b",    "/a#b",
        "/:1",     "/:a/:b/:c/:d/:e/:f/:g/:h/:i/:j/:k/:l/:m/:n/:o/:p/:q",
    };
    peri_router *r = peri_router_create();
    char segments[200] = "";

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(add(r, BIT(GET), bad[i], 1), PERI_EFORMAT);
    }
    assert_int_equal(add(r, 0, "/a", 1), PERI_EFORMAT);
    for (int i = 0; i < PERI_ROUTER_SEGMENTS_MAX; i++) {
        strcat(segments, "/a");
    }
    assert_int_equal(add(r, BIT(GET), segments, 1), 0);
    strcat(segments, "/a");
    assert_int_equal(add(r, BIT(GET), segments, 1), PERI_EFORMAT);
    assert_int_equal(add(r, BIT(GET), "/a:b", 1), 0);
    assert_int_equal(get(r, "/a:b"), 1);
    peri_router_destroy(r);
}

TEST(patterns_may_be_written_as_people_read_them)
{
    peri_router *r = peri_router_create();

    (void)state;
    assert_int_equal(add(r, BIT(GET), "/caf\xc3\xa9/:id", 1), 0);
    assert_int_equal(get(r, "/caf%C3%A9/1"), 1);
    peri_router_destroy(r);
}

TEST(splits_and_joins_prefixes)
{
    peri_router *r = peri_router_create();
    char pattern[40];

    (void)state;
    assert_int_equal(add(r, BIT(GET), "/team", 1000), 0);
    assert_int_equal(add(r, BIT(GET), "/te", 1001), 0);
    assert_int_equal(add(r, BIT(GET), "/test/:id", 1002), 0);
    assert_int_equal(add(r, BIT(GET), "/", 1003), 0);
    for (uint32_t i = 0; i < 500; i++) {
        snprintf(pattern, sizeof pattern, "/r%u/item/:id", i);
        assert_int_equal(add(r, BIT(GET), pattern, i), 0);
    }
    for (uint32_t i = 0; i < 500; i++) {
        snprintf(pattern, sizeof pattern, "/r%u/item/7", i);
        assert_int_equal(get(r, pattern), (int)i);
    }
    assert_int_equal(get(r, "/team"), 1000);
    assert_int_equal(get(r, "/te"), 1001);
    assert_int_equal(get(r, "/tea"), -1);
    assert_int_equal(get(r, "/test/x"), 1002);
    assert_int_equal(get(r, "/"), 1003);
    peri_router_destroy(r);
}

TEST(methods_have_names)
{
    char text[100];
    char small[10];

    (void)state;
    for (unsigned i = 0; i < PERI_METHOD_OTHER; i++) {
        const char *name = peri_method_name((peri_method)i);

        assert_int_equal(peri_method_parse(peri_slice_str(name)), i);
    }
    assert_int_equal(peri_method_parse(PERI_SLICE("get")), PERI_METHOD_OTHER);
    assert_int_equal(peri_method_parse(PERI_SLICE("")), PERI_METHOD_OTHER);
    assert_int_equal(
        peri_methods_format(BIT(GET) | BIT(HEAD) | BIT(OPTIONS), text, 100),
        18);
    assert_string_equal(text, "GET, HEAD, OPTIONS");
    assert_int_equal(peri_methods_format(BIT(GET) | BIT(HEAD), small, 9), 3);
    assert_int_equal(peri_methods_format(0, small, 1), 0);
}

static void paths_are_matched_in_their_normal_form(void **state)
{
    static const char *const cases[][2] = {
        {"/h", "/h"},
        {"/%68%2e%7E", "/h.~"},
        {"/caf%c3%a9", "/caf%C3%A9"},
        {"/a%2fb%2F", "/a%2Fb%2F"},
        {"/%25%36%38", "/%2568"},
        {"/%", "/%"},
        {"/%6", "/%6"},
        {"/%zz%6g", "/%zz%6g"},
        {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[32];
        size_t length = peri_path_normalize(peri_slice_str(cases[i][0]), out);

        assert_int_equal(length, strlen(cases[i][1]));
        assert_memory_equal(out, cases[i][1], length);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(static_wins_over_param_wins_over_rest),
        cmocka_unit_test(backs_up_from_a_branch_that_leads_nowhere),
        cmocka_unit_test(backs_up_when_only_another_method_is_there),
        cmocka_unit_test(head_falls_back_to_get),
        cmocka_unit_test(takes_parameters_raw),
        cmocka_unit_test(names_of_parameters_do_not_part_routes),
        cmocka_unit_test(refuses_malformed_patterns),
        cmocka_unit_test(patterns_may_be_written_as_people_read_them),
        cmocka_unit_test(paths_are_matched_in_their_normal_form),
        cmocka_unit_test(splits_and_joins_prefixes),
        cmocka_unit_test(methods_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
