/* Cells: adding up, and writing what comes of it. Takes no lock: what has been
 * published stays as it is. */
#include <math.h>
#include <string.h>

#include "core/shm/cells_internal.h"

#define SUMS_MAX (PERI_CELLS_BOUNDS_MAX + 2)

_Static_assert(sizeof(peri_exemplar) == PERI_CELLS_EXEMPLAR * sizeof(double),
               "an exemplar is its cells");

typedef struct total {
    double cells[SUMS_MAX];
    peri_exemplar exemplar;       /* of the one set last; unix_s 0: none */
    peri_exponential exponential; /* where the family has one */
    double stamp;                 /* of the one set last */
    bool any;
} total;

static double read_cell(const double *cell)
{
    double value;

    __atomic_load(cell, &value, __ATOMIC_RELAXED);
    return value;
}

static bool lives(const directory *dir, const peri_cells_view *view,
                  const chunk *at)
{
    return atomic_load(&at->epoch) == atomic_load(&dir->epoch[at->record]) &&
           (view->alive == NULL || view->alive(view->data, (int)at->record));
}

static void merge_gauge(const directory *dir, const peri_cells_view *view,
                        uint32_t merge, const chunk *at, total *sum)
{
    double value = read_cell(&at->cells[0]);
    double stamp = read_cell(&at->cells[1]);

    if (isnan(value) || (merge != PERI_CELLS_LAST && !lives(dir, view, at))) {
        return;
    }
    if (!sum->any || (merge == PERI_CELLS_MIN && value < sum->cells[0]) ||
        (merge == PERI_CELLS_MAX && value > sum->cells[0]) ||
        (merge == PERI_CELLS_LAST && stamp > sum->stamp)) {
        sum->cells[0] = value;
        sum->stamp = stamp;
    } else if (merge == PERI_CELLS_SUM) {
        sum->cells[0] += value;
    }
    sum->any = true;
}

/* The latest of all processes; one that is being written is passed over. */
static void take_exemplar(const double *cells, total *sum)
{
    double when = read_cell(&cells[1]);
    peri_exemplar copy;

    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    memcpy(&copy, cells, sizeof copy);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (when > sum->exemplar.unix_s && read_cell(&cells[1]) == when) {
        sum->exemplar = copy;
        sum->exemplar.unix_s = when;
    }
}

static void add_exponential(const family_record *family, const double *cells,
                            total *sum)
{
    peri_exponential own;

    peri_exponential_read(cells, family->exponential, &own);
    peri_exponential_add(&sum->exponential, &own, family->exponential);
}

static void add_up(directory *dir, const family_record *family,
                   const series_record *series, const peri_cells_view *view,
                   total *sum)
{
    size_t count =
        family->type == PERI_CELLS_HISTOGRAM ? family->bound_count + 2 : 1;
    uint32_t offset =
        atomic_load_explicit(&series->chunk, memory_order_acquire);

    memset(sum->cells, 0, count * sizeof(double));
    sum->any = false;
    sum->exemplar.unix_s = 0;
    peri_exponential_init(&sum->exponential);
    while (offset != 0) {
        const chunk *at = peri_cells_at(dir, offset);

        if (family->type == PERI_CELLS_GAUGE) {
            merge_gauge(dir, view, family->merge, at, sum);
        } else {
            for (size_t i = 0; i < count; i++) {
                sum->cells[i] += read_cell(&at->cells[i]);
            }
            sum->any = true;
            if (family->type == PERI_CELLS_HISTOGRAM) {
                take_exemplar(&at->cells[count], sum);
            }
            if (family->exponential != 0) {
                add_exponential(family, &at->cells[count + PERI_CELLS_EXEMPLAR],
                                sum);
            }
        }
        offset = at->next;
    }
}

/* sum's, as long as it lives. */
static peri_distribution distribution_of(directory *dir,
                                         const family_record *family,
                                         const series_record *series,
                                         const total *sum)
{
    return (peri_distribution){
        .bounds = peri_cells_at(dir, family->bounds),
        .counts = sum->cells,
        .count = family->bound_count,
        .sum = sum->cells[family->bound_count + 1],
        .exponential = family->exponential != 0 ? &sum->exponential : NULL,
        .exemplar = sum->exemplar.unix_s > 0 ? &sum->exemplar : NULL,
        .created_ms = series->created_ms,
    };
}

static peri_slice labels_of(directory *dir, const series_record *series)
{
    return peri_slice_of(peri_cells_at(dir, series->labels),
                         series->labels_length);
}

static void write_series(directory *dir, const family_record *family,
                         const series_record *series,
                         const peri_cells_view *view, peri_expo *expo)
{
    peri_slice labels = labels_of(dir, series);
    total sum;

    add_up(dir, family, series, view, &sum);
    if (!sum.any) {
        return;
    }
    if (family->type == PERI_CELLS_HISTOGRAM) {
        peri_distribution values = distribution_of(dir, family, series, &sum);

        peri_expo_histogram(expo, labels, &values);
    } else {
        peri_expo_sample(expo, labels, sum.cells[0], series->created_ms);
    }
}

/* Whether no other declaration of that name is the one to show. */
static bool is_shown(directory *dir, uint32_t count, uint32_t at,
                     const peri_cells_view *view)
{
    const family_record *own = &dir->family[at];
    uint64_t generation = atomic_load(&own->generation);

    if (generation > view->generation) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        const family_record *other = &dir->family[i];
        uint64_t theirs = atomic_load(&other->generation);

        if (i != at && theirs <= view->generation && theirs >= generation &&
            strcmp(other->name, own->name) == 0 &&
            (theirs > generation ||
             atomic_load(&other->declared) > atomic_load(&own->declared))) {
            return false;
        }
    }
    return true;
}

static void write_family(directory *dir, const family_record *family,
                         const peri_cells_view *view, peri_expo *expo)
{
    static const peri_expo_type types[] = {
        [PERI_CELLS_COUNTER] = PERI_EXPO_COUNTER,
        [PERI_CELLS_GAUGE] = PERI_EXPO_GAUGE,
        [PERI_CELLS_HISTOGRAM] = PERI_EXPO_HISTOGRAM,
    };
    uint32_t index = atomic_load(&family->first);

    peri_expo_head(expo, family->name, types[family->type],
                   peri_cells_at(dir, family->help));
    while (index != 0) {
        const series_record *series = &dir->series[index - 1];

        write_series(dir, family, series, view, expo);
        index = atomic_load(&series->next);
    }
}

typedef struct visitor {
    void (*value)(void *data, peri_slice labels, double value);
    void (*histogram)(void *data, peri_slice labels,
                      const peri_distribution *values);
    void *data;
} visitor;

static void each_series(directory *dir, const family_record *family,
                        const peri_cells_view *view, const visitor *to)
{
    uint32_t index = atomic_load(&family->first);

    while (index != 0) {
        const series_record *series = &dir->series[index - 1];
        total sum;

        add_up(dir, family, series, view, &sum);
        if (sum.any && to->value != NULL) {
            to->value(to->data, labels_of(dir, series), sum.cells[0]);
        } else if (sum.any && to->histogram != NULL) {
            peri_distribution values =
                distribution_of(dir, family, series, &sum);

            to->histogram(to->data, labels_of(dir, series), &values);
        }
        index = atomic_load(&series->next);
    }
}

static void each_named(peri_cells *cells, const peri_cells_view *view,
                       const char *name, const visitor *to)
{
    directory *dir = cells->dir;
    uint32_t count = atomic_load(&dir->families);

    for (uint32_t i = 0; i < count; i++) {
        const family_record *family = &dir->family[i];
        bool histogram = family->type == PERI_CELLS_HISTOGRAM;

        if (strcmp(family->name, name) == 0 &&
            histogram == (to->histogram != NULL) &&
            is_shown(dir, count, i, view)) {
            each_series(dir, family, view, to);
        }
    }
}

void peri_cells_each(peri_cells *cells, const peri_cells_view *view,
                     const char *name,
                     void (*fn)(void *data, peri_slice labels, double value),
                     void *data)
{
    each_named(cells, view, name, &(visitor){.value = fn, .data = data});
}

void peri_cells_each_histogram(peri_cells *cells, const peri_cells_view *view,
                               const char *name,
                               void (*fn)(void *data, peri_slice labels,
                                          const peri_distribution *values),
                               void *data)
{
    each_named(cells, view, name, &(visitor){.histogram = fn, .data = data});
}

void peri_cells_write(peri_cells *cells, const peri_cells_view *view,
                      peri_expo *expo)
{
    directory *dir = cells->dir;
    uint32_t count = atomic_load(&dir->families);

    for (uint32_t i = 0; i < count; i++) {
        if (is_shown(dir, count, i, view)) {
            write_family(dir, &dir->family[i], view, expo);
        }
    }
}
