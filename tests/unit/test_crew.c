/* The crew: jobs on threads, one at a time each, seats opened and replaced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/err.h"
#include "core/loop/crew.h"

#define TEST(name) static void name(void **state)
#define JOBS 200

typedef struct work {
    peri_crew_job job;
    atomic_bool *gate; /* runs until it is open; NULL: at once */
    bool spoils;
    int done;
} work;

static uv_loop_t loop;
static atomic_int opened;
static atomic_int closed;
static atomic_int running;
static atomic_int most;

static void *open_seat(void *data)
{
    (void)data;
    atomic_fetch_add(&opened, 1);
    return malloc(1);
}

static void close_seat(void *seat)
{
    atomic_fetch_add(&closed, 1);
    free(seat);
}

static void run(peri_crew_job *job, void *seat)
{
    work *w = PERI_CONTAINER(job, work, job);
    int now = atomic_fetch_add(&running, 1) + 1;
    int before = atomic_load(&most);

    assert_non_null(seat);
    while (now > before && !atomic_compare_exchange_weak(&most, &before, now)) {
    }
    while (w->gate != NULL && !atomic_load(w->gate)) {
        uv_sleep(1);
    }
    atomic_fetch_sub(&running, 1);
}

static bool done(peri_crew_job *job)
{
    work *w = PERI_CONTAINER(job, work, job);

    w->done++;
    return !w->spoils;
}

static peri_crew *start(unsigned threads, unsigned queue, uint32_t idle_ms)
{
    peri_crew_config config = {.threads_max = threads,
                               .queue_max = queue,
                               .idle_ms = idle_ms,
                               .open = open_seat,
                               .close = close_seat};

    atomic_store(&opened, 0);
    atomic_store(&closed, 0);
    atomic_store(&most, 0);
    assert_int_equal(uv_loop_init(&loop), 0);
    return peri_crew_create(&loop, &config);
}

static void stop(peri_crew *crew)
{
    peri_crew_close(crew);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(atomic_load(&opened), atomic_load(&closed));
}

static work make(atomic_bool *gate)
{
    return (work){.job = {.run = run, .done = done}, .gate = gate};
}

TEST(every_job_runs_once_on_no_more_threads_than_allowed)
{
    peri_crew *crew = start(3, JOBS, 10000);
    work works[JOBS];

    (void)state;
    for (int i = 0; i < JOBS; i++) {
        works[i] = make(NULL);
        assert_int_equal(peri_crew_submit(crew, &works[i].job), 0);
        assert_int_equal(works[i].done, 0); /* never from inside */
    }
    uv_run(&loop, UV_RUN_DEFAULT); /* ends when the last is done */
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(works[i].done, 1);
    }
    assert_in_range(atomic_load(&most), 1, 3);
    assert_in_range(atomic_load(&opened), 1, 3);
    stop(crew);
}

TEST(one_more_than_may_wait_is_refused)
{
    peri_crew *crew = start(1, 1, 10000);
    atomic_bool gate = false;
    work a = make(&gate);
    work b = make(NULL);
    work c = make(NULL);

    (void)state;
    assert_int_equal(peri_crew_submit(crew, &a.job), 0);
    assert_int_equal(peri_crew_submit(crew, &b.job), 0);
    assert_int_equal(peri_crew_submit(crew, &c.job), PERI_ELIMIT);
    atomic_store(&gate, true);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(a.done + b.done, 2);
    assert_int_equal(c.done, 0);
    stop(crew);
}

TEST(what_waits_can_be_taken_back_what_runs_cannot)
{
    peri_crew *crew = start(1, 10, 10000);
    atomic_bool gate = false;
    work a = make(&gate);
    work b = make(NULL);
    void *seat;

    (void)state;
    assert_int_equal(peri_crew_submit(crew, &a.job), 0);
    assert_int_equal(peri_crew_submit(crew, &b.job), 0);
    assert_false(peri_crew_withdraw(crew, &a.job));
    assert_true(peri_crew_seat(&a.job, &seat));
    assert_false(peri_crew_seat(&b.job, &seat));
    assert_true(peri_crew_withdraw(crew, &b.job));
    atomic_store(&gate, true);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(a.done, 1);
    assert_int_equal(b.done, 0);
    stop(crew);
}

TEST(a_spoilt_seat_is_replaced)
{
    peri_crew *crew = start(1, 10, 10000);
    work works[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        works[i] = make(NULL);
        works[i].spoils = i < 2;
        peri_crew_submit(crew, &works[i].job);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(works[3].done, 1);
    assert_int_equal(atomic_load(&opened), 3);
    stop(crew);
}

TEST(a_member_without_work_ends_and_another_follows_it)
{
    peri_crew *crew = start(1, 10, 1);
    work a = make(NULL);

    (void)state;
    for (int i = 0; i < 3; i++) {
        peri_crew_submit(crew, &a.job);
        uv_run(&loop, UV_RUN_DEFAULT);
        while (atomic_load(&closed) < atomic_load(&opened)) {
            uv_sleep(1);
        }
    }
    assert_int_equal(a.done, 3);
    assert_int_equal(atomic_load(&opened), 3);
    stop(crew);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_runs_once_on_no_more_threads_than_allowed),
        cmocka_unit_test(one_more_than_may_wait_is_refused),
        cmocka_unit_test(what_waits_can_be_taken_back_what_runs_cannot),
        cmocka_unit_test(a_spoilt_seat_is_replaced),
        cmocka_unit_test(a_member_without_work_ends_and_another_follows_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
