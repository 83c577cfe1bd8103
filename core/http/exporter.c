/* Exporter: batches, and their way to the collector. */
#include "core/http/exporter.h"

#include <ctype.h>
#include <stdlib.h>
#include <zlib.h>

#include "core/base/alloc.h"
#include "core/base/list.h"

#define ATTEMPTS_MAX 5
#define PAUSE_MS 1000u
#define PAUSE_MAX_MS 60000u
#define ANSWER_MAX_BYTES 65536
#define CONNECT_MS 5000u

typedef struct batch {
    peri_list link;
    peri_buf spans;
    uint32_t count;
    uint32_t attempts;
} batch;

struct peri_exporter {
    uv_loop_t *loop;
    peri_client *client;
    const peri_logger *logger;
    char *host;
    uint16_t port;
    char *target;
    char *authority;
    peri_field fields[PERI_EXPORTER_FIELDS_MAX + 4]; /* their text is ours */
    size_t field_count;
    peri_otlp_format format;
    bool gzip;
    uint32_t timeout_ms;
    uint32_t delay_ms;
    uint32_t batch_max;
    uint32_t queue_max;
    peri_attributes resource;
    peri_exporter_counts counts;
    batch *filling; /* NULL: nothing has come */
    peri_list full;
    uint32_t queued; /* spans in all batches */
    size_t queued_bytes;
    peri_call *call; /* with the first of the full ones; NULL: none */
    uv_timer_t flush;
    uv_timer_t pause; /* before the next attempt; or the limit of closing */
    bool ailing;      /* the last batch was lost, and it has been said */
    bool closing;
    int open_handles;
    void (*closed)(void *data);
    void *closed_data;
};

static void send_next(peri_exporter *e);

/* ---- where to ---- */

static char *copy_slice(peri_slice text)
{
    return peri_strndup(text.data != NULL ? text.data : "", text.length);
}

static int read_port(peri_exporter *e, const char *text, size_t length)
{
    unsigned long port = 0;

    if (length == 0 || length > 5) {
        return PERI_EFORMAT;
    }
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return PERI_EFORMAT;
        }
        port = port * 10 + (unsigned long)(text[i] - '0');
    }
    e->port = (uint16_t)port;
    return port >= 1 && port <= 65535 ? 0 : PERI_EFORMAT;
}

static const char *read_endpoint(peri_exporter *e, const char *url)
{
    const char *at;
    const char *path;
    const char *colon;
    const char *end;

    if (strncasecmp(url, "https://", 8) == 0) {
        return "TLS to a collector is not built in yet";
    }
    if (strncasecmp(url, "http://", 7) != 0) {
        return "no http URL";
    }
    at = url + 7;
    path = at + strcspn(at, "/?#");
    e->authority = peri_strndup(at, (size_t)(path - at));
    e->target = peri_strdup(*path == '/' ? path : "/");
    e->port = 80;
    if (*at == '[') {
        end = memchr(at, ']', (size_t)(path - at));
        if (end == NULL) {
            return "no http URL";
        }
        e->host = peri_strndup(at + 1, (size_t)(end - at - 1));
        colon = end + 1 < path ? end + 1 : NULL;
    } else {
        colon = memchr(at, ':', (size_t)(path - at));
        end = colon != NULL ? colon : path;
        e->host = peri_strndup(at, (size_t)(end - at));
    }
    if (e->host[0] == '\0' ||
        (colon != NULL &&
         (*colon != ':' ||
          read_port(e, colon + 1, (size_t)(path - colon - 1)) < 0))) {
        return "no http URL";
    }
    return NULL;
}

static void add_field(peri_exporter *e, peri_slice name, peri_slice value)
{
    if (e->field_count < sizeof e->fields / sizeof e->fields[0]) {
        e->fields[e->field_count++] = (peri_field){
            {copy_slice(name), name.length}, {copy_slice(value), value.length}};
    }
}

static void set_fields(peri_exporter *e, const peri_exporter_options *options)
{
    add_field(e, PERI_SLICE("host"), peri_slice_str(e->authority));
    add_field(e, PERI_SLICE("content-type"),
              peri_otlp_content_type(options->format));
    add_field(e, PERI_SLICE("user-agent"),
              PERI_SLICE("OTel-OTLP-Exporter-Perigee/" PERI_VERSION));
    if (options->gzip) {
        add_field(e, PERI_SLICE("content-encoding"), PERI_SLICE("gzip"));
    }
    for (size_t i = 0; i < options->field_count && i < PERI_EXPORTER_FIELDS_MAX;
         i++) {
        add_field(e, options->fields[i].name, options->fields[i].value);
    }
}

/* ---- batches ---- */

static void count(double *cell, uint32_t spans)
{
    if (cell != NULL) {
        *cell += spans;
    }
}

static void batch_free(peri_exporter *e, batch *b)
{
    e->queued -= b->count;
    e->queued_bytes -= b->spans.length;
    peri_list_remove(&b->link);
    peri_buf_fini(&b->spans);
    free(b);
}

static batch *first_full(peri_exporter *e)
{
    return PERI_CONTAINER(e->full.next, batch, link);
}

/* What came so far leaves as soon as it can. */
static void seal(peri_exporter *e)
{
    uv_timer_stop(&e->flush);
    if (e->filling != NULL) {
        peri_list_append(&e->full, &e->filling->link);
        e->filling = NULL;
    }
    if (e->call == NULL && !uv_is_active((uv_handle_t *)&e->pause)) {
        send_next(e);
    }
}

static void on_flush(uv_timer_t *timer)
{
    seal(timer->data);
}

static bool has_room(peri_exporter *e, uint32_t spans)
{
    if (e->queued + spans > e->queue_max ||
        e->queued_bytes >= PERI_EXPORTER_BYTES_MAX || e->closing) {
        count(e->counts.dropped, spans);
        return false;
    }
    if (e->filling == NULL) {
        e->filling = peri_calloc(1, sizeof *e->filling);
        peri_list_init(&e->filling->link);
        peri_buf_init(&e->filling->spans, PERI_EXPORTER_BYTES_MAX);
        uv_timer_start(&e->flush, on_flush, e->delay_ms, 0);
    }
    return true;
}

static void added(peri_exporter *e, int rc, size_t before, uint32_t spans)
{
    batch *b = e->filling;

    if (rc < 0) {
        count(e->counts.dropped, spans);
        return;
    }
    b->count += spans;
    e->queued += spans;
    e->queued_bytes += b->spans.length - before;
    if (b->count >= e->batch_max) {
        seal(e);
    }
}

void peri_exporter_add(peri_exporter *e, const peri_otlp_span *span)
{
    if (has_room(e, 1)) {
        size_t before = e->filling->spans.length;

        added(e, peri_otlp_append_span(&e->filling->spans, e->format, span),
              before, 1);
    }
}

void peri_exporter_add_encoded(peri_exporter *e, peri_slice spans,
                               uint32_t span_count)
{
    if (has_room(e, span_count)) {
        size_t before = e->filling->spans.length;

        added(e, peri_buf_append_slice(&e->filling->spans, spans), before,
              span_count);
    }
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
    for (size_t i = 0; i < e->field_count; i++) {
        free((char *)(uintptr_t)e->fields[i].name.data);
        free((char *)(uintptr_t)e->fields[i].value.data);
    }
    peri_attributes_fini(&e->resource);
    free(e->host);
    free(e->target);
    free(e->authority);
    free(e);
    if (closed != NULL) {
        closed(data);
    }
}

static void end(peri_exporter *e)
{
    peri_call_destroy(e->call);
    e->call = NULL;
    while (!peri_list_empty(&e->full)) {
        batch *b = first_full(e);

        count(e->counts.failed, b->count);
        batch_free(e, b);
    }
    e->open_handles = 2;
    uv_close((uv_handle_t *)&e->flush, on_closed);
    uv_close((uv_handle_t *)&e->pause, on_closed);
}

static void on_limit(uv_timer_t *timer)
{
    end(timer->data);
}

void peri_exporter_close(peri_exporter *e, uint32_t limit_ms,
                         void (*closed)(void *data), void *data)
{
    e->closed = closed;
    e->closed_data = data;
    e->closing = true;
    uv_timer_stop(&e->pause);
    seal(e);
    if (e->call == NULL && peri_list_empty(&e->full)) {
        end(e);
        return;
    }
    uv_timer_start(&e->pause, on_limit, limit_ms, 0);
}

/* ---- the answer ---- */

static void lose(peri_exporter *e, const char *why)
{
    batch *b = first_full(e);

    count(e->counts.failed, b->count);
    if (!e->ailing) {
        e->ailing = true;
        peri_log_fields(
            e->logger, PERI_LOG_WARN, "traces cannot be exported",
            (peri_log_field[]){PERI_FIELD_STR("collector", e->authority),
                               PERI_FIELD_STR("reason", why),
                               PERI_FIELD_NUM("spans", b->count)},
            3);
    }
    batch_free(e, b);
}

static void on_pause_over(uv_timer_t *timer)
{
    send_next(timer->data);
}

static uint32_t pause_of(const batch *b, peri_slice retry_after)
{
    uint32_t most = PAUSE_MS << (b->attempts - 1);
    uint64_t seconds = 0;

    if (retry_after.length > 0 && retry_after.length < 6) {
        for (size_t i = 0; i < retry_after.length; i++) {
            if (!isdigit((unsigned char)retry_after.data[i])) {
                return most;
            }
            seconds = seconds * 10 + (uint64_t)(retry_after.data[i] - '0');
        }
        return seconds * 1000 < PAUSE_MAX_MS ? (uint32_t)seconds * 1000
                                             : PAUSE_MAX_MS;
    }
    /* Workers that began to fail together do not come back together. */
    return most / 2 + (uint32_t)(uv_hrtime() / 1000 % (most / 2));
}

static void again_or_lose(peri_exporter *e, const char *why,
                          peri_slice retry_after)
{
    batch *b = first_full(e);

    if (b->attempts >= ATTEMPTS_MAX || e->closing) {
        lose(e, why);
        send_next(e);
        return;
    }
    uv_timer_start(&e->pause, on_pause_over, pause_of(b, retry_after), 0);
}

static bool may_pass(int status)
{
    return status == 429 || (status >= 502 && status <= 504);
}

static void on_answer(peri_exporter *e, const peri_reply *reply)
{
    peri_slice after = peri_reply_field(reply, PERI_SLICE("retry-after"));
    char why[32];

    if (reply->status >= 200 && reply->status < 300) {
        count(e->counts.exported, first_full(e)->count);
        batch_free(e, first_full(e));
        if (e->ailing) {
            e->ailing = false;
            peri_log(e->logger, PERI_LOG_INFO, "traces are exported again");
        }
        send_next(e);
        return;
    }
    snprintf(why, sizeof why, "status %d", reply->status);
    if (may_pass(reply->status)) {
        again_or_lose(e, why, after);
    } else {
        lose(e, why);
        send_next(e);
    }
}

static void on_event(void *data)
{
    peri_exporter *e = data;
    peri_call *call = e->call;
    peri_call_fault fault = peri_call_get_fault(call);
    const peri_reply *reply = peri_call_reply(call);

    if (fault.rc == 0 && !peri_call_complete(call)) {
        return;
    }
    e->call = NULL;
    if (reply != NULL && (fault.rc == 0 || fault.rc == PERI_ELIMIT)) {
        on_answer(e, reply);
    } else {
        again_or_lose(e,
                      fault.rc == PERI_ETIMEOUT ? "no answer in time"
                                                : peri_err_text(fault.rc),
                      PERI_SLICE(""));
    }
    peri_call_destroy(call);
}

/* ---- sending ---- */

static int pack(peri_buf *body)
{
    z_stream z = {0};
    peri_buf out;
    int rc;

    if (deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        abort(); /* memory is gone */
    }
    peri_buf_init(&out, SIZE_MAX / 2);
    peri_buf_reserve(&out, deflateBound(&z, body->length));
    z.next_in = (Bytef *)body->data;
    z.avail_in = (uInt)body->length;
    z.next_out = (Bytef *)out.data;
    z.avail_out = (uInt)out.capacity;
    rc = deflate(&z, Z_FINISH);
    out.length = z.total_out;
    deflateEnd(&z);
    peri_buf_fini(body);
    *body = out;
    return rc == Z_STREAM_END ? 0 : PERI_EFORMAT;
}

static int start_call(peri_exporter *e, const batch *b)
{
    peri_call_options options = {
        .host = peri_slice_str(e->host),
        .port = e->port,
        .whole = true,
        .method = PERI_SLICE("POST"),
        .target = peri_slice_str(e->target),
        .fields = e->fields,
        .field_count = e->field_count,
        .body_max_bytes = ANSWER_MAX_BYTES,
        .connect_ms = CONNECT_MS,
        .total_ms = e->timeout_ms,
    };
    peri_buf body;
    int rc;

    peri_buf_init(&body, PERI_EXPORTER_BYTES_MAX * 2);
    rc = peri_otlp_frame_spans(&body, e->format, &e->resource,
                               peri_buf_slice(&b->spans));
    if (rc == 0 && e->gzip) {
        rc = pack(&body);
    }
    options.body = peri_buf_slice(&body);
    if (rc == 0) {
        rc = peri_call_start(e->client, &options, on_event, e, &e->call);
    }
    peri_buf_fini(&body);
    return rc;
}

static void send_next(peri_exporter *e)
{
    while (!peri_list_empty(&e->full)) {
        batch *b = first_full(e);

        b->attempts++;
        if (start_call(e, b) == 0) {
            return;
        }
        e->call = NULL;
        lose(e, "a request that cannot be sent");
    }
    if (e->closing && e->open_handles == 0) {
        uv_timer_start(&e->pause, on_limit, 0, 0);
    }
}

peri_exporter *peri_exporter_create(uv_loop_t *loop, peri_client *client,
                                    const peri_logger *logger,
                                    const peri_exporter_options *options,
                                    const peri_exporter_counts *counts,
                                    const char **why)
{
    peri_exporter *e = peri_calloc(1, sizeof *e);

    *why = read_endpoint(e, options->endpoint);
    if (*why != NULL) {
        free(e->host);
        free(e->target);
        free(e->authority);
        free(e);
        return NULL;
    }
    e->loop = loop;
    e->client = client;
    e->logger = logger;
    e->format = options->format;
    e->gzip = options->gzip;
    e->timeout_ms = options->timeout_ms;
    e->delay_ms = options->delay_ms;
    e->batch_max = options->batch_max;
    e->queue_max = options->queue_max;
    e->counts = *counts;
    set_fields(e, options);
    peri_attributes_init(&e->resource);
    peri_buf_append_slice(&e->resource.packed,
                          peri_buf_slice(&options->resource->packed));
    e->resource.count = options->resource->count;
    peri_list_init(&e->full);
    uv_timer_init(loop, &e->flush);
    uv_timer_init(loop, &e->pause);
    e->flush.data = e;
    e->pause.data = e;
    return e;
}
