/* Breaker: when it opens, what it lets through, when it closes. */
#include "core/shm/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct world {
    peri_regions *regions;
    peri_breaker *breaker;
    uint64_t now_ms;
} world;

static uint64_t world_now(void *data)
{
    return ((world *)data)->now_ms;
}

static void use(world *w, peri_breaker_rules rules)
{
    assert_int_equal(
        peri_breaker_open(w->regions, "breaker:b", &rules, &w->breaker), 0);
    peri_breaker_set_clock(w->breaker, world_now, w);
}

static int open_world(void **state)
{
    world *w = calloc(1, sizeof *w);

    w->regions = peri_regions_create((size_t)1 << 20);
    w->now_ms = 1000000;
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    world *w = *state;

    peri_breaker_close(w->breaker);
    peri_regions_destroy(w->regions);
    free(w);
    return 0;
}

static void call(world *w, peri_breaker_result result)
{
    int64_t entered = peri_breaker_enter(w->breaker);

    assert_true(entered >= 0);
    peri_breaker_leave(w->breaker, entered, result);
}

static uint32_t state_of(world *w)
{
    peri_breaker_counts counts;

    peri_breaker_stat(w->breaker, &counts);
    return counts.state;
}

static const peri_breaker_rules by_count = {
    .failures = 3, .window_ms = 1000, .open_ms = 500, .probes = 2};

static void it_opens_at_its_count_of_failures(void **state)
{
    world *w = *state;

    use(w, by_count);
    call(w, PERI_BREAKER_FAILED);
    call(w, PERI_BREAKER_SUCCEEDED);
    call(w, PERI_BREAKER_FAILED);
    assert_int_equal(state_of(w), PERI_BREAKER_CLOSED);
    call(w, PERI_BREAKER_FAILED);
    assert_int_equal(state_of(w), PERI_BREAKER_OPEN);
    assert_int_equal(peri_breaker_enter(w->breaker), -500);
    w->now_ms += 499;
    assert_int_equal(peri_breaker_enter(w->breaker), -1);
}

static void old_failures_do_not_count(void **state)
{
    world *w = *state;

    use(w, by_count);
    call(w, PERI_BREAKER_FAILED);
    call(w, PERI_BREAKER_FAILED);
    w->now_ms += 1000;
    call(w, PERI_BREAKER_FAILED);
    call(w, PERI_BREAKER_FAILED);
    assert_int_equal(state_of(w), PERI_BREAKER_CLOSED);
}

static void probes_that_succeed_close_it(void **state)
{
    world *w = *state;

    use(w, by_count);
    peri_breaker_force(w->breaker, PERI_BREAKER_OPEN);
    w->now_ms += 500;
    assert_int_equal(peri_breaker_enter(w->breaker), 1);
    assert_int_equal(peri_breaker_enter(w->breaker), 1);
    assert_true(peri_breaker_enter(w->breaker) < 0);
    peri_breaker_leave(w->breaker, 1, PERI_BREAKER_SUCCEEDED);
    assert_int_equal(state_of(w), PERI_BREAKER_HALF_OPEN);
    peri_breaker_leave(w->breaker, 1, PERI_BREAKER_SUCCEEDED);
    assert_int_equal(state_of(w), PERI_BREAKER_CLOSED);
    assert_int_equal(peri_breaker_enter(w->breaker), 0);
}

static void a_probe_that_fails_opens_it_anew(void **state)
{
    world *w = *state;

    use(w, by_count);
    peri_breaker_force(w->breaker, PERI_BREAKER_OPEN);
    w->now_ms += 500;
    assert_int_equal(peri_breaker_enter(w->breaker), 1);
    peri_breaker_leave(w->breaker, 1, PERI_BREAKER_FAILED);
    assert_int_equal(state_of(w), PERI_BREAKER_OPEN);
    assert_int_equal(peri_breaker_enter(w->breaker), -500);
}

static void a_probe_that_was_cancelled_makes_way_for_another(void **state)
{
    world *w = *state;

    use(w, by_count);
    peri_breaker_force(w->breaker, PERI_BREAKER_OPEN);
    w->now_ms += 500;
    peri_breaker_enter(w->breaker);
    peri_breaker_enter(w->breaker);
    peri_breaker_leave(w->breaker, 1, PERI_BREAKER_UNKNOWN);
    assert_int_equal(peri_breaker_enter(w->breaker), 1);
}

static void probes_that_are_never_heard_of_are_given_up(void **state)
{
    world *w = *state;

    use(w, by_count);
    peri_breaker_force(w->breaker, PERI_BREAKER_OPEN);
    w->now_ms += 500;
    peri_breaker_enter(w->breaker);
    peri_breaker_enter(w->breaker);
    w->now_ms += 499;
    assert_true(peri_breaker_enter(w->breaker) < 0);
    w->now_ms += 1;
    assert_int_equal(peri_breaker_enter(w->breaker), 1);
}

static void a_rate_counts_from_enough_calls_on(void **state)
{
    world *w = *state;

    use(w, (peri_breaker_rules){.rate = 0.5,
                                .min_calls = 10,
                                .window_ms = 1000,
                                .open_ms = 500,
                                .probes = 1});
    for (int i = 0; i < 4; i++) {
        call(w, PERI_BREAKER_SUCCEEDED);
        call(w, PERI_BREAKER_FAILED);
    }
    call(w, PERI_BREAKER_SUCCEEDED);
    assert_int_equal(state_of(w), PERI_BREAKER_CLOSED);
    call(w, PERI_BREAKER_FAILED);
    assert_int_equal(state_of(w), PERI_BREAKER_OPEN);
}

static void a_late_answer_changes_nothing(void **state)
{
    world *w = *state;

    use(w, by_count);
    peri_breaker_force(w->breaker, PERI_BREAKER_OPEN);
    peri_breaker_leave(w->breaker, 0, PERI_BREAKER_SUCCEEDED);
    peri_breaker_leave(w->breaker, 1, PERI_BREAKER_SUCCEEDED);
    assert_int_equal(state_of(w), PERI_BREAKER_OPEN);
}

#define CASE(name)                                                             \
    cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(it_opens_at_its_count_of_failures),
        CASE(old_failures_do_not_count),
        CASE(probes_that_succeed_close_it),
        CASE(a_probe_that_fails_opens_it_anew),
        CASE(a_probe_that_was_cancelled_makes_way_for_another),
        CASE(probes_that_are_never_heard_of_are_given_up),
        CASE(a_rate_counts_from_enough_calls_on),
        CASE(a_late_answer_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
