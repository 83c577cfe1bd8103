/* Compress: see the header. */
#include "core/http/compress.h"

#include <stdlib.h>
#include <uv.h>

#include "core/base/alloc.h"
#include "core/http/encoder.h"
#include "core/http/exchange_ops.h"
#include "core/http/response.h"

/* Longer bodies would hold the loop up for too long. */
#define INLINE_MAX_BYTES 32768
/* Vary, Content-Encoding. */
#define OWN_FIELDS 2

struct peri_encoding {
    peri_encoder *encoder;
    peri_buf out;
    int64_t left; /* of the bytes that were promised; -1: none were */
};

typedef struct job {
    uv_work_t work;
    peri_exchange *ex; /* a reference */
    int status;
    peri_slice content_type;
    peri_compress_plan plan;
    peri_buf in;
    peri_buf out;
    int rc;
} job;

/* ---- what the fields say ---- */

typedef struct facts {
    peri_slice content_type;
    bool fixed;  /* coded already, a part of something, or not to be touched */
    bool varies; /* says so itself */
} facts;

static bool name_is(const peri_field *field, peri_slice name)
{
    return peri_slice_equal_nocase(field->name, name);
}

static bool mentions(peri_slice text, peri_slice word)
{
    while (text.length >= word.length) {
        if (strncasecmp(text.data, word.data, word.length) == 0) {
            return true;
        }
        text.data++;
        text.length--;
    }
    return false;
}

static void look_at(facts *f, const peri_field *field)
{
    switch (field->name.length) {
    case 4:
        f->varies = f->varies ||
                    (name_is(field, PERI_SLICE("vary")) &&
                     (mentions(field->value, PERI_SLICE("accept-encoding")) ||
                      peri_slice_equal(field->value, PERI_SLICE("*"))));
        break;
    case 12:
        if (name_is(field, PERI_SLICE("content-type"))) {
            f->content_type = field->value;
        }
        break;
    case 13:
        f->fixed = f->fixed || name_is(field, PERI_SLICE("content-range")) ||
                   (name_is(field, PERI_SLICE("cache-control")) &&
                    mentions(field->value, PERI_SLICE("no-transform")));
        break;
    case 16:
        f->fixed = f->fixed || name_is(field, PERI_SLICE("content-encoding"));
        break;
    default:
        break;
    }
}

/* The same entity in other bytes: RFC 9110, section 8.8.3.3. */
static void weaken(peri_arena *arena, peri_field *field)
{
    char *tag;

    if (!name_is(field, PERI_SLICE("etag")) ||
        peri_slice_starts(field->value, PERI_SLICE("W/"))) {
        return;
    }
    tag = peri_arena_alloc(arena, field->value.length + 2);
    memcpy(tag, "W/", 2);
    memcpy(tag + 2, field->value.data, field->value.length);
    field->value = peri_slice_of(tag, field->value.length + 2);
}

static void fields_make(peri_exchange *ex, const peri_field *fields,
                        size_t count, bool varies, peri_compress_plan *out)
{
    peri_arena *arena = peri_exchange_arena(ex);

    out->fields =
        peri_arena_alloc(arena, (count + OWN_FIELDS) * sizeof *out->fields);
    if (count != 0) {
        memcpy(out->fields, fields, count * sizeof *fields);
    }
    out->field_count = count;
    if (!varies) {
        out->fields[out->field_count++] =
            (peri_field){PERI_SLICE("Vary"), PERI_SLICE("Accept-Encoding")};
    }
    if (out->coding == PERI_CODING_IDENTITY) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        weaken(arena, &out->fields[i]);
    }
    out->fields[out->field_count++] = (peri_field){
        PERI_SLICE("Content-Encoding"), peri_coding_name(out->coding)};
}

bool peri_compress_plan_make(peri_exchange *ex, int status,
                             peri_slice content_type, const peri_field *fields,
                             size_t field_count, int64_t length,
                             peri_compress_plan *out)
{
    const peri_compression *compression = ex->ops->compression(ex, NULL);
    facts f = {.content_type = content_type};
    peri_coding accepted[PERI_CODINGS_MAX];

    if (compression == NULL || compression->count == 0 ||
        (length >= 0 && length < compression->min_bytes) || status == 206 ||
        !peri_status_has_body(status)) {
        return false;
    }
    for (size_t i = 0; i < field_count; i++) {
        look_at(&f, &fields[i]);
    }
    if (f.fixed || !peri_coding_helps(f.content_type)) {
        return false;
    }
    out->coding = PERI_CODING_IDENTITY;
    out->level = compression->level;
    if (peri_coding_accepted(compression, ex, accepted) != 0) {
        out->coding = accepted[0];
    }
    fields_make(ex, fields, field_count, f.varies, out);
    return true;
}

/* ---- whole answers ---- */

/* rc < 0: the coded body would not be shorter. */
static void send_whole(peri_exchange *ex, int status, peri_slice content_type,
                       const peri_compress_plan *plan, int rc, peri_slice coded,
                       peri_slice body)
{
    ex->ops->answer(ex, status, content_type, plan->fields,
                    plan->field_count - (rc < 0), rc < 0 ? body : coded);
}

static void on_work(uv_work_t *work)
{
    job *j = work->data;

    j->rc = peri_encode(j->plan.coding, j->plan.level, peri_buf_slice(&j->in),
                        &j->out);
}

static void on_worked(uv_work_t *work, int status)
{
    job *j = work->data;
    peri_exchange *ex = j->ex;

    if (!ex->gone) {
        ex->begun = false;
        send_whole(ex, j->status, j->content_type, &j->plan,
                   status < 0 ? PERI_ELIMIT : j->rc, peri_buf_slice(&j->out),
                   peri_buf_slice(&j->in));
    }
    peri_buf_fini(&j->in);
    peri_buf_fini(&j->out);
    free(j);
    peri_exchange_unref(ex);
}

static peri_slice keep(peri_arena *arena, peri_slice text)
{
    return peri_slice_of(peri_arena_copy(arena, text.data, text.length),
                         text.length);
}

static void send_later(peri_exchange *ex, uv_loop_t *loop, int status,
                       peri_slice content_type, const peri_compress_plan *plan,
                       peri_slice body)
{
    peri_arena *arena = peri_exchange_arena(ex);
    job *j = peri_calloc(1, sizeof *j);

    j->work.data = j;
    j->ex = ex;
    j->status = status;
    j->content_type = keep(arena, content_type);
    j->plan = *plan;
    for (size_t i = 0; i < plan->field_count; i++) {
        plan->fields[i].name = keep(arena, plan->fields[i].name);
        plan->fields[i].value = keep(arena, plan->fields[i].value);
    }
    peri_buf_init(&j->in, SIZE_MAX);
    peri_buf_append_slice(&j->in, body);
    peri_buf_init(&j->out, body.length);
    peri_exchange_ref(ex); /* dropped by on_worked */
    ex->begun = true;      /* nobody else may answer */
    if (uv_queue_work(loop, &j->work, on_work, on_worked) < 0) {
        on_worked(&j->work, -1);
    }
}

bool peri_compress_answer(peri_exchange *ex, int status,
                          peri_slice content_type, const peri_field *fields,
                          size_t field_count, peri_slice body)
{
    peri_compress_plan plan;
    uv_loop_t *loop;
    peri_buf out;
    int rc;

    if (!peri_compress_plan_make(ex, status, content_type, fields, field_count,
                                 (int64_t)body.length, &plan)) {
        return false;
    }
    ex->ops->compression(ex, &loop);
    if (plan.coding == PERI_CODING_IDENTITY) {
        send_whole(ex, status, content_type, &plan, 0, body, body);
        return true;
    }
    if (body.length > INLINE_MAX_BYTES) {
        send_later(ex, loop, status, content_type, &plan, body);
        return true;
    }
    peri_buf_init(&out, body.length);
    rc = peri_encode(plan.coding, plan.level, body, &out);
    send_whole(ex, status, content_type, &plan, rc, peri_buf_slice(&out), body);
    peri_buf_fini(&out);
    return true;
}

/* ---- streams ---- */

bool peri_compress_begin(peri_exchange *ex, int status,
                         const peri_field *fields, size_t field_count,
                         int64_t length)
{
    peri_compress_plan plan;

    if (ex->version_minor == 0 ||
        !peri_compress_plan_make(ex, status, (peri_slice){NULL, 0}, fields,
                                 field_count, length, &plan)) {
        return false;
    }
    if (plan.coding == PERI_CODING_IDENTITY) {
        ex->ops->begin(ex, status, plan.fields, plan.field_count, length);
        return true;
    }
    if (ex->method != PERI_METHOD_HEAD) {
        ex->encoding = peri_calloc(1, sizeof *ex->encoding);
        ex->encoding->left = length;
        ex->encoding->encoder =
            peri_encoder_create(plan.coding, plan.level, length);
        peri_buf_init(&ex->encoding->out, SIZE_MAX);
    }
    ex->ops->begin(ex, status, plan.fields, plan.field_count, -1);
    return true;
}

int peri_compress_write(peri_exchange *ex, peri_slice chunk)
{
    struct peri_encoding *e = ex->encoding;
    int rc;

    if (e->left >= 0) {
        if (chunk.length > (uint64_t)e->left) {
            chunk.length = (size_t)e->left;
        }
        e->left -= (int64_t)chunk.length;
    }
    peri_buf_clear(&e->out);
    rc = peri_encoder_feed(e->encoder, chunk, PERI_ENCODER_FLUSH, &e->out);
    if (rc < 0 || e->out.length == 0) {
        return rc;
    }
    return ex->ops->write(ex, peri_buf_slice(&e->out));
}

void peri_compress_end(peri_exchange *ex)
{
    struct peri_encoding *e = ex->encoding;

    if (e->left > 0) {
        peri_compress_drop(ex);
        ex->ops->abort(ex); /* shorter than was promised */
        return;
    }
    peri_buf_clear(&e->out);
    peri_encoder_feed(e->encoder, PERI_SLICE(""), PERI_ENCODER_END, &e->out);
    ex->ops->write(ex, peri_buf_slice(&e->out));
    peri_compress_drop(ex);
    ex->ops->end(ex);
}

void peri_compress_drop(peri_exchange *ex)
{
    struct peri_encoding *e = ex->encoding;

    if (e != NULL) {
        ex->encoding = NULL;
        peri_encoder_destroy(e->encoder);
        peri_buf_fini(&e->out);
        free(e);
    }
}
