/* OTLP metrics: an item is a metric with all its points, for
 * peri_otlp_frame().
 *
 *   start(out, format, metric)   then a point each; finish()
 *
 * Nothing is written before the first point; what its first point is decides
 * what the metric is. */
#ifndef PERI_BASE_OTLP_METRICS_H
#define PERI_BASE_OTLP_METRICS_H

#include "core/base/expo.h"
#include "core/base/otlp.h"

/* As the protocol numbers them. */
typedef enum peri_otlp_temporality {
    PERI_OTLP_DELTA = 1,
    PERI_OTLP_CUMULATIVE = 2
} peri_otlp_temporality;

typedef struct peri_otlp_point {
    const peri_attributes *attributes;
    uint64_t start_unix_ns; /* since when it was counted; of gauges unused */
    uint64_t time_unix_ns;
    double value;                    /* of a gauge or a sum */
    const peri_distribution *values; /* of a histogram; NULL: it is none */
} peri_otlp_point;

typedef enum peri_otlp_kind {
    PERI_OTLP_NONE, /* no point has come */
    PERI_OTLP_GAUGE,
    PERI_OTLP_SUM, /* of a counter, it only grows */
    PERI_OTLP_HISTOGRAM,
    PERI_OTLP_EXPONENTIAL
} peri_otlp_kind;

typedef struct peri_otlp_metric {
    /* set by start; text is borrowed until finish */
    peri_slice name;
    peri_slice description;
    peri_slice unit;
    peri_expo_type type;
    bool up_down; /* a gauge that is a sum there: how many there are now */
    peri_otlp_temporality temporality;
    /* the rest is its own */
    peri_buf *out;
    peri_otlp_format format;
    peri_otlp_kind kind;
    size_t before; /* bytes of out */
    size_t item;   /* open messages of protobuf */
    size_t data;
    bool failed;
} peri_otlp_metric;

void peri_otlp_metric_start(peri_otlp_metric *metric, peri_buf *out,
                            peri_otlp_format format);
void peri_otlp_metric_add(peri_otlp_metric *metric,
                          const peri_otlp_point *point);

/* PERI_ELIMIT: there was no room, and nothing was appended. */
int peri_otlp_metric_finish(peri_otlp_metric *metric);

#endif
