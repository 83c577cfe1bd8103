/* Run: an op's statements, one after the other. */
#include <stdio.h>

#include "core/sqlite/db_internal.h"
#include "core/sqlite/sql.h"

#define PARAMETER_NAME_MAX 256

static int prepare_text(sqlite3 *handle, peri_slice sql, bool once,
                        sqlite3_stmt **out, const char **rest)
{
    unsigned flags = once ? 0 : SQLITE_PREPARE_PERSISTENT;
    int rc =
        sqlite3_prepare_v3(handle, sql.data, (int)sql.length, flags, out, rest);

    if ((rc & 0xff) != SQLITE_SCHEMA) {
        return rc;
    }
    /* What is wrong is wrong, but SQLite says so with a stale schema in hand
     * and does not look again of itself. */
    sqlite3_exec(handle, "SELECT 1 FROM sqlite_master", NULL, NULL, NULL);
    return sqlite3_prepare_v3(handle, sql.data, (int)sql.length, flags, out,
                              rest);
}

int peri_sqlite_db_prepare(peri_sqlite_db *db, peri_slice sql, bool once,
                           sqlite3_stmt **out, bool *owned, peri_slice *tail,
                           peri_sqlite_fault *fault)
{
    sqlite3_stmt *stmt = once ? NULL : peri_sqlite_cache_get(&db->cache, sql);
    const char *rest = NULL;
    int rc;

    *owned = false;
    *tail = peri_slice_of(NULL, 0);
    *out = stmt;
    if (stmt != NULL) {
        return 0;
    }
    rc = prepare_text(atomic_load(&db->handle), sql, once, &stmt, &rest);
    if (rc != SQLITE_OK) {
        peri_sqlite_db_explain(db, rc, sql, fault);
        return rc;
    }
    *out = stmt;
    *tail = peri_sqlite_skip_blank(
        peri_slice_of(rest, (size_t)(sql.data + sql.length - rest)));
    *owned = once || tail->length != 0;
    if (!*owned && stmt != NULL) {
        peri_sqlite_cache_put(&db->cache, sql, stmt);
    }
    return 0;
}

static int bind_value(sqlite3_stmt *stmt, int index,
                      const peri_sqlite_value *value)
{
    switch (value->type) {
    case PERI_SQLITE_INT:
        return sqlite3_bind_int64(stmt, index, value->integer);
    case PERI_SQLITE_REAL:
        return sqlite3_bind_double(stmt, index, value->real);
    case PERI_SQLITE_TEXT:
        return sqlite3_bind_text64(
            stmt, index, value->bytes.data != NULL ? value->bytes.data : "",
            value->bytes.length, SQLITE_STATIC, SQLITE_UTF8);
    case PERI_SQLITE_BLOB:
        if (value->bytes.length == 0) {
            return sqlite3_bind_zeroblob(stmt, index, 0);
        }
        return sqlite3_bind_blob64(stmt, index, value->bytes.data,
                                   value->bytes.length, SQLITE_STATIC);
    case PERI_SQLITE_NULL:
    default:
        return sqlite3_bind_null(stmt, index);
    }
}

/* 0 when the statement has no parameter of that name. */
static int index_of(sqlite3_stmt *stmt, peri_slice name)
{
    char text[PARAMETER_NAME_MAX];
    int index = 0;

    if (name.length >= sizeof text - 1) {
        return 0;
    }
    for (const char *sigil = ":@$"; index == 0 && *sigil != '\0'; sigil++) {
        snprintf(text, sizeof text, "%c%.*s", *sigil, (int)name.length,
                 name.data);
        index = sqlite3_bind_parameter_index(stmt, text);
    }
    return index;
}

/* Takes the parameters off input. Absent names stay NULL; names that the
 * statement doesn't know are passed over. */
static int bind_named(sqlite3_stmt *stmt, peri_slice *input, int64_t count)
{
    peri_sqlite_value name;
    peri_sqlite_value value;
    int limit = sqlite3_bind_parameter_count(stmt);

    for (int64_t i = 0; i < count; i++) {
        int index;
        int rc;

        peri_sqlite_unpack(input, &name);
        peri_sqlite_unpack(input, &value);
        index =
            name.type == PERI_SQLITE_INT
                ? (name.integer > 0 && name.integer <= limit ? (int)name.integer
                                                             : 0)
                : index_of(stmt, name.bytes);
        rc = index != 0 ? bind_value(stmt, index, &value) : SQLITE_OK;
        if (rc != SQLITE_OK) {
            return rc;
        }
    }
    return SQLITE_OK;
}

static int bind_all(peri_sqlite_db *db, sqlite3_stmt *stmt, peri_slice *input,
                    bool named, int64_t count, peri_sqlite_fault *fault)
{
    int wanted = sqlite3_bind_parameter_count(stmt);
    int rc = SQLITE_OK;

    if (named) {
        rc = bind_named(stmt, input, count);
    } else if (count != wanted) {
        peri_sqlite_fault_set(fault, SQLITE_RANGE,
                              "sqlite %s: the statement has %d parameters, %d "
                              "values were given",
                              db->config->name, wanted, (int)count);
        return SQLITE_RANGE;
    } else {
        for (int i = 1; rc == SQLITE_OK && i <= wanted; i++) {
            peri_sqlite_value value;

            peri_sqlite_unpack(input, &value);
            rc = bind_value(stmt, i, &value);
        }
    }
    if (rc != SQLITE_OK) {
        peri_sqlite_db_explain(db, rc, peri_slice_of(NULL, 0), fault);
    }
    return rc;
}

static int pack_column(peri_buf *out, sqlite3_stmt *stmt, int column)
{
    const void *data;

    switch (sqlite3_column_type(stmt, column)) {
    case SQLITE_INTEGER:
        return peri_sqlite_pack_int(out, sqlite3_column_int64(stmt, column));
    case SQLITE_FLOAT:
        return peri_sqlite_pack_real(out, sqlite3_column_double(stmt, column));
    case SQLITE_TEXT:
        data = sqlite3_column_text(stmt, column);
        return peri_sqlite_pack_bytes(
            out, PERI_SQLITE_TEXT,
            peri_slice_of(data, (size_t)sqlite3_column_bytes(stmt, column)));
    case SQLITE_BLOB:
        data = sqlite3_column_blob(stmt, column);
        return peri_sqlite_pack_bytes(
            out, PERI_SQLITE_BLOB,
            peri_slice_of(data, (size_t)sqlite3_column_bytes(stmt, column)));
    case SQLITE_NULL:
    default:
        return peri_sqlite_pack_null(out);
    }
}

static int pack_names(peri_buf *out, sqlite3_stmt *stmt, int columns)
{
    for (int i = 0; i < columns; i++) {
        if (peri_sqlite_pack_bytes(
                out, PERI_SQLITE_TEXT,
                peri_slice_str(sqlite3_column_name(stmt, i))) < 0) {
            return PERI_ELIMIT;
        }
    }
    return 0;
}

static int pack_row(peri_buf *out, sqlite3_stmt *stmt,
                    peri_sqlite_result *result)
{
    if (result->rows == 0) {
        result->columns = (uint32_t)sqlite3_column_count(stmt);
        if (pack_names(out, stmt, (int)result->columns) < 0) {
            return PERI_ELIMIT;
        }
    }
    for (int i = 0; i < (int)result->columns; i++) {
        if (pack_column(out, stmt, i) < 0) {
            return PERI_ELIMIT;
        }
    }
    result->rows++;
    return 0;
}

static int too_large(peri_sqlite_db *db, const peri_sqlite_result *result,
                     peri_sqlite_fault *fault)
{
    const peri_sqlite_config *config = db->config;

    if (result->rows >= config->rows_max) {
        peri_sqlite_fault_set(fault, PERI_ELIMIT,
                              "sqlite %s: the result has more than %u rows "
                              "(sqlite.%s.rows_max)",
                              config->name, config->rows_max, config->name);
    } else {
        peri_sqlite_fault_set(fault, PERI_ELIMIT,
                              "sqlite %s: the result is larger than %llu bytes "
                              "(sqlite.%s.result_max)",
                              config->name,
                              (unsigned long long)config->result_max_bytes,
                              config->name);
    }
    return PERI_ELIMIT;
}

/* Steps to the end; rows go to the output as far as they are wanted. */
static int step_all(peri_sqlite_db *db, peri_sqlite_op *op, sqlite3_stmt *stmt,
                    peri_slice sql, peri_sqlite_result *result)
{
    int rc;

    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (!op->keep_rows || (op->first_only && result->rows == 1)) {
            if (sqlite3_stmt_readonly(stmt)) {
                return SQLITE_OK; /* the rest can't matter */
            }
            continue;
        }
        if (result->rows >= db->config->rows_max ||
            pack_row(&op->output, stmt, result) < 0) {
            return too_large(db, result, &op->fault);
        }
    }
    if (rc != SQLITE_DONE) {
        peri_sqlite_db_explain(db, rc, sql, &op->fault);
        return rc;
    }
    return SQLITE_OK;
}

/* Runs one prepared and bound statement, adding to the result. */
static int run_statement(peri_sqlite_db *db, peri_sqlite_op *op,
                         sqlite3_stmt *stmt, peri_slice sql,
                         peri_sqlite_result *result)
{
    sqlite3 *handle = atomic_load(&db->handle);
    int64_t before = sqlite3_total_changes64(handle);
    int rc = step_all(db, op, stmt, sql, result);

    /* sqlite3_changes() stays as it was after what changes no rows. */
    if (rc == SQLITE_OK && sqlite3_total_changes64(handle) != before) {
        result->changes += sqlite3_changes64(handle);
    }
    result->last_id = sqlite3_last_insert_rowid(handle);
    return rc;
}

static int refuse(peri_sqlite_db *db, peri_sqlite_op *op, int code,
                  const char *why)
{
    peri_sqlite_fault_set(&op->fault, code, "sqlite %s: %s", db->config->name,
                          why);
    return code;
}

/* What a statement may not be, given who asks. */
static int check(peri_sqlite_db *db, peri_sqlite_op *op, sqlite3_stmt *stmt,
                 peri_slice sql, peri_slice tail, int64_t count)
{
    if (stmt == NULL) {
        return refuse(db, op, SQLITE_MISUSE, "an empty statement");
    }
    if (db->reader && (!sqlite3_stmt_readonly(stmt) || tail.length != 0)) {
        op->fault.code = PERI_SQLITE_NOT_A_READ;
        return PERI_SQLITE_NOT_A_READ;
    }
    if (!op->control && peri_sqlite_classify(sql) == PERI_SQL_CONTROL) {
        return refuse(db, op, SQLITE_MISUSE,
                      "BEGIN, COMMIT and their kin are db:transaction's");
    }
    if (tail.length != 0 && (op->keep_rows || count != 0)) {
        return refuse(db, op, SQLITE_MISUSE,
                      "several statements at once take no parameters and give "
                      "no rows");
    }
    return 0;
}

/* One text with its parameters: a statement, or several without any. */
static int run_text(peri_sqlite_db *db, peri_sqlite_op *op, peri_slice sql,
                    bool named, int64_t count, peri_slice *input,
                    peri_sqlite_result *result)
{
    peri_slice tail;
    bool once = false;

    do {
        sqlite3_stmt *stmt;
        bool owned;
        int rc = peri_sqlite_db_prepare(db, sql, once, &stmt, &owned, &tail,
                                        &op->fault);

        if (rc == SQLITE_OK) {
            rc = check(db, op, stmt, sql, tail, count);
        }
        if (rc == SQLITE_OK) {
            rc = bind_all(db, stmt, input, named, count, &op->fault);
        }
        if (rc == SQLITE_OK) {
            rc = run_statement(db, op, stmt, sql, result);
        }
        if (owned) {
            sqlite3_finalize(stmt);
        } else if (stmt != NULL) {
            sqlite3_reset(stmt);
            sqlite3_clear_bindings(stmt);
        }
        if (rc != SQLITE_OK) {
            return rc;
        }
        sql = tail;
        once = true;
    } while (tail.length != 0);
    return SQLITE_OK;
}

/* before: the statement's text before this one, which an empty one repeats. */
static int run_next(peri_sqlite_db *db, peri_sqlite_op *op, peri_slice *input,
                    peri_slice *before)
{
    peri_sqlite_result result = {0};
    peri_sqlite_value sql;
    peri_sqlite_value named;
    peri_sqlite_value count;
    size_t header = op->output.length;
    int rc;

    peri_sqlite_unpack(input, &sql);
    peri_sqlite_unpack(input, &named);
    peri_sqlite_unpack(input, &count);
    if (sql.bytes.length != 0) {
        *before = sql.bytes;
    }
    if (peri_buf_append(&op->output, &result, sizeof result) < 0) {
        return too_large(db, &result, &op->fault);
    }
    rc = run_text(db, op, *before, named.integer != 0, count.integer, input,
                  &result);
    if (rc == SQLITE_OK) {
        memcpy(op->output.data + header, &result, sizeof result);
    }
    return rc;
}

int peri_sqlite_db_run(peri_sqlite_db *db, peri_sqlite_op *op)
{
    peri_slice input = peri_buf_slice(&op->input);
    peri_slice before = peri_slice_of(NULL, 0);
    int rc = SQLITE_OK;

    op->fault.code = 0;
    peri_buf_clear(&op->output);
    op->output.max_bytes = db->config->result_max_bytes;
    for (uint32_t i = 0; rc == SQLITE_OK && i < op->statements; i++) {
        rc = run_next(db, op, &input, &before);
    }
    if (rc != SQLITE_OK) {
        peri_buf_clear(&op->output);
    }
    return rc;
}

int peri_sqlite_db_do(peri_sqlite_db *db, const char *sql,
                      peri_sqlite_fault *fault)
{
    sqlite3_stmt *stmt;
    peri_slice tail;
    bool owned;
    int rc = peri_sqlite_db_prepare(db, peri_slice_str(sql), false, &stmt,
                                    &owned, &tail, fault);

    if (rc != SQLITE_OK) {
        return rc;
    }
    rc = sqlite3_step(stmt);
    sqlite3_reset(stmt);
    if (rc == SQLITE_DONE || rc == SQLITE_ROW) {
        return SQLITE_OK;
    }
    peri_sqlite_db_explain(db, rc, peri_slice_of(NULL, 0), fault);
    return rc;
}
