/* OTLP, inside: what its two forms share. */
#ifndef PERI_BASE_OTLP_INTERNAL_H
#define PERI_BASE_OTLP_INTERNAL_H

#include "core/base/otlp.h"
#include "core/base/otlp_metrics.h"

/* Bit 8: whether the parent is remote is known; bit 9: it is. */
#define PERI_OTLP_REMOTE_KNOWN 0x100u
#define PERI_OTLP_REMOTE 0x200u

static inline bool peri_otlp_has_parent(const peri_otlp_span *span)
{
    static const unsigned char none[PERI_SPAN_ID_BYTES];

    return memcmp(span->parent_id, none, sizeof none) != 0;
}

static inline uint32_t peri_otlp_link_flags(const peri_trace_context *context)
{
    return (context->sampled ? 1u : 0u) | (context->random ? 2u : 0u);
}

static inline uint32_t peri_otlp_flags(const peri_otlp_span *span)
{
    return peri_otlp_link_flags(&span->context) | PERI_OTLP_REMOTE_KNOWN |
           (span->parent_is_remote ? PERI_OTLP_REMOTE : 0u);
}

/* Each as a field of that number: KeyValue. */
int peri_otlp_put_attributes(peri_buf *out, unsigned field,
                             const peri_attributes *attributes);

/* "attributes":[...] */
int peri_otlp_json_attributes(peri_buf *out, const peri_attributes *attributes);

int peri_otlp_json_double(peri_buf *out, double value);
/* What comes before it, count bytes in hexadecimal, a quotation mark. */
int peri_otlp_json_id(peri_buf *out, const char *before,
                      const unsigned char *id, size_t count);

/* otlp_metrics_json.c */
int peri_otlp_json_metric_head(peri_otlp_metric *metric);
int peri_otlp_json_metric_point(peri_otlp_metric *metric,
                                const peri_otlp_point *point, bool first);
int peri_otlp_json_metric_tail(peri_otlp_metric *metric);

int peri_otlp_json_span(peri_buf *out, const peri_otlp_span *span);
int peri_otlp_json_frame(peri_buf *out, peri_otlp_signal signal,
                         const peri_attributes *resource, peri_slice items);

#endif
