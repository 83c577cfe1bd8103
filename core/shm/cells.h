/* Cells: metrics in memory that all processes of a host share.
 *
 * A family is a declared metric, a series one set of its label values. Each
 * process has cells of its own for a series, plain doubles that nobody else
 * writes, so counting takes no lock and no atomic; who reads adds them up.
 * Cells belong to a record (a worker's place in the segment) and go on with the
 * next process there: counters never go back. New series are made under a lock
 * that outlives its holder; a process killed at any instruction loses at most
 * the count that it was at. Nothing is ever given back, and all of it has
 * maxima. */
#ifndef PERI_SHM_CELLS_H
#define PERI_SHM_CELLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/base/expo.h"
#include "core/shm/regions.h"

#define PERI_CELLS_BYTES ((size_t)64 << 20) /* of a host, in its regions */
#define PERI_CELLS_FAMILIES_MAX 1024
#define PERI_CELLS_SERIES_MAX 65536 /* of all families */
#define PERI_CELLS_LABELS_MAX 16
#define PERI_CELLS_BOUNDS_MAX 64
#define PERI_CELLS_NAME_MAX 120
#define PERI_CELLS_HELP_MAX 500
#define PERI_CELLS_VALUE_MAX 256 /* of a label; the rest is cut */

typedef enum peri_cells_type {
    PERI_CELLS_COUNTER, /* cells[0] */
    PERI_CELLS_GAUGE,   /* cells[0]; for LAST, cells[1] is when (ns) */
    /* bounds + 1 counts, then the sum, then PERI_CELLS_EXEMPLAR cells, then,
     * with exponential buckets, theirs */
    PERI_CELLS_HISTOGRAM
} peri_cells_type;

/* How a gauge's values of several live workers become one. */
typedef enum peri_cells_merge {
    PERI_CELLS_SUM,
    PERI_CELLS_MIN,
    PERI_CELLS_MAX,
    PERI_CELLS_LAST /* set last, also by a worker that is dead */
} peri_cells_merge;

typedef struct peri_cells_family {
    const char *name;
    const char *help;
    peri_cells_type type;
    peri_cells_merge merge;
    const char *const *labels;
    size_t label_count;
    const double *bounds; /* rising, finite */
    size_t bound_count;
    uint32_t exponential; /* buckets that a histogram has besides; 0: none */
} peri_cells_family;

typedef struct peri_cells peri_cells;

/* This process writes as that record; -1: it only reads. Caller owns; the
 * regions are borrowed. NULL: there is no room for metrics. */
peri_cells *peri_cells_open(peri_regions *regions, int record);
void peri_cells_close(peri_cells *cells);

/* Series a family may have; 2000 unless set. */
void peri_cells_set_series_max(peri_cells *cells, uint32_t max);

/* The family's number. The same declaration gives the same one; another one of
 * that name is another family, which takes its place in what is read once the
 * given generation serves. PERI_EFORMAT: a limit above is passed. PERI_ELIMIT:
 * no room. */
int peri_cells_declare(peri_cells *cells, const peri_cells_family *family,
                       uint64_t generation);

#define PERI_CELLS_OVERFLOW 1       /* given the family's overflow series */
#define PERI_CELLS_OVERFLOW_FIRST 2 /* and nobody has been told so yet */

/* This process's cells of the series with these values. 0 or one of the above;
 * there are always cells, at worst some that nobody reads. */
int peri_cells_series(peri_cells *cells, int family, const peri_slice *values,
                      double **out);

/* An example of what was counted: value, when (Unix seconds; 0: there is none,
 * or it is being written), trace and span as bits. */
#define PERI_CELLS_EXEMPLAR 5

/* Adds value to a histogram's cells; all but value as it was declared. */
static inline void peri_cells_observe(double *cells, const double *bounds,
                                      size_t count, uint32_t exponential,
                                      double value)
{
    size_t i = 0;

    while (i < count && value > bounds[i]) {
        i++;
    }
    cells[i] += 1;
    cells[count + 1] += value;
    if (exponential != 0) {
        peri_exponential_observe(cells + count + 2 + PERI_CELLS_EXEMPLAR,
                                 exponential, value);
    }
}

static inline void peri_cells_set_exemplar(double *cells, size_t count,
                                           double value, double unix_s,
                                           const unsigned char *trace_id,
                                           const unsigned char *span_id)
{
    double *at = cells + count + 2;

    at[1] = 0;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    at[0] = value;
    memcpy(&at[2], trace_id, 2 * sizeof(double));
    memcpy(&at[4], span_id, sizeof(double));
    __atomic_thread_fence(__ATOMIC_RELEASE);
    at[1] = unix_s;
}

typedef struct peri_cells_view {
    uint64_t generation; /* that serves */
    /* Whether a process writes as record; NULL: all do. */
    bool (*alive)(const void *data, int record);
    const void *data;
} peri_cells_view;

/* Each series of the counter or gauge of that name, added up. labels as
 * peri_expo_sample() has them. */
void peri_cells_each(peri_cells *cells, const peri_cells_view *view,
                     const char *name,
                     void (*fn)(void *data, peri_slice labels, double value),
                     void *data);

/* The same for a histogram. */
void peri_cells_each_histogram(peri_cells *cells, const peri_cells_view *view,
                               const char *name,
                               void (*fn)(void *data, peri_slice labels,
                                          const peri_distribution *values),
                               void *data);

/* All families, added up. */
void peri_cells_write(peri_cells *cells, const peri_cells_view *view,
                      peri_expo *expo);

#endif
