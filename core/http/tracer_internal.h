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

/* Attributes of requests that were encoded once; see tracer_server.c. */
#define PERI_TRACER_KINDS 64
#define PERI_TRACER_MEMO_MAX 512 /* bytes of a text */
#define PERI_TRACER_OWN_ATTRIBUTES 12

typedef struct peri_tracer_memo {
    peri_buf text; /* what they are of */
    uint32_t what;
    bool is_there;
    peri_buf encoded;
} peri_tracer_memo;

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
    uint64_t wall_offset_ns; /* between the two clocks, as of */
    uint64_t wall_read_ns;
    bool memorizes; /* protobuf, and no narrow limits */
    peri_tracer_memo kinds[PERI_TRACER_KINDS];
    peri_tracer_memo host;
    peri_tracer_memo client_address;
    peri_tracer_memo agent;
    peri_trace_span *free_spans;
    size_t free_count;
    int open_exporters;
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

void peri_tracer_seed(peri_tracer *tracer);
void peri_tracer_free_spans(peri_tracer *tracer);
void peri_tracer_init_memos(peri_tracer *tracer);
void peri_tracer_fini_memos(peri_tracer *tracer);

#endif
