/* Value: what goes into a statement and what comes out, packed in bytes.
 *
 * Operations cross threads with their input and output in one buffer each, so
 * that neither side shares memory of the other's (a Lua string, a column). */
#ifndef PERI_SQLITE_VALUE_H
#define PERI_SQLITE_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"

typedef enum peri_sqlite_type {
    PERI_SQLITE_NULL,
    PERI_SQLITE_INT,
    PERI_SQLITE_REAL,
    PERI_SQLITE_TEXT,
    PERI_SQLITE_BLOB
} peri_sqlite_type;

typedef struct peri_sqlite_value {
    peri_sqlite_type type;
    int64_t integer;
    double real;
    peri_slice bytes; /* TEXT and BLOB */
} peri_sqlite_value;

/* 0 or PERI_ELIMIT. */
int peri_sqlite_pack_null(peri_buf *buf);
int peri_sqlite_pack_int(peri_buf *buf, int64_t value);
int peri_sqlite_pack_real(peri_buf *buf, double value);
int peri_sqlite_pack_bytes(peri_buf *buf, peri_sqlite_type type,
                           peri_slice bytes);

/* Takes one value off the front. Bytes are borrowed from packed. False at the
 * end. */
bool peri_sqlite_unpack(peri_slice *packed, peri_sqlite_value *out);

/* What precedes the values of one statement's result. */
typedef struct peri_sqlite_result {
    uint32_t columns; /* that many names (TEXT) come first */
    uint32_t rows;    /* then rows * columns values */
    int64_t changes;
    int64_t last_id;
} peri_sqlite_result;

bool peri_sqlite_unpack_result(peri_slice *packed, peri_sqlite_result *out);

#endif
