/* Tracer: settings, and the exporters that come and go with them. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/http/tracer_internal.h"

#define FLUSH_MS 3000u
#define METRIC "perigee_trace_spans_total"

static double *counter(peri_cells *cells, const char *result)
{
    static const char *const labels[] = {"result"};
    const peri_cells_family family = {
        .name = METRIC,
        .help = "Spans, by what became of them.",
        .type = PERI_CELLS_COUNTER,
        .labels = labels,
        .label_count = 1,
    };
    peri_slice value = peri_slice_str(result);
    int number = cells != NULL ? peri_cells_declare(cells, &family, 0) : -1;
    double *cell = NULL;

    if (number >= 0) {
        peri_cells_series(cells, number, &value, &cell);
    }
    return cell;
}

peri_tracer *peri_tracer_create(uv_loop_t *loop, peri_client *client,
                                const peri_logger *logger, peri_cells *cells)
{
    peri_tracer *tracer = peri_calloc(1, sizeof *tracer);

    tracer->loop = loop;
    tracer->client = client;
    tracer->logger = logger;
    tracer->counts.exported = counter(cells, "exported");
    tracer->counts.dropped = counter(cells, "dropped");
    tracer->counts.failed = counter(cells, "failed");
    peri_tracer_seed(tracer);
    peri_tracer_init_memos(tracer);
    return tracer;
}

void peri_tracer_set_recorder(peri_tracer *tracer, peri_recorder *recorder)
{
    tracer->recorder = recorder;
}

bool peri_tracer_is_on(const peri_tracer *tracer)
{
    return tracer->configured != NULL;
}

bool peri_tracer_is_wanted(const peri_settings *settings)
{
    bool enabled = peri_settings_bool(settings, "trace.enabled", false);

    if (peri_settings_bool(settings, "explicit.trace.enabled", false)) {
        return enabled;
    }
    return enabled ||
           peri_settings_bool(settings, "explicit.trace.endpoint", false);
}

/* ---- settings ---- */

static bool names(const char *list, const char *name)
{
    char quoted[32];

    snprintf(quoted, sizeof quoted, "\"%s\"", name);
    return strstr(list, quoted) != NULL;
}

static unsigned propagators_of(const peri_settings *settings)
{
    const char *list = peri_settings_str(settings, "trace.propagators",
                                         "[\"tracecontext\",\"baggage\"]");

    if (names(list, "none")) {
        return 0;
    }
    return (names(list, "tracecontext") ? PERI_PROPAGATE_W3C : 0u) |
           (names(list, "baggage") ? PERI_PROPAGATE_BAGGAGE : 0u) |
           (names(list, "b3") ? PERI_PROPAGATE_B3 : 0u) |
           (names(list, "b3multi") ? PERI_PROPAGATE_B3_MULTI : 0u);
}

static double number(const peri_settings *settings, const char *key,
                     double fallback)
{
    const char *text = peri_settings_str(settings, key, NULL);
    char *end;
    double value = text != NULL ? strtod(text, &end) : fallback;

    return text == NULL || end == text || *end != '\0' ? fallback : value;
}

/* ---- exporters come and go ---- */

static void release(peri_tracer *tracer)
{
    void (*closed)(void *data) = tracer->closed;
    void *data = tracer->closed_data;

    if (!tracer->closing || tracer->open_exporters > 0) {
        return;
    }
    peri_tracer_free_spans(tracer);
    peri_tracer_fini_memos(tracer);
    free(tracer->configured);
    free(tracer);
    closed(data);
}

static void on_exporter_closed(void *data)
{
    peri_tracer *tracer = data;

    tracer->open_exporters--;
    release(tracer);
}

static void stop(peri_tracer *tracer)
{
    peri_exporter *exporter = tracer->exporter;

    tracer->exporter = NULL;
    if (exporter != NULL) {
        peri_exporter_close(exporter, FLUSH_MS, on_exporter_closed, tracer);
    }
}

static uint32_t limit(const peri_settings *settings, const char *key,
                      int64_t fallback)
{
    return (uint32_t)peri_settings_int(settings, key, fallback);
}

static peri_tracer_limits limits_of(const peri_settings *settings)
{
    return (peri_tracer_limits){
        .attributes =
            limit(settings, "trace.limits.attributes", PERI_ATTRIBUTES_MAX),
        .attribute_bytes = limit(settings, "trace.limits.attribute_length",
                                 PERI_ATTRIBUTE_VALUE_MAX),
        .events = limit(settings, "trace.limits.events", 128),
        .event_attributes = limit(settings, "trace.limits.event_attributes",
                                  PERI_ATTRIBUTES_MAX),
        .links = limit(settings, "trace.limits.links", 128),
    };
}

void peri_tracer_configure(peri_tracer *tracer, const peri_settings *settings)
{
    static const char *const all[] = {"trace.", NULL};
    char *text = peri_tracer_is_wanted(settings)
                     ? peri_settings_text(settings, all)
                     : NULL;
    bool same = text == NULL || tracer->configured == NULL
                    ? text == tracer->configured
                    : strcmp(text, tracer->configured) == 0;

    if (same) {
        free(text);
        return;
    }
    stop(tracer);
    free(tracer->configured);
    tracer->configured = text;
    if (text == NULL) {
        return;
    }
    tracer->sampling = peri_sampling_parse(
        peri_settings_str(settings, "trace.sampler", "parentbased_always_on"),
        number(settings, "trace.ratio", 1));
    tracer->limits = limits_of(settings);
    tracer->propagators = propagators_of(settings);
    tracer->tail_slow_ns =
        (uint64_t)peri_settings_int(settings, "trace.keep_slow", 0) * 1000000u;
    tracer->tail = tracer->tail_slow_ns != 0 ||
                   peri_settings_bool(settings, "trace.keep_failed", false);
    if (tracer->tail_slow_ns == 0) {
        tracer->tail_slow_ns = UINT64_MAX;
    }
    tracer->keeps_failed =
        peri_settings_bool(settings, "trace.keep_failed", false);
    if (strcmp(peri_settings_str(settings, "trace.exporter", "otlp"), "otlp") ==
        0) {
        tracer->exporter = peri_exporter_configured(
            tracer->loop, tracer->client, tracer->logger, settings, "trace",
            PERI_OTLP_TRACES, &tracer->counts);
        tracer->open_exporters += tracer->exporter != NULL;
    }
    tracer->memorizes =
        tracer->exporter != NULL &&
        peri_exporter_format(tracer->exporter) == PERI_OTLP_PROTOBUF &&
        tracer->limits.attribute_bytes >= PERI_TRACER_MEMO_MAX;
}

void peri_tracer_close(peri_tracer *tracer, void (*closed)(void *data),
                       void *data)
{
    tracer->closing = true;
    tracer->closed = closed;
    tracer->closed_data = data;
    stop(tracer);
    release(tracer);
}
