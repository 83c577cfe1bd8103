/* Op: one piece of work for a database, and what became of it.
 *
 * Whoever submits an op owns its storage, embedded in something of theirs, and
 * gets it back in `done` on the loop's thread, unless peri_sqlite_cancel() gave
 * it back before. Between submit and done nobody touches it but the pool. */
#ifndef PERI_SQLITE_OP_H
#define PERI_SQLITE_OP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/list.h"

#define PERI_SQLITE_INPUT_MAX ((size_t)512 << 20)

typedef enum peri_sqlite_kind {
    PERI_SQLITE_READ,     /* becomes a WRITE when SQLite says it is one */
    PERI_SQLITE_WRITE,    /* may share a commit with its neighbours */
    PERI_SQLITE_ALONE,    /* outside of any transaction */
    PERI_SQLITE_BEGIN,    /* takes the writer for op->tx */
    PERI_SQLITE_STEP,     /* a statement of op->tx */
    PERI_SQLITE_COMMIT,   /* of op->tx; done when durable */
    PERI_SQLITE_ROLLBACK, /* of op->tx; cannot fail */
    PERI_SQLITE_MIGRATE   /* see migrate.h */
} peri_sqlite_kind;

typedef enum peri_sqlite_state {
    PERI_SQLITE_IDLE,
    PERI_SQLITE_QUEUED,
    PERI_SQLITE_RUNNING,
    PERI_SQLITE_FINISHED /* waits for a commit, or for the loop */
} peri_sqlite_state;

typedef struct peri_sqlite_fault {
    int code; /* 0: none; SQLite's extended code, or a negative status of ours
               */
    char message[480];
} peri_sqlite_fault;

typedef struct peri_sqlite_op peri_sqlite_op;

struct peri_sqlite_op {
    peri_sqlite_kind kind;
    bool guard;      /* all or nothing: its own savepoint */
    bool keep_rows;  /* the caller wants the rows */
    bool control;    /* SAVEPOINT and its kin are allowed */
    bool first_only; /* and only the first of them */
    uint32_t statements;
    uint64_t tx;
    /* Statements, each packed as: SQL (TEXT; empty: as before), whether
     * parameters are named (INT), their count (INT), then the values; where
     * they are named each value follows its name (TEXT), or its number (INT).
     */
    peri_buf input;
    peri_buf
        output; /* a peri_sqlite_result with its values for each statement */
    peri_sqlite_fault fault;
    void (*done)(peri_sqlite_op *op); /* never called from inside submit */

    /* the pool's */
    peri_list link;
    peri_sqlite_state state; /* under the pool's lock */
    atomic_bool cancelled;
    uint64_t queued_ns;
};

/* For a zero-filled op. */
static inline void peri_sqlite_op_init(peri_sqlite_op *op)
{
    peri_list_init(&op->link);
    peri_buf_init(&op->input, PERI_SQLITE_INPUT_MAX);
    peri_buf_init(&op->output, SIZE_MAX);
}

static inline void peri_sqlite_op_fini(peri_sqlite_op *op)
{
    peri_buf_fini(&op->input);
    peri_buf_fini(&op->output);
}

/* As printf; always with a closing NUL. */
__attribute__((format(printf, 3, 4))) void
peri_sqlite_fault_set(peri_sqlite_fault *fault, int code, const char *format,
                      ...);

#endif
