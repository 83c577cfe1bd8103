/* Code: SQLite's result codes as names, and as kinds of failure. */
#ifndef PERI_SQLITE_CODE_H
#define PERI_SQLITE_CODE_H

/* "SQLITE_CONSTRAINT_UNIQUE" for an extended code, the primary code's name for
 * one without a name of its own, peri_err_name's for a status of ours. Static
 * storage. */
const char *peri_sqlite_code_name(int code);

/* The kind of perigee.error: "conflict", "unavailable", ... Static storage. */
const char *peri_sqlite_code_kind(int code);

#endif
