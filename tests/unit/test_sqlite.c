/* The SQLite layer: ops through a real pool and a real loop. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/sqlite/code.h"
#include "core/sqlite/set.h"
#include "core/sqlite/sql.h"

#define TEST(name) static void name(void **state)

typedef struct fixture {
    uv_loop_t loop;
    char dir[64];
    char path[96];
    peri_sqlite_config config;
    peri_sqlite_pool *pool;
    bool closed;
} fixture;

typedef struct job {
    peri_sqlite_op op;
    bool done;
    int order; /* of being told */
} job;

static int told;

static void on_done(peri_sqlite_op *op)
{
    job *j = (job *)op;

    j->done = true;
    j->order = ++told;
}

static void on_closed(void *data)
{
    *(bool *)data = true;
}

static int set_up_path(void **state, bool memory)
{
    fixture *f = peri_calloc(1, sizeof *f);

    uv_loop_init(&f->loop);
    snprintf(f->dir, sizeof f->dir, "/tmp/perigee-sqlite-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/db/test.sqlite", f->dir);
    f->config = (peri_sqlite_config){.name = "main",
                                     .path = memory ? ":memory:" : f->path,
                                     .synchronous = "full",
                                     .busy_timeout_ms = 300,
                                     .wait_timeout_ms = 2000,
                                     .readers = 4,
                                     .queue_max = 1000,
                                     .rows_max = 1000,
                                     .result_max_bytes = 1 << 20};
    f->pool = peri_sqlite_pool_create(&f->loop, &f->config);
    *state = f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_path(state, false);
}

static int set_up_memory(void **state)
{
    return set_up_path(state, true);
}

static int tear_down(void **state)
{
    fixture *f = *state;
    char command[128];

    if (f->pool != NULL) {
        peri_sqlite_pool_close(f->pool, on_closed, &f->closed);
    }
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    snprintf(command, sizeof command, "rm -rf %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static job *job_make(peri_sqlite_kind kind, uint64_t tx)
{
    job *j = peri_calloc(1, sizeof *j);

    peri_sqlite_op_init(&j->op);
    j->op.kind = kind;
    j->op.tx = tx;
    j->op.done = on_done;
    return j;
}

static void job_free(job *j)
{
    peri_sqlite_op_fini(&j->op);
    free(j);
}

static job *statement(peri_sqlite_kind kind, uint64_t tx, const char *sql)
{
    job *j = job_make(kind, tx);

    peri_sqlite_pack_bytes(&j->op.input, PERI_SQLITE_TEXT, peri_slice_str(sql));
    peri_sqlite_pack_int(&j->op.input, 0);
    peri_sqlite_pack_int(&j->op.input, 0);
    j->op.statements = 1;
    j->op.keep_rows = true;
    return j;
}

static void wait_for(fixture *f, job *j)
{
    while (!j->done) {
        uv_run(&f->loop, UV_RUN_ONCE);
    }
}

static void submit(fixture *f, job *j)
{
    assert_int_equal(peri_sqlite_submit(f->pool, &j->op), 0);
}

/* Runs to the end; the code. */
static int do_sql(fixture *f, peri_sqlite_kind kind, uint64_t tx,
                  const char *sql)
{
    job *j = statement(kind, tx, sql);
    int code;

    j->op.keep_rows = false;
    submit(f, j);
    wait_for(f, j);
    code = j->op.fault.code;
    if (code != 0 && getenv("VERBOSE") != NULL) {
        printf("%s\n", j->op.fault.message);
    }
    job_free(j);
    return code;
}

static int write_sql(fixture *f, const char *sql)
{
    return do_sql(f, PERI_SQLITE_WRITE, 0, sql);
}

static int tx_op(fixture *f, peri_sqlite_kind kind, uint64_t tx)
{
    job *j = job_make(kind, tx);
    int code;

    submit(f, j);
    wait_for(f, j);
    code = j->op.fault.code;
    job_free(j);
    return code;
}

/* The first column of the first row. */
static int64_t read_int(fixture *f, const char *sql)
{
    job *j = statement(PERI_SQLITE_READ, 0, sql);
    peri_sqlite_result result;
    peri_sqlite_value value;
    peri_slice out;

    submit(f, j);
    wait_for(f, j);
    assert_int_equal(j->op.fault.code, 0);
    out = peri_buf_slice(&j->op.output);
    assert_true(peri_sqlite_unpack_result(&out, &result));
    assert_int_equal(result.rows, 1);
    for (uint32_t i = 0; i <= result.columns; i++) {
        assert_true(peri_sqlite_unpack(&out, &value));
        if (i == result.columns) {
            break;
        }
    }
    job_free(j);
    return value.integer;
}

TEST(values_survive_packing)
{
    peri_buf buf;
    peri_sqlite_value v;
    peri_slice packed;

    (void)state;
    peri_buf_init(&buf, 1000);
    peri_sqlite_pack_null(&buf);
    peri_sqlite_pack_int(&buf, INT64_MIN);
    peri_sqlite_pack_real(&buf, 0.1);
    peri_sqlite_pack_bytes(&buf, PERI_SQLITE_BLOB, peri_slice_of("a\0b", 3));
    peri_sqlite_pack_bytes(&buf, PERI_SQLITE_TEXT, peri_slice_of(NULL, 0));
    packed = peri_buf_slice(&buf);
    assert_true(peri_sqlite_unpack(&packed, &v));
    assert_int_equal(v.type, PERI_SQLITE_NULL);
    assert_true(peri_sqlite_unpack(&packed, &v));
    assert_true(v.integer == INT64_MIN);
    assert_true(peri_sqlite_unpack(&packed, &v));
    assert_true(v.real == 0.1);
    assert_true(peri_sqlite_unpack(&packed, &v));
    assert_int_equal(v.bytes.length, 3);
    assert_memory_equal(v.bytes.data, "a\0b", 3);
    assert_true(peri_sqlite_unpack(&packed, &v));
    assert_int_equal(v.type, PERI_SQLITE_TEXT);
    assert_false(peri_sqlite_unpack(&packed, &v));
    assert_int_equal(
        peri_sqlite_pack_bytes(&buf, PERI_SQLITE_TEXT,
                               peri_slice_of((const char *)&buf, 2000)),
        PERI_ELIMIT);
    peri_buf_fini(&buf);
}

TEST(statements_are_told_apart_by_their_first_word)
{
    static const struct {
        const char *sql;
        peri_sqlite_class class;
    } cases[] = {{"select 1", PERI_SQL_READ},
                 {" -- note\n /* more */ SELECT 1", PERI_SQL_READ},
                 {"with a as (select 1) insert", PERI_SQL_READ},
                 {"INSERT INTO t", PERI_SQL_WRITE},
                 {"selects", PERI_SQL_WRITE},
                 {"PRAGMA x", PERI_SQL_ALONE},
                 {";commit", PERI_SQL_CONTROL},
                 {"END", PERI_SQL_CONTROL},
                 {"attach 'x' as y", PERI_SQL_ATTACH},
                 {" ; -- nothing", PERI_SQL_EMPTY},
                 {"/* open", PERI_SQL_EMPTY},
                 {"/*/", PERI_SQL_EMPTY},
                 {"", PERI_SQL_EMPTY}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(peri_sqlite_classify(peri_slice_str(cases[i].sql)),
                         cases[i].class);
    }
    assert_false(peri_sqlite_may_be_several(PERI_SLICE("select 1; -- end")));
    assert_true(peri_sqlite_may_be_several(PERI_SLICE("a; b")));
    assert_int_equal(peri_sqlite_line_of(PERI_SLICE("a\nb\nc"), 4), 3);
}

TEST(codes_have_names_and_kinds)
{
    (void)state;
    assert_string_equal(peri_sqlite_code_name(SQLITE_CONSTRAINT_UNIQUE),
                        "SQLITE_CONSTRAINT_UNIQUE");
    assert_string_equal(peri_sqlite_code_kind(SQLITE_CONSTRAINT_PRIMARYKEY),
                        "conflict");
    assert_string_equal(peri_sqlite_code_kind(SQLITE_BUSY_TIMEOUT),
                        "unavailable");
    assert_string_equal(peri_sqlite_code_name(SQLITE_IOERR_SHMMAP),
                        "SQLITE_IOERR");
    assert_string_equal(peri_sqlite_code_kind(PERI_ELIMIT), "too_large");
}

TEST(what_is_written_can_be_read)
{
    fixture *f = *state;

    assert_int_equal(write_sql(f, "CREATE TABLE t (a INTEGER)"), 0);
    assert_int_equal(write_sql(f, "INSERT INTO t VALUES (41), (42)"), 0);
    assert_int_equal(read_int(f, "SELECT max(a) FROM t"), 42);
    assert_int_equal(read_int(f, "INSERT INTO t VALUES (7) RETURNING a"), 7);
    assert_int_equal(read_int(f, "SELECT count(*) FROM t"), 3);
}

TEST(a_write_that_looks_like_a_read_reaches_the_writer)
{
    fixture *f = *state;

    write_sql(f, "CREATE TABLE t (a INTEGER)");
    assert_int_equal(
        read_int(f, "WITH x(v) AS (VALUES (5)) INSERT INTO t SELECT v FROM x "
                    "RETURNING a"),
        5);
    assert_int_equal(read_int(f, "SELECT count(*) FROM t"), 1);
}

TEST(writes_that_wait_together_share_a_commit)
{
    fixture *f = *state;
    peri_sqlite_stats before;
    peri_sqlite_stats after;
    job *jobs[200];

    write_sql(f, "CREATE TABLE t (a INTEGER UNIQUE)");
    peri_sqlite_pool_get_stats(f->pool, &before);
    for (int i = 0; i < 200; i++) {
        char sql[64];

        /* every tenth fails, alone */
        snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d)",
                 i % 10 == 9 ? 0 : i);
        jobs[i] = statement(PERI_SQLITE_WRITE, 0, sql);
        submit(f, jobs[i]);
    }
    for (int i = 0; i < 200; i++) {
        wait_for(f, jobs[i]);
        assert_int_equal(jobs[i]->op.fault.code,
                         i % 10 == 9 ? SQLITE_CONSTRAINT_UNIQUE : 0);
        job_free(jobs[i]);
    }
    peri_sqlite_pool_get_stats(f->pool, &after);
    assert_int_equal(after.writes - before.writes, 180);
    assert_true(after.commits - before.commits < 60);
    assert_int_equal(read_int(f, "SELECT count(*) FROM t"), 180);
}

TEST(several_statements_at_once_are_all_or_nothing)
{
    fixture *f = *state;
    job *j = statement(PERI_SQLITE_WRITE, 0,
                       "INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)");

    write_sql(f, "CREATE TABLE t (a INTEGER UNIQUE)");
    j->op.guard = true;
    j->op.keep_rows = false;
    submit(f, j);
    wait_for(f, j);
    assert_int_equal(j->op.fault.code, SQLITE_CONSTRAINT_UNIQUE);
    assert_int_equal(read_int(f, "SELECT count(*) FROM t"), 0);
    job_free(j);
}

TEST(a_transaction_is_seen_whole_or_not_at_all)
{
    fixture *f = *state;
    uint64_t tx = peri_sqlite_tx_new(f->pool);

    write_sql(f, "CREATE TABLE t (a INTEGER)");
    assert_int_equal(tx_op(f, PERI_SQLITE_BEGIN, tx), 0);
    assert_int_equal(
        do_sql(f, PERI_SQLITE_STEP, tx, "INSERT INTO t VALUES (1)"), 0);
    assert_int_equal(read_int(f, "SELECT count(*) FROM t"), 0);
    assert_int_equal(tx_op(f, PERI_SQLITE_COMMIT, tx), 0);
    assert_int_equal(read_int(f, "SELECT count(*) FROM t"), 1);
    tx = peri_sqlite_tx_new(f->pool);
    assert_int_equal(tx_op(f, PERI_SQLITE_BEGIN, tx), 0);
    do_sql(f, PERI_SQLITE_STEP, tx, "INSERT INTO t VALUES (2)");
    assert_int_equal(tx_op(f, PERI_SQLITE_ROLLBACK, tx), 0);
    assert_int_equal(read_int(f, "SELECT count(*) FROM t"), 1);
    assert_int_equal(
        do_sql(f, PERI_SQLITE_STEP, tx, "INSERT INTO t VALUES (3)"),
        PERI_ESTATE);
    assert_int_equal(tx_op(f, PERI_SQLITE_ROLLBACK, tx), 0);
}

TEST(others_wait_while_a_transaction_is_open)
{
    fixture *f = *state;
    uint64_t tx = peri_sqlite_tx_new(f->pool);
    job *other;

    write_sql(f, "CREATE TABLE t (a INTEGER)");
    tx_op(f, PERI_SQLITE_BEGIN, tx);
    other = statement(PERI_SQLITE_WRITE, 0, "INSERT INTO t VALUES (1)");
    submit(f, other);
    do_sql(f, PERI_SQLITE_STEP, tx, "INSERT INTO t VALUES (2)");
    assert_false(other->done);
    tx_op(f, PERI_SQLITE_COMMIT, tx);
    wait_for(f, other);
    assert_int_equal(other->op.fault.code, 0);
    job_free(other);
}

TEST(an_idle_transaction_is_rolled_back)
{
    fixture *f = *state;
    uint64_t tx;

    peri_sqlite_pool_close(f->pool, NULL, NULL);
    f->config.wait_timeout_ms = 100;
    f->pool = peri_sqlite_pool_create(&f->loop, &f->config);
    tx = peri_sqlite_tx_new(f->pool);
    write_sql(f, "CREATE TABLE t (a INTEGER)");
    tx_op(f, PERI_SQLITE_BEGIN, tx);
    do_sql(f, PERI_SQLITE_STEP, tx, "INSERT INTO t VALUES (2)");
    /* A waiting read keeps the loop turning; the write waits in vain. */
    assert_int_equal(write_sql(f, "INSERT INTO t VALUES (1)"), PERI_ETIMEOUT);
    assert_int_equal(write_sql(f, "INSERT INTO t VALUES (1)"), 0);
    assert_int_equal(tx_op(f, PERI_SQLITE_COMMIT, tx), PERI_ESTATE);
    assert_int_equal(read_int(f, "SELECT sum(a) FROM t"), 1);
}

#define ENDLESS                                                                \
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "

static void until_running(job *j)
{
    while (__atomic_load_n(&j->op.state, __ATOMIC_RELAXED) !=
           PERI_SQLITE_RUNNING) {
        usleep(1000);
    }
    usleep(20000); /* in the middle of its work, most of the time */
}

TEST(a_running_query_is_cancelled)
{
    fixture *f = *state;
    job *j = statement(PERI_SQLITE_READ, 0, ENDLESS "SELECT count(*) FROM c");
    uint64_t start_ns;

    write_sql(f, "CREATE TABLE t (a INTEGER)");
    submit(f, j);
    until_running(j);
    start_ns = peri_clock_monotonic_ns();
    assert_false(peri_sqlite_cancel(f->pool, &j->op));
    wait_for(f, j);
    assert_int_equal(j->op.fault.code, SQLITE_INTERRUPT);
    assert_true(peri_clock_monotonic_ns() - start_ns < 1000000000u);
    job_free(j);
    assert_int_equal(read_int(f, "SELECT 5"), 5);
}

TEST(a_cancelled_write_leaves_its_neighbours_alone)
{
    fixture *f = *state;
    job *first;
    job *endless;
    job *last;

    write_sql(f, "CREATE TABLE t (a INTEGER)");
    first = statement(PERI_SQLITE_WRITE, 0, "INSERT INTO t VALUES (1)");
    endless = statement(PERI_SQLITE_WRITE, 0,
                        ENDLESS "INSERT INTO t SELECT 9 FROM c");
    last = statement(PERI_SQLITE_WRITE, 0, "INSERT INTO t VALUES (2)");
    submit(f, first);
    submit(f, endless);
    submit(f, last);
    until_running(endless);
    assert_false(peri_sqlite_cancel(f->pool, &endless->op));
    wait_for(f, endless);
    wait_for(f, first);
    wait_for(f, last);
    assert_int_equal(endless->op.fault.code, SQLITE_INTERRUPT);
    assert_int_equal(first->op.fault.code, 0);
    assert_int_equal(last->op.fault.code, 0);
    assert_int_equal(read_int(f, "SELECT sum(a) FROM t"), 3);
    job_free(first);
    job_free(endless);
    job_free(last);
}

TEST(a_waiting_op_is_taken_back)
{
    fixture *f = *state;
    uint64_t tx = peri_sqlite_tx_new(f->pool);
    job *j;

    write_sql(f, "CREATE TABLE t (a INTEGER)");
    tx_op(f, PERI_SQLITE_BEGIN, tx);
    j = statement(PERI_SQLITE_WRITE, 0, "INSERT INTO t VALUES (1)");
    submit(f, j);
    assert_true(peri_sqlite_cancel(f->pool, &j->op));
    tx_op(f, PERI_SQLITE_COMMIT, tx);
    assert_int_equal(read_int(f, "SELECT count(*) FROM t"), 0);
    job_free(j);
}

TEST(a_lock_of_another_process_is_waited_for)
{
    fixture *f = *state;
    sqlite3 *other;
    uint64_t start_ns;

    write_sql(f, "CREATE TABLE t (a INTEGER)");
    assert_int_equal(sqlite3_open(f->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", 0, 0, 0), 0);
    start_ns = peri_clock_monotonic_ns();
    assert_int_equal(write_sql(f, "INSERT INTO t VALUES (1)"), SQLITE_BUSY);
    assert_true(peri_clock_monotonic_ns() - start_ns >= 290000000u);
    assert_int_equal(sqlite3_exec(other, "COMMIT", 0, 0, 0), 0);
    assert_int_equal(write_sql(f, "INSERT INTO t VALUES (1)"), 0);
    sqlite3_close(other);
}

TEST(results_have_limits)
{
    fixture *f = *state;
    char sql[160];

    snprintf(sql, sizeof sql, ENDLESS "SELECT x FROM c LIMIT %d", 1000);
    job *j = statement(PERI_SQLITE_READ, 0, sql);
    submit(f, j);
    wait_for(f, j);
    assert_int_equal(j->op.fault.code, 0);
    job_free(j);
    snprintf(sql, sizeof sql, ENDLESS "SELECT x FROM c LIMIT %d", 1001);
    j = statement(PERI_SQLITE_READ, 0, sql);
    submit(f, j);
    wait_for(f, j);
    assert_int_equal(j->op.fault.code, PERI_ELIMIT);
    job_free(j);
    j = statement(PERI_SQLITE_READ, 0, "SELECT zeroblob(1048576)");
    submit(f, j);
    wait_for(f, j);
    assert_int_equal(j->op.fault.code, PERI_ELIMIT);
    assert_non_null(strstr(j->op.fault.message, "result_max"));
    job_free(j);
}

TEST(deferred_keys_fail_their_own_transaction_alone)
{
    fixture *f = *state;
    uint64_t tx = peri_sqlite_tx_new(f->pool);
    job *good;
    job *bad;

    write_sql(f, "CREATE TABLE p (id INTEGER PRIMARY KEY)");
    write_sql(f, "CREATE TABLE c (p REFERENCES p DEFERRABLE INITIALLY "
                 "DEFERRED)");
    assert_int_equal(write_sql(f, "INSERT INTO c VALUES (1)"),
                     SQLITE_CONSTRAINT_FOREIGNKEY);
    good = statement(PERI_SQLITE_WRITE, 0, "INSERT INTO p VALUES (5)");
    bad = statement(PERI_SQLITE_WRITE, 0, "INSERT INTO c VALUES (6)");
    submit(f, good);
    submit(f, bad);
    wait_for(f, bad);
    wait_for(f, good);
    assert_int_equal(good->op.fault.code, 0);
    assert_int_equal(bad->op.fault.code, SQLITE_CONSTRAINT_FOREIGNKEY);
    job_free(good);
    job_free(bad);
    tx_op(f, PERI_SQLITE_BEGIN, tx);
    do_sql(f, PERI_SQLITE_STEP, tx, "INSERT INTO c VALUES (7)");
    assert_int_equal(tx_op(f, PERI_SQLITE_COMMIT, tx),
                     SQLITE_CONSTRAINT_FOREIGNKEY);
    tx = peri_sqlite_tx_new(f->pool);
    tx_op(f, PERI_SQLITE_BEGIN, tx);
    do_sql(f, PERI_SQLITE_STEP, tx, "INSERT INTO c VALUES (8)");
    do_sql(f, PERI_SQLITE_STEP, tx, "INSERT INTO p VALUES (8)");
    assert_int_equal(tx_op(f, PERI_SQLITE_COMMIT, tx), 0);
    assert_int_equal(read_int(f, "SELECT count(*) FROM c"), 1);
}

TEST(a_statement_that_rolls_all_back_spoils_nothing_else)
{
    fixture *f = *state;
    job *jobs[3];
    const char *sql[] = {"INSERT INTO t VALUES (1)",
                         "INSERT OR ROLLBACK INTO t VALUES (0)",
                         "INSERT INTO t VALUES (2)"};

    write_sql(f, "CREATE TABLE t (a INTEGER UNIQUE)");
    write_sql(f, "INSERT INTO t VALUES (0)");
    for (int i = 0; i < 3; i++) {
        jobs[i] = statement(PERI_SQLITE_WRITE, 0, sql[i]);
        submit(f, jobs[i]);
    }
    for (int i = 0; i < 3; i++) {
        wait_for(f, jobs[i]);
        assert_int_equal(jobs[i]->op.fault.code,
                         i == 1 ? SQLITE_CONSTRAINT_UNIQUE : 0);
        job_free(jobs[i]);
    }
    assert_int_equal(read_int(f, "SELECT sum(a) FROM t"), 3);
}

TEST(transaction_control_and_nonsense_are_refused)
{
    fixture *f = *state;

    assert_int_equal(write_sql(f, "COMMIT"), SQLITE_MISUSE);
    assert_int_equal(write_sql(f, "  "), SQLITE_MISUSE);
    assert_int_equal(write_sql(f, "selec 1"), SQLITE_ERROR);
    assert_int_equal(write_sql(f, "CREATE TABLE t (a); COMMIT"), SQLITE_MISUSE);
    assert_int_equal(do_sql(f, PERI_SQLITE_ALONE, 0, "PRAGMA user_version=3"),
                     0);
    assert_int_equal(do_sql(f, PERI_SQLITE_ALONE, 0, "VACUUM"), 0);
    assert_int_equal(write_sql(f, "INSERT INTO t VALUES (?)"), SQLITE_RANGE);
}

TEST(the_cache_forgets_the_oldest_statement)
{
    fixture *f = *state;

    for (int i = 0; i < 400; i++) {
        char sql[64];

        snprintf(sql, sizeof sql, "SELECT %d", i % 300);
        assert_int_equal(read_int(f, sql), i % 300);
    }
}

TEST(a_file_that_is_no_database_is_reported)
{
    fixture *f = *state;
    FILE *file;

    assert_int_equal(write_sql(f, "CREATE TABLE t (a)"), 0);
    peri_sqlite_pool_close(f->pool, on_closed, &f->closed);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(f->closed);
    file = fopen(f->path, "w");
    for (int i = 0; i < 1000; i++) {
        fputs("this is not a database", file);
    }
    fclose(file);
    f->pool = peri_sqlite_pool_create(&f->loop, &f->config);
    assert_int_equal(write_sql(f, "INSERT INTO t VALUES (1)"), SQLITE_NOTADB);
    unlink(f->path); /* mended: the next op finds a new one */
    assert_int_equal(write_sql(f, "CREATE TABLE t (a)"), 0);
}

TEST(closing_fails_what_waits_and_ends_what_runs)
{
    fixture *f = *state;
    job *running =
        statement(PERI_SQLITE_READ, 0, ENDLESS "SELECT count(*) FROM c");
    job *waiting;
    uint64_t tx = peri_sqlite_tx_new(f->pool);

    write_sql(f, "CREATE TABLE t (a)");
    tx_op(f, PERI_SQLITE_BEGIN, tx);
    do_sql(f, PERI_SQLITE_STEP, tx, "INSERT INTO t VALUES (1)");
    waiting = statement(PERI_SQLITE_WRITE, 0, "INSERT INTO t VALUES (2)");
    submit(f, waiting);
    submit(f, running);
    until_running(running);
    peri_sqlite_pool_close(f->pool, on_closed, &f->closed);
    f->pool = NULL;
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(f->closed);
    assert_int_equal(waiting->op.fault.code, PERI_ESTATE);
    assert_int_equal(running->op.fault.code, SQLITE_INTERRUPT);
    job_free(waiting);
    job_free(running);
    f->pool = peri_sqlite_pool_create(&f->loop, &f->config);
    assert_int_equal(read_int(f, "SELECT count(*) FROM t"), 0);
}

TEST(memory_databases_have_one_connection)
{
    fixture *f = *state;

    assert_int_equal(write_sql(f, "CREATE TABLE t (a)"), 0);
    assert_int_equal(write_sql(f, "INSERT INTO t VALUES (4)"), 0);
    assert_int_equal(read_int(f, "SELECT a FROM t"), 4);
    assert_int_equal(read_int(f, "INSERT INTO t VALUES (5) RETURNING a"), 5);
    assert_int_equal(read_int(f, "SELECT sum(a) FROM t"), 9);
}

static bool limit_files(rlim_t bytes)
{
    struct rlimit limit = {bytes, RLIM_INFINITY};

    return setrlimit(RLIMIT_FSIZE, &limit) == 0;
}

TEST(a_full_disk_fails_what_did_not_fit_and_nothing_else)
{
    fixture *f = *state;
    uint64_t tx = peri_sqlite_tx_new(f->pool);
    job *big;
    job *small;

    signal(SIGXFSZ, SIG_IGN);
    write_sql(f, "CREATE TABLE t (a)");
    assert_true(limit_files(300000));
    small = statement(PERI_SQLITE_WRITE, 0, "INSERT INTO t VALUES (1)");
    big = statement(PERI_SQLITE_WRITE, 0,
                    "INSERT INTO t VALUES (zeroblob(2000000))");
    submit(f, small);
    submit(f, big);
    wait_for(f, big);
    wait_for(f, small);
    assert_int_equal(small->op.fault.code, 0);
    assert_true(big->op.fault.code != 0);
    assert_string_equal(peri_sqlite_code_kind(big->op.fault.code),
                        "unavailable");
    tx_op(f, PERI_SQLITE_BEGIN, tx);
    do_sql(f, PERI_SQLITE_STEP, tx, "INSERT INTO t VALUES (zeroblob(2000000))");
    assert_true(tx_op(f, PERI_SQLITE_COMMIT, tx) != 0);
    assert_true(limit_files(RLIM_INFINITY));
    assert_int_equal(write_sql(f, "INSERT INTO t VALUES (2)"), 0);
    assert_int_equal(read_int(f, "SELECT sum(a) FROM t"), 3);
    assert_int_equal(read_int(f, "SELECT count(*) FROM t"), 2);
    job_free(big);
    job_free(small);
}

/* Commits rows and tells of each through fd, until it is killed. */
static void write_until_killed(fixture *f, int fd)
{
    uv_loop_init(&f->loop); /* the parent's is not ours to turn */
    f->pool = peri_sqlite_pool_create(&f->loop, &f->config);
    for (int i = 1;; i++) {
        uint64_t tx = peri_sqlite_tx_new(f->pool);
        char sql[64];

        snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d)", i);
        tx_op(f, PERI_SQLITE_BEGIN, tx);
        do_sql(f, PERI_SQLITE_STEP, tx, sql);
        snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d)", -i);
        do_sql(f, PERI_SQLITE_STEP, tx, sql);
        if (tx_op(f, PERI_SQLITE_COMMIT, tx) != 0 ||
            write(fd, &i, sizeof i) != sizeof i) {
            _exit(1);
        }
    }
}

TEST(what_was_told_committed_survives_kill_nine_and_nothing_is_half_done)
{
    fixture *f = *state;
    int ends[2];
    int last = 0;
    int status;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    write_sql(f, "CREATE TABLE t (a)");
    peri_sqlite_pool_close(f->pool, on_closed, &f->closed);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    f->pool = NULL;
    child = fork();
    if (child == 0) {
        write_until_killed(f, ends[1]);
    }
    while (last < 50) {
        assert_int_equal(read(ends[0], &last, sizeof last), sizeof last);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    close(ends[1]);
    while (read(ends[0], &status, sizeof status) == sizeof status) {
        last = status;
    }
    close(ends[0]);
    f->pool = peri_sqlite_pool_create(&f->loop, &f->config);
    assert_true(read_int(f, "SELECT max(a) FROM t") >= last);
    assert_int_equal(read_int(f, "SELECT sum(a) FROM t"), 0);
    assert_int_equal(read_int(f, "SELECT count(*) % 2 FROM t"), 0);
    assert_int_equal(
        read_int(f, "SELECT count(*) FROM pragma_integrity_check WHERE "
                    "integrity_check = 'ok'"),
        1);
}

TEST(processes_take_turns_at_writing)
{
    fixture *f = *state;
    uint64_t worst_ns = 0;
    int ends[2];
    int status;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    write_sql(f, "CREATE TABLE t (a)");
    peri_sqlite_pool_close(f->pool, on_closed, &f->closed);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    f->pool = NULL;
    child = fork();
    if (child == 0) {
        write_until_killed(f, ends[1]);
    }
    f->config.busy_timeout_ms = 10000;
    f->pool = peri_sqlite_pool_create(&f->loop, &f->config);
    for (int i = 0; i < 20; i++) {
        uint64_t start_ns = peri_clock_monotonic_ns();

        assert_int_equal(write_sql(f, "INSERT INTO t VALUES (0)"), 0);
        start_ns = peri_clock_monotonic_ns() - start_ns;
        worst_ns = start_ns > worst_ns ? start_ns : worst_ns;
    }
    assert_true(worst_ns < 3000000000u); /* a starved one waits for ever */
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    close(ends[0]);
    close(ends[1]);
}

static void add_file(job *j, int version, const char *path, const char *sum,
                     const char *sql)
{
    peri_sqlite_pack_int(&j->op.input, version);
    peri_sqlite_pack_bytes(&j->op.input, PERI_SQLITE_TEXT,
                           peri_slice_str(path));
    peri_sqlite_pack_bytes(&j->op.input, PERI_SQLITE_TEXT, peri_slice_str(sum));
    peri_sqlite_pack_bytes(&j->op.input, PERI_SQLITE_TEXT, peri_slice_str(sql));
    j->op.statements++;
}

static void migrate(fixture *f, const char *second, const char *sum, int code,
                    const char *message)
{
    job *j = job_make(PERI_SQLITE_MIGRATE, 0);

    add_file(j, 1, "m/001_t.sql", "aa",
             "-- first\nCREATE TABLE t (a);\nINSERT INTO t VALUES (1);\n");
    if (second != NULL) {
        add_file(j, 2, "m/002_u.sql", sum, second);
    }
    submit(f, j);
    wait_for(f, j);
    if (j->op.fault.code != code) {
        print_message("%s\n", j->op.fault.message);
    }
    assert_int_equal(j->op.fault.code, code);
    if (message != NULL) {
        assert_string_equal(j->op.fault.message, message);
    }
    job_free(j);
}

TEST(migrations_run_once_and_name_file_and_line)
{
    fixture *f = *state;

    migrate(f, NULL, NULL, 0, NULL);
    migrate(f, NULL, NULL, 0, NULL);
    assert_int_equal(read_int(f, "SELECT count(*) FROM t"), 1);
    migrate(f, "CREATE TABLE u (a);\n\nINSERT INTO u VALEUS (1);", "b1",
            SQLITE_ERROR, "m/002_u.sql:3: near \"VALEUS\": syntax error");
    migrate(f,
            "CREATE TABLE u (a NOT NULL);\n\n-- x\nINSERT INTO u VALUES "
            "(NULL);",
            "b2", SQLITE_CONSTRAINT_NOTNULL,
            "m/002_u.sql:4: NOT NULL constraint failed: u.a");
    migrate(f, "CREATE TABLE u (a);\nCOMMIT;", "b3", SQLITE_MISUSE,
            "m/002_u.sql:2: every migration runs in a transaction, which it "
            "cannot end");
    migrate(f,
            "CREATE TABLE u (a); CREATE TABLE v (x REFERENCES t(a));"
            "CREATE UNIQUE INDEX i ON t(a); INSERT INTO v VALUES (9);",
            "b4", SQLITE_CONSTRAINT_FOREIGNKEY,
            "m/002_u.sql: FOREIGN KEY constraint failed: a row of v refers to "
            "no row of t");
    migrate(f, "CREATE TABLE u (a);", "b5", 0, NULL);
    migrate(f, "CREATE TABLE u (b);", "b6", SQLITE_MISUSE,
            "m/002_u.sql: changed after it was applied; put what is new into a "
            "migration of its own");
    assert_int_equal(read_int(f, "SELECT count(*) FROM perigee_migrations"), 2);
}

TEST(several_hosts_migrate_at_once)
{
    fixture *f = *state;
    peri_sqlite_pool *pools[4];
    job *jobs[4];

    for (int i = 0; i < 4; i++) {
        pools[i] = peri_sqlite_pool_create(&f->loop, &f->config);
        jobs[i] = job_make(PERI_SQLITE_MIGRATE, 0);
        add_file(jobs[i], 1, "m/001_t.sql", "aa",
                 "CREATE TABLE t (a); INSERT INTO t VALUES (1);");
        add_file(jobs[i], 2, "m/002_t.sql", "bb", "INSERT INTO t VALUES (2);");
        assert_int_equal(peri_sqlite_submit(pools[i], &jobs[i]->op), 0);
    }
    for (int i = 0; i < 4; i++) {
        wait_for(f, jobs[i]);
        assert_string_equal(jobs[i]->op.fault.message, "");
        assert_int_equal(jobs[i]->op.fault.code, 0);
        job_free(jobs[i]);
        peri_sqlite_pool_close(pools[i], NULL, NULL);
    }
    assert_int_equal(read_int(f, "SELECT sum(a) FROM t"), 3);
}

TEST(pools_are_shared_by_name_until_their_configuration_changes)
{
    fixture *f = *state;
    peri_sqlite_set *set = peri_sqlite_set_create(&f->loop);
    peri_sqlite_pool *a = peri_sqlite_set_ref(set, &f->config);
    peri_sqlite_pool *b = peri_sqlite_set_ref(set, &f->config);
    peri_sqlite_config changed = f->config;
    peri_sqlite_pool *c;
    bool closed = false;

    assert_ptr_equal(a, b);
    changed.busy_timeout_ms++;
    c = peri_sqlite_set_ref(set, &changed);
    assert_ptr_not_equal(a, c);
    peri_sqlite_set_unref(set, a);
    peri_sqlite_set_unref(set, b);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_ptr_equal(peri_sqlite_set_ref(set, &changed), c);
    peri_sqlite_set_close(set, on_closed, &closed);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(closed);
}

#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_survive_packing),
        cmocka_unit_test(statements_are_told_apart_by_their_first_word),
        cmocka_unit_test(codes_have_names_and_kinds),
        FILE_TEST(what_is_written_can_be_read),
        FILE_TEST(a_write_that_looks_like_a_read_reaches_the_writer),
        FILE_TEST(writes_that_wait_together_share_a_commit),
        FILE_TEST(several_statements_at_once_are_all_or_nothing),
        FILE_TEST(a_transaction_is_seen_whole_or_not_at_all),
        FILE_TEST(others_wait_while_a_transaction_is_open),
        FILE_TEST(an_idle_transaction_is_rolled_back),
        FILE_TEST(a_running_query_is_cancelled),
        FILE_TEST(a_cancelled_write_leaves_its_neighbours_alone),
        FILE_TEST(a_waiting_op_is_taken_back),
        FILE_TEST(a_lock_of_another_process_is_waited_for),
        FILE_TEST(results_have_limits),
        FILE_TEST(deferred_keys_fail_their_own_transaction_alone),
        FILE_TEST(a_statement_that_rolls_all_back_spoils_nothing_else),
        FILE_TEST(transaction_control_and_nonsense_are_refused),
        FILE_TEST(the_cache_forgets_the_oldest_statement),
        FILE_TEST(a_file_that_is_no_database_is_reported),
        FILE_TEST(closing_fails_what_waits_and_ends_what_runs),
        cmocka_unit_test_setup_teardown(memory_databases_have_one_connection,
                                        set_up_memory, tear_down),
        FILE_TEST(a_full_disk_fails_what_did_not_fit_and_nothing_else),
        FILE_TEST(
            what_was_told_committed_survives_kill_nine_and_nothing_is_half_done),
        FILE_TEST(processes_take_turns_at_writing),
        FILE_TEST(migrations_run_once_and_name_file_and_line),
        FILE_TEST(several_hosts_migrate_at_once),
        FILE_TEST(pools_are_shared_by_name_until_their_configuration_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
