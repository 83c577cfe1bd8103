/* Pulse: perigee_eventloop_lag_seconds, perigee_lua_heap_bytes,
 * perigee_gc_duration_seconds. */
#include "core/cluster/pulse.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"

#define EVERY_MS 100
#define HEAP_EVERY 10 /* beats */
#define COLLECT_NS 1000000u
/* libuv's timers count whole milliseconds: so much is no lag. */
#define ROUNDING_NS 1000000u

static const double bounds[] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1,
                                0.2,   0.5,   1,     2,    5,    10};

#define BOUNDS (sizeof bounds / sizeof bounds[0])

struct peri_pulse {
    uv_timer_t timer;
    double *lag;
    double *heap;
    double *gc;
    peri_pulse_app app;
    uint64_t last_ns;
    uint32_t beats;
};

static void on_beat(uv_timer_t *timer)
{
    peri_pulse *pulse = timer->data;
    uint64_t now_ns = peri_clock_monotonic_ns();
    uint64_t took_ns;
    uint64_t due_ns =
        pulse->last_ns + (uint64_t)EVERY_MS * 1000000u + ROUNDING_NS;

    pulse->last_ns = now_ns;
    peri_cells_observe(pulse->lag, bounds, BOUNDS, 0,
                       now_ns > due_ns ? (double)(now_ns - due_ns) / 1e9 : 0);
    if (pulse->beats++ % HEAP_EVERY == 0) {
        *pulse->heap = pulse->app.heap_bytes(pulse->app.data);
    }
    pulse->app.show_pools(pulse->app.data);
    took_ns = pulse->app.collect(pulse->app.data, COLLECT_NS);
    if (took_ns > 0) {
        peri_cells_observe(pulse->gc, bounds, BOUNDS, 0, (double)took_ns / 1e9);
        pulse->last_ns = peri_clock_monotonic_ns(); /* that is no lag */
    }
}

static int find_cells(peri_pulse *pulse, peri_cells *cells, int record)
{
    static const char *const labels[] = {"worker"};
    const peri_cells_family lag = {
        .name = "perigee_eventloop_lag_seconds",
        .help = "How late a timer of the worker's loop was.",
        .type = PERI_CELLS_HISTOGRAM,
        .labels = labels,
        .label_count = 1,
        .bounds = bounds,
        .bound_count = BOUNDS};
    const peri_cells_family heap = {
        .name = "perigee_lua_heap_bytes",
        .help = "Memory of the worker's Lua VMs, as Lua counts it.",
        .type = PERI_CELLS_GAUGE,
        .merge = PERI_CELLS_MAX, /* says nothing until it is set */
        .labels = labels,
        .label_count = 1};
    const peri_cells_family gc = {
        .name = "perigee_gc_duration_seconds",
        .help = "Pieces of garbage collection in quiet moments.",
        .type = PERI_CELLS_HISTOGRAM,
        .labels = labels,
        .label_count = 1,
        .bounds = bounds,
        .bound_count = BOUNDS};
    int gc_family = peri_cells_declare(cells, &gc, 0);
    int lag_family = peri_cells_declare(cells, &lag, 0);
    int heap_family = peri_cells_declare(cells, &heap, 0);
    char number[16];
    peri_slice value;

    if (lag_family < 0 || heap_family < 0 || gc_family < 0) {
        return -1;
    }
    snprintf(number, sizeof number, "%d", record);
    value = peri_slice_str(number);
    peri_cells_series(cells, lag_family, &value, &pulse->lag);
    peri_cells_series(cells, heap_family, &value, &pulse->heap);
    peri_cells_series(cells, gc_family, &value, &pulse->gc);
    return 0;
}

peri_pulse *peri_pulse_start(uv_loop_t *loop, peri_cells *cells, int record,
                             const peri_pulse_app *app)
{
    peri_pulse *pulse = peri_calloc(1, sizeof *pulse);

    if (find_cells(pulse, cells, record) < 0) {
        free(pulse);
        return NULL;
    }
    pulse->app = *app;
    pulse->last_ns = peri_clock_monotonic_ns();
    uv_timer_init(loop, &pulse->timer);
    pulse->timer.data = pulse;
    uv_timer_start(&pulse->timer, on_beat, EVERY_MS, EVERY_MS);
    uv_unref((uv_handle_t *)&pulse->timer);
    return pulse;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void peri_pulse_stop(peri_pulse *pulse)
{
    if (pulse != NULL) {
        uv_close((uv_handle_t *)&pulse->timer, on_closed);
    }
}
