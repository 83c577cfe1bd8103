/* Expo: both text forms of metrics. */
#include "core/base/expo.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/number.h"
#include "core/base/text_code.h"
#include "core/base/utf8.h"

#define NUMBER_BYTES 40
#define EXACT_MAX 9007199254740992.0

void peri_expo_init(peri_expo *expo, peri_buf *out, bool openmetrics)
{
    *expo = (peri_expo){.out = out, .openmetrics = openmetrics};
}

void peri_expo_init_sink(peri_expo *expo, const peri_expo_sink *sink,
                         void *data)
{
    *expo = (peri_expo){.sink = sink, .sink_data = data};
}

double peri_distribution_total(const peri_distribution *values)
{
    double total = 0;

    for (size_t i = 0; i <= values->count; i++) {
        total += values->counts[i];
    }
    return total;
}

double peri_distribution_quantile(const peri_distribution *values, double share)
{
    double total = peri_distribution_total(values);
    double before = 0;

    for (size_t i = 0; i < values->count; i++) {
        double here = values->counts[i];

        if (before + here >= share * total && here > 0) {
            double low = i > 0 ? values->bounds[i - 1] : 0;

            return low +
                   (values->bounds[i] - low) * (share * total - before) / here;
        }
        before += here;
    }
    return values->count > 0 ? values->bounds[values->count - 1] : 0;
}

bool peri_expo_next_raw_label(peri_slice *labels, peri_slice *name,
                              peri_slice *value)
{
    const char *end = labels->data + labels->length;
    const char *equals =
        labels->length > 0 ? memchr(labels->data, '=', labels->length) : NULL;
    const char *at;

    if (equals == NULL || end - equals < 2) {
        return false;
    }
    *name = peri_slice_of(labels->data, (size_t)(equals - labels->data));
    for (at = equals + 2; at < end && *at != '"'; at++) {
        at += *at == '\\' && at + 1 < end;
    }
    *value = peri_slice_of(equals + 2, (size_t)(at - equals - 2));
    at += at < end;               /* the quote */
    at += at < end && *at == ','; /* another one follows */
    *labels = peri_slice_of(at, (size_t)(end - at));
    return true;
}

bool peri_expo_next_label(peri_slice *labels, peri_slice *name, char *out,
                          size_t *length)
{
    peri_slice value;

    if (!peri_expo_next_raw_label(labels, name, &value)) {
        return false;
    }
    *length = 0;
    for (size_t i = 0; i < value.length; i++) {
        bool escaped = value.data[i] == '\\' && i + 1 < value.length;

        i += escaped;
        out[(*length)++] =
            (char)(escaped && value.data[i] == 'n' ? '\n' : value.data[i]);
    }
    return true;
}

static const char *type_name(const peri_expo *expo)
{
    static const char *const names[] = {
        [PERI_EXPO_COUNTER] = "counter",
        [PERI_EXPO_GAUGE] = "gauge",
        [PERI_EXPO_HISTOGRAM] = "histogram",
        [PERI_EXPO_INFO] = "info",
    };

    return expo->type == PERI_EXPO_INFO && !expo->openmetrics
               ? "gauge"
               : names[expo->type];
}

static size_t without(const char *name, size_t length, const char *suffix)
{
    size_t n = strlen(suffix);

    return length > n && memcmp(name + length - n, suffix, n) == 0 ? length - n
                                                                   : length;
}

/* The family's own name: with the suffix that 0.0.4 has in it. */
static peri_slice family_name(const peri_expo *expo)
{
    return peri_slice_of(expo->name, expo->openmetrics ? expo->base_length
                                                       : strlen(expo->name));
}

static void append_help(peri_expo *expo, const char *help)
{
    for (; *help != '\0'; help++) {
        if (*help == '\n') {
            peri_buf_append(expo->out, "\\n", 2);
            continue;
        }
        if (*help == '\\' || (*help == '"' && expo->openmetrics)) {
            peri_buf_append_byte(expo->out, '\\');
        }
        peri_buf_append_byte(expo->out, *help);
    }
}

void peri_expo_head(peri_expo *expo, const char *name, peri_expo_type type,
                    const char *help)
{
    size_t length = strlen(name);
    peri_slice family;

    if (expo->sink != NULL) {
        expo->sink->head(expo->sink_data, name, type, help);
        return;
    }
    expo->name = name;
    expo->type = type;
    expo->base_length =
        type == PERI_EXPO_COUNTER ? without(name, length, "_total")
        : type == PERI_EXPO_INFO  ? without(name, length, "_info")
                                  : length;
    family = family_name(expo);
    peri_buf_printf(expo->out, "# HELP %.*s ", (int)family.length, family.data);
    append_help(expo, help);
    peri_buf_printf(expo->out, "\n# TYPE %.*s %s\n", (int)family.length,
                    family.data, type_name(expo));
}

static size_t number_text(double value, char *out)
{
    const char *odd = isnan(value)           ? "NaN"
                      : value == INFINITY    ? "+Inf"
                      : value == (-INFINITY) ? "-Inf"
                                             : NULL;

    if (odd != NULL) {
        size_t length = strlen(odd);

        memcpy(out, odd, length);
        return length;
    }
    if (value >= 0 && value < EXACT_MAX && value == floor(value)) {
        return peri_number_write_u64((uint64_t)value, out);
    }
    return peri_number_write(value, out);
}

/* A bound: OpenMetrics wants them to look like floats. */
static size_t bound_text(const peri_expo *expo, double bound, char *out)
{
    size_t length = number_text(bound, out);

    if (expo->openmetrics && isfinite(bound) &&
        memchr(out, '.', length) == NULL && memchr(out, 'e', length) == NULL) {
        out[length++] = '.';
        out[length++] = '0';
    }
    return length;
}

/* name suffix{labels,le="bound"} value */
static void line(peri_expo *expo, const char *suffix, peri_slice labels,
                 peri_slice bound, double value)
{
    char number[NUMBER_BYTES];
    size_t suffix_length = strlen(suffix);
    peri_buf *out = expo->out;

    if (peri_buf_reserve(out, expo->base_length + suffix_length +
                                  labels.length + bound.length + sizeof number +
                                  16) < 0) {
        return;
    }
    peri_buf_append(out, expo->name, expo->base_length);
    peri_buf_append(out, suffix, suffix_length);
    if (labels.length + bound.length > 0) {
        peri_buf_append_byte(out, '{');
        peri_buf_append_slice(out, labels);
        if (bound.length > 0) {
            peri_buf_append(out, ",le=\"", labels.length > 0 ? 5 : 0);
            peri_buf_append(out, "le=\"", labels.length > 0 ? 0 : 4);
            peri_buf_append_slice(out, bound);
            peri_buf_append_byte(out, '"');
        }
        peri_buf_append_byte(out, '}');
    }
    peri_buf_append_byte(out, ' ');
    peri_buf_append(out, number, number_text(value, number));
    peri_buf_append_byte(out, '\n');
}

/* Behind the bucket's line, in front of its line feed. */
static void put_exemplar(peri_expo *expo, const peri_exemplar *exemplar)
{
    char trace[2 * PERI_TRACE_ID_BYTES];
    char span[2 * PERI_SPAN_ID_BYTES];

    peri_hex_encode(exemplar->trace_id, PERI_TRACE_ID_BYTES, trace);
    peri_hex_encode(exemplar->span_id, PERI_SPAN_ID_BYTES, span);
    expo->out->length--;
    peri_buf_printf(expo->out,
                    " # {trace_id=\"%.*s\",span_id=\"%.*s\"} %.9g %.3f\n",
                    (int)sizeof trace, trace, (int)sizeof span, span,
                    exemplar->value, exemplar->unix_s);
}

static void created_line(peri_expo *expo, peri_slice labels,
                         uint64_t created_ms)
{
    if (expo->openmetrics && created_ms != 0) {
        line(expo, "_created", labels, PERI_SLICE(""),
             (double)created_ms / 1000);
    }
}

void peri_expo_sample(peri_expo *expo, peri_slice labels, double value,
                      uint64_t created_ms)
{
    const char *suffix;

    if (expo->sink != NULL) {
        expo->sink->sample(expo->sink_data, labels, value, created_ms);
        return;
    }
    suffix = expo->openmetrics && expo->type == PERI_EXPO_COUNTER ? "_total"
             : expo->type == PERI_EXPO_INFO                       ? "_info"
                                            : expo->name + expo->base_length;
    line(expo, suffix, labels, PERI_SLICE(""), value);
    if (expo->type == PERI_EXPO_COUNTER) {
        created_line(expo, labels, created_ms);
    }
}

void peri_expo_histogram(peri_expo *expo, peri_slice labels,
                         const peri_distribution *values)
{
    const peri_exemplar *exemplar = expo->openmetrics ? values->exemplar : NULL;
    char bound[NUMBER_BYTES];
    double total = 0;

    if (expo->sink != NULL) {
        expo->sink->histogram(expo->sink_data, labels, values);
        return;
    }
    for (size_t i = 0; i <= values->count; i++) {
        double le = i < values->count ? values->bounds[i] : INFINITY;
        size_t length = bound_text(expo, le, bound);
        size_t before = expo->out->length;

        total += values->counts[i];
        line(expo, "_bucket", labels, peri_slice_of(bound, length), total);
        if (exemplar != NULL && exemplar->value <= le &&
            expo->out->length > before) {
            put_exemplar(expo, exemplar);
            exemplar = NULL;
        }
    }
    line(expo, "_sum", labels, PERI_SLICE(""), values->sum);
    line(expo, "_count", labels, PERI_SLICE(""), total);
    created_line(expo, labels, values->created_ms);
}

void peri_expo_end(peri_expo *expo)
{
    if (expo->sink == NULL && expo->openmetrics) {
        peri_buf_append_str(expo->out, "# EOF\n");
    } else if (expo->sink != NULL && expo->sink->end != NULL) {
        expo->sink->end(expo->sink_data);
    }
}

size_t peri_expo_escape(peri_slice value, size_t value_max, char *out)
{
    size_t length = 0;

    for (size_t at = 0; at < value.length;) {
        char c = value.data[at];
        size_t width = peri_utf8_width(value.data + at, value.length - at);

        if (at + (width > 0 ? width : 1) > value_max) {
            break;
        }
        if (c == '\n' || c == '"' || c == '\\') {
            out[length++] = '\\';
            out[length++] = c == '\n' ? 'n' : c;
        } else if (width == 0) {
            memcpy(out + length, "\xEF\xBF\xBD", 3);
            length += 3;
        } else {
            memcpy(out + length, value.data + at, width);
            length += width;
        }
        at += width > 0 ? width : 1;
    }
    return length;
}
