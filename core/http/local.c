/* Local: the request is written out and scanned as one off the wire would be,
 * so that both are judged alike; the answer is collected. */
#include "core/http/local.h"

#include <stdlib.h>
#include <sys/random.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/text_code.h"
#include "core/http/date.h"
#include "core/http/exchange_ops.h"
#include "core/http/response.h"
#include "core/loop/later.h"

#define FIELDS_MAX 1000
#define HEAD_MAX_BYTES (1 << 20)
#define ANSWER_MAX_BYTES ((size_t)1 << 30)
/* Of the request: Host, Content-Length. */
#define ADDED_FIELDS 2
/* Of the answer: Date, X-Request-Id, Content-Type, Content-Length. */
#define OWN_FIELDS 4

typedef struct local {
    peri_exchange base;
    peri_http_app app;
    peri_later later;
    peri_later_entry entry;
    peri_buf head; /* as it would come over the wire */
    peri_buf body; /* of the request */
    peri_buf out;  /* of the answer */
    peri_field *fields_out;
    size_t fields_out_count;
    bool taken;    /* the body was given to a reader of chunks */
    bool answered; /* on_answer was called */
    char *remote;
    void (*on_answer)(void *data, const peri_local_answer *a);
    void *data;
    uint16_t field_room;
    peri_head_field fields[];
} local;

static local *of(peri_exchange *base)
{
    return (local *)(void *)base;
}

/* ---- the request ---- */

static bool has_field(const peri_local_request *request, const char *name)
{
    for (size_t i = 0; i < request->field_count; i++) {
        if (peri_slice_equal_nocase(request->fields[i].name,
                                    peri_slice_str(name))) {
            return true;
        }
    }
    return false;
}

static bool is_text(peri_slice text)
{
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static int head_write(local *l, const peri_local_request *request)
{
    static const char padding[PERI_SCAN_PADDING] = "";

    if (!is_text(request->method) || !is_text(request->target)) {
        return PERI_EFORMAT;
    }
    peri_buf_append_slice(&l->head, request->method);
    peri_buf_append_byte(&l->head, ' ');
    peri_buf_append_slice(&l->head, request->target);
    peri_buf_append_str(&l->head, " HTTP/1.1\r\n");
    if (!has_field(request, "host")) {
        peri_buf_append_str(&l->head, "Host: localhost\r\n");
    }
    if (!has_field(request, "content-length") && request->body.length != 0) {
        peri_buf_append_str(&l->head, "Content-Length: ");
        peri_buf_append_u64(&l->head, request->body.length);
        peri_buf_append_str(&l->head, "\r\n");
    }
    for (size_t i = 0; i < request->field_count; i++) {
        if (!is_text(request->fields[i].name) ||
            !is_text(request->fields[i].value)) {
            return PERI_EFORMAT;
        }
        peri_buf_append_slice(&l->head, request->fields[i].name);
        peri_buf_append_str(&l->head, ": ");
        peri_buf_append_slice(&l->head, request->fields[i].value);
        peri_buf_append_str(&l->head, "\r\n");
    }
    peri_buf_append_str(&l->head, "\r\n");
    return peri_buf_append(&l->head, padding, sizeof padding);
}

static int head_scan(local *l, const peri_local_request *request,
                     peri_head *head)
{
    const peri_scan_limits limits = {HEAD_MAX_BYTES, HEAD_MAX_BYTES / 2,
                                     l->field_room, false};
    size_t length;
    int64_t body_bytes;

    if (head_write(l, request) < 0) {
        return PERI_EFORMAT;
    }
    length = l->head.length - PERI_SCAN_PADDING;
    head->fields = l->fields;
    if (peri_scan_head(l->head.data, length, &limits, head) != (int)length ||
        head->chunked) {
        return PERI_EFORMAT;
    }
    body_bytes = head->content_length > 0 ? head->content_length : 0;
    return (uint64_t)body_bytes == request->body.length ? 0 : PERI_EFORMAT;
}

/* ---- the answer ---- */

static void add(local *l, peri_slice name, peri_slice value)
{
    peri_arena *arena = peri_exchange_arena(&l->base);

    l->fields_out[l->fields_out_count++] = (peri_field){
        {peri_arena_copy(arena, name.data, name.length), name.length},
        {peri_arena_copy(arena, value.data, value.length), value.length},
    };
}

static void add_own(local *l, int64_t length, bool has_body)
{
    char date[PERI_DATE_BYTES];
    char digits[20];

    peri_date_write(date, (int64_t)(peri_clock_wall_ms() / 1000));
    add(l, PERI_SLICE("Date"), peri_slice_of(date, sizeof date));
    add(l, PERI_SLICE("X-Request-Id"), peri_exchange_id(&l->base));
    if (length >= 0 && has_body) {
        const char *end = peri_digits_write(digits, (uint64_t)length);

        add(l, PERI_SLICE("Content-Length"),
            peri_slice_of(digits, (size_t)(end - digits)));
    }
}

static void head_out(local *l, int status, peri_slice content_type,
                     const peri_field *fields, size_t field_count,
                     int64_t length)
{
    peri_arena *arena = peri_exchange_arena(&l->base);

    l->base.status = (uint16_t)status;
    l->base.begun = true;
    l->fields_out = peri_arena_alloc(arena, (field_count + OWN_FIELDS) *
                                                sizeof *l->fields_out);
    add_own(l, length, peri_status_has_body(status));
    for (size_t i = 0; i < field_count; i++) {
        if (peri_response_takes(&fields[i])) {
            add(l, fields[i].name, fields[i].value);
        }
        if (peri_slice_equal_nocase(fields[i].name,
                                    PERI_SLICE("content-type"))) {
            content_type.length = 0;
        }
    }
    if (content_type.length != 0) {
        add(l, PERI_SLICE("Content-Type"), content_type);
    }
}

static bool sends_body(const local *l)
{
    return l->base.method != PERI_METHOD_HEAD &&
           peri_status_has_body(l->base.status);
}

static void answer_done(local *l)
{
    l->base.ended = true;
    if (l->app.on_done != NULL) {
        l->app.on_done(l->app.data, &l->base);
    }
    peri_later_call(&l->later, &l->entry);
}

static void op_answer(peri_exchange *base, int status, peri_slice content_type,
                      const peri_field *fields, size_t field_count,
                      peri_slice body)
{
    local *l = of(base);

    head_out(l, status, content_type, fields, field_count,
             (int64_t)body.length);
    if (sends_body(l)) {
        peri_buf_append_slice(&l->out, body);
        base->sent_bytes = body.length;
    }
    answer_done(l);
}

static void op_begin(peri_exchange *base, int status, const peri_field *fields,
                     size_t field_count, int64_t length)
{
    head_out(of(base), status, (peri_slice){NULL, 0}, fields, field_count,
             length);
}

static int op_write(peri_exchange *base, peri_slice chunk)
{
    local *l = of(base);

    if (!sends_body(l)) {
        return 0;
    }
    if (peri_buf_append_slice(&l->out, chunk) < 0) {
        peri_exchange_abort(base);
        return PERI_EGONE;
    }
    base->sent_bytes += chunk.length;
    return 0;
}

static void op_later(peri_exchange *base)
{
    peri_later_call(&of(base)->later, &of(base)->entry);
}

static bool op_take_back(peri_exchange *base)
{
    local *l = of(base);

    if (l->out.length != 0) {
        return false;
    }
    l->fields_out_count = 0;
    return true;
}

static void op_end(peri_exchange *base)
{
    answer_done(of(base));
}

static void op_abort(peri_exchange *base)
{
    base->begun = true;
    base->cut = true;
    answer_done(of(base));
}

/* ---- the rest ---- */

static peri_slice op_remote(peri_exchange *base)
{
    return peri_slice_str(of(base)->remote);
}

static void op_make_id(peri_exchange *base)
{
    uint64_t random = 0;

    if (getrandom(&random, sizeof random, 0) < 0) {
        random = peri_clock_monotonic_ns();
    }
    peri_hex_encode(&random, sizeof random, base->request_id);
    base->id_length = 2 * sizeof random;
}

/* Nothing goes over a wire. */
static const struct peri_compression *op_compression(peri_exchange *base,
                                                     uv_loop_t **loop)
{
    (void)base;
    (void)loop;
    return NULL;
}

static int op_body_limit(peri_exchange *base, uint64_t max_bytes)
{
    return of(base)->body.length > max_bytes ? PERI_ELIMIT : 0;
}

static void on_closed(void *data)
{
    local *l = data;

    peri_arena_destroy(l->base.arena);
    peri_buf_fini(&l->head);
    peri_buf_fini(&l->body);
    peri_buf_fini(&l->out);
    free(l->remote);
    free(l);
}

static void op_release(peri_exchange *base)
{
    peri_later_close(&of(base)->later, on_closed, of(base));
}

static void tell_answer(local *l)
{
    peri_local_answer answer = {.status = 0};

    l->answered = true;
    if (!l->base.cut) {
        answer = (peri_local_answer){
            .status = l->base.status,
            .fields = l->fields_out,
            .field_count = l->fields_out_count,
            .body = peri_buf_slice(&l->out),
        };
    }
    l->on_answer(l->data, &answer);
}

static void on_later(peri_later_entry *entry)
{
    local *l = PERI_CONTAINER(entry, local, entry);
    peri_exchange *base = &l->base;

    peri_exchange_ref(base);
    if (base->reader.fn != NULL) {
        peri_slice rest = base->body;

        if (base->reader.whole || l->taken) {
            rest = (peri_slice){NULL, 0};
        }
        l->taken = true;
        peri_exchange_tell_reader(base, base->ended ? PERI_EGONE : 0, rest);
    }
    peri_exchange_tell_drain(base, base->ended ? PERI_EGONE : 0);
    if (base->ended && !l->answered) {
        tell_answer(l);
        peri_exchange_unref(base); /* the transport's */
    }
    peri_exchange_unref(base);
}

static const peri_exchange_ops ops = {
    .remote = op_remote,
    .make_id = op_make_id,
    .compression = op_compression,
    .body_limit = op_body_limit,
    .read = op_later,
    .answer = op_answer,
    .begin = op_begin,
    .write = op_write,
    .drain = op_later,
    .take_back = op_take_back,
    .end = op_end,
    .abort = op_abort,
    .release = op_release,
};

int peri_local_start(uv_loop_t *loop, const peri_http_app *app,
                     const peri_local_request *request,
                     void (*on_answer)(void *data, const peri_local_answer *a),
                     void *data)
{
    size_t room = request->field_count + ADDED_FIELDS;
    peri_head head;
    local *l;
    int rc;

    if (request->field_count > FIELDS_MAX) {
        return PERI_EFORMAT;
    }
    l = peri_calloc(1, sizeof *l + room * sizeof l->fields[0]);
    l->field_room = (uint16_t)room;
    peri_buf_init(&l->head, HEAD_MAX_BYTES);
    peri_buf_init(&l->body, SIZE_MAX);
    peri_buf_init(&l->out, ANSWER_MAX_BYTES);
    rc = head_scan(l, request, &head);
    if (rc < 0) {
        peri_buf_fini(&l->head);
        free(l);
        return rc;
    }
    peri_buf_append_slice(&l->body, request->body);
    l->remote = request->remote.length != 0
                    ? peri_strndup(request->remote.data, request->remote.length)
                    : peri_strdup("127.0.0.1");
    l->app = *app;
    l->on_answer = on_answer;
    l->data = data;
    peri_later_init(&l->later, loop);
    peri_later_entry_init(&l->entry, on_later);
    peri_exchange_init(&l->base, &ops, l->head.data, &head,
                       (uint32_t)l->head.length);
    l->base.started_ns = peri_clock_monotonic_ns();
    l->base.kept = true; /* all of it lies here for as long */
    l->base.body = peri_buf_slice(&l->body);
    l->base.body_complete = true;
    app->on_request(app->data, &l->base);
    return 0;
}
