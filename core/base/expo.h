/* Expo: metrics as text, Prometheus 0.0.4 or OpenMetrics 1.0.
 *
 * One family after the other: its head once, then its samples. What differs
 * between the two forms is decided here alone: the names of counters,
 * `_created`, the end mark, and how a bucket's bound is spelled. Other forms
 * take the values through a sink. */
#ifndef PERI_BASE_EXPO_H
#define PERI_BASE_EXPO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/exponential.h"
#include "core/base/trace.h"

typedef enum peri_expo_type {
    PERI_EXPO_COUNTER,
    PERI_EXPO_GAUGE,
    PERI_EXPO_HISTOGRAM,
    PERI_EXPO_INFO /* named ..._info, always 1; a gauge in 0.0.4 */
} peri_expo_type;

/* An example of what was counted, and the span that it was in. */
typedef struct peri_exemplar {
    double value;
    double unix_s;
    unsigned char trace_id[PERI_TRACE_ID_BYTES];
    unsigned char span_id[PERI_SPAN_ID_BYTES];
} peri_exemplar;

typedef struct peri_distribution {
    const double *bounds; /* rising, finite */
    const double *counts; /* count + 1, each by itself; the last is above all */
    size_t count;
    double sum;
    /* The same values; NULL: was not kept. */
    const peri_exponential *exponential;
    const peri_exemplar *exemplar; /* NULL: there is none */
    uint64_t created_ms;           /* Unix time; 0: not known */
} peri_distribution;

/* Who takes metrics as values instead, to send them in another form. The
 * arguments are those of the functions below. */
typedef struct peri_expo_sink {
    void (*head)(void *data, const char *name, peri_expo_type type,
                 const char *help);
    void (*sample)(void *data, peri_slice labels, double value,
                   uint64_t created_ms);
    void (*histogram)(void *data, peri_slice labels,
                      const peri_distribution *values);
    void (*end)(void *data); /* may be NULL */
} peri_expo_sink;

typedef struct peri_expo {
    const peri_expo_sink *sink; /* NULL: text is written */
    void *sink_data;
    peri_buf *out; /* borrowed; what it cannot take is left out */
    bool openmetrics;
    /* of the family under way; borrowed */
    const char *name;
    size_t base_length; /* of its name without _total or _info */
    peri_expo_type type;
} peri_expo;

void peri_expo_init(peri_expo *expo, peri_buf *out, bool openmetrics);
void peri_expo_init_sink(peri_expo *expo, const peri_expo_sink *sink,
                         void *data);

double peri_distribution_total(const peri_distribution *values);

/* Where that share of the values lies below, from the classic buckets: as if
 * values lay evenly within one. */
double peri_distribution_quantile(const peri_distribution *values,
                                  double share);

/* Takes the next label off the front of labels, with its value as it is there;
 * false at the end. */
bool peri_expo_next_raw_label(peri_slice *labels, peri_slice *name,
                              peri_slice *value);

/* Takes the next label off the front of labels, its value unescaped into out
 * (as long as labels at most); false at the end. */
bool peri_expo_next_label(peri_slice *labels, peri_slice *name, char *out,
                          size_t *length);

void peri_expo_head(peri_expo *expo, const char *name, peri_expo_type type,
                    const char *help);

/* A counter's, gauge's or info's sample. labels: `a="b",c="d"`, escaped; may be
 * empty. created_ms: Unix time, for counters; 0: not known. */
void peri_expo_sample(peri_expo *expo, peri_slice labels, double value,
                      uint64_t created_ms);

/* In text the buckets are those between bounds; OpenMetrics shows the exemplar
 * at the one that it is in. */
void peri_expo_histogram(peri_expo *expo, peri_slice labels,
                         const peri_distribution *values);

/* After the last family. */
void peri_expo_end(peri_expo *expo);

/* Writes value as a label's value, without the quotes, to out: at most
 * value_max bytes of it, valid UTF-8 (what is not becomes U+FFFD). Returns the
 * length: up to 3 * value_max + 2. */
size_t peri_expo_escape(peri_slice value, size_t value_max, char *out);

#endif
