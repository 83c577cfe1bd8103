/* The wheel: nothing early, little late; and calls made later. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/loop/later.h"
#include "core/loop/wheel.h"

#define TEST(name) static void name(void **state)
#define ENTRIES 300

typedef struct thing {
    peri_wheel_entry entry;
    uint64_t wanted_ms;
    uint64_t due_ms;
    struct thing *victim; /* removed when this is due */
} thing;

static uv_loop_t loop;
static peri_wheel wheel;

static void on_due(peri_wheel_entry *entry)
{
    thing *t = PERI_CONTAINER(entry, thing, entry);

    assert_int_equal(t->due_ms, 0);
    t->due_ms = uv_now(&loop);
    if (t->victim != NULL) {
        peri_wheel_remove(&t->victim->entry);
    }
}

static void start(thing *t, uint64_t in_ms)
{
    peri_wheel_entry_init(&t->entry);
    t->wanted_ms = uv_now(&loop) + in_ms;
    t->due_ms = 0;
    t->victim = NULL;
    peri_wheel_set(&wheel, &t->entry, t->wanted_ms);
}

static void run(void)
{
    uv_run(&loop, UV_RUN_DEFAULT);
}

static int set_up(void **state)
{
    (void)state;
    uv_loop_init(&loop);
    peri_wheel_init(&wheel, &loop, on_due);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    peri_wheel_close(&wheel, NULL, NULL);
    run();
    return uv_loop_close(&loop);
}

TEST(entries_are_due_in_time)
{
    static thing things[ENTRIES];

    (void)state;
    for (uint64_t i = 0; i < ENTRIES; i++) {
        start(&things[i], i);
    }
    run();
    for (unsigned i = 0; i < ENTRIES; i++) {
        assert_true(things[i].due_ms >= things[i].wanted_ms);
        assert_true(things[i].due_ms < things[i].wanted_ms + 100);
    }
}

TEST(a_deadline_may_be_moved_and_taken_back)
{
    thing later;
    thing sooner;
    thing never;

    (void)state;
    start(&later, 20);
    start(&sooner, 100000);
    start(&never, 20);
    later.wanted_ms += 80;
    peri_wheel_set(&wheel, &later.entry, later.wanted_ms);
    sooner.wanted_ms -= 99950;
    peri_wheel_set(&wheel, &sooner.entry, sooner.wanted_ms);
    peri_wheel_clear(&never.entry);
    run();
    assert_true(later.due_ms >= later.wanted_ms);
    assert_true(sooner.due_ms >= sooner.wanted_ms);
    assert_true(sooner.due_ms < later.due_ms);
    assert_int_equal(never.due_ms, 0);
    assert_true(peri_list_empty(&never.entry.link));
}

TEST(what_is_due_may_remove_what_is_due_with_it)
{
    thing first;
    thing second;

    (void)state;
    start(&first, 10);
    start(&second, 10);
    first.victim = &second;
    run();
    assert_true(first.due_ms != 0);
    assert_int_equal(second.due_ms, 0);
}

static peri_later later;
static unsigned calls;

static void call(peri_later_entry *entry)
{
    calls++;
    if (calls < 3) {
        peri_later_call(&later, entry);
    }
}

TEST(calls_come_later_and_once)
{
    peri_later_entry entry;
    peri_later_entry cancelled;

    (void)state;
    peri_later_init(&later, &loop);
    peri_later_entry_init(&entry, call);
    peri_later_entry_init(&cancelled, call);
    peri_later_call(&later, &entry);
    peri_later_call(&later, &entry);
    peri_later_call(&later, &cancelled);
    peri_later_cancel(&cancelled);
    assert_int_equal(calls, 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(calls, 1);
    run();
    assert_int_equal(calls, 3);
    peri_later_close(&later, NULL, NULL);
    peri_later_call(&later, &entry);
    run();
    assert_int_equal(calls, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(entries_are_due_in_time, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_deadline_may_be_moved_and_taken_back,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            what_is_due_may_remove_what_is_due_with_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(calls_come_later_and_once, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
