/* Database watch: remembers where successes are counted. */
#include "bindings/db_watch.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/sql_text.h"

#define METRIC "db_client_operation_duration_seconds"
#define LABELS 4
#define SLOTS 256 /* a power of two; a clash is looked up again */

static const double bounds[] = {0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10};

#define BOUNDS (sizeof bounds / sizeof bounds[0])

typedef struct slot {
    double *cells; /* NULL: empty */
    const char *system;
    char name[PERILUA_DB_NAME_BYTES];
    char operation[24];
} slot;

struct perilua_db_meter {
    peri_cells *cells;
    int family; /* negative: nothing is counted */
    uint32_t exponential;
    slot slots[SLOTS];
};

static int declare(peri_cells *cells, uint32_t exponential, uint64_t generation)
{
    static const char *const labels[LABELS] = {
        "db_system_name", "db_namespace", "db_operation_name", "error_type"};
    const peri_cells_family family = {
        .name = METRIC,
        .help = "Duration of database calls, with the wait for a connection.",
        .type = PERI_CELLS_HISTOGRAM,
        .labels = labels,
        .label_count = LABELS,
        .bounds = bounds,
        .bound_count = BOUNDS,
        .exponential = exponential};

    return peri_cells_declare(cells, &family, generation);
}

perilua_db_meter *perilua_db_meter_create(peri_cells *cells)
{
    perilua_db_meter *meter;

    if (cells == NULL) {
        return NULL;
    }
    meter = peri_calloc(1, sizeof *meter);
    meter->cells = cells;
    meter->family = declare(cells, 0, 0);
    return meter;
}

void perilua_db_meter_configure(perilua_db_meter *meter, bool enabled,
                                uint32_t exponential, uint64_t generation)
{
    if (meter == NULL) {
        return;
    }
    meter->family =
        enabled ? declare(meter->cells, exponential, generation) : -1;
    meter->exponential = exponential;
    memset(meter->slots, 0, sizeof meter->slots);
}

void perilua_db_meter_destroy(perilua_db_meter *meter)
{
    free(meter);
}

/* ---- counting ---- */

static double *look_up(perilua_db_meter *meter, const perilua_db_watch *watch,
                       const char *error)
{
    peri_slice values[LABELS] = {
        peri_slice_str(watch->system), peri_slice_str(watch->name),
        peri_slice_str(watch->operation), peri_slice_str(error)};
    double *cells;

    peri_cells_series(meter->cells, meter->family, values, &cells);
    return cells;
}

static unsigned hash(const perilua_db_watch *watch)
{
    unsigned h = 5381 + (unsigned char)watch->system[0];

    for (const char *at = watch->operation; *at != '\0'; at++) {
        h = h * 33 + (unsigned char)*at;
    }
    for (const char *at = watch->name; *at != '\0'; at++) {
        h = h * 33 + (unsigned char)*at;
    }
    return h;
}

static double *find(perilua_db_meter *meter, const perilua_db_watch *watch)
{
    slot *at = &meter->slots[hash(watch) % SLOTS];

    if (at->cells == NULL || at->system != watch->system ||
        strcmp(at->operation, watch->operation) != 0 ||
        strcmp(at->name, watch->name) != 0) {
        at->cells = look_up(meter, watch, "");
        at->system = watch->system;
        memcpy(at->name, watch->name, sizeof at->name);
        memcpy(at->operation, watch->operation, sizeof at->operation);
    }
    return at->cells;
}

static void count(perilua_db_meter *meter, const perilua_db_watch *watch,
                  const char *error, uint64_t took_ns)
{
    double *cells;

    if (meter->family < 0) {
        return;
    }
    cells =
        error[0] == '\0' ? find(meter, watch) : look_up(meter, watch, error);
    peri_cells_observe(cells, bounds, BOUNDS, meter->exponential,
                       (double)took_ns / 1e9);
}

/* ---- spans ---- */

static void describe(const perilua_db_watch *watch, peri_slice text)
{
    peri_attributes *to = &watch->span->attributes;

    peri_attributes_add_text(to, "db.system.name",
                             peri_slice_str(watch->system));
    peri_attributes_add_text(to, "db.namespace", peri_slice_str(watch->name));
    if (watch->operation[0] != '\0') {
        peri_attributes_add_text(to, "db.operation.name",
                                 peri_slice_str(watch->operation));
    }
    if (text.length != 0) {
        char shown[PERI_ATTRIBUTE_VALUE_MAX];
        size_t length = peri_sql_masked(text, shown, sizeof shown);

        peri_attributes_add_text(to, "db.query.text",
                                 peri_slice_of(shown, length));
    }
}

/* The first word, in capitals. What is none is "". */
static void set_operation(perilua_db_watch *watch, peri_slice text)
{
    size_t n = 0;

    while (n < text.length && n < sizeof watch->operation - 1 &&
           (isalnum((unsigned char)text.data[n]) || text.data[n] == '_' ||
            text.data[n] == '.')) {
        watch->operation[n] = (char)toupper((unsigned char)text.data[n]);
        n++;
    }
    watch->operation[n] = '\0';
}

void perilua_db_begin(const perilua_vm *vm, perilua_db_watch *watch,
                      const char *system, const char *name,
                      peri_slice operation, peri_slice text)
{
    watch->system = system;
    snprintf(watch->name, sizeof watch->name, "%s", name);
    set_operation(watch, operation);
    watch->started_ns = peri_clock_monotonic_ns();
    watch->span = perilua_trace_call(
        vm, peri_slice_str(watch->operation[0] != '\0' ? watch->operation
                                                       : system));
    if (watch->span != NULL) {
        describe(watch, text);
    }
}

void perilua_db_end(const perilua_vm *vm, perilua_db_watch *watch,
                    const char *error)
{
    uint64_t now_ns = peri_clock_monotonic_ns();

    if (vm->env->db_meter != NULL) {
        count(vm->env->db_meter, watch, error, now_ns - watch->started_ns);
    }
    if (watch->span == NULL) {
        return;
    }
    if (error[0] != '\0') {
        peri_attributes_add_text(&watch->span->attributes, "error.type",
                                 peri_slice_str(error));
        peri_trace_set_status(watch->span, PERI_SPAN_ERROR, PERI_SLICE(""));
    }
    peri_trace_end(watch->span, now_ns);
    peri_trace_unref(watch->span);
    watch->span = NULL;
}
