/* Exponential: a distribution in buckets whose bounds are powers of one base,
 * as OpenTelemetry and Prometheus have them.
 *
 * At scale s the base is 2^(2^-s), and bucket i holds what is over base^i, up
 * to base^(i+1). Values decide the scale: it falls as they spread, so that the
 * buckets stay within their number, and a bucket at one scale is a whole piece
 * of one at the next lower. Negative values have buckets of their own, by their
 * size; what is about 0 is counted by itself.
 *
 * Cells are doubles that one process counts in while others read. They begin as
 * zeros. There are two tables; a change of scale fills the other one first, so
 * a death at any instruction loses at most the count that it was at. */
#ifndef PERI_BASE_EXPONENTIAL_H
#define PERI_BASE_EXPONENTIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PERI_EXPONENTIAL_SCALE_MAX 8 /* bounds lie 0.27 % apart */
#define PERI_EXPONENTIAL_SCALE_MIN (-10)
#define PERI_EXPONENTIAL_BUCKETS 160 /* unless told */
#define PERI_EXPONENTIAL_BUCKETS_MIN 10
#define PERI_EXPONENTIAL_BUCKETS_MAX 320
#define PERI_EXPONENTIAL_ZERO 0x1p-128 /* up to here a value is about 0 */

/* Doubles of cells with so many buckets. */
#define PERI_EXPONENTIAL_CELLS(buckets) (2 + 2 * (5 + (size_t)(buckets)))

/* NaN is not for here; what is infinite goes to the outermost bucket. */
void peri_exponential_observe(double *cells, uint32_t buckets, double value);

typedef struct peri_exponential_range {
    int first; /* its lowest bucket; nothing when count is 0 */
    uint32_t count;
    double counts[PERI_EXPONENTIAL_BUCKETS_MAX];
} peri_exponential_range;

/* What was counted, to be added up and written. */
typedef struct peri_exponential {
    int scale;
    double zero;
    peri_exponential_range positive;
    peri_exponential_range negative;
} peri_exponential;

void peri_exponential_init(peri_exponential *out);
void peri_exponential_read(const double *cells, uint32_t buckets,
                           peri_exponential *out);
double peri_exponential_total(const peri_exponential *e);

/* Adds what to sum, in so many buckets at most. */
void peri_exponential_add(peri_exponential *sum, const peri_exponential *what,
                          uint32_t buckets);

/* Takes away what was there before. false: it was not a part of now, which is
 * as it was. */
bool peri_exponential_subtract(peri_exponential *now,
                               const peri_exponential *before);

/* Lowers the scale to that. */
void peri_exponential_coarsen(peri_exponential *e, int scale);

#endif
