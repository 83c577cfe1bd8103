/* Migrate: the files that bring a database's tables up to date.
 *
 * Each file runs once, in a transaction of its own, in the order of the input,
 * under SQLite's write lock: several processes may try at the same time. What
 * was applied is recorded in the table perigee_migrations with a checksum. */
#ifndef PERI_SQLITE_MIGRATE_H
#define PERI_SQLITE_MIGRATE_H

#include "core/sqlite/db.h"

/* op->input: op->statements files, each packed as version (INT), path for
 * messages (TEXT), checksum (TEXT) and SQL (TEXT). op->output: the paths that
 * were applied now (TEXT). Foreign keys are not enforced while a file runs, as
 * SQLite's own recipe for altering tables asks, and all checked at its end. */
int peri_sqlite_migrate(peri_sqlite_db *db, peri_sqlite_op *op);

#endif
