/* Compat: the names by which prom-client and its middleware for Node know the
 * same things, for dashboards that ask for them (metrics.compat).
 *
 * Figures of the event loop are those of the last 10 to 20 seconds, whoever
 * looks how often. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/number.h"
#include "core/cluster/master_state.h"
#include "core/cluster/proc_info.h"

#define WINDOW_NS ((uint64_t)10 * 1000000000u)
#define SUMS_MAX (PERI_CELLS_BOUNDS_MAX + 2)
#define LABELS_MAX ((size_t)8192)

/* Of the lag of each record's loop: counts, then the sum. */
typedef struct snapshot {
    uint64_t at_ns;
    double sums[PERI_SLOTS_MAX][SUMS_MAX];
} snapshot;

struct peri_compat {
    snapshot past[2]; /* the older one first */
    snapshot now;
};

/* What a loop's lag was in the window. */
typedef struct lag {
    bool known;
    double count;
    double mean;
    double min;
    double max;
    double stddev;
    double p50;
    double p90;
    double p99;
} lag;

typedef struct writer {
    peri_master *master;
    peri_expo *expo;
    lag *lags; /* by record */
} writer;

bool peri_compat_is_wanted(const peri_master *master)
{
    return strcmp(peri_settings_str(master->settings, "metrics.compat", ""),
                  "prom-client") == 0;
}

void peri_compat_destroy(peri_master *master)
{
    free(master->compat);
    master->compat = NULL;
}

static peri_cells_view view_of(const peri_master *master)
{
    return (peri_cells_view){master->generation, peri_metrics_is_alive, master};
}

static void each_histogram(const peri_master *master, const char *name,
                           void (*fn)(void *data, peri_slice labels,
                                      const peri_distribution *values),
                           void *data)
{
    const peri_cells_view view = view_of(master);

    peri_cells_each_histogram(master->cells, &view, name, fn, data);
}

/* ---- the loop's lag ---- */

/* worker="N" -> N; -1: another label. */
static int record_of(peri_slice labels)
{
    const peri_slice start = PERI_SLICE("worker=\"");
    double record = -1;

    if (peri_slice_starts(labels, start)) {
        peri_number_read(labels.data + start.length,
                         labels.length - start.length, &record);
    }
    return record >= 0 && record < PERI_SLOTS_MAX ? (int)record : -1;
}

static double lower(const peri_distribution *d, size_t i)
{
    return i == 0 ? 0 : d->bounds[i - 1];
}

static double upper(const peri_distribution *d, size_t i)
{
    return i < d->count ? d->bounds[i] : d->bounds[d->count - 1];
}

/* All but the mean is as good as the buckets are. */
static lag lag_of(const peri_distribution *d)
{
    lag result = {.known = true, .min = NAN};
    double squares = 0;

    for (size_t i = 0; i <= d->count; i++) {
        if (d->counts[i] > 0) {
            result.min = isnan(result.min) ? lower(d, i) : result.min;
            result.max = upper(d, i);
            result.count += d->counts[i];
        }
    }
    if (result.count == 0) {
        return (lag){.known = true};
    }
    result.mean = d->sum / result.count;
    for (size_t i = 0; i <= d->count; i++) {
        double off = (lower(d, i) + upper(d, i)) / 2 - result.mean;

        squares += d->counts[i] * off * off;
    }
    /* Most lags are 0, in the lowest bucket. */
    result.stddev = fmin(sqrt(squares / result.count), result.max);
    result.p50 = peri_distribution_quantile(d, 0.5);
    result.p90 = peri_distribution_quantile(d, 0.9);
    result.p99 = peri_distribution_quantile(d, 0.99);
    return result;
}

static void take_lag(void *data, peri_slice labels,
                     const peri_distribution *values)
{
    const writer *w = data;
    struct peri_compat *compat = w->master->compat;
    int record = record_of(labels);
    double since[SUMS_MAX] = {0};
    peri_distribution d = *values;

    if (record < 0 || !w->master->record_used[record]) {
        return;
    }
    for (size_t i = 0; i <= values->count + 1; i++) {
        double now = i <= values->count ? values->counts[i] : values->sum;

        compat->now.sums[record][i] = now;
        since[i] = now - compat->past[0].sums[record][i];
    }
    d.counts = since;
    d.sum = since[values->count + 1];
    w->lags[record] = lag_of(&d);
}

static lag *read_lags(writer *w)
{
    struct peri_compat *compat = w->master->compat;

    if (compat == NULL) {
        compat = peri_calloc(1, sizeof *compat);
        w->master->compat = compat;
    }
    w->lags = peri_calloc(PERI_SLOTS_MAX, sizeof *w->lags);
    compat->now.at_ns = peri_clock_monotonic_ns();
    each_histogram(w->master, "perigee_eventloop_lag_seconds", take_lag, w);
    if (compat->now.at_ns - compat->past[1].at_ns >= WINDOW_NS) {
        compat->past[0] = compat->past[1];
        compat->past[1] = compat->now;
    }
    return w->lags;
}

static void write_lags(writer *w)
{
    static const struct {
        const char *name;
        const char *help;
        size_t offset; /* of a double in lag */
    } gauges[] = {
        {"nodejs_eventloop_lag_seconds", "Lag of event loop in seconds.",
         offsetof(lag, mean)},
        {"nodejs_eventloop_lag_min_seconds",
         "The minimum recorded event loop delay.", offsetof(lag, min)},
        {"nodejs_eventloop_lag_max_seconds",
         "The maximum recorded event loop delay.", offsetof(lag, max)},
        {"nodejs_eventloop_lag_mean_seconds",
         "The mean of the recorded event loop delays.", offsetof(lag, mean)},
        {"nodejs_eventloop_lag_stddev_seconds",
         "The standard deviation of the recorded event loop delays.",
         offsetof(lag, stddev)},
        {"nodejs_eventloop_lag_p50_seconds",
         "The 50th percentile of the recorded event loop delays.",
         offsetof(lag, p50)},
        {"nodejs_eventloop_lag_p90_seconds",
         "The 90th percentile of the recorded event loop delays.",
         offsetof(lag, p90)},
        {"nodejs_eventloop_lag_p99_seconds",
         "The 99th percentile of the recorded event loop delays.",
         offsetof(lag, p99)},
    };
    const lag *lags = read_lags(w);

    for (size_t g = 0; g < sizeof gauges / sizeof gauges[0]; g++) {
        peri_expo_head(w->expo, gauges[g].name, PERI_EXPO_GAUGE,
                       gauges[g].help);
        for (int i = 0; i < PERI_SLOTS_MAX; i++) {
            double value;
            char labels[32];

            if (!lags[i].known) {
                continue;
            }
            memcpy(&value, (const char *)&lags[i] + gauges[g].offset,
                   sizeof value);
            snprintf(labels, sizeof labels, "worker=\"%d\"", i);
            peri_expo_sample(w->expo, peri_slice_str(labels), value, 0);
        }
    }
    free(w->lags);
}

/* ---- memory ---- */

static void copy_gauge(void *data, peri_slice labels, double value)
{
    const writer *w = data;

    peri_expo_sample(w->expo, labels, value, 0);
}

/* What a worker has allocated besides what Lua counts. */
static void write_external(void *data, peri_slice labels, double heap)
{
    const writer *w = data;
    int record = record_of(labels);
    double memory = 0;

    for (peri_list *link = w->master->procs.next; link != &w->master->procs;
         link = link->next) {
        const peri_proc *proc = PERI_CONTAINER(link, peri_proc, link);

        if (proc->record == record) {
            peri_process_info info;

            peri_process_info_read(proc->pid, &info);
            memory = (double)info.rss_bytes;
        }
    }
    peri_expo_sample(w->expo, labels, memory > heap ? memory - heap : 0, 0);
}

static void write_memory(writer *w)
{
    const peri_cells_view view = view_of(w->master);
    static const char *const names[] = {"nodejs_heap_size_total_bytes",
                                        "nodejs_heap_size_used_bytes"};

    for (size_t i = 0; i < 2; i++) {
        peri_expo_head(w->expo, names[i], PERI_EXPO_GAUGE,
                       "Memory of Lua, as Lua counts it, in bytes.");
        peri_cells_each(w->master->cells, &view, "perigee_lua_heap_bytes",
                        copy_gauge, w);
    }
    peri_expo_head(w->expo, "nodejs_external_memory_bytes", PERI_EXPO_GAUGE,
                   "Resident memory that is not Lua's, in bytes.");
    peri_cells_each(w->master->cells, &view, "perigee_lua_heap_bytes",
                    write_external, w);
}

/* ---- handles, version ---- */

static void write_slots(writer *w, const char *name, const char *help,
                        bool connections, bool requests)
{
    const peri_segment *segment = w->master->segment;
    char labels[32];

    peri_expo_head(w->expo, name, PERI_EXPO_GAUGE, help);
    for (int i = 0; i < w->master->records_high; i++) {
        const peri_slot *slot = &segment->slot[i];
        uint64_t value = 0;

        if (!w->master->record_used[i]) {
            continue;
        }
        value += connections ? atomic_load(&slot->connections_open) : 0;
        value += requests ? atomic_load(&slot->requests_active) : 0;
        snprintf(labels, sizeof labels, "worker=\"%d\"", i);
        peri_expo_sample(w->expo, peri_slice_str(labels), (double)value, 0);
    }
}

static void write_version(writer *w)
{
    static const char version[] = PERI_VERSION;
    const char *minor = strchr(version, '.');
    const char *patch = minor != NULL ? strchr(minor + 1, '.') : NULL;
    char labels[128];

    if (patch == NULL) {
        return;
    }
    snprintf(labels, sizeof labels,
             "version=\"v%s\",major=\"%.*s\",minor=\"%.*s\",patch=\"%s\"",
             version, (int)(minor - version), version, (int)(patch - minor - 1),
             minor + 1, patch + 1);
    peri_expo_head(w->expo, "nodejs_version_info", PERI_EXPO_INFO,
                   "The version of Perigee.");
    peri_expo_sample(w->expo, peri_slice_str(labels), 1, 0);
}

/* ---- histograms by another name ---- */

static void copy_collection(void *data, peri_slice labels,
                            const peri_distribution *values)
{
    const writer *w = data;
    char text[64];
    int n = snprintf(text, sizeof text, "kind=\"incremental\",%.*s",
                     (int)labels.length, labels.data);

    if (n > 0 && (size_t)n < sizeof text) {
        peri_expo_histogram(w->expo, peri_slice_of(text, (size_t)n), values);
    }
}

/* method, route and status_code as fastify-metrics has them, path as
 * express-prom-bundle does; the rest keeps its name. */
static void copy_request(void *data, peri_slice labels,
                         const peri_distribution *values)
{
    static const char *const names[][2] = {
        {"http_request_method", "method"},
        {"http_route", "route"},
        {"http_response_status_code", "status_code"},
    };
    const writer *w = data;
    char text[LABELS_MAX];
    size_t at = 0;
    peri_slice name;
    peri_slice value;

    if (labels.length * 2 + 64 > sizeof text) {
        return;
    }
    while (peri_expo_next_raw_label(&labels, &name, &value)) {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            if (peri_slice_equal(name, peri_slice_str(names[i][0]))) {
                name = peri_slice_str(names[i][1]);
                break;
            }
        }
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%.*s=\"%.*s\"",
                               at > 0 ? "," : "", (int)name.length, name.data,
                               (int)value.length, value.data);
        if (peri_slice_equal(name, PERI_SLICE("route"))) {
            at +=
                (size_t)snprintf(text + at, sizeof text - at, ",path=\"%.*s\"",
                                 (int)value.length, value.data);
        }
    }
    peri_expo_histogram(w->expo, peri_slice_of(text, at), values);
}

void peri_compat_write(peri_master *master, peri_expo *expo)
{
    writer w = {.master = master, .expo = expo};

    if (master->cells == NULL) {
        return;
    }
    write_lags(&w);
    write_memory(&w);
    write_slots(&w, "nodejs_active_handles_total",
                "Open connections of the server.", true, false);
    write_slots(&w, "nodejs_active_requests_total",
                "Requests that are being answered.", false, true);
    write_slots(&w, "nodejs_active_resources_total",
                "Open connections and requests.", true, true);
    write_version(&w);
    peri_expo_head(expo, "nodejs_gc_duration_seconds", PERI_EXPO_HISTOGRAM,
                   "Pieces of garbage collection in quiet moments.");
    each_histogram(master, "perigee_gc_duration_seconds", copy_collection, &w);
    peri_expo_head(expo, "http_request_duration_seconds", PERI_EXPO_HISTOGRAM,
                   "Duration of HTTP server requests.");
    each_histogram(master, "http_server_request_duration_seconds", copy_request,
                   &w);
}
