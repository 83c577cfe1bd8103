/* OTLP: OpenTelemetry's protocol, in protobuf or JSON.
 *
 * Each item (a span, a log record, a metric) is encoded on its own; a request
 * is a frame around many of them, alike for all three. The sending is not here.
 */
#ifndef PERI_BASE_OTLP_H
#define PERI_BASE_OTLP_H

#include "core/base/attributes.h"
#include "core/base/log_record.h"
#include "core/base/trace.h"

typedef enum peri_otlp_format {
    PERI_OTLP_PROTOBUF,
    PERI_OTLP_JSON
} peri_otlp_format;

typedef enum peri_otlp_signal {
    PERI_OTLP_TRACES,
    PERI_OTLP_LOGS,
    PERI_OTLP_METRICS
} peri_otlp_signal;

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
    peri_slice encoded; /* more, of peri_otlp_append_...; protobuf only */
    const peri_span_event *events;
    size_t event_count;
    uint32_t dropped_events;
    const peri_trace_context *links;
    size_t link_count;
    uint32_t dropped_links;
} peri_otlp_span;

/* Appends the span, as the frame below takes it. 0 or PERI_ELIMIT: nothing was
 * appended. */
int peri_otlp_append_span(peri_buf *out, peri_otlp_format format,
                          const peri_otlp_span *span);

/* The same for a line of the log. */
int peri_otlp_append_log(peri_buf *out, peri_otlp_format format,
                         const peri_log_record *record);

/* A span's attributes, in protobuf. 0 or PERI_ELIMIT. text: plain ASCII. */
int peri_otlp_append_attributes(peri_buf *out,
                                const peri_attributes *attributes);
int peri_otlp_append_text(peri_buf *out, const char *key, peri_slice text);

/* A whole request: items, appended one behind the other, in their frame. In
 * protobuf each is field 2, in JSON each has a comma in front. */
int peri_otlp_frame(peri_buf *out, peri_otlp_format format,
                    peri_otlp_signal signal, const peri_attributes *resource,
                    peri_slice items);

/* "application/x-protobuf" or "application/json". */
peri_slice peri_otlp_content_type(peri_otlp_format format);

/* "traces", "logs", "metrics". */
const char *peri_otlp_signal_name(peri_otlp_signal signal);

/* ---- what a collector answers ---- */

/* Of a good answer: what it would not have of the request's items, and why (or
 * a warning). Borrowed. */
typedef struct peri_otlp_partial {
    uint64_t rejected;
    peri_slice message;
} peri_otlp_partial;

/* An answer that says nothing, or is malformed, rejects nothing. */
peri_otlp_partial peri_otlp_read_partial(peri_otlp_format format,
                                         peri_slice body);

/* What a bad answer says in words; may be empty. Borrowed. */
peri_slice peri_otlp_read_refusal(peri_otlp_format format, peri_slice body);

#endif
