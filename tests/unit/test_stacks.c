/* Stacks, and the files that profiles are made into. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/flame.h"
#include "core/base/pprof.h"
#include "core/base/protobuf.h"
#include "core/base/stacks.h"

#define TEST(name) static void name(void **state)

static void add(peri_stacks *stacks, const char *key, uint64_t count,
                uint64_t ns)
{
    const uint64_t values[PERI_STACK_VALUES] = {count, ns};

    peri_stacks_add(stacks, peri_slice_str(key), values);
}

static char *ended(peri_buf *buf)
{
    assert_int_equal(peri_buf_append_byte(buf, '\0'), 0);
    return buf->data;
}

TEST(stacks_travel_as_text_and_are_added_up)
{
    peri_stacks *one = peri_stacks_create();
    peri_stacks *two = peri_stacks_create();
    peri_buf text;

    (void)state;
    peri_buf_init(&text, 1 << 20);
    add(one, "N;GET /;a.lua:f:1@3", 2, 200);
    add(one, "N;GET /;a.lua:f:1@3", 1, 100);
    add(one, "G;GET /;a.lua:f:1@4", 1, 50);
    assert_int_equal(peri_stacks_write(one, &text), 0);
    peri_stacks_read(two, peri_buf_slice(&text));
    peri_stacks_read(two, peri_buf_slice(&text));
    peri_stacks_read(two, PERI_SLICE("nonsense\n1 2 3\n\n7 7 7 7"));
    assert_int_equal(peri_stacks_count(two), 2);
    assert_int_equal(peri_stacks_get(two, 0)->values[0], 6);
    assert_int_equal(peri_stacks_get(two, 0)->values[1], 600);
    assert_int_equal(peri_stacks_get(two, 1)->values[1], 100);
    peri_buf_fini(&text);
    peri_stacks_destroy(one);
    peri_stacks_destroy(two);
}

TEST(collapsed_stacks_differ_by_function_not_by_line)
{
    peri_stacks *stacks = peri_stacks_create();
    peri_buf text;

    (void)state;
    peri_buf_init(&text, 1 << 20);
    add(stacks, "N;GET /;a.lua:f:1@3", 2, 1);
    add(stacks, "I;GET /;a.lua:f:1@4", 3, 1);
    add(stacks, "G;GET /;a.lua:f:1@4", 4, 1);
    add(stacks, "H;[host]", 5, 1);
    add(stacks, "C;mail@example.org:8@x", 6, 1);
    assert_int_equal(peri_stacks_collapse(stacks, 0, &text), 0);
    assert_string_equal(ended(&text), "GET /;a.lua:f:1 5\n"
                                      "GET /;a.lua:f:1;[gc] 4\n"
                                      "[host] 5\n"
                                      "mail@example.org:8@x;[C] 6\n");
    peri_buf_fini(&text);
    peri_stacks_destroy(stacks);
}

TEST(stacks_have_a_maximum_and_lose_no_sum)
{
    peri_stacks *stacks = peri_stacks_create();
    uint64_t sum = 0;
    char key[32];
    static char longest[PERI_STACK_KEY_MAX + 2];

    (void)state;
    for (int i = 0; i < PERI_STACKS_MAX + 100; i++) {
        snprintf(key, sizeof key, "N;f%d", i);
        add(stacks, key, 1, 1);
    }
    memset(longest, 'x', sizeof longest - 1);
    add(stacks, longest, 1, 1);
    assert_int_equal(peri_stacks_count(stacks), PERI_STACKS_MAX + 1);
    assert_int_equal(peri_stacks_get(stacks, PERI_STACKS_MAX)->values[0], 101);
    for (size_t i = 0; i < peri_stacks_count(stacks); i++) {
        sum += peri_stacks_get(stacks, i)->values[0];
    }
    assert_int_equal(sum, PERI_STACKS_MAX + 101);
    peri_stacks_destroy(stacks);
}

static void draw(peri_stacks *stacks, peri_buf *out)
{
    assert_int_equal(
        peri_flame_write(
            stacks,
            &(peri_flame_options){"<title>", "a & b", NULL, 1, PERI_FLAME_NS},
            out),
        0);
    ended(out);
}

TEST(a_flame_graph_escapes_what_it_shows)
{
    peri_stacks *stacks = peri_stacks_create();
    peri_buf svg;

    (void)state;
    peri_buf_init(&svg, 1 << 20);
    add(stacks, "N;GET /<script>alert(1)</script>;\"x\" & ]]>;\x01y", 1,
        1000000);
    draw(stacks, &svg);
    assert_non_null(strstr(svg.data, "&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert_non_null(strstr(svg.data, "&quot;x&quot; &amp; ]]&gt;"));
    assert_non_null(strstr(svg.data, "&lt;title&gt;"));
    assert_non_null(strstr(svg.data, "<title>?y (1.0 ms, 100.00 %)</title>"));
    assert_null(strstr(svg.data, "<script>alert"));
    peri_buf_fini(&svg);
    peri_stacks_destroy(stacks);
}

TEST(a_flame_graph_draws_each_function_as_wide_as_its_share)
{
    peri_stacks *stacks = peri_stacks_create();
    peri_buf svg;

    (void)state;
    peri_buf_init(&svg, 1 << 20);
    add(stacks, "N;r;b", 1, 1000000);
    add(stacks, "N;r;a", 1, 2000000);
    add(stacks, "N;r;a;c", 1, 1000000);
    draw(stacks, &svg);
    assert_non_null(strstr(svg.data, "<title>r (4.0 ms, 100.00 %)</title>"));
    assert_non_null(strstr(svg.data, "<title>a (3.0 ms, 75.00 %)</title>"
                                     "<rect x=\"10.00\" "));
    assert_non_null(strstr(svg.data, "<title>b (1.0 ms, 25.00 %)</title>"
                                     "<rect x=\"895.00\" "));
    peri_buf_clear(&svg);
    peri_stacks_destroy(stacks);
    stacks = peri_stacks_create();
    draw(stacks, &svg);
    assert_non_null(strstr(svg.data, "nothing was seen"));
    peri_buf_fini(&svg);
    peri_stacks_destroy(stacks);
}

/* How many fields of that number a message has; the last one's bytes. */
static int count_fields(peri_slice message, uint32_t number, peri_slice *last)
{
    peri_protobuf_field field;
    int count = 0;

    while (message.length > 0) {
        assert_true(peri_protobuf_next(&message, &field));
        if (field.number == number) {
            count++;
            *last = field.bytes;
        }
    }
    return count;
}

TEST(a_pprof_numbers_texts_functions_and_places_once)
{
    static const peri_pprof_type types[] = {{"samples", "count"},
                                            {"cpu", "nanoseconds"}};
    peri_stacks *stacks = peri_stacks_create();
    peri_slice last;
    peri_buf out;

    (void)state;
    peri_buf_init(&out, 1 << 20);
    add(stacks, "N;GET /;a.lua:f:1@3", 2, 1);
    add(stacks, "N;GET /;a.lua:f:1@4", 3, 1);
    add(stacks, "G;GET /;a.lua:f:1@4", 0, 0);
    assert_int_equal(
        peri_pprof_write(stacks,
                         &(peri_pprof_options){.types = types,
                                               .type_count = 2,
                                               .default_type = 1,
                                               .period_type = types[1],
                                               .period = 1000000},
                         &out),
        0);
    assert_int_equal(count_fields(peri_buf_slice(&out), 2, &last), 3);
    assert_int_equal(count_fields(last, 1, &last), 1);
    assert_int_equal(last.length, 3); /* [gc], f at 4, GET / */
    assert_int_equal(count_fields(peri_buf_slice(&out), 4, &last), 4);
    assert_int_equal(count_fields(peri_buf_slice(&out), 5, &last), 3);
    assert_int_equal(count_fields(peri_buf_slice(&out), 1, &last), 2);
    peri_buf_fini(&out);
    peri_buf_init(&out, 64);
    assert_int_equal(
        peri_pprof_write(stacks,
                         &(peri_pprof_options){.types = types, .type_count = 2},
                         &out),
        PERI_ELIMIT);
    peri_buf_fini(&out);
    peri_stacks_destroy(stacks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stacks_travel_as_text_and_are_added_up),
        cmocka_unit_test(collapsed_stacks_differ_by_function_not_by_line),
        cmocka_unit_test(stacks_have_a_maximum_and_lose_no_sum),
        cmocka_unit_test(a_flame_graph_escapes_what_it_shows),
        cmocka_unit_test(
            a_flame_graph_draws_each_function_as_wide_as_its_share),
        cmocka_unit_test(a_pprof_numbers_texts_functions_and_places_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
