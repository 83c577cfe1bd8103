/* SQLite meter: remembers where a database's successes are counted. */
#include "bindings/sqlite_meter.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"

#define REMEMBERED 8 /* databases */
#define LABELS 3

static const double bounds[] = {0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10};

#define BOUNDS (sizeof bounds / sizeof bounds[0])

struct perilua_sqlite_meter {
    peri_cells *cells;
    int family;
    struct known {
        char *name; /* NULL: free. Pools come and go, names stay */
        double *cells;
    } known[REMEMBERED];
};

perilua_sqlite_meter *perilua_sqlite_meter_create(peri_cells *cells)
{
    static const char *const labels[LABELS] = {"db_system_name", "db_namespace",
                                               "error_type"};
    const peri_cells_family family = {
        .name = "db_client_operation_duration_seconds",
        .help = "Duration of database calls, with the wait for a connection.",
        .type = PERI_CELLS_HISTOGRAM,
        .labels = labels,
        .label_count = LABELS,
        .bounds = bounds,
        .bound_count = BOUNDS};
    int number = cells != NULL ? peri_cells_declare(cells, &family, 0) : -1;
    perilua_sqlite_meter *meter;

    if (number < 0) {
        return NULL;
    }
    meter = peri_calloc(1, sizeof *meter);
    meter->cells = cells;
    meter->family = number;
    return meter;
}

void perilua_sqlite_meter_destroy(perilua_sqlite_meter *meter)
{
    for (size_t i = 0; meter != NULL && i < REMEMBERED; i++) {
        free(meter->known[i].name);
    }
    free(meter);
}

static double *look_up(perilua_sqlite_meter *meter, const char *name,
                       const char *error)
{
    peri_slice values[LABELS] = {PERI_SLICE("sqlite"), peri_slice_str(name),
                                 peri_slice_str(error)};
    double *cells;

    peri_cells_series(meter->cells, meter->family, values, &cells);
    return cells;
}

static double *find(perilua_sqlite_meter *meter, const char *name)
{
    for (size_t i = 0; i < REMEMBERED; i++) {
        struct known *at = &meter->known[i];

        if (at->name == NULL) {
            at->name = peri_strdup(name);
            at->cells = look_up(meter, name, "");
        }
        if (strcmp(at->name, name) == 0) {
            return at->cells;
        }
    }
    return look_up(meter, name, "");
}

void perilua_sqlite_meter_observe(perilua_sqlite_meter *meter, const char *name,
                                  const char *error, uint64_t took_ns)
{
    double *cells;

    if (meter == NULL) {
        return;
    }
    cells = error[0] == '\0' ? find(meter, name) : look_up(meter, name, error);
    peri_cells_observe(cells, bounds, BOUNDS, (double)took_ns / 1e9);
}
