/* Health: words that hold for a while, and breakers that have opened. */
#include "core/shm/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/shm/breaker.h"

typedef struct world {
    peri_regions *regions;
    peri_health *health;
    peri_health_check checks[PERI_HEALTH_MAX];
} world;

static int open_world(void **state)
{
    world *w = calloc(1, sizeof *w);

    w->regions = peri_regions_create((size_t)1 << 21);
    w->health = peri_health_open(w->regions);
    assert_non_null(w->health);
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    world *w = *state;

    peri_health_close(w->health);
    peri_regions_destroy(w->regions);
    free(w);
    return 0;
}

static bool say(world *w, const char *name, peri_health_status status,
                uint64_t ttl_ms)
{
    peri_health_check check = {.status = status, .detail = "so it is"};

    snprintf(check.name, sizeof check.name, "%s", name);
    return peri_health_set(w->health, &check, ttl_ms);
}

static size_t read_all(world *w)
{
    return peri_health_read(w->health, w->checks, PERI_HEALTH_MAX);
}

static void the_last_word_of_a_name_holds(void **state)
{
    world *w = *state;

    assert_true(say(w, "db", PERI_HEALTH_PASS, 60000));
    assert_true(say(w, "other", PERI_HEALTH_WARN, 60000));
    assert_true(say(w, "db", PERI_HEALTH_FAIL, 60000));
    assert_int_equal(read_all(w), 2);
    assert_string_equal(w->checks[0].name, "db");
    assert_int_equal(w->checks[0].status, PERI_HEALTH_FAIL);
    assert_int_equal(peri_health_worst(w->checks, 2), PERI_HEALTH_FAIL);
    assert_int_equal(peri_health_worst(w->checks + 1, 1), PERI_HEALTH_WARN);
    assert_int_equal(peri_health_worst(NULL, 0), PERI_HEALTH_PASS);
}

static void what_is_over_is_forgotten_and_its_place_used(void **state)
{
    world *w = *state;
    char name[16];

    assert_true(say(w, "short", PERI_HEALTH_FAIL, 0));
    assert_int_equal(read_all(w), 0);
    for (int i = 0; i < PERI_HEALTH_MAX; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_true(say(w, name, PERI_HEALTH_PASS, 60000));
    }
    assert_int_equal(read_all(w), PERI_HEALTH_MAX);
    assert_false(say(w, "one too many", PERI_HEALTH_PASS, 60000));
    assert_true(say(w, "n3", PERI_HEALTH_PASS, 0));
    assert_true(say(w, "fits again", PERI_HEALTH_PASS, 60000));
}

static void an_open_breaker_is_a_warning(void **state)
{
    const peri_breaker_rules rules = {
        .failures = 1, .window_ms = 1000, .open_ms = 1000, .probes = 1};
    world *w = *state;
    peri_breaker *breaker;
    peri_buf text;

    assert_int_equal(
        peri_breaker_open(w->regions, "breaker:pay", &rules, &breaker), 0);
    assert_int_equal(read_all(w), 0);
    peri_breaker_force(breaker, PERI_BREAKER_OPEN);
    assert_int_equal(read_all(w), 1);
    peri_buf_init(&text, 1024);
    peri_health_write(w->checks, 1, "readyz", &text);
    assert_memory_equal(text.data,
                        "[!] breaker pay: warn: open\n"
                        "readyz passed, warn\n",
                        text.length);
    peri_buf_fini(&text);
    peri_breaker_force(breaker, PERI_BREAKER_CLOSED);
    assert_int_equal(read_all(w), 0);
    peri_breaker_close(breaker);
}

static void that_it_was_ready_once_is_kept(void **state)
{
    world *w = *state;

    assert_false(peri_health_seen_ready(w->health, false));
    assert_true(peri_health_seen_ready(w->health, true));
    assert_true(peri_health_seen_ready(w->health, false));
}

#define CASE(name)                                                             \
    cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_last_word_of_a_name_holds),
        CASE(what_is_over_is_forgotten_and_its_place_used),
        CASE(an_open_breaker_is_a_warning),
        CASE(that_it_was_ready_once_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
