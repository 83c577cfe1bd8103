/* Cells: counting, adding up, limits, deaths at any instruction. */
#include "core/shm/cells.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/err.h"

#define AREA_BYTES ((size_t)80 << 20)

typedef struct world {
    peri_regions *regions;
    peri_cells *a; /* records 0 and 1 */
    peri_cells *b;
    peri_buf out;
    bool dead[2];
} world;

static int open_world(void **state)
{
    world *w = calloc(1, sizeof *w);

    w->regions = peri_regions_create(AREA_BYTES);
    assert_non_null(w->regions);
    w->a = peri_cells_open(w->regions, 0);
    w->b = peri_cells_open(w->regions, 1);
    assert_non_null(w->a);
    peri_buf_init(&w->out, (size_t)64 << 20);
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    world *w = *state;

    peri_cells_close(w->a);
    peri_cells_close(w->b);
    peri_regions_destroy(w->regions);
    peri_buf_fini(&w->out);
    free(w);
    return 0;
}

static bool is_alive(const void *data, int record)
{
    return !((const world *)data)->dead[record];
}

static const char *scrape(world *w, bool openmetrics, uint64_t generation)
{
    peri_cells_view view = {generation, is_alive, w};
    peri_expo expo;

    peri_buf_clear(&w->out);
    peri_expo_init(&expo, &w->out, openmetrics);
    peri_cells_write(w->a, &view, &expo);
    peri_expo_end(&expo);
    peri_buf_append_byte(&w->out, '\0');
    return w->out.data;
}

static double *cells_of(peri_cells *cells, int family, const char *one,
                        const char *two, int *status)
{
    peri_slice values[2] = {peri_slice_str(one), peri_slice_str(two)};
    double *out;
    int rc = peri_cells_series(cells, family, values, &out);

    if (status != NULL) {
        *status = rc;
    }
    return out;
}

static const char *const two_labels[] = {"a", "b"};
static const double bounds[] = {0.5, 1, 2.5};

static int counter(peri_cells *cells, const char *name, uint64_t generation)
{
    peri_cells_family family = {.name = name,
                                .help = "Help \\ \"me\"\nplease.",
                                .type = PERI_CELLS_COUNTER,
                                .labels = two_labels,
                                .label_count = 2};

    return peri_cells_declare(cells, &family, generation);
}

static int gauge(peri_cells *cells, const char *name, peri_cells_merge merge)
{
    peri_cells_family family = {
        .name = name, .help = "h", .type = PERI_CELLS_GAUGE, .merge = merge};

    return peri_cells_declare(cells, &family, 1);
}

static int histogram(peri_cells *cells)
{
    peri_cells_family family = {.name = "h_seconds",
                                .help = "h",
                                .type = PERI_CELLS_HISTOGRAM,
                                .labels = two_labels,
                                .label_count = 1,
                                .bounds = bounds,
                                .bound_count = 3};

    return peri_cells_declare(cells, &family, 1);
}

static void workers_are_added_up(void **state)
{
    world *w = *state;
    int family = counter(w->a, "x_total", 1);

    assert_int_equal(counter(w->b, "x_total", 1), family);
    *cells_of(w->a, family, "1", "q\"\\\n\xff", NULL) += 2;
    *cells_of(w->b, family, "1", "q\"\\\n\xff", NULL) += 0.5;
    *cells_of(w->b, family, "2", "", NULL) += 1;
    assert_string_equal(scrape(w, false, 1),
                        "# HELP x_total Help \\\\ \"me\"\\nplease.\n"
                        "# TYPE x_total counter\n"
                        "x_total{a=\"1\",b=\"q\\\"\\\\\\n\xEF\xBF\xBD\"} 2.5\n"
                        "x_total{a=\"2\",b=\"\"} 1\n");
}

static void openmetrics_has_its_own_names(void **state)
{
    world *w = *state;
    double *h = cells_of(w->a, histogram(w->a), "v", "", NULL);
    const char *text;

    *cells_of(w->a, counter(w->a, "x_total", 1), "1", "2", NULL) += 1;
    peri_cells_observe(h, bounds, 3, 0, 1);
    peri_cells_observe(h, bounds, 3, 0, 7);
    text = scrape(w, true, 1);
    assert_non_null(strstr(text, "# TYPE x counter\nx_total{a=\"1\",b=\"2\"} 1"
                                 "\nx_created{a=\"1\",b=\"2\"} "));
    assert_non_null(strstr(text, "# HELP x Help \\\\ \\\"me\\\"\\nplease.\n"));
    assert_non_null(strstr(text, "h_seconds_bucket{a=\"v\",le=\"0.5\"} 0\n"
                                 "h_seconds_bucket{a=\"v\",le=\"1.0\"} 1\n"
                                 "h_seconds_bucket{a=\"v\",le=\"2.5\"} 1\n"
                                 "h_seconds_bucket{a=\"v\",le=\"+Inf\"} 2\n"
                                 "h_seconds_sum{a=\"v\"} 8\n"
                                 "h_seconds_count{a=\"v\"} 2\n"
                                 "h_seconds_created{a=\"v\"} "));
    assert_string_equal(text + strlen(text) - 6, "# EOF\n");
    assert_non_null(strstr(scrape(w, false, 1), "le=\"1\"} 1\n"));
}

static void counters_outlive_their_worker(void **state)
{
    world *w = *state;
    int family = counter(w->b, "x_total", 1);

    *cells_of(w->b, family, "", "", NULL) += 3;
    w->dead[1] = true;
    assert_non_null(strstr(scrape(w, false, 1), "} 3\n"));
    peri_cells_close(w->b);
    w->b = peri_cells_open(w->regions, 1);
    *cells_of(w->b, counter(w->b, "x_total", 2), "", "", NULL) += 1;
    assert_non_null(strstr(scrape(w, false, 2), "} 4\n"));
}

static void gauges_merge_over_the_living(void **state)
{
    static const struct {
        peri_cells_merge merge;
        const char *both;
        const char *one;
    } cases[] = {{PERI_CELLS_SUM, "g 7\n", "g 2\n"},
                 {PERI_CELLS_MIN, "g 2\n", "g 2\n"},
                 {PERI_CELLS_MAX, "g 5\n", "g 2\n"},
                 {PERI_CELLS_LAST, "g 5\n", "g 5\n"}};
    world *w = *state;

    for (size_t i = 0; i < 4; i++) {
        double *a =
            cells_of(w->a, gauge(w->a, "g", cases[i].merge), "", "", NULL);
        double *b =
            cells_of(w->b, gauge(w->b, "g", cases[i].merge), "", "", NULL);

        w->dead[1] = false;
        if (cases[i].merge != PERI_CELLS_SUM) {
            assert_null(strstr(scrape(w, false, 1), "\ng ")); /* none is set */
        }
        a[0] = 2;
        a[1] = 1;
        b[0] = 5;
        b[1] = 2;
        assert_non_null(strstr(scrape(w, false, 1), cases[i].both));
        w->dead[1] = true;
        assert_non_null(strstr(scrape(w, false, 1), cases[i].one));
    }
    w->dead[1] = false;
    peri_cells_close(w->b);
    w->b = peri_cells_open(w->regions, 1); /* another process, nothing set */
    gauge(w->b, "g", PERI_CELLS_SUM);
    assert_non_null(strstr(scrape(w, false, 1), "g 2\n"));
    cells_of(w->b, gauge(w->b, "g", PERI_CELLS_SUM), "", "", NULL);
    assert_non_null(strstr(scrape(w, false, 1), "g 2\n"));
}

static void one_series_too_many_overflows(void **state)
{
    world *w = *state;
    int family = counter(w->a, "x_total", 1);
    char value[16];
    int status;

    peri_cells_set_series_max(w->a, 100);
    for (int i = 0; i < 100; i++) {
        snprintf(value, sizeof value, "%d", i);
        *cells_of(w->a, family, value, "", &status) += 1;
        assert_int_equal(status, 0);
    }
    *cells_of(w->a, family, "100", "", &status) += 1;
    assert_int_equal(status, PERI_CELLS_OVERFLOW_FIRST);
    for (int i = 101; i < 100000; i++) {
        snprintf(value, sizeof value, "%d", i);
        *cells_of(w->a, family, value, "", &status) += 1;
        assert_int_equal(status, PERI_CELLS_OVERFLOW);
    }
    *cells_of(w->b, family, "999", "", &status) += 1; /* told already */
    assert_int_equal(status, PERI_CELLS_OVERFLOW);
    *cells_of(w->a, family, "5", "", &status) += 1;
    assert_int_equal(status, 0);
    assert_non_null(
        strstr(scrape(w, false, 1), "x_total{overflow=\"true\"} 99901\n"));
    assert_non_null(strstr(w->out.data, "x_total{a=\"5\",b=\"\"} 2\n"));
    assert_true(w->out.length < 8000);
}

static void memory_has_an_end(void **state)
{
    world *w = *state;
    char value[PERI_CELLS_VALUE_MAX + 50];
    int status = 0;

    peri_cells_set_series_max(w->a, 1000000);
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (int f = 0; f < 3 && status != PERI_CELLS_OVERFLOW; f++) {
        char name[16];
        int family;

        snprintf(name, sizeof name, "x%d", f);
        family = counter(w->a, name, 1);
        for (int i = 0; i < 40000; i++) {
            snprintf(value, 9, "%08d", i);
            value[8] = 'x';
            *cells_of(w->a, family, value, "", &status) += 1;
        }
    }
    assert_int_equal(status, PERI_CELLS_OVERFLOW);
    assert_int_equal(counter(w->a, "one more", 1) >= 0, 1);
}

static void a_newer_declaration_replaces_once_it_serves(void **state)
{
    world *w = *state;
    int old = counter(w->a, "x", 1);
    int now;

    *cells_of(w->a, old, "1", "2", NULL) += 1;
    now = gauge(w->a, "x", PERI_CELLS_SUM);
    assert_int_not_equal(now, old);
    *cells_of(w->a, now, "", "", NULL) = 9;
    assert_non_null(strstr(scrape(w, false, 1), "x 9\n"));
    assert_null(strstr(w->out.data, "counter"));
    assert_int_equal(counter(w->a, "x", 2), old);
    assert_non_null(strstr(scrape(w, false, 1), "x 9\n"));
    assert_non_null(strstr(scrape(w, false, 2), "x{a=\"1\",b=\"2\"} 1\n"));
}

static void limits_are_looked_at(void **state)
{
    world *w = *state;
    char name[PERI_CELLS_NAME_MAX + 2];

    memset(name, 'n', sizeof name);
    name[PERI_CELLS_NAME_MAX] = '\0';
    assert_true(counter(w->a, name, 1) >= 0);
    name[PERI_CELLS_NAME_MAX] = 'n';
    name[PERI_CELLS_NAME_MAX + 1] = '\0';
    assert_int_equal(counter(w->a, name, 1), PERI_EFORMAT);
    for (int i = 1; i < PERI_CELLS_FAMILIES_MAX; i++) {
        snprintf(name, sizeof name, "f%d", i);
        assert_true(counter(w->a, name, 1) >= 0);
    }
    assert_int_equal(counter(w->a, "last", 1), PERI_ELIMIT);
}

/* ---- deaths ---- */

static void write_for_ever(world *w, int record, unsigned seed)
{
    peri_regions *regions =
        peri_regions_attach(peri_regions_memory(w->regions), AREA_BYTES);
    peri_cells *cells = peri_cells_open(regions, record);
    char value[16];

    for (;;) {
        int family =
            rand_r(&seed) % 2 ? counter(cells, "x_total", 1) : histogram(cells);
        double *own;

        snprintf(value, sizeof value, "%d", rand_r(&seed) % 5000);
        own = cells_of(cells, family, value, "y", NULL);
        if (family == 0) {
            *own += 1;
        } else {
            peri_cells_observe(own, bounds, 3, 0, 1);
        }
    }
}

/* A line's value, or 0 when it is not a count of the two. */
static double count_of(const char *line, unsigned char seen[2][5000])
{
    bool is_x = strncmp(line, "x_total{", 8) == 0;
    bool is_h = strncmp(line, "h_seconds_count{", 16) == 0;
    const char *label;

    if (!is_x && !is_h) {
        return 0;
    }
    label = strchr(line, '{') + 1;
    if (strncmp(label, "a=\"", 3) == 0) {
        long n = strtol(label + 3, NULL, 10);

        assert_false(seen[is_x][n]);
        seen[is_x][n] = 1;
    }
    return strtod(strchr(label, '}') + 1, NULL);
}

/* The sum of all values, and that no series comes twice. A line at a time: with
 * strict_string_checks ASan measures a string at every call on it. */
static double look(world *w)
{
    static unsigned char seen[2][5000];
    const char *at = scrape(w, false, 1);
    double sum = 0;
    char line[512];

    memset(seen, 0, sizeof seen);
    for (size_t left = strlen(at); left > 0;) {
        const char *end = memchr(at, '\n', left);
        size_t length = (size_t)(end - at);

        assert_true(length < sizeof line);
        memcpy(line, at, length);
        line[length] = '\0';
        sum += count_of(line, seen);
        at = end + 1;
        left -= length + 1;
    }
    return sum;
}

static void a_death_at_any_instruction_leaves_it_whole(void **state)
{
    world *w = *state;
    unsigned seed = 42;
    pid_t pids[2] = {0};
    double before = 0;

    counter(w->a, "x_total", 1);
    histogram(w->a);
    for (int kill_number = 0; kill_number < 150; kill_number++) {
        int record = kill_number % 2;
        double now;

        if (pids[record] != 0) {
            kill(pids[record], SIGKILL);
            waitpid(pids[record], NULL, 0);
        }
        now = look(w);
        assert_true(now >= before);
        before = now;
        pids[record] = fork();
        if (pids[record] == 0) {
            alarm(60);
            write_for_ever(w, record, (unsigned)rand_r(&seed));
        }
        usleep((useconds_t)(rand_r(&seed) % 3000));
    }
    for (int i = 0; i < 2; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    *cells_of(w->a, 0, "1", "y", NULL) += 1; /* the lock is to be had */
    assert_true(look(w) > before);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, open_world, close_world)
    const struct CMUnitTest tests[] = {
        T(workers_are_added_up),
        T(openmetrics_has_its_own_names),
        T(counters_outlive_their_worker),
        T(gauges_merge_over_the_living),
        T(one_series_too_many_overflows),
        T(memory_has_an_end),
        T(a_newer_declaration_replaces_once_it_serves),
        T(limits_are_looked_at),
        T(a_death_at_any_instruction_leaves_it_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
