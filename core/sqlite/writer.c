/* Writer: the thread that changes the database.
 *
 * What waits together is committed together: `group` holds the ops whose work
 * is done inside the open outer transaction and who will be told once it is
 * durable. See pool.h. */
#include "core/base/clock.h"
#include "core/sqlite/migrate.h"
#include "core/sqlite/pool_internal.h"

#define GROUP_MAX 256
#define GROUP_AGE_MAX_NS 20000000u
/* A transaction that was open for longer than this makes those before it wait
 * for their commit: for a while, none shares a group with what precedes it. */
#define SLOW_TX_NS 250000000u
#define LONE_NS 2000000000u

typedef struct writer {
    peri_sqlite_thread *thread;
    peri_sqlite_pool *pool;
    peri_sqlite_db *db;
    peri_list group;
    uint32_t group_count;
    bool open; /* the outer transaction */
    uint64_t opened_ns;
    uint64_t tx_began_ns;
    uint64_t lone_until_ns;
    bool dead; /* SQLite has rolled back the open transaction */
    peri_sqlite_fault cause;
} writer;

static void set_grouped(writer *w, uint32_t count)
{
    w->group_count = count;
    uv_mutex_lock(&w->pool->lock);
    w->pool->grouped = count;
    uv_mutex_unlock(&w->pool->lock);
}

static void set_tx(writer *w, uint64_t tx)
{
    uv_mutex_lock(&w->pool->lock);
    w->pool->tx = tx;
    w->pool->tx_used_ns = peri_clock_monotonic_ns();
    uv_mutex_unlock(&w->pool->lock);
}

/* From here until settle() a cancel may interrupt. */
static int start(writer *w, peri_sqlite_op *op)
{
    uv_mutex_lock(&w->pool->lock);
    w->thread->running = op;
    uv_mutex_unlock(&w->pool->lock);
    return peri_sqlite_prepare(w->thread, op);
}

static void settle(writer *w)
{
    uv_mutex_lock(&w->pool->lock);
    w->thread->running = NULL;
    uv_mutex_unlock(&w->pool->lock);
}

/* Runs the statements, interruptible; all of them or none where guarded. */
static int run(writer *w, peri_sqlite_op *op)
{
    peri_sqlite_fault ignored;
    int rc = start(w, op);

    if (rc == 0 && op->guard) {
        rc = peri_sqlite_db_do(w->db, "SAVEPOINT perigee_op", &op->fault);
    }
    if (rc == 0) {
        rc = peri_sqlite_db_run(w->db, op);
        settle(w);
        if (op->guard && !peri_sqlite_db_idle(w->db)) {
            if (rc != 0) {
                peri_sqlite_db_do(w->db, "ROLLBACK TO perigee_op", &ignored);
            }
            peri_sqlite_db_do(w->db, "RELEASE perigee_op", &ignored);
        }
    }
    settle(w);
    return rc;
}

static void key_fault(writer *w, peri_sqlite_op *op)
{
    peri_sqlite_fault_set(&op->fault, SQLITE_CONSTRAINT_FOREIGNKEY,
                          "sqlite %s: FOREIGN KEY constraint failed",
                          w->pool->config.name);
}

/* In a transaction of its own, for the replay. */
static void run_alone(writer *w, peri_sqlite_op *op)
{
    peri_sqlite_fault ignored;
    int rc = peri_sqlite_prepare(w->thread, op);

    if (rc == 0) {
        rc = peri_sqlite_db_begin(w->db, &op->fault);
    }
    if (rc == 0) {
        rc = run(w, op);
    }
    if (rc == 0) {
        peri_sqlite_db_do(w->db, "COMMIT", &op->fault);
    }
    if (!peri_sqlite_db_idle(w->db)) {
        peri_sqlite_db_do(w->db, "ROLLBACK", &ignored);
    }
    peri_sqlite_db_watch(w->db, NULL, 0, 0);
    peri_sqlite_finish(w->pool, op);
}

/* SQLite has undone the group, or could not commit it: single writes are run
 * again, each for itself. */
static void lose_group(writer *w, const peri_sqlite_fault *cause)
{
    peri_sqlite_fault why = *cause; /* the op may be finished meanwhile */
    peri_sqlite_fault ignored;

    w->open = false;
    if (!peri_sqlite_db_idle(w->db)) {
        peri_sqlite_db_do(w->db, "ROLLBACK", &ignored);
    }
    set_grouped(w, 0);
    while (!peri_list_empty(&w->group)) {
        peri_sqlite_op *op =
            PERI_CONTAINER(w->group.next, peri_sqlite_op, link);

        peri_list_remove(&op->link);
        if (op->kind == PERI_SQLITE_COMMIT) {
            peri_sqlite_fault_set(&op->fault, SQLITE_ABORT,
                                  "the transaction was rolled back: %.400s",
                                  why.message);
            peri_sqlite_finish(w->pool, op);
        } else {
            run_alone(w, op);
        }
    }
}

static void commit_group(writer *w)
{
    peri_sqlite_fault fault = {0};

    if (!w->open) {
        return;
    }
    peri_sqlite_db_watch(w->db, NULL, 0, 0);
    if (peri_sqlite_db_do(w->db, "COMMIT", &fault) != 0) {
        lose_group(w, &fault);
        return;
    }
    w->open = false;
    uv_mutex_lock(&w->pool->lock);
    w->pool->stats.commits += w->group_count != 0;
    w->pool->stats.writes += w->group_count;
    uv_mutex_unlock(&w->pool->lock);
    set_grouped(w, 0);
    while (!peri_list_empty(&w->group)) {
        peri_sqlite_op *op =
            PERI_CONTAINER(w->group.next, peri_sqlite_op, link);

        peri_list_remove(&op->link);
        peri_sqlite_finish(w->pool, op);
    }
}

/* The outer transaction, with the lock that other processes respect. */
static int open_group(writer *w, peri_sqlite_op *op)
{
    int rc;

    if (w->open) {
        return atomic_load(&op->cancelled) ? peri_sqlite_prepare(w->thread, op)
                                           : 0;
    }
    rc = peri_sqlite_prepare(w->thread, op);
    if (rc == 0) {
        rc = peri_sqlite_db_begin(w->db, &op->fault);
    }
    if (rc == 0) {
        w->open = true;
        w->opened_ns = peri_clock_monotonic_ns();
    }
    return rc;
}

static void join_group(writer *w, peri_sqlite_op *op)
{
    peri_list_append(&w->group, &op->link);
    set_grouped(w, w->group_count + 1);
}

static void do_write(writer *w, peri_sqlite_op *op)
{
    int rc = open_group(w, op);

    if (rc != 0) {
        peri_sqlite_finish(w->pool, op);
        return;
    }
    rc = run(w, op);
    if (rc == 0 && peri_sqlite_db_owes_keys(w->db)) {
        key_fault(w, op); /* a deferred key: only a rollback undoes it now */
        lose_group(w, &op->fault);
        rc = op->fault.code;
    } else if (peri_sqlite_db_idle(w->db)) {
        lose_group(w, &op->fault);
    }
    if (rc == 0) {
        join_group(w, op);
    } else {
        peri_sqlite_finish(w->pool, op);
    }
}

static void do_begin(writer *w, peri_sqlite_op *op)
{
    int rc;

    if (w->open && peri_clock_monotonic_ns() < w->lone_until_ns) {
        commit_group(w);
    }
    rc = open_group(w, op);
    if (rc == 0) {
        rc = peri_sqlite_db_do(w->db, "SAVEPOINT perigee_tx", &op->fault);
    }
    if (rc == 0) {
        w->dead = false;
        w->tx_began_ns = peri_clock_monotonic_ns();
        set_tx(w, op->tx);
    }
    peri_sqlite_finish(w->pool, op);
}

static void dead_fault(writer *w, peri_sqlite_op *op)
{
    peri_sqlite_fault_set(&op->fault, w->cause.code,
                          "the transaction was rolled back: %.400s",
                          w->cause.message);
}

static void do_step(writer *w, peri_sqlite_op *op)
{
    if (w->dead) {
        dead_fault(w, op);
    } else {
        run(w, op);
        if (peri_sqlite_db_idle(w->db)) {
            w->dead = true;
            w->cause = op->fault;
            lose_group(w, &op->fault);
        }
    }
    uv_mutex_lock(&w->pool->lock);
    w->pool->tx_used_ns = peri_clock_monotonic_ns();
    uv_mutex_unlock(&w->pool->lock);
    peri_sqlite_finish(w->pool, op);
}

static void undo_tx(writer *w)
{
    peri_sqlite_fault ignored;

    if (!w->dead) {
        peri_sqlite_db_do(w->db, "ROLLBACK TO perigee_tx", &ignored);
        peri_sqlite_db_do(w->db, "RELEASE perigee_tx", &ignored);
    }
    w->dead = false;
    set_tx(w, 0);
}

static int release_tx(writer *w, peri_sqlite_op *op)
{
    if (w->dead) {
        dead_fault(w, op);
    } else if (atomic_load(&op->cancelled)) {
        peri_sqlite_fault_set(&op->fault, SQLITE_INTERRUPT,
                              "sqlite %s: the transaction was cancelled",
                              w->pool->config.name);
    } else if (peri_sqlite_db_owes_keys(w->db)) {
        key_fault(w, op);
    } else {
        op->fault.code = 0;
        return peri_sqlite_db_do(w->db, "RELEASE perigee_tx", &op->fault);
    }
    return op->fault.code;
}

static void do_commit(writer *w, peri_sqlite_op *op)
{
    uint64_t now_ns = peri_clock_monotonic_ns();

    if (now_ns - w->tx_began_ns > SLOW_TX_NS) {
        w->lone_until_ns = now_ns + LONE_NS;
    }
    if (release_tx(w, op) != 0) {
        undo_tx(w);
        peri_sqlite_finish(w->pool, op);
        return;
    }
    set_tx(w, 0);
    join_group(w, op);
}

/* PRAGMA, VACUUM, reads where there are no readers. */
static void do_alone(writer *w, peri_sqlite_op *op)
{
    peri_sqlite_fault ignored;

    commit_group(w);
    run(w, op);
    if (!peri_sqlite_db_idle(w->db)) {
        peri_sqlite_db_do(w->db, "ROLLBACK", &ignored);
    }
    peri_sqlite_finish(w->pool, op);
}

static void do_migrate(writer *w, peri_sqlite_op *op)
{
    commit_group(w);
    if (start(w, op) == 0) {
        peri_sqlite_migrate(w->db, op);
    }
    settle(w);
    peri_sqlite_finish(w->pool, op);
}

static void perform(writer *w, peri_sqlite_op *op)
{
    /* Set by whoever prepares; op is not ours any more once it is finished. */
    peri_sqlite_db_watch(w->db, NULL, 0, 0);
    switch (op->kind) {
    case PERI_SQLITE_WRITE:
        do_write(w, op);
        break;
    case PERI_SQLITE_BEGIN:
        do_begin(w, op);
        break;
    case PERI_SQLITE_STEP:
        do_step(w, op);
        break;
    case PERI_SQLITE_COMMIT:
        do_commit(w, op);
        break;
    case PERI_SQLITE_ROLLBACK:
        undo_tx(w);
        peri_sqlite_finish(w->pool, op);
        break;
    case PERI_SQLITE_MIGRATE:
        do_migrate(w, op);
        break;
    case PERI_SQLITE_READ:
    case PERI_SQLITE_ALONE:
    default:
        do_alone(w, op);
        break;
    }
}

static bool group_is_full(const writer *w)
{
    return w->open &&
           (w->group_count >= GROUP_MAX ||
            peri_clock_monotonic_ns() - w->opened_ns >= GROUP_AGE_MAX_NS);
}

static peri_sqlite_op *take(writer *w, peri_list *list)
{
    peri_sqlite_op *op = PERI_CONTAINER(list->next, peri_sqlite_op, link);

    peri_list_remove(&op->link);
    op->state = PERI_SQLITE_RUNNING;
    if (list == &w->pool->steps) {
        w->pool->tx_used_ns = UINT64_MAX;
    } else {
        w->pool->queued--;
    }
    return op;
}

/* The next op; NULL with *stop false: nothing waits, or the group is full, so
 * it is time to commit. */
static peri_sqlite_op *next_op(writer *w, bool *stop)
{
    peri_sqlite_pool *pool = w->pool;
    peri_sqlite_op *op = NULL;

    *stop = false;
    uv_mutex_lock(&pool->lock);
    for (;;) {
        peri_list *list = pool->tx != 0 ? &pool->steps : &pool->writes;

        if (pool->stopping) {
            *stop = true;
            break;
        }
        if (pool->tx != 0 && pool->tx == pool->tx_expired) {
            break;
        }
        if (!peri_list_empty(list)) {
            op = pool->tx == 0 && group_is_full(w) ? NULL : take(w, list);
            break;
        }
        if (pool->tx == 0 && w->open) {
            break;
        }
        uv_cond_wait(&pool->write_cond, &pool->lock);
    }
    uv_mutex_unlock(&pool->lock);
    return op;
}

static bool tx_is_open(writer *w)
{
    bool is_open;

    uv_mutex_lock(&w->pool->lock);
    is_open = w->pool->tx != 0;
    uv_mutex_unlock(&w->pool->lock);
    return is_open;
}

void peri_sqlite_writer_main(void *data)
{
    peri_sqlite_thread *thread = data;
    writer w = {.thread = thread, .pool = thread->pool, .db = thread->db};
    bool stop;

    peri_list_init(&w.group);
    for (;;) {
        peri_sqlite_op *op = next_op(&w, &stop);

        if (op != NULL) {
            perform(&w, op);
            continue;
        }
        peri_sqlite_db_watch(w.db, NULL, 0, 0);
        if (tx_is_open(&w)) {
            undo_tx(&w); /* expired, or closing */
        }
        commit_group(&w);
        if (stop) {
            break;
        }
    }
    peri_sqlite_exited(thread);
}
