/* SQL: as much of a statement's text as has to be known before SQLite sees
 * it: who may run it, and where. */
#ifndef PERI_SQLITE_SQL_H
#define PERI_SQLITE_SQL_H

#include <stdbool.h>

#include "core/base/slice.h"

typedef enum peri_sqlite_class {
    PERI_SQL_EMPTY,   /* nothing but space and comments */
    PERI_SQL_READ,    /* looks like a read: a reader finds out for sure */
    PERI_SQL_WRITE,   /* may share a transaction with others */
    PERI_SQL_ALONE,   /* only outside of a transaction: PRAGMA, VACUUM */
    PERI_SQL_CONTROL, /* BEGIN, COMMIT, ...: transactions are the pool's */
    PERI_SQL_ATTACH   /* holds for one connection alone: refused */
} peri_sqlite_class;

peri_sqlite_class peri_sqlite_classify(peri_slice sql);

/* False when there is one statement for certain; true when there is a
 * semicolon with something behind it. */
bool peri_sqlite_may_be_several(peri_slice sql);

/* Skips white space, comments and semicolons. */
peri_slice peri_sqlite_skip_blank(peri_slice sql);

/* 1-based line of an offset. */
int peri_sqlite_line_of(peri_slice text, size_t offset);

#endif
