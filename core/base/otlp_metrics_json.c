/* OTLP metrics: their JSON form. */
#include <inttypes.h>

#include "core/base/json_text.h"
#include "core/base/otlp_internal.h"
#include "core/base/text_code.h"

static int put(peri_buf *out, const char *text)
{
    return peri_buf_append_str(out, text);
}

static int put_texts(peri_buf *out, const char *before, peri_slice text)
{
    return put(out, before) || peri_json_append_string(out, text);
}

static int put_exemplar(peri_buf *out, const peri_exemplar *exemplar)
{
    char trace[2 * PERI_TRACE_ID_BYTES];
    char span[2 * PERI_SPAN_ID_BYTES];

    if (exemplar == NULL) {
        return 0;
    }
    peri_hex_encode(exemplar->trace_id, PERI_TRACE_ID_BYTES, trace);
    peri_hex_encode(exemplar->span_id, PERI_SPAN_ID_BYTES, span);
    return peri_buf_printf(out,
                           ",\"exemplars\":[{\"timeUnixNano\":\"%" PRIu64
                           "\",\"spanId\":\"%.*s\",\"traceId\":\"%.*s\","
                           "\"asDouble\":",
                           (uint64_t)(exemplar->unix_s * 1e9), (int)sizeof span,
                           span, (int)sizeof trace, trace) ||
           peri_otlp_json_double(out, exemplar->value) || put(out, "}]");
}

/* A list of numbers; whole ones as the protocol has 64 bits, as strings. */
static int put_list(peri_buf *out, const char *name, const double *values,
                    size_t count, bool whole)
{
    int rc = peri_buf_printf(out, ",\"%s\":[", name);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = put(out, i > 0 ? "," : "") ||
             (whole
                  ? peri_buf_printf(out, "\"%" PRIu64 "\"", (uint64_t)values[i])
                  : peri_otlp_json_double(out, values[i]));
    }
    return rc || put(out, "]");
}

static int put_counted(peri_buf *out, double count, double sum)
{
    return peri_buf_printf(
               out, ",\"count\":\"%" PRIu64 "\",\"sum\":", (uint64_t)count) ||
           peri_otlp_json_double(out, sum);
}

static int put_range(peri_buf *out, const char *name,
                     const peri_exponential_range *range)
{
    return peri_buf_printf(out, ",\"%s\":{\"offset\":%d", name,
                           range->count > 0 ? range->first : 0) ||
           put_list(out, "bucketCounts", range->counts, range->count, true) ||
           put(out, "}");
}

static int put_values(peri_otlp_metric *metric, const peri_otlp_point *point)
{
    const peri_distribution *d = point->values;
    peri_buf *out = metric->out;

    switch (metric->kind) {
    case PERI_OTLP_HISTOGRAM:
        return put_counted(out, peri_distribution_total(d), d->sum) ||
               put_list(out, "bucketCounts", d->counts, d->count + 1, true) ||
               put_list(out, "explicitBounds", d->bounds, d->count, false) ||
               put_exemplar(out, d->exemplar);
    case PERI_OTLP_EXPONENTIAL:
        return put_counted(out, peri_exponential_total(d->exponential),
                           d->sum) ||
               peri_buf_printf(out,
                               ",\"scale\":%d,\"zeroCount\":\"%" PRIu64
                               "\",\"zeroThreshold\":",
                               d->exponential->scale,
                               (uint64_t)d->exponential->zero) ||
               peri_otlp_json_double(out, PERI_EXPONENTIAL_ZERO) ||
               put_range(out, "positive", &d->exponential->positive) ||
               put_range(out, "negative", &d->exponential->negative) ||
               put_exemplar(out, d->exemplar);
    default:
        return put(out, ",\"asDouble\":") ||
               peri_otlp_json_double(out, point->value);
    }
}

int peri_otlp_json_metric_head(peri_otlp_metric *metric)
{
    static const char *const names[] = {
        [PERI_OTLP_GAUGE] = "gauge",
        [PERI_OTLP_SUM] = "sum",
        [PERI_OTLP_HISTOGRAM] = "histogram",
        [PERI_OTLP_EXPONENTIAL] = "exponentialHistogram",
    };

    return put_texts(metric->out, ",{\"name\":", metric->name) ||
           put_texts(metric->out, ",\"description\":", metric->description) ||
           put_texts(metric->out, ",\"unit\":", metric->unit) ||
           peri_buf_printf(metric->out, ",\"%s\":{\"dataPoints\":[",
                           names[metric->kind]);
}

int peri_otlp_json_metric_point(peri_otlp_metric *metric,
                                const peri_otlp_point *point, bool first)
{
    peri_buf *out = metric->out;
    int rc = put(out, first ? "{" : ",{") ||
             peri_otlp_json_attributes(out, point->attributes);

    if (metric->kind != PERI_OTLP_GAUGE) {
        rc =
            rc || peri_buf_printf(out, ",\"startTimeUnixNano\":\"%" PRIu64 "\"",
                                  point->start_unix_ns);
    }
    return rc ||
           peri_buf_printf(out, ",\"timeUnixNano\":\"%" PRIu64 "\"",
                           point->time_unix_ns) ||
           put_values(metric, point) || put(out, "}");
}

int peri_otlp_json_metric_tail(peri_otlp_metric *metric)
{
    peri_buf *out = metric->out;

    if (metric->kind == PERI_OTLP_GAUGE) {
        return put(out, "]}}");
    }
    return peri_buf_printf(
        out, "],\"aggregationTemporality\":%d%s}}", metric->temporality,
        metric->kind != PERI_OTLP_SUM       ? ""
        : metric->type == PERI_EXPO_COUNTER ? ",\"isMonotonic\":true"
                                            : ",\"isMonotonic\":false");
}
