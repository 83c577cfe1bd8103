/* Deltas: what series were when they were last looked at, for who sends what
 * was added since. A table by name and labels; nothing is forgotten before the
 * end, as nothing is in shared memory. */
#ifndef PERI_CLUSTER_DELTAS_H
#define PERI_CLUSTER_DELTAS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/expo.h"

typedef struct peri_deltas {
    struct peri_deltas_entry *table;
    size_t slots; /* a power of two */
    size_t used;
} peri_deltas;

/* All zeros is an empty one. */
void peri_deltas_fini(peri_deltas *deltas);

/* Takes away from values what they were, which is set to what they are. What is
 * lower than before has begun anew. false: the series is new. */
bool peri_deltas_subtract(peri_deltas *deltas, const char *name,
                          peri_slice labels, double *values, size_t count);

/* The same for exponential buckets. */
void peri_deltas_subtract_exponential(peri_deltas *deltas, const char *name,
                                      peri_slice labels,
                                      peri_exponential *values);

#endif
