/* Tracer: the spans of a host, from their beginning to the exporter.
 *
 * A span is counted; the trace that it is of in this process hangs off its
 * root, which also holds what is passed on (tracestate, baggage). Spans that
 * are not recorded are there too, for what they pass on. Off (the default)
 * nothing of this is touched but one flag. Loop thread. */
#ifndef PERI_HTTP_TRACER_H
#define PERI_HTTP_TRACER_H

#include "core/base/settings.h"
#include "core/http/exporter.h"
#include "core/shm/cells.h"
#include "core/shm/recorder.h"

#define PERI_SPAN_TEXT_MAX 1024 /* of names and messages */

typedef struct peri_tracer peri_tracer;

typedef struct peri_trace_span {
    peri_tracer *tracer;
    peri_trace_context context;
    unsigned char parent_id[PERI_SPAN_ID_BYTES];
    bool parent_is_remote;
    bool recording; /* what is set is kept */
    bool ended;
    uint8_t kind;
    uint8_t status;
    uint32_t refs;
    uint64_t start_ns; /* monotonic */
    uint64_t start_unix_ns;
    struct peri_trace_span *root; /* itself, or referred to */
    struct peri_trace_span *next_free;
    peri_buf name;
    peri_buf message;
    peri_attributes attributes;
    peri_buf encoded; /* more of them, as OTLP's protobuf has them */
    peri_span_event *events;
    size_t event_count;
    uint32_t dropped_events;
    peri_trace_context *links;
    size_t link_count;
    uint32_t dropped_links;
    /* of a root */
    peri_buf state;
    peri_buf baggage;
    peri_buf held; /* tail sampling: spans that have ended, encoded */
    uint32_t held_count;
    uint32_t held_lost; /* held had no room for them */
    const peri_exporter *held_for;
    peri_buf flight; /* flight.c: its parts that have ended */
    uint32_t flight_dropped;
    bool is_tail; /* kept if it turns out to be slow or to fail */
    bool failed;
} peri_trace_span;

/* cells may be NULL. Off until it is configured. */
peri_tracer *peri_tracer_create(uv_loop_t *loop, peri_client *client,
                                const peri_logger *logger, peri_cells *cells);

/* Where the slowest traces are kept for whoever looks; NULL: nowhere. */
void peri_tracer_set_recorder(peri_tracer *tracer, peri_recorder *recorder);

/* trace.* of a generation. The same as before: nothing happens. */
void peri_tracer_configure(peri_tracer *tracer, const peri_settings *settings);

/* Whether those settings ask for traces. */
bool peri_tracer_is_wanted(const peri_settings *settings);

bool peri_tracer_is_on(const peri_tracer *tracer);

/* What is there is sent, for a short time; then closed is called. All spans
 * must have been let go of. */
void peri_tracer_close(peri_tracer *tracer, void (*closed)(void *data),
                       void *data);

/* ---- spans ---- */

/* What came from elsewhere. */
typedef struct peri_trace_remote {
    peri_trace_context context;
    bool is_there;
    peri_slice state;
    peri_slice baggage;
} peri_trace_remote;

/* A trace, or the part of one in this process, begins. remote may be NULL.
 * started_ns: monotonic; 0: now. Caller owns a reference. */
peri_trace_span *peri_trace_begin(peri_tracer *tracer, peri_slice name,
                                  peri_span_kind kind,
                                  const peri_trace_remote *remote,
                                  uint64_t started_ns);

/* A part of parent. Caller owns a reference. */
peri_trace_span *peri_trace_child(peri_trace_span *parent, peri_slice name,
                                  peri_span_kind kind);

void peri_trace_ref(peri_trace_span *span);
void peri_trace_unref(peri_trace_span *span); /* NULL is allowed */

void peri_trace_rename(peri_trace_span *span, peri_slice name);
void peri_trace_set_status(peri_trace_span *span, peri_span_status status,
                           peri_slice message);
/* NULL: it is not kept. Attributes may be added until the next event. */
peri_attributes *peri_trace_event(peri_trace_span *span, peri_slice name);
void peri_trace_link(peri_trace_span *span, const peri_trace_context *to);

/* Repeatable; only the first time counts. */
void peri_trace_end(peri_trace_span *span, uint64_t now_ns);

/* Calls emit for each header that carries the span's context onwards. */
void peri_trace_inject(const peri_trace_span *span,
                       void (*emit)(void *data, peri_slice name,
                                    peri_slice value),
                       void *data);

/* The context of headers, looked up by name (lower case); false: there is
 * none. Borrows what get gives. */
bool peri_trace_extract(const peri_tracer *tracer,
                        peri_slice (*get)(void *data, peri_slice name),
                        void *data, peri_trace_remote *out);

/* ---- requests that are served ---- */

/* exchange->trace, from its headers; peri_tracer_done() ends it. */
void peri_tracer_request(peri_tracer *tracer, struct peri_exchange *exchange);
void peri_tracer_done(struct peri_exchange *exchange, uint64_t now_ns);

#endif
