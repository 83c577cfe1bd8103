/* Pool: the loop's side. */
#include "core/sqlite/pool_internal.h"

#include <signal.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"

#define STACK_BYTES ((size_t)1 << 20)
#define TICK_MS 250
#define NS_PER_MS 1000000u
/* What an op gets for a foreign lock however long it has waited for its turn.
 */
#define BUSY_LEAST_NS 50000000u
/* A long write that was cancelled is not broken off at once, for the sake of
 * the group that it would take along. */
#define PATIENCE_NS 250000000u

static void fail(peri_sqlite_pool *pool, peri_sqlite_op *op, int code,
                 const char *why)
{
    peri_sqlite_fault_set(&op->fault, code, "sqlite %s: %s", pool->config.name,
                          why);
}

/* ---- for the threads ---- */

void peri_sqlite_finish(peri_sqlite_pool *pool, peri_sqlite_op *op)
{
    uv_mutex_lock(&pool->lock);
    op->state = PERI_SQLITE_FINISHED;
    peri_list_append(&pool->finished, &op->link);
    uv_async_send(&pool->async);
    uv_mutex_unlock(&pool->lock);
}

void peri_sqlite_exited(peri_sqlite_thread *thread)
{
    peri_sqlite_db_destroy(thread->db);
    uv_mutex_lock(&thread->pool->lock);
    thread->exited = true;
    uv_async_send(&thread->pool->async);
    uv_mutex_unlock(&thread->pool->lock);
}

int peri_sqlite_prepare(peri_sqlite_thread *thread, peri_sqlite_op *op)
{
    peri_sqlite_pool *pool = thread->pool;
    uint64_t now_ns = peri_clock_monotonic_ns();
    uint64_t busy_ns = (uint64_t)pool->config.busy_timeout_ms * NS_PER_MS;
    uint64_t patient_until_ns = 0;

    op->fault.code = 0;
    if (atomic_load(&op->cancelled)) {
        fail(pool, op, SQLITE_INTERRUPT, "cancelled");
        return SQLITE_INTERRUPT;
    }
    busy_ns += op->queued_ns;
    if (busy_ns < now_ns + BUSY_LEAST_NS) {
        busy_ns = now_ns + BUSY_LEAST_NS;
    }
    if (thread == &pool->writer) {
        uv_mutex_lock(&pool->lock);
        patient_until_ns = pool->grouped != 0 ? now_ns + PATIENCE_NS : 0;
        uv_mutex_unlock(&pool->lock);
    }
    peri_sqlite_db_watch(thread->db, op, busy_ns, patient_until_ns);
    return peri_sqlite_db_open(thread->db, &op->fault);
}

/* ---- starting and ending ---- */

/* Signals are the loop's thread's, the profiler's above all. */
static int start_thread(peri_sqlite_pool *pool, peri_sqlite_thread *thread,
                        bool reader)
{
    uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE,
                                   .stack_size = STACK_BYTES};
    sigset_t all;
    sigset_t before;
    int rc;

    thread->pool = pool;
    thread->db = peri_sqlite_db_create(&pool->config, reader);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = uv_thread_create_ex(
        &thread->id, &options,
        reader ? peri_sqlite_reader_main : peri_sqlite_writer_main, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    thread->started = rc == 0;
    if (rc < 0) {
        peri_sqlite_db_destroy(thread->db);
    }
    return rc;
}

static void on_handle_closed(uv_handle_t *handle)
{
    peri_sqlite_pool *pool = handle->data;

    if (--pool->open_handles != 0) {
        return;
    }
    if (pool->closed != NULL) {
        pool->closed(pool->closed_data);
    }
    uv_cond_destroy(&pool->write_cond);
    uv_cond_destroy(&pool->read_cond);
    uv_mutex_destroy(&pool->lock);
    free((char *)pool->config.name);
    free((char *)pool->config.path);
    free((char *)pool->config.synchronous);
    free(pool);
}

static bool join(peri_sqlite_pool *pool, peri_sqlite_thread *thread)
{
    bool exited;

    if (!thread->started || thread->joined) {
        return true;
    }
    uv_mutex_lock(&pool->lock);
    exited = thread->exited;
    uv_mutex_unlock(&pool->lock);
    if (exited) {
        uv_thread_join(&thread->id);
        thread->joined = true;
    }
    return exited;
}

static void close_when_idle(peri_sqlite_pool *pool)
{
    bool all = join(pool, &pool->writer);

    for (int i = 0; i < PERI_SQLITE_READERS_MAX; i++) {
        all = join(pool, &pool->readers[i]) && all;
    }
    if (all && pool->in_flight == 0 &&
        !uv_is_closing((uv_handle_t *)&pool->async)) {
        uv_close((uv_handle_t *)&pool->async, on_handle_closed);
        uv_close((uv_handle_t *)&pool->timer, on_handle_closed);
    }
}

/* The loop lives on for our sake only while there is work. */
static void count_in_flight(peri_sqlite_pool *pool, int by)
{
    pool->in_flight = (uint32_t)((int)pool->in_flight + by);
    if (pool->closing) {
        return;
    }
    if (pool->in_flight == 0) {
        uv_unref((uv_handle_t *)&pool->async);
    } else if (pool->in_flight == 1 && by > 0) {
        uv_ref((uv_handle_t *)&pool->async);
    }
}

static void on_async(uv_async_t *async)
{
    peri_sqlite_pool *pool = async->data;
    peri_list batch;

    peri_list_init(&batch);
    uv_mutex_lock(&pool->lock);
    while (!peri_list_empty(&pool->finished)) {
        peri_list *link = pool->finished.next;

        peri_list_remove(link);
        peri_list_append(&batch, link);
    }
    uv_mutex_unlock(&pool->lock);
    while (!peri_list_empty(&batch)) {
        peri_sqlite_op *op = PERI_CONTAINER(batch.next, peri_sqlite_op, link);

        peri_list_remove(&op->link);
        op->state = PERI_SQLITE_IDLE;
        count_in_flight(pool, -1);
        op->done(op);
    }
    if (pool->closing) {
        close_when_idle(pool);
    }
}

/* Oldest first: the list's head tells whether there is anything to do. */
static void expire(peri_sqlite_pool *pool, peri_list *list, uint64_t now_ns)
{
    uint64_t limit_ns = (uint64_t)pool->config.wait_timeout_ms * NS_PER_MS;

    while (!peri_list_empty(list)) {
        peri_sqlite_op *op = PERI_CONTAINER(list->next, peri_sqlite_op, link);

        if (now_ns - op->queued_ns < limit_ns) {
            return;
        }
        peri_list_remove(&op->link);
        pool->queued--;
        fail(pool, op, PERI_ETIMEOUT,
             "the database was busy for longer than wait_timeout");
        op->state = PERI_SQLITE_FINISHED;
        peri_list_append(&pool->finished, &op->link);
        uv_async_send(&pool->async);
    }
}

static void on_tick(uv_timer_t *timer)
{
    peri_sqlite_pool *pool = timer->data;
    uint64_t now_ns = peri_clock_monotonic_ns();
    uint64_t limit_ns = (uint64_t)pool->config.wait_timeout_ms * NS_PER_MS;

    uv_mutex_lock(&pool->lock);
    expire(pool, &pool->writes, now_ns);
    expire(pool, &pool->reads, now_ns);
    if (pool->tx != 0 && peri_list_empty(&pool->steps) &&
        pool->tx_used_ns <= now_ns && now_ns - pool->tx_used_ns >= limit_ns) {
        pool->tx_expired = pool->tx;
        uv_cond_signal(&pool->write_cond);
    }
    if (pool->in_flight == 0 && pool->tx == 0) {
        uv_timer_stop(&pool->timer);
    }
    uv_mutex_unlock(&pool->lock);
}

peri_sqlite_pool *peri_sqlite_pool_create(uv_loop_t *loop,
                                          const peri_sqlite_config *config)
{
    peri_sqlite_pool *pool = peri_calloc(1, sizeof *pool);

    pool->config = *config;
    pool->config.name = peri_strdup(config->name);
    pool->config.path = peri_strdup(config->path);
    pool->config.synchronous = peri_strdup(config->synchronous);
    if (pool->config.readers > PERI_SQLITE_READERS_MAX) {
        pool->config.readers = PERI_SQLITE_READERS_MAX;
    }
    pool->memory = pool->config.readers == 0 || config->path[0] == '\0' ||
                   strcmp(config->path, ":memory:") == 0;
    pool->loop = loop;
    peri_list_init(&pool->writes);
    peri_list_init(&pool->reads);
    peri_list_init(&pool->steps);
    peri_list_init(&pool->finished);
    uv_mutex_init(&pool->lock);
    uv_cond_init(&pool->write_cond);
    uv_cond_init(&pool->read_cond);
    uv_async_init(loop, &pool->async, on_async);
    uv_timer_init(loop, &pool->timer);
    pool->async.data = pool;
    pool->timer.data = pool;
    pool->open_handles = 2;
    uv_unref((uv_handle_t *)&pool->async);
    uv_unref((uv_handle_t *)&pool->timer);
    return pool;
}

static void reject(peri_sqlite_pool *pool, peri_list *list)
{
    while (!peri_list_empty(list)) {
        peri_sqlite_op *op = PERI_CONTAINER(list->next, peri_sqlite_op, link);

        peri_list_remove(&op->link);
        fail(pool, op, PERI_ESTATE, "the database is being closed");
        op->state = PERI_SQLITE_FINISHED;
        peri_list_append(&pool->finished, &op->link);
    }
}

static void interrupt(peri_sqlite_thread *thread)
{
    if (thread->running != NULL) {
        atomic_store(&thread->running->cancelled, true);
        peri_sqlite_db_interrupt(thread->db);
    }
}

void peri_sqlite_pool_close(peri_sqlite_pool *pool, void (*closed)(void *data),
                            void *data)
{
    pool->closed = closed;
    pool->closed_data = data;
    pool->closing = true;
    uv_timer_stop(&pool->timer);
    uv_ref((uv_handle_t *)&pool->async);
    uv_mutex_lock(&pool->lock);
    pool->stopping = true;
    reject(pool, &pool->writes);
    reject(pool, &pool->reads);
    reject(pool, &pool->steps);
    pool->queued = 0;
    interrupt(&pool->writer);
    for (int i = 0; i < PERI_SQLITE_READERS_MAX; i++) {
        interrupt(&pool->readers[i]);
    }
    uv_cond_broadcast(&pool->write_cond);
    uv_cond_broadcast(&pool->read_cond);
    uv_async_send(&pool->async);
    uv_mutex_unlock(&pool->lock);
}

const peri_sqlite_config *peri_sqlite_pool_config(const peri_sqlite_pool *pool)
{
    return &pool->config;
}

bool peri_sqlite_pool_has_readers(const peri_sqlite_pool *pool)
{
    return !pool->memory;
}

void peri_sqlite_pool_get_stats(peri_sqlite_pool *pool, peri_sqlite_stats *out)
{
    uv_mutex_lock(&pool->lock);
    *out = pool->stats;
    uv_mutex_unlock(&pool->lock);
}

void peri_sqlite_pool_count(peri_sqlite_pool *pool, peri_pool_counts *out)
{
    uint32_t started = pool->writer.started;

    *out = (peri_pool_counts){0};
    uv_mutex_lock(&pool->lock);
    out->used =
        pool->writer.running != NULL || pool->tx != 0 || pool->grouped != 0;
    for (int i = 0; i < PERI_SQLITE_READERS_MAX; i++) {
        started += pool->readers[i].started;
        out->used += pool->readers[i].running != NULL;
    }
    out->waiting = pool->queued;
    uv_mutex_unlock(&pool->lock);
    out->idle = started - out->used;
}

uint64_t peri_sqlite_tx_new(peri_sqlite_pool *pool)
{
    return ++pool->last_tx;
}

/* ---- submitting ---- */

/* One more reader when all are busy. */
static void need_reader(peri_sqlite_pool *pool, bool idle)
{
    for (uint32_t i = 0; !idle && i < pool->config.readers; i++) {
        if (!pool->readers[i].started) {
            start_thread(pool, &pool->readers[i], true);
            return;
        }
    }
}

static int submit_read(peri_sqlite_pool *pool, peri_sqlite_op *op)
{
    bool idle;

    uv_mutex_lock(&pool->lock);
    idle = pool->readers_idle != 0 && peri_list_empty(&pool->reads);
    peri_list_append(&pool->reads, &op->link);
    pool->queued++;
    uv_cond_signal(&pool->read_cond);
    uv_mutex_unlock(&pool->lock);
    need_reader(pool, idle);
    if (pool->readers[0].started) {
        return 0;
    }
    uv_mutex_lock(&pool->lock); /* no thread to be had: nobody will take it */
    peri_list_remove(&op->link);
    pool->queued--;
    uv_mutex_unlock(&pool->lock);
    return UV_EAGAIN;
}

/* An op of a transaction that is not open any more is over at once. */
static void submit_tx(peri_sqlite_pool *pool, peri_sqlite_op *op)
{
    uv_mutex_lock(&pool->lock);
    if (pool->tx == op->tx) {
        peri_list_append(&pool->steps, &op->link);
        uv_cond_signal(&pool->write_cond);
    } else {
        if (op->kind != PERI_SQLITE_ROLLBACK) {
            fail(pool, op, PERI_ESTATE,
                 pool->tx_expired == op->tx
                     ? "the transaction was rolled back: nothing happened in "
                       "it for wait_timeout"
                     : "the transaction has ended");
        }
        op->state = PERI_SQLITE_FINISHED;
        peri_list_append(&pool->finished, &op->link);
        uv_async_send(&pool->async);
    }
    uv_mutex_unlock(&pool->lock);
}

static void submit_write(peri_sqlite_pool *pool, peri_sqlite_op *op)
{
    uv_mutex_lock(&pool->lock);
    peri_list_append(&pool->writes, &op->link);
    pool->queued++;
    uv_cond_signal(&pool->write_cond);
    uv_mutex_unlock(&pool->lock);
}

static bool is_of_tx(const peri_sqlite_op *op)
{
    return op->kind == PERI_SQLITE_STEP || op->kind == PERI_SQLITE_COMMIT ||
           op->kind == PERI_SQLITE_ROLLBACK;
}

static bool is_full(peri_sqlite_pool *pool)
{
    bool full;

    uv_mutex_lock(&pool->lock);
    full = pool->queued >= pool->config.queue_max;
    uv_mutex_unlock(&pool->lock);
    return full;
}

int peri_sqlite_submit(peri_sqlite_pool *pool, peri_sqlite_op *op)
{
    int rc = 0;

    if (pool->closing) {
        return PERI_ESTATE;
    }
    if (!is_of_tx(op) && is_full(pool)) {
        return PERI_ELIMIT;
    }
    if (!pool->writer.started) {
        rc = start_thread(pool, &pool->writer, false);
        if (rc < 0) {
            return rc;
        }
    }
    op->state = PERI_SQLITE_QUEUED;
    op->fault.code = 0;
    atomic_store(&op->cancelled, false);
    op->queued_ns = peri_clock_monotonic_ns();
    if (is_of_tx(op)) {
        submit_tx(pool, op);
    } else if (op->kind == PERI_SQLITE_READ && !pool->memory) {
        rc = submit_read(pool, op);
    } else {
        submit_write(pool, op);
    }
    if (rc == 0) {
        count_in_flight(pool, 1);
        if (!uv_is_active((uv_handle_t *)&pool->timer)) {
            uv_timer_start(&pool->timer, on_tick, TICK_MS, TICK_MS);
        }
    }
    return rc;
}

bool peri_sqlite_cancel(peri_sqlite_pool *pool, peri_sqlite_op *op)
{
    bool removed = false;

    uv_mutex_lock(&pool->lock);
    if (op->state == PERI_SQLITE_QUEUED) {
        pool->queued -= !is_of_tx(op);
        peri_list_remove(&op->link);
        op->state = PERI_SQLITE_IDLE;
        removed = true;
    } else {
        atomic_store(&op->cancelled, true);
        for (int i = 0; i < PERI_SQLITE_READERS_MAX; i++) {
            if (pool->readers[i].running == op) {
                peri_sqlite_db_interrupt(pool->readers[i].db);
            }
        }
        /* An interrupted write takes its whole transaction along, and with it
         * what neighbours wait to see committed: those come first for a while
         * (on_progress in db.c). */
        if (pool->writer.running == op && pool->grouped == 0) {
            peri_sqlite_db_interrupt(pool->writer.db);
        }
    }
    uv_mutex_unlock(&pool->lock);
    if (removed) {
        count_in_flight(pool, -1);
    }
    return removed;
}
