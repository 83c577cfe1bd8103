/* Db: one connection, used by one thread.
 *
 * Runs an op's statements; knows nothing of queues. A connection that cannot
 * be opened is tried again by the next op. */
#ifndef PERI_SQLITE_DB_H
#define PERI_SQLITE_DB_H

#include <sqlite3.h>

#include "core/sqlite/op.h"
#include "core/sqlite/value.h"

typedef struct peri_sqlite_config {
    const char *name;         /* "main", for messages */
    const char *path;         /* absolute, or ":memory:" */
    const char *synchronous;  /* "off" "normal" "full" "extra" */
    uint32_t busy_timeout_ms; /* for locks that other processes hold */
    uint32_t wait_timeout_ms; /* in the queue, and of an idle transaction */
    uint32_t readers;         /* connections; 0: the writer reads too */
    uint32_t queue_max;       /* ops that wait */
    uint32_t rows_max;        /* of a result */
    uint64_t result_max_bytes;
} peri_sqlite_config;

typedef struct peri_sqlite_db peri_sqlite_db;

/* config is borrowed; nothing is opened yet. */
peri_sqlite_db *peri_sqlite_db_create(const peri_sqlite_config *config,
                                      bool reader);
void peri_sqlite_db_destroy(peri_sqlite_db *db);

/* Opens unless it is open. 0, or a code with fault filled in. */
int peri_sqlite_db_open(peri_sqlite_db *db, peri_sqlite_fault *fault);

/* Whose cancellation ends a statement, or waiting for a lock, but not before
 * patient_until_ns; and when waiting for a lock ends at the latest. op may be
 * NULL. */
void peri_sqlite_db_watch(peri_sqlite_db *db, peri_sqlite_op *op,
                          uint64_t busy_until_ns, uint64_t patient_until_ns);

/* Runs the op's statements into its output. 0, or the code that is in
 * op->fault then; PERI_SQLITE_NOT_A_READ from a reader before anything ran. */
#define PERI_SQLITE_NOT_A_READ (-6000)
int peri_sqlite_db_run(peri_sqlite_db *db, peri_sqlite_op *op);

/* One statement without parameters or rows: "BEGIN IMMEDIATE". */
int peri_sqlite_db_do(peri_sqlite_db *db, const char *sql,
                      peri_sqlite_fault *fault);

/* Begins a transaction for writing, when it is this process's turn. */
int peri_sqlite_db_begin(peri_sqlite_db *db, peri_sqlite_fault *fault);

/* Whether a deferred foreign key is unresolved: a commit would fail. */
bool peri_sqlite_db_owes_keys(peri_sqlite_db *db);

/* No transaction is open, be it that SQLite rolled it back. */
bool peri_sqlite_db_idle(peri_sqlite_db *db);

/* From another thread; the caller sees to it that db exists meanwhile. */
void peri_sqlite_db_interrupt(peri_sqlite_db *db);

/* Fills in fault from the connection's last error; sql may be empty. */
void peri_sqlite_db_explain(peri_sqlite_db *db, int code, peri_slice sql,
                            peri_sqlite_fault *fault);

/* NULL unless open. */
sqlite3 *peri_sqlite_db_handle(peri_sqlite_db *db);
const peri_sqlite_config *peri_sqlite_db_config(const peri_sqlite_db *db);

#endif
