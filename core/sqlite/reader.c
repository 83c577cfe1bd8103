/* Reader: one of several threads that run reads in parallel. */
#include "core/sqlite/pool_internal.h"

static peri_sqlite_op *next_read(peri_sqlite_thread *thread)
{
    peri_sqlite_pool *pool = thread->pool;
    peri_sqlite_op *op = NULL;

    uv_mutex_lock(&pool->lock);
    pool->readers_idle++;
    while (peri_list_empty(&pool->reads) && !pool->stopping) {
        uv_cond_wait(&pool->read_cond, &pool->lock);
    }
    pool->readers_idle--;
    if (!peri_list_empty(&pool->reads)) {
        op = PERI_CONTAINER(pool->reads.next, peri_sqlite_op, link);
        peri_list_remove(&op->link);
        pool->queued--;
        pool->stats.reads++;
        op->state = PERI_SQLITE_RUNNING;
        thread->running = op;
    }
    uv_mutex_unlock(&pool->lock);
    return op;
}

/* It was no read after all. */
static void pass_on(peri_sqlite_pool *pool, peri_sqlite_op *op)
{
    uv_mutex_lock(&pool->lock);
    if (pool->stopping) {
        uv_mutex_unlock(&pool->lock);
        peri_sqlite_fault_set(&op->fault, PERI_ESTATE,
                              "sqlite %s: the database is being closed",
                              pool->config.name);
        peri_sqlite_finish(pool, op);
        return;
    }
    op->kind = PERI_SQLITE_WRITE;
    op->guard = op->guard || op->keep_rows;
    op->fault.code = 0;
    op->state = PERI_SQLITE_QUEUED;
    peri_list_append(&pool->writes, &op->link);
    pool->queued++;
    uv_cond_signal(&pool->write_cond);
    uv_mutex_unlock(&pool->lock);
}

void peri_sqlite_reader_main(void *data)
{
    peri_sqlite_thread *thread = data;
    peri_sqlite_pool *pool = thread->pool;
    peri_sqlite_op *op;

    while ((op = next_read(thread)) != NULL) {
        int rc = peri_sqlite_prepare(thread, op);

        if (rc == 0) {
            rc = peri_sqlite_db_run(thread->db, op);
        }
        uv_mutex_lock(&pool->lock);
        thread->running = NULL;
        uv_mutex_unlock(&pool->lock);
        if (rc == PERI_SQLITE_NOT_A_READ) {
            pass_on(pool, op);
        } else {
            peri_sqlite_finish(pool, op);
        }
    }
    peri_sqlite_exited(thread);
}
