/* Expo in protobuf: field by field, as metrics.proto of Prometheus' client
 * model numbers them. */
#include "core/base/expo_proto.h"

#include <math.h>

#include "core/base/protobuf.h"
#include "core/base/text_code.h"

#define LABELS_MAX ((size_t)16384) /* bytes of all of a series */
#define SCHEMA_MIN (-4)            /* of what Prometheus takes */
#define GAP_MAX 2 /* empty buckets that are written rather than skipped */

enum { COUNTER = 0, GAUGE = 1, HISTOGRAM = 4 };

static int put_label(peri_buf *out, unsigned field, peri_slice name,
                     peri_slice value)
{
    size_t start = peri_protobuf_open(out, field);

    return peri_protobuf_text(out, 1, name) ||
           peri_protobuf_text(out, 2, value) || peri_protobuf_close(out, start);
}

static int put_labels(peri_buf *out, peri_slice labels)
{
    char text[LABELS_MAX];
    peri_slice name;
    size_t length;
    int rc = 0;

    if (labels.length > sizeof text) {
        return PERI_ELIMIT;
    }
    while (rc == 0 && peri_expo_next_label(&labels, &name, text, &length)) {
        rc = put_label(out, 1, name, peri_slice_of(text, length));
    }
    return rc;
}

static int put_time(peri_buf *out, unsigned field, double unix_s)
{
    size_t start;
    double seconds = floor(unix_s);

    if (unix_s <= 0) {
        return 0;
    }
    start = peri_protobuf_open(out, field);
    return peri_protobuf_number(out, 1, (uint64_t)seconds) ||
           peri_protobuf_number(out, 2, (uint64_t)((unix_s - seconds) * 1e9)) ||
           peri_protobuf_close(out, start);
}

static int put_exemplar(peri_buf *out, const peri_exemplar *exemplar)
{
    char trace[2 * PERI_TRACE_ID_BYTES];
    char span[2 * PERI_SPAN_ID_BYTES];
    size_t start = peri_protobuf_open(out, 3);

    peri_hex_encode(exemplar->trace_id, PERI_TRACE_ID_BYTES, trace);
    peri_hex_encode(exemplar->span_id, PERI_SPAN_ID_BYTES, span);
    return put_label(out, 1, PERI_SLICE("trace_id"),
                     peri_slice_of(trace, sizeof trace)) ||
           put_label(out, 1, PERI_SLICE("span_id"),
                     peri_slice_of(span, sizeof span)) ||
           peri_protobuf_double(out, 2, exemplar->value) ||
           put_time(out, 3, exemplar->unix_s) ||
           peri_protobuf_close(out, start);
}

/* ---- native histograms ---- */

static int put_span(peri_buf *out, unsigned field, int64_t offset,
                    uint64_t length)
{
    size_t start = peri_protobuf_open(out, field);

    return peri_protobuf_number(out, 1, peri_protobuf_zigzag(offset)) ||
           peri_protobuf_number(out, 2, length) ||
           peri_protobuf_close(out, start);
}

/* Where the next span begins, at or behind at; its end in *end. */
static uint32_t next_span(const peri_exponential_range *range, uint32_t at,
                          uint32_t *end)
{
    uint32_t gap = 0;

    while (at < range->count && range->counts[at] == 0) {
        at++;
    }
    *end = at;
    for (uint32_t i = at; i < range->count && gap <= GAP_MAX; i++) {
        gap = range->counts[i] == 0 ? gap + 1 : 0;
        *end = gap == 0 ? i + 1 : *end;
    }
    return at;
}

/* Spans of buckets, then each count as its difference to the one before.
 * Prometheus numbers a bucket by its upper bound: one more than we do. */
static int put_range(peri_buf *out, unsigned field,
                     const peri_exponential_range *range)
{
    int64_t at = 0;
    int64_t before = 0;
    uint32_t end;
    size_t deltas;
    int rc = 0;

    for (uint32_t i = next_span(range, 0, &end); rc == 0 && i < range->count;
         i = next_span(range, end, &end)) {
        int64_t first = (int64_t)range->first + 1 + i;

        rc = put_span(out, field, first - at, end - i);
        at = first + (end - i);
    }
    deltas = peri_protobuf_open(out, field + 1);
    for (uint32_t i = next_span(range, 0, &end); rc == 0 && i < range->count;
         i = next_span(range, end, &end)) {
        for (; rc == 0 && i < end; i++) {
            char varint[PERI_PROTOBUF_VARINT_MAX];
            int64_t count = (int64_t)range->counts[i];
            const char *stop = peri_protobuf_put_varint(
                varint, peri_protobuf_zigzag(count - before));

            before = count;
            rc = peri_buf_append(out, varint, (size_t)(stop - varint));
        }
    }
    return rc || peri_protobuf_close(out, deltas);
}

static int put_exponential(peri_buf *out, const peri_exponential *e)
{
    return peri_protobuf_number(out, 5, peri_protobuf_zigzag(e->scale)) ||
           peri_protobuf_double(out, 6, PERI_EXPONENTIAL_ZERO) ||
           peri_protobuf_number(out, 7, (uint64_t)e->zero) ||
           put_range(out, 9, &e->negative) || put_range(out, 12, &e->positive);
}

/* ---- histograms ---- */

static int put_buckets(peri_buf *out, const peri_distribution *values,
                       double total)
{
    const peri_exemplar *exemplar = values->exemplar;
    double sum = 0;
    int rc = 0;

    /* The last one is said by the total alone, but for an exemplar. */
    for (size_t i = 0; rc == 0 && i <= values->count; i++) {
        double le = i < values->count ? values->bounds[i] : INFINITY;
        bool here = exemplar != NULL && exemplar->value <= le;
        size_t start;

        sum += values->counts[i];
        if (i == values->count && !here) {
            break;
        }
        start = peri_protobuf_open(out, 3);
        rc = peri_protobuf_number(out, 1,
                                  (uint64_t)(sum < total ? sum : total)) ||
             peri_protobuf_double(out, 2, le) ||
             (here && put_exemplar(out, exemplar)) ||
             peri_protobuf_close(out, start);
        exemplar = here ? NULL : exemplar;
    }
    return rc;
}

static int put_histogram(peri_buf *out, const peri_distribution *values)
{
    const peri_exponential *e =
        values->exponential != NULL && values->exponential->scale >= SCHEMA_MIN
            ? values->exponential
            : NULL;
    size_t start = peri_protobuf_open(out, 7);
    /* Prometheus holds one to it that buckets make up the total. */
    double total =
        e != NULL ? peri_exponential_total(e) : peri_distribution_total(values);

    return peri_protobuf_number(out, 1, (uint64_t)total) ||
           peri_protobuf_double(out, 2, values->sum) ||
           put_buckets(out, values, total) ||
           (e != NULL && put_exponential(out, e)) ||
           put_time(out, 15, (double)values->created_ms / 1e3) ||
           peri_protobuf_close(out, start);
}

/* ---- families ---- */

static void finish(peri_expo_proto *p)
{
    char length[PERI_PROTOBUF_VARINT_MAX];
    size_t bytes =
        (size_t)(peri_protobuf_put_varint(length, p->family.length) - length);

    if (!p->failed && p->family.length > 0 &&
        peri_buf_reserve(p->out, bytes + p->family.length) == 0) {
        peri_buf_append(p->out, length, bytes);
        peri_buf_append_slice(p->out, peri_buf_slice(&p->family));
    }
    peri_buf_clear(&p->family);
}

static void take_head(void *data, const char *name, peri_expo_type type,
                      const char *help)
{
    static const unsigned numbers[] = {
        [PERI_EXPO_COUNTER] = COUNTER,
        [PERI_EXPO_GAUGE] = GAUGE,
        [PERI_EXPO_HISTOGRAM] = HISTOGRAM,
        [PERI_EXPO_INFO] = GAUGE,
    };
    peri_expo_proto *p = data;

    finish(p);
    p->type = type;
    p->failed = peri_protobuf_text(&p->family, 1, peri_slice_str(name)) ||
                peri_protobuf_text(&p->family, 2, peri_slice_str(help)) ||
                peri_protobuf_number(&p->family, 3, numbers[type]);
}

static int put_sample(peri_expo_proto *p, peri_slice labels, double value,
                      uint64_t created_ms)
{
    bool counter = p->type == PERI_EXPO_COUNTER;
    peri_buf *out = &p->family;
    size_t metric = peri_protobuf_open(out, 4);
    int rc = put_labels(out, labels);
    size_t start = peri_protobuf_open(out, counter ? 3 : 2);

    return rc || peri_protobuf_double(out, 1, value) ||
           (counter && put_time(out, 3, (double)created_ms / 1e3)) ||
           peri_protobuf_close(out, start) || peri_protobuf_close(out, metric);
}

static void take_sample(void *data, peri_slice labels, double value,
                        uint64_t created_ms)
{
    peri_expo_proto *p = data;
    size_t before = p->family.length;

    if (put_sample(p, labels, value, created_ms) != 0) {
        p->family.length = before;
    }
}

static void take_histogram(void *data, peri_slice labels,
                           const peri_distribution *values)
{
    peri_expo_proto *p = data;
    size_t before = p->family.length;
    size_t metric = peri_protobuf_open(&p->family, 4);

    if (put_labels(&p->family, labels) || put_histogram(&p->family, values) ||
        peri_protobuf_close(&p->family, metric)) {
        p->family.length = before;
    }
}

static void take_end(void *data)
{
    peri_expo_proto *p = data;

    finish(p);
    peri_buf_fini(&p->family);
}

void peri_expo_proto_init(peri_expo_proto *proto, peri_expo *expo,
                          peri_buf *out)
{
    static const peri_expo_sink sink = {take_head, take_sample, take_histogram,
                                        take_end};

    *proto = (peri_expo_proto){.out = out};
    peri_buf_init(&proto->family, out->max_bytes);
    peri_expo_init_sink(expo, &sink, proto);
}
