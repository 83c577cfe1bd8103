/* Database watch: what is counted and traced of operations of databases, with
 * their wait for a connection. */
#ifndef PERILUA_DB_WATCH_H
#define PERILUA_DB_WATCH_H

#include "bindings/bind_trace.h"
#include "core/shm/cells.h"

/* db_client_operation_duration_seconds. NULL: nobody counts. Belongs to the
 * host. */
typedef struct perilua_db_meter perilua_db_meter;

perilua_db_meter *perilua_db_meter_create(peri_cells *cells);
/* As metrics.enabled and metrics.exponential say, for a generation that
 * serves. meter NULL is allowed. */
void perilua_db_meter_configure(perilua_db_meter *meter, bool enabled,
                                uint32_t exponential, uint64_t generation);
void perilua_db_meter_destroy(perilua_db_meter *meter);

#define PERILUA_DB_NAME_BYTES 32

/* An operation under way, embedded in its call. */
typedef struct perilua_db_watch {
    const char *system; /* static: "sqlite", "redis" */
    uint64_t started_ns;
    peri_trace_span *span;            /* NULL: not traced */
    char name[PERILUA_DB_NAME_BYTES]; /* in the configuration; cut */
    char operation[24];
} perilua_db_watch;

/* operation: its first word counts, in capitals. text: the statement, for the
 * span; may be empty. */
void perilua_db_begin(const perilua_vm *vm, perilua_db_watch *watch,
                      const char *system, const char *name,
                      peri_slice operation, peri_slice text);

/* error: "" when all went well. */
void perilua_db_end(const perilua_vm *vm, perilua_db_watch *watch,
                    const char *error);

#endif
