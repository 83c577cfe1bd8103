/* Exchange: what does not depend on the transport, and the checks before what
 * does. */
#include "core/http/exchange.h"

#include <assert.h>
#include <stdio.h>

#include "core/http/compress.h"
#include "core/http/condition.h"
#include "core/http/exchange_ops.h"
#include "core/http/response.h"
#include "core/http/scan_text.h"

#define ARENA_BLOCK_BYTES 4096
#define GAVE_UP 1 /* a refusal: if the request's time is over, 408 */

void peri_exchange_init(peri_exchange *ex, const peri_exchange_ops *ops,
                        const char *data, const peri_head *head,
                        uint32_t head_bytes)
{
    ex->head = data;
    ex->fields = head->fields;
    ex->field_count = head->field_count;
    ex->method = head->method;
    ex->version_minor = head->version_minor;
    ex->method_text = head->method_text;
    ex->target = head->target;
    ex->path = head->path;
    ex->query = head->query;
    ex->content_length = head->content_length;
    ex->has_body = head->chunked || head->content_length > 0;
    ex->body_complete = !ex->has_body;
    ex->is_tls = false;
    ex->gone = false;
    ex->cut = false;
    ex->begun = false;
    ex->ended = false;
    ex->status = 0;
    ex->sent_bytes = 0;
    ex->user = NULL;
    ex->route = NULL;
    ex->refs = 1;
    ex->id_field = head->request_id;
    ex->kept = false;
    ex->refusal = 0;
    ex->id_length = 0;
    ex->head_bytes = head_bytes;
    ex->keep_alive = head->keep_alive;
    ex->ops = ops;
    ex->body = (peri_slice){NULL, 0};
    ex->reader.fn = NULL;
    ex->drain.fn = NULL;
    ex->request_id[0] = '\0';
}

/* ---- the request ---- */

peri_slice peri_exchange_field(const peri_exchange *ex, peri_slice name)
{
    for (uint16_t i = 0; i < ex->field_count; i++) {
        if (ex->fields[i].name.length == name.length &&
            peri_slice_equal_nocase(peri_exchange_text(ex, ex->fields[i].name),
                                    name)) {
            return peri_exchange_text(ex, ex->fields[i].value);
        }
    }
    return (peri_slice){NULL, 0};
}

peri_slice peri_exchange_remote(peri_exchange *ex)
{
    return ex->ops->remote(ex);
}

const struct peri_tls *peri_exchange_tls(peri_exchange *ex)
{
    return ex->ops->tls != NULL ? ex->ops->tls(ex) : NULL;
}

static bool id_is_sane(peri_slice id)
{
    if (id.length == 0 || id.length >= sizeof((peri_exchange *)0)->request_id) {
        return false;
    }
    for (size_t i = 0; i < id.length; i++) {
        if (!peri_char_is(id.data[i], PERI_CHAR_ID)) {
            return false;
        }
    }
    return true;
}

peri_slice peri_exchange_id(peri_exchange *ex)
{
    if (ex->id_length == 0 && ex->id_field != PERI_SCAN_NONE) {
        peri_slice id = peri_exchange_text(ex, ex->fields[ex->id_field].value);

        if (id_is_sane(id)) {
            memcpy(ex->request_id, id.data, id.length);
            ex->request_id[id.length] = '\0';
            ex->id_length = (uint8_t)id.length;
        }
    }
    if (ex->id_length == 0) {
        ex->ops->make_id(ex);
    }
    return peri_slice_of(ex->request_id, ex->id_length);
}

peri_arena *peri_exchange_arena(peri_exchange *ex)
{
    if (ex->arena == NULL) {
        ex->arena = peri_arena_create(ARENA_BLOCK_BYTES);
    }
    return ex->arena;
}

peri_slice peri_exchange_error_type(const peri_exchange *ex, char text[8])
{
    if (ex->gone) {
        return PERI_SLICE("aborted");
    }
    if (ex->cut) {
        return PERI_SLICE("cut_off");
    }
    snprintf(text, 8, "%u", ex->status);
    return peri_slice_str(ex->status >= 500 ? text : "");
}

void peri_exchange_keep(peri_exchange *ex)
{
    peri_arena *arena;

    if (ex->kept) {
        return;
    }
    ex->kept = true;
    arena = peri_exchange_arena(ex);
    ex->head = peri_arena_copy(arena, ex->head, ex->head_bytes);
    if (ex->body.length != 0) {
        ex->body.data = peri_arena_copy(arena, ex->body.data, ex->body.length);
    }
}

void peri_exchange_ref(peri_exchange *ex)
{
    ex->refs++;
}

void peri_exchange_unref(peri_exchange *ex)
{
    assert(ex->refs > 0);
    if (--ex->refs == 0) {
        ex->ops->release(ex);
    }
}

/* ---- the body ---- */

int peri_exchange_body_limit(peri_exchange *ex, uint64_t max_bytes)
{
    if (ex->content_length > 0 && (uint64_t)ex->content_length > max_bytes) {
        return PERI_ELIMIT;
    }
    return ex->ops->body_limit(ex, max_bytes);
}

peri_slice peri_exchange_body(peri_exchange *ex)
{
    return ex->body;
}

static void read_start(peri_exchange *ex, bool whole, peri_body_fn fn,
                       void *data)
{
    assert(ex->reader.fn == NULL);
    ex->reader.fn = fn;
    ex->reader.data = data;
    ex->reader.whole = whole;
    ex->ops->read(ex);
}

void peri_exchange_read_all(peri_exchange *ex, peri_body_fn fn, void *data)
{
    read_start(ex, true, fn, data);
}

void peri_exchange_read_chunk(peri_exchange *ex, peri_body_fn fn, void *data)
{
    read_start(ex, false, fn, data);
}

void peri_exchange_read_cancel(peri_exchange *ex)
{
    if (ex->reader.fn != NULL && ex->refusal == 0) {
        ex->refusal = GAVE_UP;
    }
    ex->reader.fn = NULL;
}

static uint16_t refusal_of(int rc)
{
    switch (rc) {
    case PERI_EFORMAT:
        return 400;
    case PERI_ELIMIT:
        return 413;
    case PERI_ETIMEOUT:
        return 408;
    default:
        return 0;
    }
}

void peri_exchange_tell_reader(peri_exchange *ex, int rc, peri_slice chunk)
{
    peri_body_fn fn = ex->reader.fn;

    if (fn != NULL) {
        ex->reader.fn = NULL;
        ex->refusal = refusal_of(rc);
        fn(ex->reader.data, rc, chunk);
    }
}

/* ---- the answer ---- */

static bool can_begin(const peri_exchange *ex)
{
    return !ex->gone && !ex->begun;
}

static peri_slice instance_of(peri_exchange *ex)
{
    return ex->path.length != 0 ? peri_exchange_text(ex, ex->path)
                                : PERI_SLICE("/");
}

void peri_exchange_problem(peri_exchange *ex, int status, peri_slice detail,
                           const peri_field *fields, size_t field_count)
{
    peri_buf body;

    if (!can_begin(ex)) {
        return;
    }
    peri_buf_init(&body, SIZE_MAX);
    peri_problem_write(&body, status, detail, instance_of(ex),
                       peri_exchange_id(ex));
    ex->ops->answer(ex, status, PERI_SLICE("application/problem+json"), fields,
                    field_count, peri_buf_slice(&body));
    peri_buf_fini(&body);
}

/* True when the host has answered instead: see peri_exchange_answer. */
static bool refuse_instead(peri_exchange *ex, int status)
{
    static const peri_slice why[] = {
        {"the body is malformed", 21},
        {"the body did not come in time", 29},
        {"the body is too large", 21},
    };

    if (ex->refusal == 0 || (status >= 400 && status < 500) ||
        (ex->refusal == GAVE_UP && status != 504)) {
        return false;
    }
    if (ex->refusal == GAVE_UP) {
        ex->refusal = 408;
    }
    peri_exchange_problem(ex, ex->refusal,
                          why[ex->refusal == 400   ? 0
                              : ex->refusal == 408 ? 1
                                                   : 2],
                          NULL, 0);
    return true;
}

void peri_exchange_answer(peri_exchange *ex, int status,
                          peri_slice content_type, const peri_field *fields,
                          size_t field_count, peri_slice body)
{
    if (status == 205) { /* tells to begin anew; has no content, RFC 9110 */
        body = (peri_slice){NULL, 0};
    }
    if (!can_begin(ex) || refuse_instead(ex, status) ||
        (field_count != 0 && status == 200 &&
         peri_condition_answer(ex, content_type, fields, field_count,
                               (int64_t)body.length))) {
        return;
    }
    if (body.length < PERI_COMPRESS_FLOOR_BYTES ||
        !peri_compress_answer(ex, status, content_type, fields, field_count,
                              body)) {
        ex->ops->answer(ex, status, content_type, fields, field_count, body);
    }
}

void peri_exchange_begin(peri_exchange *ex, int status,
                         const peri_field *fields, size_t field_count,
                         int64_t length)
{
    if (can_begin(ex) && !refuse_instead(ex, status) &&
        !(status == 200 &&
          peri_condition_answer(ex, (peri_slice){NULL, 0}, fields, field_count,
                                length)) &&
        !peri_compress_begin(ex, status, fields, field_count, length)) {
        ex->ops->begin(ex, status, fields, field_count, length);
    }
}

int peri_exchange_write(peri_exchange *ex, peri_slice chunk)
{
    if (ex->gone || ex->ended || !ex->begun) {
        return PERI_EGONE;
    }
    if (chunk.length == 0) {
        return 0;
    }
    return ex->encoding != NULL ? peri_compress_write(ex, chunk)
                                : ex->ops->write(ex, chunk);
}

void peri_exchange_on_drain(peri_exchange *ex, void (*fn)(void *data, int rc),
                            void *data)
{
    ex->drain.fn = fn;
    ex->drain.data = data;
    ex->ops->drain(ex);
}

void peri_exchange_drain_cancel(peri_exchange *ex)
{
    ex->drain.fn = NULL;
}

void peri_exchange_tell_drain(peri_exchange *ex, int rc)
{
    void (*fn)(void *, int) = ex->drain.fn;

    if (fn != NULL) {
        ex->drain.fn = NULL;
        fn(ex->drain.data, rc);
    }
}

void peri_exchange_end(peri_exchange *ex)
{
    if (ex->gone || ex->ended || !ex->begun) {
        return;
    }
    if (ex->encoding != NULL) {
        peri_compress_end(ex);
    } else {
        ex->ops->end(ex);
    }
}

bool peri_exchange_take_back(peri_exchange *ex)
{
    if (ex->gone || ex->ended || !ex->begun || !ex->ops->take_back(ex)) {
        return false;
    }
    peri_compress_drop(ex);
    ex->begun = false;
    ex->status = 0;
    return true;
}

void peri_exchange_abort(peri_exchange *ex)
{
    if (!ex->gone && !ex->ended) {
        peri_compress_drop(ex);
        ex->ops->abort(ex);
    }
}

void peri_exchange_tell_gone(peri_exchange *ex, const peri_http_app *app,
                             int rc)
{
    ex->gone = true;
    if (ex->status == 0) {
        ex->status = 499;
    }
    peri_compress_drop(ex);
    app->on_gone(app->data, ex);
    peri_exchange_tell_reader(ex, rc, (peri_slice){NULL, 0});
    peri_exchange_tell_drain(ex, rc);
    if (app->on_done != NULL) {
        app->on_done(app->data, ex);
    }
}
