/* Flight: notes of spans, and the JSON that they become. */
#include "core/http/flight.h"

#include "core/base/clock.h"
#include "core/base/json_text.h"
#include "core/base/text_code.h"
#include "core/http/tracer_internal.h"

typedef struct flight_note {
    uint32_t start_us; /* since the root's */
    uint32_t took_us;
    unsigned char id[PERI_SPAN_ID_BYTES];
    unsigned char parent[PERI_SPAN_ID_BYTES];
    uint8_t kind;
    bool failed;
    uint8_t name_length;
    uint8_t detail_length;
} flight_note;

/* The attribute that says the most about a span; the first there is. */
static const char *const telling[] = {
    "db.query.text",  "url.full",
    "url.path",       "messaging.destination.name",
    "db.namespace",   "perigee.cache.key",
    "server.address",
};

static uint32_t in_us(uint64_t ns)
{
    return ns / 1000u < UINT32_MAX ? (uint32_t)(ns / 1000u) : UINT32_MAX;
}

static peri_slice cut(peri_slice text)
{
    if (text.length > PERI_FLIGHT_TEXT_MAX) {
        text.length = PERI_FLIGHT_TEXT_MAX;
    }
    return text;
}

/* What follows the question mark may be anything, a token too. */
static peri_slice without_query(peri_slice url)
{
    const char *mark =
        url.length != 0 ? memchr(url.data, '?', url.length) : NULL;

    if (mark != NULL) {
        url.length = (size_t)(mark - url.data);
    }
    return url;
}

static peri_slice detail_of(const peri_trace_span *span)
{
    size_t best = sizeof telling / sizeof telling[0];
    peri_slice packed = peri_buf_slice(&span->attributes.packed);
    peri_slice found = PERI_SLICE("");
    peri_attribute one;

    while (best > 0 && peri_attributes_next(&packed, &one)) {
        for (size_t i = 0; i < best; i++) {
            if (one.type == PERI_ATTRIBUTE_STRING &&
                peri_slice_equal(one.key, peri_slice_str(telling[i]))) {
                found = i == 1 ? without_query(one.text) : one.text;
                best = i;
            }
        }
    }
    return cut(found);
}

static void keep(peri_trace_span *span, uint64_t now_ns)
{
    peri_trace_span *root = span->root;
    peri_slice name = cut(peri_buf_slice(&span->name));
    peri_slice detail = detail_of(span);
    flight_note note = {
        .start_us = in_us(span->start_ns > root->start_ns
                              ? span->start_ns - root->start_ns
                              : 0),
        .took_us = in_us(now_ns > span->start_ns ? now_ns - span->start_ns : 0),
        .kind = span->kind,
        .failed = span->status == PERI_SPAN_ERROR,
        .name_length = (uint8_t)name.length,
        .detail_length = (uint8_t)detail.length,
    };

    memcpy(note.id, span->context.span_id, sizeof note.id);
    memcpy(note.parent, span->parent_id, sizeof note.parent);
    if (peri_buf_reserve(&root->flight,
                         sizeof note + name.length + detail.length) < 0) {
        root->flight_dropped++;
        return;
    }
    peri_buf_append(&root->flight, &note, sizeof note);
    peri_buf_append_slice(&root->flight, name);
    peri_buf_append_slice(&root->flight, detail);
}

/* ---- JSON ---- */

static void text_field(peri_buf *out, const char *key, peri_slice text)
{
    peri_buf_printf(out, ",\"%s\":", key);
    peri_json_append_string(out, text);
}

static size_t read_notes(const peri_buf *flight, size_t *offsets)
{
    size_t count = 0;
    size_t at = 0;

    while (at < flight->length && count < PERI_FLIGHT_SPANS_MAX) {
        flight_note note;

        memcpy(&note, flight->data + at, sizeof note);
        offsets[count++] = at;
        at += sizeof note + note.name_length + note.detail_length;
    }
    return count;
}

/* The index of a note's parent among them; -1: the root. */
static int parent_of(const peri_buf *flight, const size_t *offsets,
                     size_t count, const flight_note *child)
{
    for (size_t i = 0; i < count; i++) {
        flight_note note;

        memcpy(&note, flight->data + offsets[i], sizeof note);
        if (memcmp(note.id, child->parent, sizeof note.id) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static int append_note(peri_buf *out, const peri_buf *flight,
                       const size_t *offsets, size_t count, size_t index)
{
    const char *text = flight->data + offsets[index] + sizeof(flight_note);
    size_t before = out->length;
    flight_note note;
    int rc;

    memcpy(&note, flight->data + offsets[index], sizeof note);
    rc = peri_buf_printf(
        out,
        "%s{\"parent\":%d,\"kind\":%u,\"start_us\":%u,"
        "\"took_us\":%u,\"failed\":%s,\"name\":",
        index > 0 ? "," : "", parent_of(flight, offsets, count, &note),
        note.kind, note.start_us, note.took_us, note.failed ? "true" : "false");
    if (rc == 0) {
        rc =
            peri_json_append_string(out, peri_slice_of(text, note.name_length));
    }
    if (rc == 0) {
        rc = peri_buf_append_str(out, ",\"detail\":");
    }
    if (rc == 0) {
        rc = peri_json_append_string(
            out, peri_slice_of(text + note.name_length, note.detail_length));
    }
    if (rc == 0) {
        rc = peri_buf_append_byte(out, '}');
    }
    if (rc < 0) {
        out->length = before;
    }
    return rc;
}

/* Of what there is room for; a prefix, so parents may be missing then. */
static void append_notes(peri_buf *out, const peri_trace_span *root)
{
    size_t offsets[PERI_FLIGHT_SPANS_MAX];
    size_t count = read_notes(&root->flight, offsets);
    size_t done = 0;

    out->max_bytes -= 32; /* for what closes it */
    peri_buf_append_str(out, ",\"spans\":[");
    while (done < count &&
           append_note(out, &root->flight, offsets, count, done) == 0) {
        done++;
    }
    out->max_bytes += 32;
    peri_buf_printf(out, "],\"dropped\":%u}",
                    root->flight_dropped + (uint32_t)(count - done));
}

static int64_t status_of(const peri_trace_span *span)
{
    peri_slice packed = peri_buf_slice(&span->attributes.packed);
    peri_attribute one;

    while (peri_attributes_next(&packed, &one)) {
        if (one.type == PERI_ATTRIBUTE_INT &&
            peri_slice_equal(one.key,
                             PERI_SLICE("http.response.status_code"))) {
            return one.value.integer;
        }
    }
    return 0;
}

static void record(const peri_trace_span *root, uint64_t took_ns,
                   uint64_t now_ns)
{
    char trace_id[2 * PERI_TRACE_ID_BYTES];
    peri_buf out;

    peri_hex_encode(root->context.trace_id, PERI_TRACE_ID_BYTES, trace_id);
    peri_buf_init(&out, PERI_RECORDER_BYTES);
    peri_buf_printf(&out,
                    "{\"at\":%llu,\"took_us\":%u,\"kind\":%u,\"status\":%lld,"
                    "\"failed\":%s,\"trace_id\":\"%.*s\"",
                    (unsigned long long)(root->start_unix_ns / 1000000u),
                    in_us(took_ns), root->kind, (long long)status_of(root),
                    root->failed ? "true" : "false", (int)sizeof trace_id,
                    trace_id);
    text_field(&out, "name", cut(peri_buf_slice(&root->name)));
    text_field(&out, "detail", detail_of(root));
    append_notes(&out, root);
    peri_recorder_put(root->tracer->recorder, took_ns, now_ns,
                      peri_buf_slice(&out));
    peri_buf_fini(&out);
}

void peri_flight_note(peri_trace_span *span, uint64_t now_ns)
{
    uint64_t took_ns = now_ns > span->start_ns ? now_ns - span->start_ns : 0;

    if (span->root != span) {
        keep(span, now_ns);
    } else if (peri_recorder_wants(span->tracer->recorder, took_ns, now_ns)) {
        record(span, took_ns, now_ns);
    }
}

void peri_flight_request(peri_recorder *recorder, peri_exchange *ex,
                         uint64_t now_ns)
{
    uint64_t took_ns = now_ns - ex->started_ns;
    peri_buf out;
    peri_buf name;

    /* A client that leaves a stream does not wait for it. */
    if (!peri_recorder_wants(recorder, took_ns, now_ns) ||
        (ex->gone && ex->begun) || ex->method_text.length == 0) {
        return;
    }
    peri_buf_init(&out, PERI_RECORDER_BYTES);
    peri_buf_init(&name, (size_t)2 * PERI_FLIGHT_TEXT_MAX);
    peri_buf_append_slice(&name, cut(peri_exchange_text(ex, ex->method_text)));
    if (ex->route != NULL && ex->route->pattern != NULL) {
        peri_buf_append_byte(&name, ' ');
        peri_buf_append_slice(&name, cut(peri_slice_str(ex->route->pattern)));
    }
    peri_buf_printf(
        &out,
        "{\"at\":%llu,\"took_us\":%u,\"kind\":%d,\"status\":%u,"
        "\"failed\":%s",
        (unsigned long long)((peri_clock_wall_ns() - took_ns) / 1000000u),
        in_us(took_ns), PERI_SPAN_SERVER, ex->status,
        ex->status >= 500 ? "true" : "false");
    text_field(&out, "request_id", peri_exchange_id(ex));
    text_field(&out, "name", peri_buf_slice(&name));
    text_field(&out, "detail", cut(peri_exchange_text(ex, ex->path)));
    peri_buf_append_byte(&out, '}');
    peri_recorder_put(recorder, took_ns, now_ns, peri_buf_slice(&out));
    peri_buf_fini(&name);
    peri_buf_fini(&out);
}
