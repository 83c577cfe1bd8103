/* Keeper: renews leases in Redis while scripts keep the loop busy.
 *
 * A worker renews its leases from its loop and says so by alive(). When it has
 * not said so for a third of a lease, a script holds the loop up: then a thread
 * with a connection of its own renews them. So a job that computes for long is
 * not begun a second time by somebody else. All functions belong to the loop's
 * thread. */
#ifndef PERILUA_LEASE_KEEPER_H
#define PERILUA_LEASE_KEEPER_H

#include "core/redis/client.h"

typedef struct perilua_keeper perilua_keeper;

/* Copies the config. NULL: there is no thread to be had. */
perilua_keeper *perilua_keeper_create(const peri_redis_config *config,
                                      uint32_t lease_ms);
/* Waits for the thread, which waits for nothing. NULL is allowed. */
void perilua_keeper_destroy(perilua_keeper *keeper);

/* A lock's key, and what is in it while the lease is ours. The same key again
 * replaces what was there. */
void perilua_keeper_add(perilua_keeper *keeper, peri_slice key,
                        peri_slice token);
void perilua_keeper_drop(perilua_keeper *keeper, peri_slice key);

void perilua_keeper_alive(perilua_keeper *keeper);

#endif
