/* Pool, inside: shared by pool.c, writer.c and reader.c. */
#ifndef PERI_SQLITE_POOL_INTERNAL_H
#define PERI_SQLITE_POOL_INTERNAL_H

#include "core/sqlite/pool.h"

typedef struct peri_sqlite_thread {
    peri_sqlite_pool *pool;
    uv_thread_t id;
    bool started; /* the loop's */
    bool joined;  /* the loop's */
    bool exited;  /* under the lock */
    peri_sqlite_db *db;
    peri_sqlite_op *running; /* under the lock; NULL: must not be interrupted */
} peri_sqlite_thread;

struct peri_sqlite_pool {
    peri_sqlite_config config;
    bool memory; /* one connection: the writer reads too */

    /* the loop's */
    uv_loop_t *loop;
    uv_async_t async;
    uv_timer_t timer;
    int open_handles;
    uint32_t in_flight;
    uint64_t last_tx;
    void (*closed)(void *data);
    void *closed_data;
    bool closing;

    uv_mutex_t lock; /* all that follows */
    uv_cond_t write_cond;
    uv_cond_t read_cond;
    peri_list writes; /* autocommit, BEGIN, MIGRATE; in order */
    peri_list reads;
    peri_list steps;    /* of the open transaction */
    peri_list finished; /* for the loop */
    uint32_t queued;    /* in writes and reads */
    uint32_t readers_idle;
    uint64_t tx;         /* the open transaction; 0: none */
    uint64_t tx_used_ns; /* UINT64_MAX: while it is being used */
    uint64_t tx_expired; /* the writer is to roll this one back */
    uint32_t grouped;    /* finished ops that wait for the group's commit */
    peri_sqlite_stats stats;
    bool stopping;
    peri_sqlite_thread writer;
    peri_sqlite_thread readers[PERI_SQLITE_READERS_MAX];
};

void peri_sqlite_writer_main(void *thread);
void peri_sqlite_reader_main(void *thread);

/* Hands an op back to the loop. Without the lock. */
void peri_sqlite_finish(peri_sqlite_pool *pool, peri_sqlite_op *op);

/* The thread's last words. Without the lock. */
void peri_sqlite_exited(peri_sqlite_thread *thread);

/* Opens the connection where needed and sets up waiting for locks. 0 or the
 * code in op->fault. */
int peri_sqlite_prepare(peri_sqlite_thread *thread, peri_sqlite_op *op);

#endif
