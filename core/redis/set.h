/* Set: the clients of one host, by name.
 *
 * Outlives generations: a new one that names the same Redis with the same
 * configuration gets the client that is there. One whose configuration has
 * changed is closed when the last generation that uses it has let go. */
#ifndef PERI_REDIS_SET_H
#define PERI_REDIS_SET_H

#include "core/redis/client.h"

typedef struct peri_redis_set peri_redis_set;

peri_redis_set *peri_redis_set_create(uv_loop_t *loop);

/* Closes all clients; closed (may be NULL) is called from the loop. */
void peri_redis_set_close(peri_redis_set *set, void (*closed)(void *data),
                          void *data);

/* Copies the config. The caller owns a reference, dropped by unref. */
peri_redis_client *peri_redis_set_ref(peri_redis_set *set,
                                      const peri_redis_config *config);

/* One reference more, dropped by unref too. */
void peri_redis_set_keep(peri_redis_set *set, peri_redis_client *client);
void peri_redis_set_unref(peri_redis_set *set, peri_redis_client *client);

/* Each client: its name and what it has now. Two may have one name: after a
 * change of the configuration, until the last user of the old one has gone. */
void peri_redis_set_each(const peri_redis_set *set,
                         void (*fn)(void *data, const char *name,
                                    const peri_pool_counts *counts),
                         void *data);

#endif
