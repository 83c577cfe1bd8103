/* OTLP: metrics pushed by the master to a collector.
 *
 * Every interval all of it is added up as for a scrape, each family becomes a
 * metric. As long as the last push has not come to its end (a collector that is
 * down or slow, with pauses between attempts), nothing is collected: what is
 * sent later has it all, as deltas too. */
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/cluster/deltas.h"
#include "core/cluster/master_state.h"
#include "core/cluster/otlp_names.h"
#include "core/http/exporter.h"

#define SECTION "metrics.otlp"
#define INTERVAL_MS 60000
#define FLUSH_MS 3000u /* at the end */
#define FAMILIES_A_BATCH 64

typedef struct peri_otlp_push {
    peri_master *master;
    uv_timer_t timer;
    peri_client *client;
    peri_exporter *exporter; /* NULL: the endpoint is none */
    char *configured;        /* what it was made from */
    double exported;         /* metrics, by what became of them */
    double dropped;
    double failed;
    double begun;  /* handed to the exporter */
    int exporters; /* that are not closed yet */
    bool closing;
    bool client_closed;
    bool timer_closed;

    peri_deltas deltas;
    bool delta;       /* of what is counted here */
    bool observe;     /* and of what is read from elsewhere (the kernel, say) */
    uint64_t last_ns; /* the last collection, Unix time */

    /* while collecting */
    uint64_t now_ns;
    peri_buf *out;
    bool started;
    bool conventional;
    const char *name;
    peri_otlp_metric metric;
    peri_attributes attributes;
    uint32_t pending; /* metrics since the last flush */
} peri_otlp_push;

/* ---- collecting ---- */

static void finish_metric(peri_otlp_push *p)
{
    if (!p->started) {
        return;
    }
    p->started = false;
    peri_otlp_metric_finish(&p->metric);
    if (p->metric.kind == PERI_OTLP_NONE) {
        return;
    }
    p->begun++;
    peri_exporter_commit(p->exporter, 1);
    if (++p->pending >= FAMILIES_A_BATCH) {
        peri_exporter_flush(p->exporter);
        p->pending = 0;
    }
}

static void take_head(void *data, const char *name, peri_expo_type type,
                      const char *help)
{
    peri_otlp_push *p = data;

    finish_metric(p);
    p->out = peri_exporter_begin(p->exporter, 1);
    if (p->out == NULL) { /* counted as dropped */
        p->begun++;
        return;
    }
    p->started = true;
    p->name = name;
    p->metric.type = type;
    p->metric.description = peri_slice_str(help);
    p->conventional = peri_otlp_name_metric(&p->metric, name);
    peri_otlp_metric_start(&p->metric, p->out,
                           peri_exporter_format(p->exporter));
}

/* Of a delta: since the last collection, or since it is there. */
static uint64_t start_of(const peri_otlp_push *p, uint64_t created_ms,
                         bool delta)
{
    uint64_t created_ns =
        (created_ms != 0 ? created_ms : p->master->started_ms) * 1000000u;

    return delta && p->last_ns > created_ns ? p->last_ns : created_ns;
}

static void take_sample(void *data, peri_slice labels, double value,
                        uint64_t created_ms)
{
    peri_otlp_push *p = data;
    bool counter = p->metric.type == PERI_EXPO_COUNTER;
    bool delta = counter && (created_ms != 0 ? p->delta : p->observe);
    peri_otlp_point point = {.attributes = &p->attributes,
                             .time_unix_ns = p->now_ns,
                             .value = value};

    if (!p->started) {
        return;
    }
    if (delta) {
        peri_deltas_subtract(&p->deltas, p->name, labels, &point.value, 1);
        if (point.value == 0) {
            return;
        }
    }
    point.start_unix_ns = start_of(p, created_ms, delta);
    p->metric.temporality = delta ? PERI_OTLP_DELTA : PERI_OTLP_CUMULATIVE;
    peri_otlp_attributes(labels, p->conventional, &p->attributes);
    peri_otlp_metric_add(&p->metric, &point);
}

static void add_histogram(peri_otlp_push *p, peri_slice labels,
                          const peri_distribution *values)
{
    const peri_otlp_point point = {
        .attributes = &p->attributes,
        .start_unix_ns = start_of(p, values->created_ms, p->delta),
        .time_unix_ns = p->now_ns,
        .values = values};

    p->metric.temporality = p->delta ? PERI_OTLP_DELTA : PERI_OTLP_CUMULATIVE;
    peri_otlp_attributes(labels, p->conventional, &p->attributes);
    peri_otlp_metric_add(&p->metric, &point);
}

static void take_histogram(void *data, peri_slice labels,
                           const peri_distribution *all)
{
    double values[PERI_CELLS_BOUNDS_MAX + 2];
    peri_otlp_push *p = data;
    peri_distribution since = *all;
    peri_exponential exponential;

    if (!p->started || all->count > PERI_CELLS_BOUNDS_MAX) {
        return;
    }
    if (p->delta) {
        memcpy(values, all->counts, (all->count + 1) * sizeof *values);
        values[all->count + 1] = all->sum;
        peri_deltas_subtract(&p->deltas, p->name, labels, values,
                             all->count + 2);
        since.counts = values;
        since.sum = values[all->count + 1];
        if (all->exponential != NULL) {
            exponential = *all->exponential;
            peri_deltas_subtract_exponential(&p->deltas, p->name, labels,
                                             &exponential);
            since.exponential = &exponential;
        }
        if (peri_distribution_total(&since) == 0) {
            return;
        }
        if (all->exemplar != NULL &&
            all->exemplar->unix_s * 1e9 < (double)p->last_ns) {
            since.exemplar = NULL;
        }
    }
    add_histogram(p, labels, &since);
}

static void take_end(void *data)
{
    finish_metric(data);
}

/* Whether all that was sent has had its answer. */
static bool is_idle(const peri_otlp_push *p)
{
    return p->exported + p->dropped + p->failed >= p->begun;
}

static void collect(peri_otlp_push *p)
{
    static const peri_expo_sink sink = {take_head, take_sample, take_histogram,
                                        take_end};
    peri_expo expo;

    if (p->exporter == NULL || !is_idle(p)) {
        return;
    }
    p->now_ns = peri_clock_wall_ms() * 1000000u;
    peri_attributes_init(&p->attributes);
    peri_expo_init_sink(&expo, &sink, p);
    peri_metrics_write(p->master, &expo);
    peri_exporter_flush(p->exporter);
    peri_attributes_fini(&p->attributes);
    p->pending = 0;
    p->last_ns = p->now_ns;
}

static void on_time(uv_timer_t *timer)
{
    collect(timer->data);
}

/* ---- coming and going ---- */

static void release(peri_otlp_push *p)
{
    if (p->exporters > 0 || !p->client_closed || !p->timer_closed) {
        return;
    }
    peri_deltas_fini(&p->deltas);
    free(p->configured);
    free(p);
}

static void on_client_closed(void *data)
{
    peri_otlp_push *p = data;

    p->client_closed = true;
    release(p);
}

static void on_exporter_closed(void *data)
{
    peri_otlp_push *p = data;

    p->exporters--;
    if (p->closing && p->exporters == 0) {
        peri_client_close(p->client, on_client_closed, p);
    }
}

static void stop(peri_otlp_push *p)
{
    peri_exporter *exporter = p->exporter;

    p->exporter = NULL;
    if (exporter != NULL) {
        peri_exporter_close(exporter, FLUSH_MS, on_exporter_closed, p);
    }
}

static void configure(peri_otlp_push *p)
{
    static const char *const decisive[] = {SECTION ".", "trace.resource.",
                                           "trace.service_name", NULL};
    const peri_settings *settings = p->master->settings;
    const peri_exporter_counts counts = {&p->exported, &p->dropped, &p->failed};
    const char *temporality =
        peri_settings_str(settings, SECTION ".temporality", "cumulative");
    char *text = peri_settings_text(settings, decisive);

    if (p->configured != NULL && strcmp(text, p->configured) == 0) {
        free(text);
        return;
    }
    stop(p);
    free(p->configured);
    p->configured = text;
    p->observe = strcmp(temporality, "delta") == 0;
    p->delta = p->observe || strcmp(temporality, "lowmemory") == 0;
    p->begun = p->exported + p->dropped + p->failed;
    p->exporter = peri_exporter_configured(&p->master->loop, p->client,
                                           &p->master->logger, settings,
                                           SECTION, PERI_OTLP_METRICS, &counts);
    p->exporters += p->exporter != NULL;
}

static bool is_wanted(const peri_settings *settings)
{
    return peri_settings_bool(settings, "metrics.enabled", true) &&
           peri_settings_bool(settings, SECTION ".enabled", false);
}

static void on_timer_closed(uv_handle_t *handle)
{
    peri_otlp_push *p = handle->data;

    p->timer_closed = true;
    release(p);
}

static peri_otlp_push *create(peri_master *master)
{
    peri_otlp_push *p = peri_calloc(1, sizeof *p);

    p->master = master;
    p->client = peri_client_create(&master->loop);
    uv_timer_init(&master->loop, &p->timer);
    p->timer.data = p;
    return p;
}

void peri_otlp_push_destroy(peri_master *master)
{
    peri_otlp_push *p = master->otlp;

    if (p == NULL) {
        return;
    }
    collect(p);
    master->otlp = NULL;
    p->closing = true;
    stop(p);
    if (p->exporters == 0) {
        peri_client_close(p->client, on_client_closed, p);
    }
    uv_close((uv_handle_t *)&p->timer, on_timer_closed);
}

void peri_otlp_push_refresh(peri_master *master)
{
    uint64_t every_ms =
        peri_master_setting(master, SECTION ".interval", INTERVAL_MS);

    if (!is_wanted(master->settings)) {
        peri_otlp_push_destroy(master);
        return;
    }
    if (master->otlp == NULL) {
        master->otlp = create(master);
    }
    configure(master->otlp);
    uv_timer_start(&master->otlp->timer, on_time, every_ms, every_ms);
}

void peri_otlp_push_metrics(const peri_master *master, peri_expo *out)
{
    const peri_otlp_push *p = master->otlp;

    if (p == NULL) {
        return;
    }
    peri_expo_head(out, "perigee_metrics_exported_total", PERI_EXPO_COUNTER,
                   "Metrics pushed by OTLP, by what became of them.");
    peri_expo_sample(out, PERI_SLICE("result=\"exported\""), p->exported, 0);
    peri_expo_sample(out, PERI_SLICE("result=\"dropped\""), p->dropped, 0);
    peri_expo_sample(out, PERI_SLICE("result=\"failed\""), p->failed, 0);
}
