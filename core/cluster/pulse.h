/* Pulse: how late a worker's loop is, how big its heap, and what its pools
 * have.
 *
 * A timer that looks by how much it came too late: a time-weighted sample of
 * what an event would have waited for. Belongs to the loop thread. */
#ifndef PERI_CLUSTER_PULSE_H
#define PERI_CLUSTER_PULSE_H

#include <uv.h>

#include "core/shm/cells.h"

typedef struct peri_pulse peri_pulse;

/* What the pulse asks; see worker.h. */
typedef struct peri_pulse_app {
    double (*heap_bytes)(void *data);
    uint64_t (*collect)(void *data, uint64_t limit_ns);
    void (*show_pools)(void *data);
    void *data;
} peri_pulse_app;

/* NULL: no room for its metrics. Its handle does not keep the loop alive.
 * cells are borrowed. */
peri_pulse *peri_pulse_start(uv_loop_t *loop, peri_cells *cells, int record,
                             const peri_pulse_app *app);

/* Frees later, from the loop. NULL is allowed. */
void peri_pulse_stop(peri_pulse *pulse);

#endif
