/* Trace: what identifies a span, as headers carry it, and who is sampled.
 *
 * W3C Trace Context (level 1, and level 2's flag `random`) and B3, in both of
 * its forms. What is malformed is no context at all: a new trace begins. */
#ifndef PERI_BASE_TRACE_H
#define PERI_BASE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"

#define PERI_TRACE_ID_BYTES 16
#define PERI_SPAN_ID_BYTES 8
/* Without a NUL: "00-" 32 "-" 16 "-01". */
#define PERI_TRACEPARENT_BYTES 55
#define PERI_TRACESTATE_MAX 1024 /* of what is passed on */
#define PERI_BAGGAGE_MAX 8192

typedef struct peri_trace_context {
    unsigned char trace_id[PERI_TRACE_ID_BYTES];
    unsigned char span_id[PERI_SPAN_ID_BYTES];
    bool sampled;
    bool random; /* whoever began the trace says that its id is */
    bool debug;  /* B3: sampled, and who comes next is to know why */
} peri_trace_context;

/* One traceparent. 0 or PERI_EFORMAT. */
int peri_traceparent_read(peri_slice text, peri_trace_context *out);

/* PERI_TRACEPARENT_BYTES; no NUL follows. */
void peri_traceparent_write(const peri_trace_context *context, char *out);

/* Whether it is a list of 1 to 32 members, each as the standard has them. */
bool peri_tracestate_is_sane(peri_slice text);

/* A sane one as it is passed on, without blanks and empty members. Of one that
 * is longer than PERI_TRACESTATE_MAX, members of more than 128 bytes are left
 * out, then those at its end. */
void peri_tracestate_append(peri_buf *out, peri_slice text);

bool peri_baggage_is_sane(peri_slice text);

/* The b3 header: "trace-span[-sampled[-parent]]"; or the four X-B3-* ones,
 * those that are absent being empty. 0 or PERI_EFORMAT. Where nobody has
 * decided it is not sampled. */
int peri_b3_read(peri_slice text, peri_trace_context *out);
int peri_b3_multi_read(peri_slice trace_id, peri_slice span_id,
                       peri_slice sampled, peri_slice flags,
                       peri_trace_context *out);

/* Exactly 2 * count digits of lower case, not all of them 0. 0 or
 * PERI_EFORMAT. */
int peri_trace_id_read(peri_slice text, unsigned char *out, size_t count);

typedef enum peri_sampler {
    PERI_SAMPLER_ON,
    PERI_SAMPLER_OFF,
    PERI_SAMPLER_RATIO
} peri_sampler;

typedef struct peri_sampling {
    peri_sampler sampler;
    bool parent_based; /* what the parent decided holds */
    double ratio;
} peri_sampling;

/* The six names of OpenTelemetry; an unknown one is parentbased_always_on. */
peri_sampling peri_sampling_parse(const char *name, double ratio);

/* Whether a trace is sampled. parent: NULL when it begins here. */
bool peri_sampling_decide(const peri_sampling *sampling,
                          const unsigned char *trace_id,
                          const peri_trace_context *parent);

#endif
