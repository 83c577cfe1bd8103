/* Client call: one request with its answer, as its owner sees it. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/http/client_internal.h"

#define UNLIMITED (SIZE_MAX / 2)
#define UNPACK_TURN_BYTES 262144
#define SPARE_MAX 64
#define SPARE_MAX_BYTES ((size_t)16 << 10)

/* ---- deadlines ---- */

static void set_deadline(peri_call *call)
{
    uint64_t at_ms = call->total_at_ms;
    uint64_t other_ms = 0;

    if (call->stage <= PERI_CALL_CONNECTING) {
        other_ms = call->connect_at_ms;
    } else if (call->stage == PERI_CALL_SENT) {
        other_ms = call->first_byte_at_ms;
    }
    if (other_ms != 0 && (at_ms == 0 || other_ms < at_ms)) {
        at_ms = other_ms;
    }
    peri_client_timer_stop(&call->timer);
    if (at_ms != 0 && call->stage != PERI_CALL_DONE && call->fault.rc == 0) {
        peri_client_timer_set(call->client, &call->timer, at_ms);
    }
}

static const char *which_deadline(const peri_call *call, uint64_t now_ms)
{
    if (call->total_at_ms != 0 && call->total_at_ms <= now_ms) {
        return "timeout";
    }
    return call->stage <= PERI_CALL_CONNECTING ? "connect_timeout"
                                               : "first_byte_timeout";
}

static void on_timer(peri_client_timer *timer)
{
    peri_call *call = PERI_CONTAINER(timer, peri_call, timer);

    peri_call_fail(call, PERI_ETIMEOUT,
                   which_deadline(call, uv_now(call->client->loop)));
    call->on_event(call->data);
}

void peri_call_set_stage(peri_call *call, peri_call_stage stage)
{
    call->stage = stage;
    if (stage == PERI_CALL_SENT && call->first_byte_ms != 0) {
        call->first_byte_at_ms =
            uv_now(call->client->loop) + call->first_byte_ms;
    }
    if (stage == PERI_CALL_BODY && !call->whole) {
        call->total_at_ms = 0; /* it is the owner's own pace from now on */
    }
    set_deadline(call);
}

void peri_call_set_timeout(peri_call *call, uint32_t timeout_ms)
{
    call->total_at_ms =
        timeout_ms != 0 ? uv_now(call->client->loop) + timeout_ms : 0;
    set_deadline(call);
}

/* ---- telling ---- */

static void on_later(peri_later_entry *entry)
{
    peri_call *call = PERI_CONTAINER(entry, peri_call, later);

    if (call->decoder != NULL) {
        peri_call_pump(call); /* what was left to unpack */
    }
    call->on_event(call->data);
}

void peri_call_notify_later(peri_call *call)
{
    peri_later_call(&call->client->later, &call->later);
}

/* Lets go of the connection, or of the place in the queue. */
static void part(peri_call *call)
{
    if (call->conn != NULL) {
        peri_client_conn *conn = call->conn;

        conn->call = NULL;
        call->conn = NULL;
        peri_client_conn_close(conn);
    }
    if (!peri_list_empty(&call->link)) {
        peri_list_remove(&call->link);
        call->origin->waiting--;
        call->client->stats.waiting--;
    }
}

void peri_call_fail(peri_call *call, int rc, const char *detail)
{
    if (call->fault.rc == 0) {
        call->fault = (peri_call_fault){rc, call->stage, detail};
    }
    peri_client_timer_stop(&call->timer);
    part(call);
}

/* ---- the answer ---- */

void peri_call_on_head(peri_call *call)
{
    const peri_reply *reply = &call->reply;

    if (call->decompress && reply->state != PERI_REPLY_DONE) {
        peri_slice coding =
            peri_reply_field(reply, PERI_SLICE("content-encoding"));

        call->decoder = peri_decoder_create(coding);
    }
    peri_call_set_stage(call, PERI_CALL_BODY);
}

/* How far the body may grow now: of a whole one a part each turn, so that what
 * unpacks to many megabytes holds up nobody else. */
static size_t room_of(const peri_call *call)
{
    uint64_t part = (uint64_t)call->body.length + UNPACK_TURN_BYTES;

    if (!call->whole) {
        return PERI_CLIENT_BODY_HIGH_BYTES;
    }
    return (size_t)(part <= call->body_max_bytes ? part
                                                 : call->body_max_bytes + 1);
}

/* Unpacks until there is no more input, or no more room. */
static int unpack(peri_call *call)
{
    size_t limit = room_of(call);
    peri_slice in = peri_buf_slice(&call->raw);
    bool moved = true;
    int rc = 0;

    while (moved && rc == 0 && call->body.length < limit) {
        size_t in_before = in.length;
        size_t out_before = call->body.length;

        rc = peri_decoder_step(call->decoder, &in, limit - call->body.length,
                               &call->body);
        moved = in.length != in_before || call->body.length != out_before;
    }
    peri_buf_consume(&call->raw, call->raw.length - in.length);
    if (rc == 0 && !moved && call->wire_done) {
        call->unpacked = true;
        rc = peri_decoder_complete(call->decoder) ? 0 : PERI_EFORMAT;
    } else if (rc == 0 && moved && call->whole) {
        peri_call_notify_later(call);
    }
    return rc;
}

static bool too_large(const peri_call *call)
{
    if (!call->whole) {
        return false;
    }
    return call->body.length > call->body_max_bytes ||
           (call->decoder == NULL && call->stage >= PERI_CALL_BODY &&
            call->reply.state == PERI_REPLY_LENGTH &&
            (uint64_t)call->reply.content_length > call->body_max_bytes);
}

void peri_call_pump(peri_call *call)
{
    if (call->fault.rc != 0) {
        return;
    }
    if (call->decoder != NULL && unpack(call) < 0) {
        peri_call_fail(call, PERI_EFORMAT, "the body's coding is malformed");
        return;
    }
    if (too_large(call)) {
        peri_call_fail(call, PERI_ELIMIT, NULL);
        return;
    }
    if (call->conn != NULL) {
        size_t held = call->raw.length + (call->whole ? 0 : call->body.length);

        peri_client_conn_read(call->conn, held < PERI_CLIENT_BODY_HIGH_BYTES);
    }
}

const peri_reply *peri_call_reply(const peri_call *call)
{
    return call->reply.got_head ? &call->reply : NULL;
}

bool peri_call_decoded(const peri_call *call)
{
    return call->decoder != NULL;
}

peri_slice peri_call_body(const peri_call *call)
{
    return peri_buf_slice(&call->body);
}

void peri_call_consume(peri_call *call, size_t length)
{
    peri_buf_consume(&call->body, length);
    peri_call_pump(call);
}

bool peri_call_complete(const peri_call *call)
{
    return call->wire_done && (call->decoder == NULL || call->unpacked);
}

peri_call_fault peri_call_get_fault(const peri_call *call)
{
    return call->fault;
}

/* ---- a streamed body ---- */

static void put(peri_call *call, peri_slice data)
{
    if (call->conn != NULL) {
        peri_client_conn_put(call->conn, data);
    } else if (!peri_list_empty(&call->link)) {
        peri_buf_append_slice(&call->request, data);
    }
}

int peri_call_write(peri_call *call, peri_slice data)
{
    char size[20];
    int length;

    if (call->fault.rc != 0 || call->wire_done ||
        (call->conn != NULL && call->conn->broken)) {
        return PERI_EGONE;
    }
    if (data.length > 0) {
        length = snprintf(size, sizeof size, "%zx\r\n", data.length);
        put(call, peri_slice_of(size, (size_t)length));
        put(call, data);
        put(call, PERI_SLICE("\r\n"));
    }
    if (peri_call_writable(call)) {
        return 0;
    }
    call->waits_drain = true;
    return PERI_EAGAIN;
}

bool peri_call_writable(const peri_call *call)
{
    if (call->fault.rc != 0 || call->wire_done) {
        return true; /* and be told so */
    }
    if (call->conn == NULL) {
        return call->request.length < PERI_CLIENT_OUT_HIGH_BYTES;
    }
    return call->conn->broken ||
           peri_client_conn_pending(call->conn) < PERI_CLIENT_OUT_HIGH_BYTES;
}

void peri_call_finish(peri_call *call)
{
    if (call->streams_body && !call->body_finished) {
        put(call, PERI_SLICE("0\r\n\r\n"));
        call->body_finished = true;
    }
}

/* ---- life ---- */

/* With the memory of one that has ended, where there is one. */
static peri_call *call_alloc(peri_client *client)
{
    peri_call *call;

    if (peri_list_empty(&client->spare)) {
        call = peri_calloc(1, sizeof *call);
        peri_reply_init(&call->reply);
        peri_buf_init(&call->request, UNLIMITED);
        peri_buf_init(&call->raw, UNLIMITED);
        peri_buf_init(&call->body, UNLIMITED);
        return call;
    }
    call = PERI_CONTAINER(client->spare.next, peri_call, link);
    peri_list_remove(&call->link);
    client->spare_count--;
    return call;
}

static void buffers_fini(peri_call *call)
{
    peri_reply_fini(&call->reply);
    peri_buf_fini(&call->request);
    peri_buf_fini(&call->raw);
    peri_buf_fini(&call->body);
}

/* Keeps its small buffers for the next one. */
static void call_release(peri_call *call)
{
    peri_client *client = call->client;
    peri_call clean = {.reply = call->reply,
                       .request = call->request,
                       .raw = call->raw,
                       .body = call->body};

    if (client->closing || client->spare_count == SPARE_MAX ||
        call->request.capacity + call->raw.capacity + call->body.capacity +
                call->reply.head.capacity >
            SPARE_MAX_BYTES) {
        buffers_fini(call);
        free(call);
        return;
    }
    *call = clean;
    peri_buf_clear(&call->request);
    peri_buf_clear(&call->raw);
    peri_buf_clear(&call->body);
    peri_reply_reset(&call->reply, false);
    peri_list_init(&call->link);
    peri_list_prepend(&client->spare, &call->link);
    client->spare_count++;
}

void peri_call_drop_spare(peri_client *client)
{
    while (!peri_list_empty(&client->spare)) {
        peri_call *call = PERI_CONTAINER(client->spare.next, peri_call, link);

        peri_list_remove(&call->link);
        buffers_fini(call);
        free(call);
    }
    client->spare_count = 0;
}

static peri_call *call_create(peri_client *client, const peri_call_options *o)
{
    static const char *const idempotent[] = {
        "GET", "HEAD", "PUT", "DELETE", "TRACE", "OPTIONS", NULL};
    peri_call *call = call_alloc(client);

    call->client = client;
    call->head_request = peri_slice_equal(o->method, PERI_SLICE("HEAD"));
    call->idempotent = peri_call_method_in(o->method, idempotent);
    call->decompress = o->decompress;
    call->whole = o->whole;
    call->streams_body = o->streams_body;
    call->body_finished = !o->streams_body;
    call->body_max_bytes =
        o->body_max_bytes < UNLIMITED ? o->body_max_bytes : UNLIMITED - 1;
    peri_list_init(&call->link);
    peri_client_timer_init(&call->timer, on_timer);
    peri_later_entry_init(&call->later, on_later);
    return call;
}

/* Whether the call would have to wait, and there is no room for that. */
static bool queue_full(const peri_origin *origin)
{
    const peri_client_limits *limits = &origin->client->limits;

    return peri_list_empty(&origin->idle) &&
           (uint64_t)origin->open + origin->waiting >=
               (uint64_t)limits->connections + limits->waiting;
}

int peri_call_start(peri_client *client, const peri_call_options *options,
                    void (*on_event)(void *data), void *data, peri_call **out)
{
    uint64_t now_ms = uv_now(client->loop);
    peri_call *call;

    if (options->prepared.length == 0 && !peri_call_is_sound(options)) {
        return PERI_EFORMAT;
    }
    call = call_create(client, options);
    call->on_event = on_event;
    call->data = data;
    call->origin = peri_origin_get(client, options);
    call->first_byte_ms = options->first_byte_ms;
    call->connect_at_ms =
        options->connect_ms != 0 ? now_ms + options->connect_ms : 0;
    call->total_at_ms = options->total_ms != 0 ? now_ms + options->total_ms : 0;
    *out = call;
    peri_call_write_request(call, options);
    set_deadline(call);
    if (queue_full(call->origin)) {
        peri_call_fail(call, PERI_ELIMIT, NULL);
        peri_call_notify_later(call);
        return 0;
    }
    peri_list_append(&call->origin->waiters, &call->link);
    call->origin->waiting++;
    client->stats.waiting++;
    peri_origin_serve(call->origin);
    return 0;
}

void peri_call_destroy(peri_call *call)
{
    if (call == NULL) {
        return;
    }
    peri_later_cancel(&call->later);
    peri_client_timer_stop(&call->timer);
    part(call);
    peri_decoder_destroy(call->decoder);
    peri_origin_unref(call->origin);
    call_release(call);
}
