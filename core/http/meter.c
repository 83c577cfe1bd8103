/* Meter: a small table from what tells series apart to their cells. */
#include "core/http/meter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/number.h"
#include "core/http/tracer.h"

#define NAME "http_server_request_duration_seconds"
#define TABLE_SLOTS 512 /* a power of two; a clash is looked up again */
#define LABELS 5

typedef struct slot {
    const peri_route *route;
    double *cells; /* NULL: empty */
    uint32_t what; /* status, method and the rest of the labels */
} slot;

struct peri_meter {
    peri_cells *cells;
    const peri_logger *logger;
    int family;
    size_t bound_count;
    uint32_t exponential;
    bool exemplars;
    double bounds[PERI_CELLS_BOUNDS_MAX];
    slot slots[TABLE_SLOTS];
};

size_t peri_meter_bounds(peri_slice json, double *out)
{
    size_t count = 0;
    size_t at = 0;

    while (at < json.length && count < PERI_CELLS_BOUNDS_MAX) {
        size_t used =
            peri_number_read(json.data + at, json.length - at, &out[count]);

        if (used > 0 && count > 0 && !(out[count] > out[count - 1])) {
            return 0;
        }
        count += used > 0;
        at += used > 0 ? used : 1;
    }
    return count;
}

peri_meter *peri_meter_create(peri_cells *cells, const double *bounds,
                              size_t bound_count, uint32_t exponential,
                              uint64_t generation, const peri_logger *logger)
{
    static const char *const labels[LABELS] = {
        "http_request_method", "http_route", "http_response_status_code",
        "url_scheme", "error_type"};
    peri_cells_family family = {.name = NAME,
                                .help = "Duration of HTTP server requests.",
                                .type = PERI_CELLS_HISTOGRAM,
                                .labels = labels,
                                .label_count = LABELS,
                                .bounds = bounds,
                                .bound_count = bound_count,
                                .exponential = exponential};
    int number = peri_cells_declare(cells, &family, generation);
    peri_meter *meter;

    if (number < 0) {
        return NULL;
    }
    meter = peri_calloc(1, sizeof *meter);
    meter->cells = cells;
    meter->logger = logger;
    meter->family = number;
    meter->bound_count = bound_count;
    meter->exponential = exponential;
    meter->exemplars = true;
    memcpy(meter->bounds, bounds, bound_count * sizeof *bounds);
    return meter;
}

void peri_meter_destroy(peri_meter *meter)
{
    free(meter);
}

void peri_meter_forget(peri_meter *meter)
{
    if (meter != NULL) {
        memset(meter->slots, 0, sizeof meter->slots);
    }
}

/* A series' cells, the slow way. */
__attribute__((noinline)) static void
look_up(peri_meter *meter, const peri_exchange *ex, slot *out)
{
    char status[8];
    char error_type[8];
    const char *method =
        ex->method == PERI_METHOD_OTHER || ex->method_text.length == 0
            ? "_OTHER"
            : peri_method_name((peri_method)ex->method);
    peri_slice values[LABELS];

    snprintf(status, sizeof status, "%u", ex->status);
    values[0] = peri_slice_str(method);
    values[1] = peri_slice_str(ex->route != NULL ? ex->route->pattern : "");
    values[2] = peri_slice_str(status);
    values[3] = ex->is_tls ? PERI_SLICE("https") : PERI_SLICE("http");
    values[4] = peri_exchange_error_type(ex, error_type);
    if (peri_cells_series(meter->cells, meter->family, values, &out->cells) ==
        PERI_CELLS_OVERFLOW_FIRST) {
        peri_log(meter->logger, PERI_LOG_WARN,
                 "%s: too many series, the rest is counted as overflow "
                 "(metrics.series_max)",
                 NAME);
    }
}

void peri_meter_set_exemplars(peri_meter *meter, bool wanted)
{
    meter->exemplars = wanted;
}

void peri_meter_observe(peri_meter *meter, const peri_exchange *ex,
                        uint64_t now_ns)
{
    uint32_t what = ex->status | (uint32_t)ex->method << 16 |
                    (uint32_t)ex->gone << 24 | (uint32_t)ex->is_tls << 25 |
                    (uint32_t)(ex->method_text.length == 0) << 26 |
                    (uint32_t)ex->cut << 27;
    uint64_t mixed =
        ((uint64_t)(uintptr_t)ex->route >> 4) + what * 31u + (what >> 16);
    slot *at = &meter->slots[mixed % TABLE_SLOTS];
    uint64_t took_ns = now_ns > ex->started_ns ? now_ns - ex->started_ns : 0;

    if (at->route != ex->route || at->what != what || at->cells == NULL) {
        at->route = ex->route;
        at->what = what;
        look_up(meter, ex, at);
    }
    peri_cells_observe(at->cells, meter->bounds, meter->bound_count,
                       meter->exponential, (double)took_ns / 1e9);
    if (meter->exemplars && ex->trace != NULL && ex->trace->context.sampled) {
        peri_cells_set_exemplar(
            at->cells, meter->bound_count, (double)took_ns / 1e9,
            (double)peri_clock_wall_ms() / 1e3, ex->trace->context.trace_id,
            ex->trace->context.span_id);
    }
}
