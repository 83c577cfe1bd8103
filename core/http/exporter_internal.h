/* Exporter, inside. */
#ifndef PERI_HTTP_EXPORTER_INTERNAL_H
#define PERI_HTTP_EXPORTER_INTERNAL_H

#include "core/base/list.h"
#include "core/http/exporter.h"

/* Where to, and how; its text is its own. */
typedef struct peri_exporter_target {
    bool tls;
    char *host; /* without brackets */
    uint16_t port;
    char *authority;
    char *path;
    char *tls_parts[3]; /* ca, cert, key */
    peri_field fields[PERI_EXPORTER_FIELDS_MAX + 4];
    size_t field_count;
} peri_exporter_target;

/* NULL, or why it cannot be sent to (static). fini in any case. */
const char *peri_exporter_target_init(peri_exporter_target *target,
                                      const peri_exporter_options *options);
void peri_exporter_target_fini(peri_exporter_target *target);

typedef struct peri_exporter_batch {
    peri_list link;
    peri_buf items;
    uint32_t count;
    uint32_t attempts;
} peri_exporter_batch;

struct peri_exporter {
    uv_loop_t *loop;
    peri_client *client;
    const peri_logger *logger;
    peri_exporter_target target;
    peri_otlp_signal signal;
    peri_otlp_format format;
    bool gzip;
    uint32_t timeout_ms;
    uint32_t delay_ms;
    uint32_t batch_max;
    uint32_t queue_max;
    peri_attributes resource;
    peri_exporter_counts counts;
    peri_exporter_batch *filling; /* NULL: nothing has come */
    size_t filled;                /* bytes of it that are committed */
    peri_list full;
    peri_buf spare;  /* of a batch that is over, for the next */
    uint32_t queued; /* items in all batches */
    size_t queued_bytes;
    /* One of these at a time, with the first of the full ones: */
    peri_call *call;
    bool packing;     /* in a thread; body and pack_rc are its own meanwhile */
    uv_timer_t pause; /* before the next attempt; or the limit of closing */
    uv_work_t work;
    peri_buf body; /* of the request */
    int pack_rc;
    uv_timer_t flush;
    bool ailing; /* the last batch was lost, and it has been said */
    bool closing;
    bool ended;
    int open_handles;
    void (*closed)(void *data);
    void *closed_data;
};

/* exporter.c, for exporter_send.c: the first batch is over. */
void peri_exporter_batch_done(peri_exporter *e);
/* Nothing is left to do for one that closes; or its time is over. */
void peri_exporter_end(peri_exporter *e);

/* exporter_send.c: if nothing is on its way. */
void peri_exporter_send_next(peri_exporter *e);

/* Memory that is kept for the next batch: a new piece of it costs more than
 * what is written there. */
#define PERI_EXPORTER_KEPT_BYTES ((size_t)1 << 20)

static inline void peri_exporter_clear(peri_buf *buf)
{
    if (buf->capacity > PERI_EXPORTER_KEPT_BYTES) {
        peri_buf_fini(buf);
    }
    peri_buf_clear(buf);
}

static inline peri_exporter_batch *peri_exporter_first(const peri_exporter *e)
{
    return PERI_CONTAINER(e->full.next, peri_exporter_batch, link);
}

static inline void peri_exporter_count(double *cell, double items)
{
    if (cell != NULL) {
        *cell += items;
    }
}

#endif
