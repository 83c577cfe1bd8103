/* Dashboard state: what `perigee status` tells, and those metrics that the page
 * shows. Counts only grow; the page makes rates of two of them. */
#include <math.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/json_text.h"
#include "core/cluster/dashboard.h"

#define ROWS_MAX 200 /* of a family; the page says that there are more */
#define SLOW_SHOWN 24

/* ---- metrics ---- */

/* Families that the page knows, those of routes apart. */
static const char *const shown[] = {
    "perigee_cache_requests_total",
    "perigee_shared_requests_total",
    "perigee_queue_jobs",
    "perigee_eventloop_lag_seconds",
    "perigee_lua_heap_bytes",
    "perigee_bulkhead_refused_total",
    "http_client_request_duration_seconds",
    "db_client_operation_duration_seconds",
    "messaging_process_duration_seconds",
};

typedef struct family_walk {
    peri_buf *out;
    peri_routes *routes;
    bool is_routes; /* of the family under way */
    bool is_shown;
    bool any;
    unsigned rows;
} family_walk;

static void end_family(family_walk *walk)
{
    if (walk->is_shown) {
        peri_buf_append_str(walk->out, "]");
    }
    walk->is_shown = false;
    walk->is_routes = false;
}

static void on_head(void *data, const char *name, peri_expo_type type,
                    const char *help)
{
    family_walk *walk = data;

    (void)type;
    (void)help;
    end_family(walk);
    walk->rows = 0;
    if (strcmp(name, "http_server_request_duration_seconds") == 0) {
        walk->is_routes = true;
        return;
    }
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        if (strcmp(name, shown[i]) == 0) {
            peri_buf_printf(walk->out, "%s\"%s\":[", walk->any ? "," : "",
                            name);
            walk->is_shown = walk->any = true;
            return;
        }
    }
}

static void labels_json(peri_slice labels, peri_buf *out)
{
    char value[3 * PERI_CELLS_VALUE_MAX + 2];
    const char *comma = "";
    peri_slice name;
    size_t length;

    peri_buf_append_str(out, "{\"labels\":{");
    while (peri_expo_next_label(&labels, &name, value, &length)) {
        peri_buf_append_str(out, comma);
        peri_json_append_string(out, name);
        peri_buf_append_byte(out, ':');
        peri_json_append_string(out, peri_slice_of(value, length));
        comma = ",";
    }
    peri_buf_append_str(out, "}");
}

/* False: there are enough of them. */
static bool begin_row(family_walk *walk, peri_slice labels)
{
    if (!walk->is_shown || walk->rows == ROWS_MAX) {
        return false;
    }
    peri_buf_append_str(walk->out, walk->rows++ > 0 ? "," : "");
    labels_json(labels, walk->out);
    return true;
}

static void on_sample(void *data, peri_slice labels, double value,
                      uint64_t created_ms)
{
    family_walk *walk = data;

    (void)created_ms;
    if (begin_row(walk, labels)) {
        peri_buf_printf(walk->out, ",\"value\":%.15g}",
                        isfinite(value) ? value : 0);
    }
}

static void on_histogram(void *data, peri_slice labels,
                         const peri_distribution *d)
{
    family_walk *walk = data;

    if (walk->is_routes) {
        peri_routes_add(walk->routes, labels, d->bounds, d->counts, d->count,
                        d->sum);
    } else if (begin_row(walk, labels)) {
        peri_buf_printf(walk->out, ",\"sum\":%.9g,\"bounds\":[",
                        isfinite(d->sum) ? d->sum : 0);
        for (size_t i = 0; i < d->count; i++) {
            peri_buf_printf(walk->out, "%s%.9g", i > 0 ? "," : "",
                            d->bounds[i]);
        }
        peri_buf_append_str(walk->out, "],\"counts\":[");
        for (size_t i = 0; i <= d->count; i++) {
            peri_buf_printf(walk->out, "%s%.0f", i > 0 ? "," : "",
                            d->counts[i]);
        }
        peri_buf_append_str(walk->out, "]}");
    }
}

static void metrics_json(peri_master *master, peri_buf *out)
{
    static const peri_expo_sink sink = {
        .head = on_head, .sample = on_sample, .histogram = on_histogram};
    const peri_cells_view view = {master->generation, peri_metrics_is_alive,
                                  master};
    family_walk walk = {.out = out, .routes = peri_routes_create()};
    peri_expo expo;

    peri_buf_append_str(out, "\"metrics\":{");
    peri_expo_init_sink(&expo, &sink, &walk);
    if (master->cells != NULL) {
        peri_cells_write(master->cells, &view, &expo);
    }
    end_family(&walk);
    peri_buf_append_str(out, "},");
    peri_routes_json(walk.routes, out);
    peri_routes_destroy(walk.routes);
}

/* ---- what the master knows ---- */

static void outcome_json(const peri_reload_outcome *outcome, peri_buf *out)
{
    peri_buf_printf(out,
                    "{\"at\":%llu,\"took_ms\":%llu,\"cause\":\"%s\","
                    "\"generation\":%llu,\"reason\":",
                    (unsigned long long)outcome->at_ms,
                    (unsigned long long)outcome->elapsed_ms, outcome->cause,
                    (unsigned long long)outcome->generation);
    if (outcome->reason != NULL) {
        peri_json_append_string(out, peri_slice_str(outcome->reason));
    } else {
        peri_buf_append_str(out, "null");
    }
    peri_buf_append_str(out, "}");
}

static void reloads_json(const peri_master *master, peri_buf *out)
{
    const peri_reload *reload = &master->reload;

    peri_buf_printf(out, "\"reloads\":{\"ok\":%llu,\"refused\":%llu,\"last\":[",
                    (unsigned long long)reload->ok_total,
                    (unsigned long long)reload->failed_total);
    for (size_t i = 0; i < PERI_RELOAD_HISTORY && reload->history[i].at_ms != 0;
         i++) {
        peri_buf_append_str(out, i > 0 ? "," : "");
        outcome_json(&reload->history[i], out);
    }
    peri_buf_append_str(out, "]},");
}

static void totals_json(const peri_master *master, peri_buf *out)
{
    uint64_t requests = 0;
    uint64_t lost = 0;

    for (int i = 0; i < master->records_high; i++) {
        requests += atomic_load(&master->segment->slot[i].requests_total);
        lost += atomic_load(&master->segment->log[i].lost_total);
    }
    peri_buf_printf(out,
                    "\"requests\":%llu,\"log_lines_lost\":%llu,"
                    "\"workers_wanted\":%d,",
                    (unsigned long long)requests, (unsigned long long)lost,
                    master->seat_count);
}

void peri_dashboard_state(peri_master *master, peri_buf *out)
{
    peri_buf_printf(out, "{\"at\":%llu,\"monotonic_ms\":%llu,\"write\":%s,",
                    (unsigned long long)peri_clock_wall_ms(),
                    (unsigned long long)(peri_clock_monotonic_ns() / 1000000u),
                    peri_dashboard_may_write(master) ? "true" : "false");
    totals_json(master, out);
    reloads_json(master, out);
    metrics_json(master, out);
    peri_buf_append_str(out, "\"status\":");
    peri_status_json(master, out);
    while (out->length > 0 && out->data[out->length - 1] == '\n') {
        out->length--; /* server-sent events end there */
    }
    peri_buf_append_str(out, "}");
}

/* ---- the slowest requests ---- */

uint32_t peri_dashboard_slow_changes(const peri_master *master)
{
    uint32_t sum = 0;

    for (int i = 0; i < master->records_high; i++) {
        sum += atomic_load_explicit(&master->segment->slow[i].changes,
                                    memory_order_relaxed);
    }
    return sum;
}

typedef struct slow_place {
    uint64_t took_ns;
    int record;
    int index;
} slow_place;

static int slower_first(const void *a, const void *b)
{
    const slow_place *left = a;
    const slow_place *right = b;

    return left->took_ns < right->took_ns   ? 1
           : left->took_ns > right->took_ns ? -1
                                            : 0;
}

static size_t find_slow(const peri_master *master, uint64_t now_ns,
                        slow_place *out)
{
    peri_recorder_entry *entry = peri_calloc(1, sizeof *entry);
    size_t count = 0;

    for (int i = 0; i < master->records_high; i++) {
        for (int k = 0; k < PERI_RECORDER_ENTRIES; k++) {
            if (peri_recorder_read(&master->segment->slow[i], k, now_ns,
                                   entry)) {
                out[count++] = (slow_place){entry->took_ns, i, k};
            }
        }
    }
    free(entry);
    qsort(out, count, sizeof out[0], slower_first);
    return count < SLOW_SHOWN ? count : SLOW_SHOWN;
}

void peri_dashboard_slow(const peri_master *master, peri_buf *out)
{
    uint64_t now_ns = peri_clock_monotonic_ns();
    peri_recorder_entry *entry = peri_calloc(1, sizeof *entry);
    slow_place *places =
        peri_calloc((size_t)master->records_high * PERI_RECORDER_ENTRIES + 1,
                    sizeof *places);
    size_t count = find_slow(master, now_ns, places);
    const char *comma = "";

    peri_buf_append_str(out, "{\"slow\":[");
    for (size_t i = 0; i < count; i++) {
        if (peri_recorder_read(&master->segment->slow[places[i].record],
                               places[i].index, now_ns, entry)) {
            peri_buf_append_str(out, comma);
            peri_buf_append(out, entry->text, entry->length);
            comma = ",";
        }
    }
    peri_buf_append_str(out, "]}");
    free(places);
    free(entry);
}
