/* Db, inside: shared by db.c, run.c and migrate.c. */
#ifndef PERI_SQLITE_DB_INTERNAL_H
#define PERI_SQLITE_DB_INTERNAL_H

#include <stdatomic.h>

#include "core/sqlite/cache.h"
#include "core/sqlite/db.h"

struct peri_sqlite_db {
    const peri_sqlite_config *config;
    bool reader;
    int turn_fd;               /* of a writer; -1: none */
    _Atomic(sqlite3 *) handle; /* set once it is usable */
    peri_sqlite_cache cache;
    peri_sqlite_op *op; /* whose cancellation matters; may be NULL */
    uint64_t busy_until_ns;
    uint64_t patient_until_ns;
};

/* From the cache, or prepared and put there. tail is what follows the first
 * statement; one with a tail, or with once, is the caller's to finalize
 * (*owned). 0 or the code, with fault filled in. NULL statement: nothing but
 * blanks. */
int peri_sqlite_db_prepare(peri_sqlite_db *db, peri_slice sql, bool once,
                           sqlite3_stmt **out, bool *owned, peri_slice *tail,
                           peri_sqlite_fault *fault);

#endif
