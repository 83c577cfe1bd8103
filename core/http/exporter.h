/* Exporter: sends what is recorded to a collector, in batches, over the HTTP
 * client.
 *
 * Never in anybody's way: what comes is appended to a buffer; a batch leaves
 * when it is full or old enough, one at a time. A collector that is down, slow
 * or busy is asked again, with growing pauses or when it said; meanwhile the
 * queue fills up, and what does not fit is counted and gone. Loop thread. */
#ifndef PERI_HTTP_EXPORTER_H
#define PERI_HTTP_EXPORTER_H

#include <uv.h>

#include "core/base/log.h"
#include "core/base/otlp.h"
#include "core/http/client.h"

#define PERI_EXPORTER_BYTES_MAX ((size_t)8 << 20) /* of all batches */
#define PERI_EXPORTER_FIELDS_MAX 32

typedef struct peri_exporter peri_exporter;

typedef struct peri_exporter_options {
    const char *endpoint; /* http://host[:port]/path */
    const peri_field *fields;
    size_t field_count;
    peri_otlp_format format;
    bool gzip;
    uint32_t timeout_ms; /* of one attempt */
    uint32_t delay_ms;   /* the oldest waits so long */
    uint32_t batch_max;  /* spans */
    uint32_t queue_max;  /* spans */
    const peri_attributes *resource;
} peri_exporter_options;

/* What has become of spans: added to doubles of the caller's (metrics), which
 * outlive it. Any may be NULL. */
typedef struct peri_exporter_counts {
    double *exported;
    double *dropped; /* the queue was full */
    double *failed;  /* the collector refused them, or never answered */
} peri_exporter_counts;

/* The endpoint is no URL that can be sent to: NULL, and *why a static text. */
peri_exporter *peri_exporter_create(uv_loop_t *loop, peri_client *client,
                                    const peri_logger *logger,
                                    const peri_exporter_options *options,
                                    const peri_exporter_counts *counts,
                                    const char **why);

/* One that has ended. */
void peri_exporter_add(peri_exporter *exporter, const peri_otlp_span *span);

/* Spans that were encoded before, in the exporter's format. */
void peri_exporter_add_encoded(peri_exporter *exporter, peri_slice spans,
                               uint32_t span_count);

peri_otlp_format peri_exporter_format(const peri_exporter *exporter);

/* Sends what there is, each batch once, for limit_ms at most; then it is freed
 * and closed is called, from the loop. */
void peri_exporter_close(peri_exporter *exporter, uint32_t limit_ms,
                         void (*closed)(void *data), void *data);

#endif
