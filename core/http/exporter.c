/* Exporter: batches. Sending is exporter_send.c's, reading of the endpoint and
 * the configuration exporter_target.c's. */
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/http/exporter_internal.h"

void peri_exporter_batch_done(peri_exporter *e)
{
    peri_exporter_batch *b = peri_exporter_first(e);

    e->queued -= b->count;
    e->queued_bytes -= b->items.length;
    peri_list_remove(&b->link);
    peri_buf_fini(&e->spare);
    e->spare = b->items;
    peri_exporter_clear(&e->spare);
    free(b);
}

void peri_exporter_flush(peri_exporter *e)
{
    uv_timer_stop(&e->flush);
    if (e->filling != NULL) {
        peri_list_append(&e->full, &e->filling->link);
        e->filling = NULL;
    }
    peri_exporter_send_next(e);
}

static void on_flush(uv_timer_t *timer)
{
    peri_exporter_flush(timer->data);
}

peri_buf *peri_exporter_begin(peri_exporter *e, uint32_t items)
{
    if (e->queued + items > e->queue_max ||
        e->queued_bytes >= PERI_EXPORTER_BYTES_MAX || e->closing) {
        peri_exporter_count(e->counts.dropped, items);
        return NULL;
    }
    if (e->filling == NULL) {
        e->filling = peri_calloc(1, sizeof *e->filling);
        peri_list_init(&e->filling->link);
        e->filling->items = e->spare;
        peri_buf_init(&e->spare, PERI_EXPORTER_BYTES_MAX);
        uv_timer_start(&e->flush, on_flush, e->delay_ms, 0);
        e->filled = 0;
    }
    return &e->filling->items;
}

void peri_exporter_commit(peri_exporter *e, uint32_t items)
{
    peri_exporter_batch *b = e->filling;

    if (b->items.length == e->filled) {
        peri_exporter_count(e->counts.dropped, items);
        return;
    }
    b->count += items;
    e->queued += items;
    e->queued_bytes += b->items.length - e->filled;
    e->filled = b->items.length;
    if (b->count >= e->batch_max) {
        peri_exporter_flush(e);
    }
}

void peri_exporter_add(peri_exporter *e, peri_slice encoded, uint32_t items)
{
    peri_buf *to = peri_exporter_begin(e, items);

    if (to != NULL) {
        peri_buf_append_slice(to, encoded); /* all of it, or nothing */
        peri_exporter_commit(e, items);
    }
}

void peri_exporter_drop(peri_exporter *e, uint32_t items)
{
    peri_exporter_count(e->counts.dropped, items);
}

peri_otlp_format peri_exporter_format(const peri_exporter *e)
{
    return e->format;
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    peri_exporter *e = handle->data;
    void (*closed)(void *data) = e->closed;
    void *data = e->closed_data;

    if (--e->open_handles > 0) {
        return;
    }
    peri_buf_fini(&e->body);
    peri_buf_fini(&e->spare);
    peri_attributes_fini(&e->resource);
    peri_exporter_target_fini(&e->target);
    free(e);
    if (closed != NULL) {
        closed(data);
    }
}

void peri_exporter_end(peri_exporter *e)
{
    uv_timer_stop(&e->pause);
    if (e->ended || e->packing) {
        e->ended = true; /* a thread has the body: once more when it is done */
        return;
    }
    e->ended = true;
    peri_call_destroy(e->call);
    e->call = NULL;
    while (!peri_list_empty(&e->full)) {
        peri_exporter_count(e->counts.failed, peri_exporter_first(e)->count);
        peri_exporter_batch_done(e);
    }
    e->open_handles = 2;
    uv_close((uv_handle_t *)&e->flush, on_closed);
    uv_close((uv_handle_t *)&e->pause, on_closed);
}

static void on_limit(uv_timer_t *timer)
{
    peri_exporter_end(timer->data);
}

void peri_exporter_close(peri_exporter *e, uint32_t limit_ms,
                         void (*closed)(void *data), void *data)
{
    e->closed = closed;
    e->closed_data = data;
    e->closing = true;
    uv_timer_stop(&e->pause);
    peri_exporter_flush(e);
    if (!e->ended) {
        uv_timer_start(&e->pause, on_limit, limit_ms, 0);
    }
}

peri_exporter *peri_exporter_create(uv_loop_t *loop, peri_client *client,
                                    const peri_logger *logger,
                                    const peri_exporter_options *options,
                                    const peri_exporter_counts *counts,
                                    const char **why)
{
    peri_exporter *e = peri_calloc(1, sizeof *e);

    *why = peri_exporter_target_init(&e->target, options);
    if (*why != NULL) {
        peri_exporter_target_fini(&e->target);
        free(e);
        return NULL;
    }
    e->loop = loop;
    e->client = client;
    e->logger = logger;
    e->signal = options->signal;
    e->format = options->format;
    e->gzip = options->gzip;
    e->timeout_ms = options->timeout_ms;
    e->delay_ms = options->delay_ms;
    e->batch_max = options->batch_max < options->queue_max ? options->batch_max
                                                           : options->queue_max;
    e->queue_max = options->queue_max;
    e->counts = *counts;
    peri_attributes_init(&e->resource);
    peri_buf_append_slice(&e->resource.packed,
                          peri_buf_slice(&options->resource->packed));
    e->resource.count = options->resource->count;
    peri_buf_init(&e->body, PERI_EXPORTER_BYTES_MAX * 2);
    peri_buf_init(&e->spare, PERI_EXPORTER_BYTES_MAX);
    peri_list_init(&e->full);
    uv_timer_init(loop, &e->flush);
    uv_timer_init(loop, &e->pause);
    e->flush.data = e;
    e->pause.data = e;
    e->work.data = e;
    return e;
}
