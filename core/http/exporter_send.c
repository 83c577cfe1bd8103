/* Exporter: a batch on its way, and what the collector says to it. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "core/base/clock.h"
#include "core/http/date.h"
#include "core/http/exporter_internal.h"

#define ATTEMPTS_MAX 5
#define PAUSE_MS 1000u
#define PAUSE_MAX_MS 300000u /* of what a collector asks for */
#define ANSWER_MAX_BYTES 65536
#define CONNECT_MS 5000u
#define PACK_HERE_BYTES 16384 /* shorter ones are packed at once */

/* ---- the answer ---- */

static void say(const peri_exporter *e, int level, const char *what,
                peri_slice reason, uint64_t items)
{
    char message[64];

    snprintf(message, sizeof message, "%s %s", peri_otlp_signal_name(e->signal),
             what);
    peri_log_fields(
        e->logger, level, message,
        (peri_log_field[]){
            PERI_FIELD_STR("collector", e->target.authority),
            {.key = "reason", .type = PERI_FIELD_STRING, .text = reason},
            PERI_FIELD_NUM("items", items)},
        3);
}

static void lose(peri_exporter *e, peri_slice why)
{
    uint32_t count = peri_exporter_first(e)->count;

    peri_exporter_count(e->counts.failed, count);
    if (!e->ailing) {
        e->ailing = true;
        say(e, PERI_LOG_WARN, "cannot be exported", why, count);
    }
    peri_exporter_batch_done(e);
}

static void on_pause_over(uv_timer_t *timer)
{
    peri_exporter_send_next(timer->data);
}

/* Retry-After: seconds, or a date. -1: none that makes sense. */
static int64_t asked_pause_ms(peri_slice text)
{
    int64_t seconds = 0;
    size_t digits = 0;

    while (digits < text.length && digits < 9 &&
           isdigit((unsigned char)text.data[digits])) {
        seconds = seconds * 10 + (text.data[digits++] - '0');
    }
    if (digits == 0 || digits != text.length) {
        if (peri_date_parse(text, &seconds) != 0) {
            return -1;
        }
        seconds -= (int64_t)(peri_clock_wall_ms() / 1000);
    }
    return seconds <= 0                    ? 0
           : seconds < PAUSE_MAX_MS / 1000 ? seconds * 1000
                                           : PAUSE_MAX_MS;
}

static uint32_t pause_of(const peri_exporter_batch *b, peri_slice retry_after)
{
    int64_t asked_ms =
        retry_after.length != 0 ? asked_pause_ms(retry_after) : -1;
    uint32_t most_ms = PAUSE_MS << (b->attempts - 1);

    /* Workers that began to fail together do not come back together. */
    return asked_ms >= 0
               ? (uint32_t)asked_ms
               : most_ms / 2 + (uint32_t)(uv_hrtime() / 1000 % (most_ms / 2));
}

static void again_or_lose(peri_exporter *e, peri_slice why,
                          peri_slice retry_after)
{
    peri_exporter_batch *b = peri_exporter_first(e);

    if (b->attempts >= ATTEMPTS_MAX || e->closing) {
        lose(e, why);
        return;
    }
    uv_timer_start(&e->pause, on_pause_over, pause_of(b, retry_after), 0);
}

/* A request that came in, or most of it: see partial_success of OTLP. */
static void on_accepted(peri_exporter *e, peri_slice body)
{
    peri_otlp_partial partial = peri_otlp_read_partial(e->format, body);
    uint32_t count = peri_exporter_first(e)->count;
    uint32_t lost =
        partial.rejected < count ? (uint32_t)partial.rejected : count;

    peri_exporter_count(e->counts.exported, count - lost);
    peri_exporter_count(e->counts.failed, lost);
    peri_exporter_batch_done(e);
    if (lost != 0 || partial.message.length != 0) {
        if (!e->ailing) {
            e->ailing = true;
            say(e, PERI_LOG_WARN, "were accepted in part", partial.message,
                lost);
        }
    } else if (e->ailing) {
        e->ailing = false;
        peri_log(e->logger, PERI_LOG_INFO, "%s are exported again",
                 peri_otlp_signal_name(e->signal));
    }
}

static bool may_pass(int status)
{
    return status == 429 || (status >= 502 && status <= 504);
}

static void on_answer(peri_exporter *e, const peri_reply *reply,
                      peri_slice body)
{
    peri_slice said;
    peri_slice reason;
    char why[600];

    if (reply->status >= 200 && reply->status < 300) {
        on_accepted(e, body);
        return;
    }
    said = peri_otlp_read_refusal(e->format, body);
    snprintf(why, sizeof why, "status %d%s%.*s", reply->status,
             said.length != 0 ? ": " : "", (int)said.length,
             said.length != 0 ? said.data : "");
    reason = peri_slice_str(why);
    if (may_pass(reply->status)) {
        again_or_lose(e, reason,
                      peri_reply_field(reply, PERI_SLICE("retry-after")));
    } else {
        lose(e, reason);
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
    /* A status counts, also when too much stands behind it. */
    if (reply != NULL && (fault.rc == 0 || fault.rc == PERI_ELIMIT)) {
        on_answer(e, reply,
                  fault.rc == 0 ? peri_call_body(call) : PERI_SLICE(""));
    } else {
        again_or_lose(
            e,
            peri_slice_str(fault.rc == PERI_ETIMEOUT ? "no answer in time"
                           : fault.detail != NULL    ? fault.detail
                                                     : peri_err_text(fault.rc)),
            PERI_SLICE(""));
    }
    peri_exporter_send_next(e);
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
    peri_buf_init(&out, body->max_bytes);
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

/* 0, or negative and why. */
static int get_identity(peri_exporter *e, peri_client_identity **out, char *why,
                        size_t why_bytes)
{
    const peri_client_identity_options options = {
        .ca = peri_slice_str(e->target.tls_parts[0]),
        .cert = peri_slice_str(e->target.tls_parts[1]),
        .key = peri_slice_str(e->target.tls_parts[2]),
    };

    return e->target.tls ? peri_client_identity_get(e->client, &options, out,
                                                    why, why_bytes)
                         : 0;
}

/* The body is there: to the collector with it. */
static void start_call(peri_exporter *e)
{
    peri_call_options options = {
        .host = peri_slice_str(e->target.host),
        .port = e->target.port,
        .whole = true,
        .method = PERI_SLICE("POST"),
        .target = peri_slice_str(e->target.path),
        .fields = e->target.fields,
        .field_count = e->target.field_count,
        .body = peri_buf_slice(&e->body),
        .body_max_bytes = ANSWER_MAX_BYTES,
        .connect_ms = CONNECT_MS,
        .total_ms = e->timeout_ms,
    };
    char why[256];
    int rc = get_identity(e, &options.identity, why, sizeof why);

    if (rc < 0) { /* files: somebody may mend them */
        peri_exporter_clear(&e->body);
        again_or_lose(e, peri_slice_str(why), PERI_SLICE(""));
        return;
    }
    rc = peri_call_start(e->client, &options, on_event, e, &e->call);
    peri_exporter_clear(&e->body);
    if (rc < 0) {
        e->call = NULL;
        lose(e, PERI_SLICE("a request that cannot be sent"));
    }
}

static void pack_work(uv_work_t *work)
{
    peri_exporter *e = work->data;

    e->pack_rc = pack(&e->body);
}

static void packed(peri_exporter *e)
{
    if (e->pack_rc == 0) {
        start_call(e);
    } else {
        lose(e, PERI_SLICE("a batch that cannot be packed"));
    }
}

static void on_packed(uv_work_t *work, int status)
{
    peri_exporter *e = work->data;

    (void)status;
    e->packing = false;
    if (e->ended) {
        e->ended = false;
        peri_exporter_end(e);
        return;
    }
    packed(e);
    peri_exporter_send_next(e);
}

static void send_first(peri_exporter *e)
{
    peri_exporter_batch *b = peri_exporter_first(e);

    b->attempts++;
    if (peri_otlp_frame(&e->body, e->format, e->signal, &e->resource,
                        peri_buf_slice(&b->items)) != 0) {
        peri_exporter_clear(&e->body);
        lose(e, PERI_SLICE("a batch that is too large"));
    } else if (!e->gzip) {
        start_call(e);
    } else if (e->body.length <= PACK_HERE_BYTES ||
               uv_queue_work(e->loop, &e->work, pack_work, on_packed) != 0) {
        e->pack_rc = pack(&e->body);
        packed(e);
    } else {
        e->packing = true;
    }
}

static bool is_busy(const peri_exporter *e)
{
    return e->call != NULL || e->packing ||
           (!e->closing && uv_is_active((const uv_handle_t *)&e->pause));
}

void peri_exporter_send_next(peri_exporter *e)
{
    while (!is_busy(e) && !peri_list_empty(&e->full)) {
        send_first(e);
    }
    if (e->closing && !is_busy(e)) {
        peri_exporter_end(e);
    }
}
