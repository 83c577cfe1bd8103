/* Code: two tables. */
#include "core/sqlite/code.h"

#include <sqlite3.h>
#include <stddef.h>

#include "core/base/err.h"

typedef struct named_code {
    int code;
    const char *name;
    const char *kind;
} named_code;

#define CODE(code, kind)                                                       \
    {                                                                          \
        code, #code, kind                                                      \
    }

/* Extended codes first: the search stops at the first that fits. */
static const named_code codes[] = {
    CODE(SQLITE_CONSTRAINT_UNIQUE, "conflict"),
    CODE(SQLITE_CONSTRAINT_PRIMARYKEY, "conflict"),
    CODE(SQLITE_CONSTRAINT_ROWID, "conflict"),
    CODE(SQLITE_CONSTRAINT_FOREIGNKEY, "conflict"),
    CODE(SQLITE_CONSTRAINT_NOTNULL, "invalid"),
    CODE(SQLITE_CONSTRAINT_CHECK, "invalid"),
    CODE(SQLITE_CONSTRAINT_DATATYPE, "invalid"),
    CODE(SQLITE_CONSTRAINT_TRIGGER, "invalid"),
    CODE(SQLITE_BUSY_SNAPSHOT, "unavailable"),
    CODE(SQLITE_BUSY_RECOVERY, "unavailable"),
    CODE(SQLITE_READONLY_DIRECTORY, "unavailable"),
    CODE(SQLITE_READONLY_DBMOVED, "unavailable"),
    CODE(SQLITE_IOERR_READ, "unavailable"),
    CODE(SQLITE_IOERR_SHORT_READ, "unavailable"),
    CODE(SQLITE_IOERR_WRITE, "unavailable"),
    CODE(SQLITE_IOERR_FSYNC, "unavailable"),
    CODE(SQLITE_CORRUPT_VTAB, "internal"),
    CODE(SQLITE_CORRUPT_INDEX, "internal"),
    CODE(SQLITE_ERROR, "internal"),
    CODE(SQLITE_INTERNAL, "internal"),
    CODE(SQLITE_PERM, "unavailable"),
    CODE(SQLITE_ABORT, "unavailable"),
    CODE(SQLITE_BUSY, "unavailable"),
    CODE(SQLITE_LOCKED, "unavailable"),
    CODE(SQLITE_NOMEM, "unavailable"),
    CODE(SQLITE_READONLY, "unavailable"),
    CODE(SQLITE_INTERRUPT, "cancelled"),
    CODE(SQLITE_IOERR, "unavailable"),
    CODE(SQLITE_CORRUPT, "internal"),
    CODE(SQLITE_FULL, "unavailable"),
    CODE(SQLITE_CANTOPEN, "unavailable"),
    CODE(SQLITE_SCHEMA, "internal"),
    CODE(SQLITE_TOOBIG, "too_large"),
    CODE(SQLITE_CONSTRAINT, "conflict"),
    CODE(SQLITE_MISMATCH, "invalid"),
    CODE(SQLITE_MISUSE, "internal"),
    CODE(SQLITE_AUTH, "internal"),
    CODE(SQLITE_RANGE, "internal"),
    CODE(SQLITE_NOTADB, "internal"),
    {PERI_ELIMIT, NULL, "too_large"},
    {PERI_ETIMEOUT, NULL, "unavailable"},
    {PERI_ESTATE, NULL, "unavailable"},
};

static const named_code *find(int code)
{
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (codes[i].code == code) {
            return &codes[i];
        }
    }
    return code > 0xff ? find(code & 0xff) : NULL;
}

const char *peri_sqlite_code_name(int code)
{
    const named_code *named = find(code);

    if (code < 0) {
        return peri_err_name(code);
    }
    return named != NULL ? named->name : "SQLITE_ERROR";
}

const char *peri_sqlite_code_kind(int code)
{
    const named_code *named = find(code);

    return named != NULL ? named->kind : "internal";
}
