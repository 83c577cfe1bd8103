/* Migrate: see the header. */
#include "core/sqlite/migrate.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/sqlite/db_internal.h"
#include "core/sqlite/sql.h"

/* Another process may be running a long one. */
#define LOCK_WAIT_NS ((uint64_t)60 * 1000000000u)

#define TABLE                                                                  \
    "CREATE TABLE IF NOT EXISTS perigee_migrations ("                          \
    "version INTEGER PRIMARY KEY, name TEXT NOT NULL, "                        \
    "checksum TEXT NOT NULL, applied_at_ms INTEGER NOT NULL)"

typedef struct migration {
    int64_t version;
    peri_slice path;
    peri_slice checksum;
    peri_slice sql;
} migration;

static bool next_migration(peri_slice *input, migration *out)
{
    peri_sqlite_value value;

    if (!peri_sqlite_unpack(input, &value)) {
        return false;
    }
    out->version = value.integer;
    peri_sqlite_unpack(input, &value);
    out->path = value.bytes;
    peri_sqlite_unpack(input, &value);
    out->checksum = value.bytes;
    peri_sqlite_unpack(input, &value);
    out->sql = value.bytes;
    return true;
}

static peri_slice base_name(peri_slice path)
{
    const char *slash = memrchr(path.data, '/', path.length);
    size_t skip = slash != NULL ? (size_t)(slash - path.data) + 1 : 0;

    return peri_slice_of(path.data + skip, path.length - skip);
}

static int fault_of_db(peri_sqlite_db *db, peri_sqlite_op *op, int rc)
{
    peri_sqlite_db_explain(db, rc, peri_slice_of(NULL, 0), &op->fault);
    return rc;
}

static int changed(peri_sqlite_op *op, const migration *m)
{
    peri_sqlite_fault_set(&op->fault, SQLITE_MISUSE,
                          "%.*s: changed after it was applied; put what is new "
                          "into a migration of its own",
                          (int)m->path.length, m->path.data);
    return SQLITE_MISUSE;
}

/* Whether it was applied; a fault when it was, but is different now. */
static int look_up(peri_sqlite_db *db, peri_sqlite_op *op, const migration *m,
                   bool *applied)
{
    static const char sql[] =
        "SELECT checksum FROM perigee_migrations WHERE version = ?";
    sqlite3_stmt *stmt;
    int rc = sqlite3_prepare_v2(atomic_load(&db->handle), sql, -1, &stmt, NULL);

    if (rc != SQLITE_OK) {
        return fault_of_db(db, op, rc);
    }
    sqlite3_bind_int64(stmt, 1, m->version);
    rc = sqlite3_step(stmt);
    *applied = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW) {
        peri_slice recorded =
            peri_slice_of((const char *)sqlite3_column_text(stmt, 0),
                          (size_t)sqlite3_column_bytes(stmt, 0));

        rc = peri_slice_equal(recorded, m->checksum) ? SQLITE_OK
                                                     : changed(op, m);
    } else {
        rc = rc == SQLITE_DONE ? SQLITE_OK : fault_of_db(db, op, rc);
    }
    sqlite3_finalize(stmt);
    return rc;
}

static int record(peri_sqlite_db *db, peri_sqlite_op *op, const migration *m)
{
    static const char sql[] =
        "INSERT INTO perigee_migrations VALUES (?, ?, ?, ?)";
    peri_slice name = base_name(m->path);
    sqlite3_stmt *stmt;
    int rc = sqlite3_prepare_v2(atomic_load(&db->handle), sql, -1, &stmt, NULL);

    if (rc != SQLITE_OK) {
        return fault_of_db(db, op, rc);
    }
    sqlite3_bind_int64(stmt, 1, m->version);
    sqlite3_bind_text(stmt, 2, name.data, (int)name.length, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 3, m->checksum.data, (int)m->checksum.length,
                      SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 4, (int64_t)peri_clock_wall_ms());
    rc = sqlite3_step(stmt);
    rc = rc == SQLITE_DONE ? SQLITE_OK : fault_of_db(db, op, rc);
    sqlite3_finalize(stmt);
    return rc;
}

/* at: where in the file the statement begins. */
static int failed_at(peri_sqlite_db *db, peri_sqlite_op *op, const migration *m,
                     size_t at, int rc)
{
    sqlite3 *handle = atomic_load(&db->handle);
    int offset = sqlite3_error_offset(handle);

    peri_sqlite_fault_set(
        &op->fault, rc, "%.*s:%d: %s", (int)m->path.length, m->path.data,
        peri_sqlite_line_of(m->sql, at + (offset > 0 ? (size_t)offset : 0)),
        sqlite3_errmsg(handle));
    return rc;
}

/* COMMIT and its kin would leave half a migration behind. */
static int refuse_control(peri_sqlite_op *op, const migration *m, size_t at)
{
    peri_sqlite_fault_set(&op->fault, SQLITE_MISUSE,
                          "%.*s:%d: every migration runs in a transaction, "
                          "which it cannot end",
                          (int)m->path.length, m->path.data,
                          peri_sqlite_line_of(m->sql, at));
    return SQLITE_MISUSE;
}

static int run_one(peri_sqlite_db *db, peri_sqlite_op *op, const migration *m,
                   peri_slice *rest)
{
    sqlite3 *handle = atomic_load(&db->handle);
    size_t at = (size_t)(rest->data - m->sql.data);
    sqlite3_stmt *stmt = NULL;
    const char *tail = NULL;
    int rc;

    if (peri_sqlite_classify(*rest) == PERI_SQL_CONTROL) {
        return refuse_control(op, m, at);
    }
    rc =
        sqlite3_prepare_v2(handle, rest->data, (int)rest->length, &stmt, &tail);
    if (rc != SQLITE_OK) {
        return failed_at(db, op, m, at, rc);
    }
    do {
        rc = sqlite3_step(stmt);
    } while (rc == SQLITE_ROW);
    if (rc != SQLITE_DONE) {
        failed_at(db, op, m, at, rc);
    } else {
        rc = SQLITE_OK;
    }
    sqlite3_finalize(stmt);
    *rest = peri_sqlite_skip_blank(
        peri_slice_of(tail, (size_t)(rest->data + rest->length - tail)));
    return rc;
}

static int check_keys(peri_sqlite_db *db, peri_sqlite_op *op,
                      const migration *m)
{
    sqlite3_stmt *stmt;
    int rc = sqlite3_prepare_v2(atomic_load(&db->handle),
                                "PRAGMA foreign_key_check", -1, &stmt, NULL);

    if (rc != SQLITE_OK) {
        return fault_of_db(db, op, rc);
    }
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        rc = SQLITE_CONSTRAINT_FOREIGNKEY;
        peri_sqlite_fault_set(
            &op->fault, rc,
            "%.*s: FOREIGN KEY constraint failed: a row of %s refers to no row "
            "of %s",
            (int)m->path.length, m->path.data,
            (const char *)sqlite3_column_text(stmt, 0),
            (const char *)sqlite3_column_text(stmt, 2));
    } else {
        rc = rc == SQLITE_DONE ? SQLITE_OK : fault_of_db(db, op, rc);
    }
    sqlite3_finalize(stmt);
    return rc;
}

/* Inside the transaction. */
static int apply(peri_sqlite_db *db, peri_sqlite_op *op, const migration *m)
{
    peri_slice rest = peri_sqlite_skip_blank(m->sql);
    int rc = SQLITE_OK;

    while (rc == SQLITE_OK && rest.length != 0) {
        rc = run_one(db, op, m, &rest);
    }
    if (rc == SQLITE_OK) {
        rc = check_keys(db, op, m);
    }
    if (rc == SQLITE_OK) {
        rc = record(db, op, m);
    }
    return rc;
}

static int migrate_one(peri_sqlite_db *db, peri_sqlite_op *op,
                       const migration *m)
{
    peri_sqlite_fault ignored;
    bool applied = false;
    int rc = look_up(db, op, m, &applied);

    if (rc != SQLITE_OK || applied) {
        return rc;
    }
    rc = peri_sqlite_db_do(db, "BEGIN IMMEDIATE", &op->fault);
    if (rc == SQLITE_OK) {
        rc = look_up(db, op, m, &applied); /* a neighbour was quicker? */
    }
    if (rc == SQLITE_OK && !applied) {
        rc = apply(db, op, m);
    }
    if (rc == SQLITE_OK) {
        rc = peri_sqlite_db_do(db, "COMMIT", &op->fault);
    }
    if (!peri_sqlite_db_idle(db)) {
        peri_sqlite_db_do(db, "ROLLBACK", &ignored);
    }
    if (rc == SQLITE_OK && !applied) {
        peri_sqlite_pack_bytes(&op->output, PERI_SQLITE_TEXT, m->path);
    }
    return rc;
}

int peri_sqlite_migrate(peri_sqlite_db *db, peri_sqlite_op *op)
{
    peri_slice input = peri_buf_slice(&op->input);
    peri_sqlite_fault ignored;
    migration m;
    int rc;

    op->fault.code = 0;
    peri_buf_clear(&op->output);
    peri_sqlite_db_watch(db, op, peri_clock_monotonic_ns() + LOCK_WAIT_NS, 0);
    rc = peri_sqlite_db_do(db, TABLE, &op->fault);
    if (rc == SQLITE_OK) {
        rc = peri_sqlite_db_do(db, "PRAGMA foreign_keys=OFF", &op->fault);
    }
    while (rc == SQLITE_OK && next_migration(&input, &m)) {
        rc = migrate_one(db, op, &m);
    }
    peri_sqlite_db_do(db, "PRAGMA foreign_keys=ON", &ignored);
    op->fault.code = rc;
    return rc;
}
