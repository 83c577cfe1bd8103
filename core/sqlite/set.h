/* Set: the pools of one host, by name.
 *
 * Outlives generations: a new one that names the same database with the same
 * configuration gets the pool that is there. A pool whose configuration has
 * changed is closed when the last generation that uses it has let go. */
#ifndef PERI_SQLITE_SET_H
#define PERI_SQLITE_SET_H

#include "core/sqlite/pool.h"

typedef struct peri_sqlite_set peri_sqlite_set;

peri_sqlite_set *peri_sqlite_set_create(uv_loop_t *loop);

/* Closes all pools; closed is called from the loop when it is done, the set
 * freed. closed may be NULL. */
void peri_sqlite_set_close(peri_sqlite_set *set, void (*closed)(void *data),
                           void *data);

/* Copies the config. The caller owns a reference, dropped by unref. */
peri_sqlite_pool *peri_sqlite_set_ref(peri_sqlite_set *set,
                                      const peri_sqlite_config *config);
void peri_sqlite_set_unref(peri_sqlite_set *set, peri_sqlite_pool *pool);

/* Each pool: its name and what it has now. Two may have one name: after a
 * change of the configuration, until the last user of the old one has gone. */
void peri_sqlite_set_each(const peri_sqlite_set *set,
                          void (*fn)(void *data, const char *name,
                                     const peri_pool_counts *counts),
                          void *data);

#endif
