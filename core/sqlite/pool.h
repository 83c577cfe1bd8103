/* Pool: one database, its connections and their threads.
 *
 * One thread writes, up to `readers` others read (started when there is work
 * for them). The loop's thread submits ops and gets them back through one
 * uv_async. All functions here are for the loop's thread.
 *
 * Writes are grouped: those that wait together share one transaction and one
 * fsync, and each is done when that commit is durable. One that fails is
 * undone alone and told at once. An explicit transaction (BEGIN, STEP...,
 * COMMIT or ROLLBACK, all with the same op->tx) has the writer for itself
 * until it ends, as a savepoint of the group. Where SQLite rolls back a whole
 * group (disk full, I/O error, an interrupted write), single writes are run
 * again one by one; committed-but-not-yet-durable transactions fail with
 * "unavailable". */
#ifndef PERI_SQLITE_POOL_H
#define PERI_SQLITE_POOL_H

#include <uv.h>

#include "core/base/pool_counts.h"
#include "core/sqlite/db.h"
#include "core/sqlite/op.h"

#define PERI_SQLITE_READERS_MAX 16

typedef struct peri_sqlite_pool peri_sqlite_pool;

/* Copies the config. Opens nothing and starts no thread before the first op.
 * Caller owns; ends by close. */
peri_sqlite_pool *peri_sqlite_pool_create(uv_loop_t *loop,
                                          const peri_sqlite_config *config);

/* Waiting ops fail, running ones are interrupted, an open transaction is
 * rolled back. closed is called from the loop when all is freed. */
void peri_sqlite_pool_close(peri_sqlite_pool *pool, void (*closed)(void *data),
                            void *data);

const peri_sqlite_config *peri_sqlite_pool_config(const peri_sqlite_pool *pool);

/* False where the writer reads too: a read waits for transactions then. */
bool peri_sqlite_pool_has_readers(const peri_sqlite_pool *pool);

/* 0; PERI_ELIMIT: queue_max ops wait; PERI_ESTATE: closing. COMMIT, ROLLBACK
 * and STEP are always taken unless closing. */
int peri_sqlite_submit(peri_sqlite_pool *pool, peri_sqlite_op *op);

/* The caller has lost interest. True: the op is the caller's again and done
 * will not be called. False: it has begun; done will be called, as soon as can
 * be. */
bool peri_sqlite_cancel(peri_sqlite_pool *pool, peri_sqlite_op *op);

/* A number for a new transaction. Never 0. */
uint64_t peri_sqlite_tx_new(peri_sqlite_pool *pool);

typedef struct peri_sqlite_stats {
    uint64_t writes;  /* ops that were written, transactions as one */
    uint64_t commits; /* fewer than writes where writes were grouped */
    uint64_t reads;
} peri_sqlite_stats;

void peri_sqlite_pool_get_stats(peri_sqlite_pool *pool, peri_sqlite_stats *out);

/* Connections (each a thread) as they are now: the writer is used while it has
 * a transaction open. waiting: ops that no thread has taken yet. */
void peri_sqlite_pool_count(peri_sqlite_pool *pool, peri_pool_counts *out);

#endif
