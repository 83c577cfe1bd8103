/* OTLP: the frame of a request, and its protobuf form. */
#include "core/base/otlp.h"

#include "core/base/otlp_internal.h"
#include "core/base/protobuf.h"

#define SCOPE "perigee"
#define SPAN_ATTRIBUTE 9   /* field number */
#define SPAN_BYTES 400     /* of one that serves a request, about */
#define RESOURCE_BYTES 400 /* about */

peri_slice peri_otlp_content_type(peri_otlp_format format)
{
    return format == PERI_OTLP_JSON ? PERI_SLICE("application/json")
                                    : PERI_SLICE("application/x-protobuf");
}

const char *peri_otlp_signal_name(peri_otlp_signal signal)
{
    static const char *const names[] = {"traces", "logs", "metrics"};

    return names[signal];
}

/* ---- protobuf ---- */

static char *write_field(char *at, unsigned field, const char *data,
                         size_t length)
{
    *at++ = (char)(field << 3 | PERI_PROTOBUF_BYTES);
    at = peri_protobuf_put_varint(at, length);
    if (length != 0) {
        memcpy(at, data, length);
    }
    return at + length;
}

/* AnyValue of what is no text; returns its length. */
static size_t write_scalar(char *out, const peri_attribute *one)
{
    char *at = out;
    uint64_t bits = 0;

    switch (one->type) {
    case PERI_ATTRIBUTE_BOOL:
        *at++ = 2 << 3 | PERI_PROTOBUF_VARINT;
        *at++ = (char)one->value.truth;
        break;
    case PERI_ATTRIBUTE_INT:
        *at++ = 3 << 3 | PERI_PROTOBUF_VARINT;
        at = peri_protobuf_put_varint(at, (uint64_t)one->value.integer);
        break;
    case PERI_ATTRIBUTE_STRING:
    case PERI_ATTRIBUTE_DOUBLE:
    default:
        *at++ = 4 << 3 | PERI_PROTOBUF_FIXED64;
        memcpy(&bits, &one->value.real, sizeof bits);
        for (int i = 0; i < 8; i++) {
            *at++ = (char)(bits >> (8 * i));
        }
        break;
    }
    return (size_t)(at - out);
}

/* KeyValue. There are many: lengths are worked out first, bytes written once.
 */
static int put_attribute(peri_buf *out, unsigned field,
                         const peri_attribute *one)
{
    bool text = one->type == PERI_ATTRIBUTE_STRING;
    char scalar[16];
    size_t value = text ? 1 + peri_protobuf_varint_bytes(one->text.length) +
                              one->text.length
                        : write_scalar(scalar, one);
    size_t pair = 1 + peri_protobuf_varint_bytes(one->key.length) +
                  one->key.length + 1 + peri_protobuf_varint_bytes(value) +
                  value;
    char *at;

    if (peri_buf_reserve(out, 1 + peri_protobuf_varint_bytes(pair) + pair) <
        0) {
        return PERI_ELIMIT;
    }
    at = out->data + out->length;
    *at++ = (char)(field << 3 | PERI_PROTOBUF_BYTES);
    at = peri_protobuf_put_varint(at, pair);
    at = write_field(at, 1, one->key.data, one->key.length);
    if (text) {
        *at++ = 2 << 3 | PERI_PROTOBUF_BYTES;
        at = peri_protobuf_put_varint(at, value);
        at = write_field(at, 1, one->text.data, one->text.length);
    } else {
        at = write_field(at, 2, scalar, value);
    }
    out->length = (size_t)(at - out->data);
    return 0;
}

int peri_otlp_put_attributes(peri_buf *out, unsigned field,
                             const peri_attributes *attributes)
{
    peri_slice packed = peri_buf_slice(&attributes->packed);
    peri_attribute one;
    int rc = 0;

    while (rc == 0 && peri_attributes_next(&packed, &one)) {
        rc = put_attribute(out, field, &one);
    }
    return rc;
}

static int put_event(peri_buf *out, const peri_span_event *event)
{
    size_t start = peri_protobuf_open(out, 11);

    return peri_protobuf_fixed64(out, 1, event->unix_ns) ||
           peri_protobuf_text(out, 2, peri_slice_str(event->name)) ||
           peri_otlp_put_attributes(out, 3, &event->attributes) ||
           peri_protobuf_number(out, 4, event->attributes.dropped) ||
           peri_protobuf_close(out, start);
}

static int put_link(peri_buf *out, const peri_trace_context *link)
{
    size_t start = peri_protobuf_open(out, 13);

    return peri_protobuf_bytes(out, 1, link->trace_id, PERI_TRACE_ID_BYTES) ||
           peri_protobuf_bytes(out, 2, link->span_id, PERI_SPAN_ID_BYTES) ||
           peri_protobuf_fixed32(out, 6, peri_otlp_link_flags(link)) ||
           peri_protobuf_close(out, start);
}

static int put_status(peri_buf *out, const peri_otlp_span *span)
{
    size_t start;

    if (span->status == PERI_SPAN_UNSET) {
        return 0;
    }
    start = peri_protobuf_open(out, 15);
    return peri_protobuf_text(out, 2, span->message) ||
           peri_protobuf_number(out, 3, span->status) ||
           peri_protobuf_close(out, start);
}

static int put_span(peri_buf *out, const peri_otlp_span *span)
{
    size_t start = peri_protobuf_open_likely(out, 2, SPAN_BYTES);
    int rc = peri_protobuf_bytes(out, 1, span->context.trace_id,
                                 PERI_TRACE_ID_BYTES) ||
             peri_protobuf_bytes(out, 2, span->context.span_id,
                                 PERI_SPAN_ID_BYTES) ||
             peri_protobuf_text(out, 3, span->state);

    if (peri_otlp_has_parent(span)) {
        rc = rc ||
             peri_protobuf_bytes(out, 4, span->parent_id, PERI_SPAN_ID_BYTES);
    }
    rc = rc || peri_protobuf_text(out, 5, span->name) ||
         peri_protobuf_number(out, 6, span->kind) ||
         peri_protobuf_fixed64(out, 7, span->start_unix_ns) ||
         peri_protobuf_fixed64(out, 8, span->end_unix_ns) ||
         peri_otlp_put_attributes(out, SPAN_ATTRIBUTE, span->attributes) ||
         peri_buf_append_slice(out, span->encoded) ||
         peri_protobuf_number(out, 10, span->attributes->dropped);
    for (size_t i = 0; rc == 0 && i < span->event_count; i++) {
        rc = put_event(out, &span->events[i]);
    }
    rc = rc || peri_protobuf_number(out, 12, span->dropped_events);
    for (size_t i = 0; rc == 0 && i < span->link_count; i++) {
        rc = put_link(out, &span->links[i]);
    }
    rc = rc || peri_protobuf_number(out, 14, span->dropped_links);
    return rc || put_status(out, span) ||
           peri_protobuf_fixed32(out, 16, peri_otlp_flags(span)) ||
           peri_protobuf_close_likely(out, start, SPAN_BYTES);
}

/* The three kinds of requests number their fields alike. */
static int frame_protobuf(peri_buf *out, const peri_attributes *resource,
                          peri_slice items)
{
    size_t likely = items.length + RESOURCE_BYTES;
    size_t all = peri_protobuf_open_likely(out, 1, likely);
    size_t part = peri_protobuf_open(out, 1);
    size_t scope_spans;
    size_t scope;
    int rc = peri_otlp_put_attributes(out, 1, resource) ||
             peri_protobuf_close(out, part);

    scope_spans = peri_protobuf_open_likely(out, 2, likely);
    scope = peri_protobuf_open(out, 1);
    rc = rc || peri_protobuf_text(out, 1, PERI_SLICE(SCOPE)) ||
         peri_protobuf_text(out, 2, PERI_SLICE(PERI_VERSION)) ||
         peri_protobuf_close(out, scope);
    return rc || peri_buf_append_slice(out, items) ||
           peri_protobuf_close_likely(out, scope_spans, likely) ||
           peri_protobuf_close_likely(out, all, likely);
}

int peri_otlp_append_attributes(peri_buf *out,
                                const peri_attributes *attributes)
{
    return peri_otlp_put_attributes(out, SPAN_ATTRIBUTE, attributes);
}

int peri_otlp_append_text(peri_buf *out, const char *key, peri_slice text)
{
    const peri_attribute one = {.type = PERI_ATTRIBUTE_STRING,
                                .key = peri_slice_str(key),
                                .text = text};

    return put_attribute(out, SPAN_ATTRIBUTE, &one);
}

/* ---- both ---- */

int peri_otlp_append_span(peri_buf *out, peri_otlp_format format,
                          const peri_otlp_span *span)
{
    size_t before = out->length;
    int rc = format == PERI_OTLP_JSON ? peri_otlp_json_span(out, span)
                                      : put_span(out, span);

    if (rc != 0) {
        out->length = before;
        return PERI_ELIMIT;
    }
    return 0;
}

int peri_otlp_frame(peri_buf *out, peri_otlp_format format,
                    peri_otlp_signal signal, const peri_attributes *resource,
                    peri_slice items)
{
    int rc = format == PERI_OTLP_JSON
                 ? peri_otlp_json_frame(out, signal, resource, items)
                 : frame_protobuf(out, resource, items);

    return rc != 0 ? PERI_ELIMIT : 0;
}
