/* Pools: gauges of what a worker's pools of connections have: those of its
 * HTTP client by origin, of its Redis clients and SQLite databases by name.
 *
 * Pools know nothing of it: they are asked ten times a second. Belongs to the
 * loop thread. */
#ifndef PERILUA_POOLS_H
#define PERILUA_POOLS_H

#include "bindings/vm.h"
#include "core/base/log.h"
#include "core/shm/cells.h"

typedef struct perilua_pools perilua_pools;

/* cells and logger are borrowed. */
perilua_pools *perilua_pools_create(peri_cells *cells,
                                    const peri_logger *logger);
void perilua_pools_destroy(perilua_pools *pools);

/* Sets the gauges to what env's pools have now. */
void perilua_pools_show(perilua_pools *pools, const perilua_env *env);

#endif
