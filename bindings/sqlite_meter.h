/* SQLite meter: db_client_operation_duration_seconds, of calls that a task
 * waits for. Belongs to the host, on its loop thread. */
#ifndef PERILUA_SQLITE_METER_H
#define PERILUA_SQLITE_METER_H

#include <stdint.h>

#include "core/shm/cells.h"

typedef struct perilua_sqlite_meter perilua_sqlite_meter;

/* cells are borrowed and may be NULL; so may be the result. */
perilua_sqlite_meter *perilua_sqlite_meter_create(peri_cells *cells);
void perilua_sqlite_meter_destroy(perilua_sqlite_meter *meter);

/* Of the database of that name. error: its code's name, or "". */
void perilua_sqlite_meter_observe(perilua_sqlite_meter *meter, const char *name,
                                  const char *error, uint64_t took_ns);

#endif
