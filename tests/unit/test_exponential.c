/* Exponential: where values are counted, and what is added up. */
#include "core/base/exponential.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define VALUES 20000

static double random_value(unsigned *seed, double lowest, double highest)
{
    double share = (double)rand_r(seed) / RAND_MAX;

    return exp(log(lowest) + share * (log(highest) - log(lowest)));
}

/* Whether each bucket holds what lies between its bounds. */
static void assert_holds(const peri_exponential *e, const double *values,
                         size_t count)
{
    double negative[PERI_EXPONENTIAL_BUCKETS_MAX] = {0};
    double positive[PERI_EXPONENTIAL_BUCKETS_MAX] = {0};
    double zero = 0;

    for (size_t i = 0; i < count; i++) {
        const peri_exponential_range *range =
            values[i] < 0 ? &e->negative : &e->positive;
        int index;

        if (values[i] == 0) {
            zero++;
            continue;
        }
        index = (int)ceil(log2(fabs(values[i])) * ldexp(1, e->scale)) - 1;
        assert_in_range(index - range->first, 0, range->count - 1);
        (values[i] < 0 ? negative : positive)[index - range->first]++;
    }
    assert_true(e->zero == zero);
    for (uint32_t i = 0; i < e->positive.count; i++) {
        assert_true(e->positive.counts[i] == positive[i]);
    }
    for (uint32_t i = 0; i < e->negative.count; i++) {
        assert_true(e->negative.counts[i] == negative[i]);
    }
}

static double *cells_for(uint32_t buckets)
{
    return calloc(PERI_EXPONENTIAL_CELLS(buckets), sizeof(double));
}

static void spread(uint32_t buckets, double lowest, double highest,
                   bool negative, int least_scale)
{
    static double values[VALUES];
    double *cells = cells_for(buckets);
    unsigned seed = 7;
    peri_exponential e;

    for (size_t i = 0; i < VALUES; i++) {
        values[i] = random_value(&seed, lowest, highest);
        if (negative && i % 3 == 0) {
            values[i] = i % 2 == 0 ? 0 : -values[i];
        }
        peri_exponential_observe(cells, buckets, values[i]);
    }
    peri_exponential_read(cells, buckets, &e);
    assert_true(e.scale >= least_scale);
    assert_true(e.positive.count + e.negative.count <= buckets);
    assert_true(peri_exponential_total(&e) == VALUES);
    assert_holds(&e, values, VALUES);
    free(cells);
}

static void a_bucket_holds_what_lies_between_its_bounds(void **state)
{
    (void)state;
    spread(160, 0.9, 1.1, false, 8);
    spread(160, 0.001, 1, false, 3);
    spread(160, 0.001, 1, true, 2);
    spread(160, 1e-30, 1e30, true, -2);
    spread(10, 1e-38, 1e308, true, -9);
    spread(320, 1, 1e9, false, 3);
}

static void bounds_belong_to_the_bucket_below(void **state)
{
    double *cells = cells_for(160);
    peri_exponential e;

    (void)state;
    peri_exponential_observe(cells, 160, 1);
    peri_exponential_read(cells, 160, &e);
    assert_int_equal(e.scale, 8);
    assert_int_equal(e.positive.first, -1);
    assert_int_equal(e.positive.count, 1);
    peri_exponential_observe(cells, 160, nextafter(1, 2));
    peri_exponential_read(cells, 160, &e);
    assert_int_equal(e.positive.count, 2);
    assert_true(e.positive.counts[0] == 1 && e.positive.counts[1] == 1);
    /* At scale 0 and below bounds are powers of 2, 4, 16, ... */
    peri_exponential_observe(cells, 160, 0x1p100);
    peri_exponential_read(cells, 160, &e);
    assert_int_equal(e.scale, 0);
    assert_int_equal(e.positive.first, -1);
    assert_int_equal(e.positive.first + (int)e.positive.count - 1, 99);
    free(cells);
}

static void odd_values_have_a_place(void **state)
{
    double *cells = cells_for(160);
    peri_exponential e;

    (void)state;
    peri_exponential_observe(cells, 160, 0.0);
    peri_exponential_observe(cells, 160, -0.0);
    peri_exponential_observe(cells, 160, 5e-324);
    peri_exponential_observe(cells, 160, PERI_EXPONENTIAL_ZERO);
    peri_exponential_observe(cells, 160, INFINITY);
    peri_exponential_observe(cells, 160, -INFINITY);
    peri_exponential_observe(cells, 160, DBL_MAX);
    peri_exponential_read(cells, 160, &e);
    assert_true(e.zero == 4);
    assert_int_equal(e.positive.count, 1);
    assert_true(e.positive.counts[0] == 2);
    assert_true(e.negative.counts[0] == 1);
    free(cells);
}

/* What several have counted is what one would have. */
static void sums_are_as_if_one_had_counted(void **state)
{
    static double values[VALUES];
    double *cells[3];
    unsigned seed = 99;
    peri_exponential sum;
    peri_exponential one;

    (void)state;
    peri_exponential_init(&sum);
    for (size_t c = 0; c < 3; c++) {
        cells[c] = cells_for(160);
    }
    for (size_t i = 0; i < VALUES; i++) {
        values[i] = random_value(&seed, 1e-3, i % 3 == 1 ? 0.01 : 1e3);
        values[i] *= i % 7 == 0 ? -1 : 1;
        peri_exponential_observe(cells[i % 3], 160, values[i]);
    }
    for (size_t c = 0; c < 3; c++) {
        peri_exponential_read(cells[c], 160, &one);
        peri_exponential_add(&sum, &one, 160);
        free(cells[c]);
    }
    assert_true(sum.positive.count + sum.negative.count <= 160);
    assert_true(peri_exponential_total(&sum) == VALUES);
    assert_holds(&sum, values, VALUES);
}

static void a_difference_is_what_came_since(void **state)
{
    static double values[VALUES];
    double *cells = cells_for(160);
    unsigned seed = 5;
    peri_exponential before;
    peri_exponential now;

    (void)state;
    for (size_t i = 0; i < 1000; i++) {
        peri_exponential_observe(cells, 160, random_value(&seed, 1, 1.2));
    }
    peri_exponential_read(cells, 160, &before);
    for (size_t i = 0; i < VALUES; i++) {
        values[i] = random_value(&seed, 1e-6, 1e6);
        peri_exponential_observe(cells, 160, values[i]);
    }
    peri_exponential_read(cells, 160, &now);
    assert_true(before.scale > now.scale);
    assert_true(peri_exponential_subtract(&now, &before));
    assert_true(peri_exponential_total(&now) == VALUES);
    assert_holds(&now, values, VALUES);
    /* The other way round it makes no sense, and changes nothing. */
    assert_false(peri_exponential_subtract(&before, &now));
    assert_true(peri_exponential_total(&before) == 1000);
    free(cells);
}

/* ---- deaths, and readers meanwhile ---- */

static void count_for_ever(double *cells, unsigned seed)
{
    for (;;) {
        /* Cells that begin anew move their tables again and again. */
        double *own = cells + 1;

        cells[0] = 0;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        memset(own, 0, PERI_EXPONENTIAL_CELLS(40) * sizeof *own);
        for (int i = 0; i < 300; i++) {
            double spread = 1 + i;

            peri_exponential_observe(
                own, 40, random_value(&seed, 1 / spread, 1e3 * spread));
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            cells[0] += 1;
        }
    }
}

static void a_death_at_any_instruction_loses_one_count(void **state)
{
    size_t bytes = (1 + PERI_EXPONENTIAL_CELLS(40)) * sizeof(double);
    double *cells = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned seed = 3;
    peri_exponential e;

    (void)state;
    for (int round = 0; round < 100; round++) {
        pid_t pid;

        cells[0] = 0; /* it may be killed before it has begun */
        pid = fork();
        if (pid == 0) {
            alarm(60);
            count_for_ever(cells, (unsigned)round + 1);
        }
        usleep((useconds_t)(500 + rand_r(&seed) % 2000));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        peri_exponential_read(cells + 1, 40, &e);
        /* It may have died while it began anew: then there is less. */
        if (cells[0] > 0) {
            double total = peri_exponential_total(&e);

            assert_true(total == cells[0] || total == cells[0] + 1);
        }
        /* And the next one goes on with it. */
        peri_exponential_observe(cells + 1, 40, 1e9);
        peri_exponential_observe(cells + 1, 40, 1e-9);
        peri_exponential_read(cells + 1, 40, &e);
        assert_true(e.positive.count <= 40);
    }
    munmap(cells, bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_holds_what_lies_between_its_bounds),
        cmocka_unit_test(bounds_belong_to_the_bucket_below),
        cmocka_unit_test(odd_values_have_a_place),
        cmocka_unit_test(sums_are_as_if_one_had_counted),
        cmocka_unit_test(a_difference_is_what_came_since),
        cmocka_unit_test(a_death_at_any_instruction_loses_one_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
