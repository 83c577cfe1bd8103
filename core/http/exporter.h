/* Exporter: sends what is recorded (spans, log records, metrics: items, here)
 * to a collector, in batches, as OTLP over the HTTP client.
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
#include "core/base/settings.h"
#include "core/http/client.h"

#define PERI_EXPORTER_BYTES_MAX ((size_t)8 << 20) /* of all batches */
#define PERI_EXPORTER_FIELDS_MAX 32

typedef struct peri_exporter peri_exporter;

/* All is copied. */
typedef struct peri_exporter_options {
    peri_otlp_signal signal;
    const char *endpoint; /* http[s]://host[:port]/path */
    const peri_field *fields;
    size_t field_count;
    /* Of https: PEM, or the path of a file with it, read again when it has
     * changed. NULL or empty: the system's, and none. */
    const char *ca;
    const char *cert;
    const char *key;
    peri_otlp_format format;
    bool gzip;
    uint32_t timeout_ms; /* of one attempt */
    uint32_t delay_ms;   /* the oldest waits so long */
    uint32_t batch_max;  /* items */
    uint32_t queue_max;  /* items */
    const peri_attributes *resource;
} peri_exporter_options;

/* What has become of items: added to doubles of the caller's (metrics), which
 * outlive it. Any may be NULL. */
typedef struct peri_exporter_counts {
    double *exported;
    double *dropped; /* there was no room for them */
    double *failed;  /* the collector refused them, or never answered */
} peri_exporter_counts;

/* The endpoint is no URL that can be sent to: NULL, and *why a static text. */
peri_exporter *peri_exporter_create(uv_loop_t *loop, peri_client *client,
                                    const peri_logger *logger,
                                    const peri_exporter_options *options,
                                    const peri_exporter_counts *counts,
                                    const char **why);

/* As one section of the configuration says: SECTION.endpoint, headers, protocol
 * and so on, all of which have a default; the resource is trace's. NULL: none
 * is possible, and that has been logged. */
peri_exporter *peri_exporter_configured(uv_loop_t *loop, peri_client *client,
                                        const peri_logger *logger,
                                        const peri_settings *settings,
                                        const char *section,
                                        peri_otlp_signal signal,
                                        const peri_exporter_counts *counts);

/* Where to append so many items, in the exporter's format; NULL: there is no
 * room, and they are counted. What is behind the buf's length at the commit is
 * theirs; nothing: they did not fit. */
peri_buf *peri_exporter_begin(peri_exporter *exporter, uint32_t items);
void peri_exporter_commit(peri_exporter *exporter, uint32_t items);

/* Both of it, for items that were encoded before. */
void peri_exporter_add(peri_exporter *exporter, peri_slice encoded,
                       uint32_t items);

/* Counts items that never got here as dropped. */
void peri_exporter_drop(peri_exporter *exporter, uint32_t items);

/* What is there leaves as soon as it can. */
void peri_exporter_flush(peri_exporter *exporter);

peri_otlp_format peri_exporter_format(const peri_exporter *exporter);

/* Sends what there is, each batch once, for limit_ms at most; then it is freed
 * and closed is called, from the loop. */
void peri_exporter_close(peri_exporter *exporter, uint32_t limit_ms,
                         void (*closed)(void *data), void *data);

#endif
