/* OTLP: spans as OpenTelemetry's protocol carries them, in protobuf or JSON.
 *
 * Each span is encoded on its own when it ends; a request is a frame around
 * many of them. Both sides of that are here, the sending is not. */
#ifndef PERI_BASE_OTLP_H
#define PERI_BASE_OTLP_H

#include "core/base/attributes.h"
#include "core/base/trace.h"

typedef enum peri_otlp_format {
    PERI_OTLP_PROTOBUF,
    PERI_OTLP_JSON
} peri_otlp_format;

/* As the protocol numbers them. */
typedef enum peri_span_kind {
    PERI_SPAN_INTERNAL = 1,
    PERI_SPAN_SERVER,
    PERI_SPAN_CLIENT,
    PERI_SPAN_PRODUCER,
    PERI_SPAN_CONSUMER
} peri_span_kind;

typedef enum peri_span_status {
    PERI_SPAN_UNSET,
    PERI_SPAN_OK,
    PERI_SPAN_ERROR
} peri_span_status;

typedef struct peri_span_event {
    uint64_t unix_ns;
    char *name;
    peri_attributes attributes;
} peri_span_event;

typedef struct peri_otlp_span {
    peri_trace_context context;
    unsigned char parent_id[PERI_SPAN_ID_BYTES]; /* all 0: none */
    bool parent_is_remote;
    peri_slice state; /* tracestate; may be empty */
    peri_slice name;
    peri_span_kind kind;
    peri_span_status status;
    peri_slice message; /* of an ERROR */
    uint64_t start_unix_ns;
    uint64_t end_unix_ns;
    const peri_attributes *attributes;
    const peri_span_event *events;
    size_t event_count;
    uint32_t dropped_events;
    const peri_trace_context *links;
    size_t link_count;
} peri_otlp_span;

/* Appends the span, as the frame below takes it. 0 or PERI_ELIMIT: nothing was
 * appended. */
int peri_otlp_append_span(peri_buf *out, peri_otlp_format format,
                          const peri_otlp_span *span);

/* A whole request: spans, appended one behind the other, in their frame. */
int peri_otlp_frame_spans(peri_buf *out, peri_otlp_format format,
                          const peri_attributes *resource, peri_slice spans);

/* "application/x-protobuf" or "application/json". */
peri_slice peri_otlp_content_type(peri_otlp_format format);

#endif
