/* Tracer, inside. */
#ifndef PERI_HTTP_TRACER_INTERNAL_H
#define PERI_HTTP_TRACER_INTERNAL_H

#include "core/http/tracer.h"

typedef enum peri_propagators {
    PERI_PROPAGATE_W3C = 1,
    PERI_PROPAGATE_BAGGAGE = 2,
    PERI_PROPAGATE_B3 = 4,
    PERI_PROPAGATE_B3_MULTI = 8
} peri_propagators;

/* Of one span. */
typedef struct peri_tracer_limits {
    uint32_t attributes;
    uint32_t attribute_bytes; /* of a text */
    uint32_t events;
    uint32_t event_attributes;
    uint32_t links;
} peri_tracer_limits;

struct peri_tracer {
    uv_loop_t *loop;
    peri_client *client;
    const peri_logger *logger;
    peri_exporter_counts counts;
    peri_exporter *exporter; /* NULL: nothing is sent */
    peri_recorder *recorder; /* NULL: none */
    char *configured;        /* its settings as text; NULL: off */
    peri_sampling sampling;
    peri_tracer_limits limits;
    unsigned propagators;
    bool tail; /* what is not sampled may be kept in the end */
    bool keeps_failed;
    uint64_t tail_slow_ns;
    uint64_t random[4];
    peri_trace_span *free_spans;
    size_t free_count;
    int open_exporters;
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

void peri_tracer_seed(peri_tracer *tracer);
void peri_tracer_free_spans(peri_tracer *tracer);

#endif
