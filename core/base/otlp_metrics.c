/* OTLP metrics in protobuf; JSON is otlp_metrics_json.c's. */
#include "core/base/otlp_metrics.h"

#include "core/base/otlp_internal.h"
#include "core/base/protobuf.h"

/* Fields of Metric, by kind. */
static const unsigned data_fields[] = {
    [PERI_OTLP_GAUGE] = 5,
    [PERI_OTLP_SUM] = 7,
    [PERI_OTLP_HISTOGRAM] = 9,
    [PERI_OTLP_EXPONENTIAL] = 10,
};

/* ---- points ---- */

static int put_exemplar(peri_buf *out, unsigned field,
                        const peri_exemplar *exemplar)
{
    size_t start;

    if (exemplar == NULL) {
        return 0;
    }
    start = peri_protobuf_open(out, field);
    return peri_protobuf_fixed64(out, 2, (uint64_t)(exemplar->unix_s * 1e9)) ||
           peri_protobuf_double(out, 3, exemplar->value) ||
           peri_protobuf_bytes(out, 4, exemplar->span_id, PERI_SPAN_ID_BYTES) ||
           peri_protobuf_bytes(out, 5, exemplar->trace_id,
                               PERI_TRACE_ID_BYTES) ||
           peri_protobuf_close(out, start);
}

static int put_number_point(peri_buf *out, const peri_otlp_point *point,
                            bool sum)
{
    return (sum && peri_protobuf_fixed64(out, 2, point->start_unix_ns)) ||
           peri_protobuf_fixed64(out, 3, point->time_unix_ns) ||
           peri_protobuf_double(out, 4, point->value) ||
           peri_otlp_put_attributes(out, 7, point->attributes);
}

static int put_doubles(peri_buf *out, unsigned field, const double *values,
                       size_t count, bool whole)
{
    size_t start = peri_protobuf_open(out, field);
    int rc = peri_buf_reserve(out, count * sizeof(uint64_t));

    for (size_t i = 0; rc == 0 && i < count; i++) {
        uint64_t bits = (uint64_t)values[i];
        unsigned char bytes[8];

        if (!whole) {
            memcpy(&bits, &values[i], sizeof bits);
        }
        for (size_t b = 0; b < sizeof bytes; b++) {
            bytes[b] = (unsigned char)(bits >> (8 * b));
        }
        rc = peri_buf_append(out, bytes, sizeof bytes);
    }
    return rc || peri_protobuf_close(out, start);
}

static int put_histogram_point(peri_buf *out, const peri_otlp_point *point)
{
    const peri_distribution *d = point->values;

    return peri_protobuf_fixed64(out, 2, point->start_unix_ns) ||
           peri_protobuf_fixed64(out, 3, point->time_unix_ns) ||
           peri_protobuf_fixed64(out, 4,
                                 (uint64_t)peri_distribution_total(d)) ||
           peri_protobuf_double(out, 5, d->sum) ||
           put_doubles(out, 6, d->counts, d->count + 1, true) ||
           put_doubles(out, 7, d->bounds, d->count, false) ||
           put_exemplar(out, 8, d->exemplar) ||
           peri_otlp_put_attributes(out, 9, point->attributes);
}

static int put_range(peri_buf *out, unsigned field,
                     const peri_exponential_range *range)
{
    size_t start;
    size_t counts;
    int rc;

    if (range->count == 0) {
        return 0;
    }
    start = peri_protobuf_open(out, field);
    rc = peri_protobuf_number(out, 1, peri_protobuf_zigzag(range->first));
    counts = peri_protobuf_open(out, 2);
    for (uint32_t i = 0; rc == 0 && i < range->count; i++) {
        char varint[PERI_PROTOBUF_VARINT_MAX];
        const char *end =
            peri_protobuf_put_varint(varint, (uint64_t)range->counts[i]);

        rc = peri_buf_append(out, varint, (size_t)(end - varint));
    }
    return rc || peri_protobuf_close(out, counts) ||
           peri_protobuf_close(out, start);
}

static int put_exponential_point(peri_buf *out, const peri_otlp_point *point)
{
    const peri_exponential *e = point->values->exponential;

    return peri_otlp_put_attributes(out, 1, point->attributes) ||
           peri_protobuf_fixed64(out, 2, point->start_unix_ns) ||
           peri_protobuf_fixed64(out, 3, point->time_unix_ns) ||
           peri_protobuf_fixed64(out, 4, (uint64_t)peri_exponential_total(e)) ||
           peri_protobuf_double(out, 5, point->values->sum) ||
           peri_protobuf_number(out, 6, peri_protobuf_zigzag(e->scale)) ||
           peri_protobuf_fixed64(out, 7, (uint64_t)e->zero) ||
           put_range(out, 8, &e->positive) || put_range(out, 9, &e->negative) ||
           put_exemplar(out, 11, point->values->exemplar) ||
           peri_protobuf_double(out, 14, PERI_EXPONENTIAL_ZERO);
}

static int put_point(peri_otlp_metric *metric, const peri_otlp_point *point)
{
    size_t start = peri_protobuf_open(metric->out, 1);
    int rc;

    switch (metric->kind) {
    case PERI_OTLP_HISTOGRAM:
        rc = put_histogram_point(metric->out, point);
        break;
    case PERI_OTLP_EXPONENTIAL:
        rc = put_exponential_point(metric->out, point);
        break;
    default:
        rc =
            put_number_point(metric->out, point, metric->kind == PERI_OTLP_SUM);
        break;
    }
    return rc || peri_protobuf_close(metric->out, start);
}

/* ---- metrics ---- */

static int put_head(peri_otlp_metric *metric)
{
    peri_buf *out = metric->out;
    int rc;

    metric->item = peri_protobuf_open(out, 2);
    rc = peri_protobuf_text(out, 1, metric->name) ||
         peri_protobuf_text(out, 2, metric->description) ||
         peri_protobuf_text(out, 3, metric->unit);
    metric->data = peri_protobuf_open(out, data_fields[metric->kind]);
    return rc;
}

static int put_tail(peri_otlp_metric *metric)
{
    peri_buf *out = metric->out;

    return (metric->kind != PERI_OTLP_GAUGE &&
            peri_protobuf_number(out, 2, metric->temporality)) ||
           (metric->type == PERI_EXPO_COUNTER &&
            peri_protobuf_number(out, 3, true)) ||
           peri_protobuf_close(out, metric->data) ||
           peri_protobuf_close(out, metric->item);
}

static peri_otlp_kind kind_of(const peri_otlp_metric *metric,
                              const peri_otlp_point *point)
{
    return point->values == NULL
               ? metric->type == PERI_EXPO_COUNTER || metric->up_down
                     ? PERI_OTLP_SUM
                     : PERI_OTLP_GAUGE
           : point->values->exponential != NULL ? PERI_OTLP_EXPONENTIAL
                                                : PERI_OTLP_HISTOGRAM;
}

void peri_otlp_metric_start(peri_otlp_metric *metric, peri_buf *out,
                            peri_otlp_format format)
{
    metric->out = out;
    metric->format = format;
    metric->kind = PERI_OTLP_NONE;
    metric->before = out->length;
    metric->failed = false;
}

void peri_otlp_metric_add(peri_otlp_metric *metric,
                          const peri_otlp_point *point)
{
    bool json = metric->format == PERI_OTLP_JSON;
    bool first = metric->kind == PERI_OTLP_NONE;

    if (first) {
        metric->kind = kind_of(metric, point);
        metric->failed =
            (json ? peri_otlp_json_metric_head(metric) : put_head(metric)) != 0;
    }
    metric->failed = metric->failed || metric->kind != kind_of(metric, point) ||
                     (json ? peri_otlp_json_metric_point(metric, point, first)
                           : put_point(metric, point)) != 0;
}

int peri_otlp_metric_finish(peri_otlp_metric *metric)
{
    if (metric->kind != PERI_OTLP_NONE && !metric->failed) {
        metric->failed = (metric->format == PERI_OTLP_JSON
                              ? peri_otlp_json_metric_tail(metric)
                              : put_tail(metric)) != 0;
    }
    if (metric->failed) {
        metric->out->length = metric->before;
    }
    return metric->failed ? PERI_ELIMIT : 0;
}
