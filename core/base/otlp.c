/* OTLP: the frame of a request, and its protobuf form. */
#include "core/base/otlp.h"

#include "core/base/otlp_internal.h"

#define SCOPE "perigee"

peri_slice peri_otlp_content_type(peri_otlp_format format)
{
    return format == PERI_OTLP_JSON ? PERI_SLICE("application/json")
                                    : PERI_SLICE("application/x-protobuf");
}

/* ---- protobuf ---- */

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static int put_varint(peri_buf *out, uint64_t value)
{
    char bytes[10];
    size_t n = 0;

    while (value >= 128) {
        bytes[n++] = (char)(value | 128);
        value >>= 7;
    }
    bytes[n++] = (char)value;
    return peri_buf_append(out, bytes, n);
}

static int put_tag(peri_buf *out, unsigned field, unsigned type)
{
    return put_varint(out, (uint64_t)field << 3 | type);
}

static int put_number(peri_buf *out, unsigned field, uint64_t value)
{
    return value == 0 ? 0
                      : put_tag(out, field, VARINT) || put_varint(out, value);
}

static int put_fixed64(peri_buf *out, unsigned field, uint64_t value)
{
    unsigned char bytes[8];

    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(value >> (8 * i));
    }
    return put_tag(out, field, FIXED64) ||
           peri_buf_append(out, bytes, sizeof bytes);
}

static int put_fixed32(peri_buf *out, unsigned field, uint32_t value)
{
    unsigned char bytes[4];

    for (int i = 0; i < 4; i++) {
        bytes[i] = (unsigned char)(value >> (8 * i));
    }
    return put_tag(out, field, FIXED32) ||
           peri_buf_append(out, bytes, sizeof bytes);
}

static int put_bytes(peri_buf *out, unsigned field, const void *data,
                     size_t length)
{
    return length == 0
               ? 0
               : put_tag(out, field, BYTES) || put_varint(out, length) ||
                     peri_buf_append(out, data, length);
}

static int put_text(peri_buf *out, unsigned field, peri_slice text)
{
    return put_bytes(out, field, text.data, text.length);
}

/* A message inside: its length is known at the end only. One byte is kept for
 * it, which mostly is enough. 0: there was no room. */
static size_t open_message(peri_buf *out, unsigned field)
{
    if (put_tag(out, field, BYTES) || peri_buf_append_byte(out, 0)) {
        return 0;
    }
    return out->length;
}

static int close_message(peri_buf *out, size_t start)
{
    size_t length = out->length - start;
    size_t more = 0;

    if (start == 0) {
        return PERI_ELIMIT;
    }
    for (size_t rest = length >> 7; rest != 0; rest >>= 7) {
        more++;
    }
    if (peri_buf_reserve(out, more) < 0) {
        return PERI_ELIMIT;
    }
    if (more != 0) {
        memmove(out->data + start + more, out->data + start, length);
    }
    out->length = start - 1;
    put_varint(out, length); /* fits: it was reserved */
    out->length += length;
    return 0;
}

static size_t varint_bytes(uint64_t value)
{
    size_t n = 1;

    while (value >= 128) {
        value >>= 7;
        n++;
    }
    return n;
}

static char *write_varint(char *at, uint64_t value)
{
    while (value >= 128) {
        *at++ = (char)(value | 128);
        value >>= 7;
    }
    *at++ = (char)value;
    return at;
}

static char *write_field(char *at, unsigned field, const char *data,
                         size_t length)
{
    *at++ = (char)(field << 3 | BYTES);
    at = write_varint(at, length);
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
        *at++ = 2 << 3 | VARINT;
        *at++ = (char)one->value.truth;
        break;
    case PERI_ATTRIBUTE_INT:
        *at++ = 3 << 3 | VARINT;
        at = write_varint(at, (uint64_t)one->value.integer);
        break;
    case PERI_ATTRIBUTE_STRING:
    case PERI_ATTRIBUTE_DOUBLE:
    default:
        *at++ = 4 << 3 | FIXED64;
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
    size_t value = text ? 1 + varint_bytes(one->text.length) + one->text.length
                        : write_scalar(scalar, one);
    size_t pair = 1 + varint_bytes(one->key.length) + one->key.length + 1 +
                  varint_bytes(value) + value;
    char *at;

    if (peri_buf_reserve(out, 1 + varint_bytes(pair) + pair) < 0) {
        return PERI_ELIMIT;
    }
    at = out->data + out->length;
    *at++ = (char)(field << 3 | BYTES);
    at = write_varint(at, pair);
    at = write_field(at, 1, one->key.data, one->key.length);
    if (text) {
        *at++ = 2 << 3 | BYTES;
        at = write_varint(at, value);
        at = write_field(at, 1, one->text.data, one->text.length);
    } else {
        at = write_field(at, 2, scalar, value);
    }
    out->length = (size_t)(at - out->data);
    return 0;
}

static int put_attributes(peri_buf *out, unsigned field,
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
    size_t start = open_message(out, 11);

    return put_fixed64(out, 1, event->unix_ns) ||
           put_text(out, 2, peri_slice_str(event->name)) ||
           put_attributes(out, 3, &event->attributes) ||
           put_number(out, 4, event->attributes.dropped) ||
           close_message(out, start);
}

static int put_link(peri_buf *out, const peri_trace_context *link)
{
    size_t start = open_message(out, 13);

    return put_bytes(out, 1, link->trace_id, PERI_TRACE_ID_BYTES) ||
           put_bytes(out, 2, link->span_id, PERI_SPAN_ID_BYTES) ||
           put_fixed32(out, 6, link->sampled) || close_message(out, start);
}

static int put_status(peri_buf *out, const peri_otlp_span *span)
{
    size_t start;

    if (span->status == PERI_SPAN_UNSET) {
        return 0;
    }
    start = open_message(out, 15);
    return put_text(out, 2, span->message) ||
           put_number(out, 3, span->status) || close_message(out, start);
}

static int put_span(peri_buf *out, const peri_otlp_span *span)
{
    size_t start = open_message(out, 2);
    int rc = put_bytes(out, 1, span->context.trace_id, PERI_TRACE_ID_BYTES) ||
             put_bytes(out, 2, span->context.span_id, PERI_SPAN_ID_BYTES) ||
             put_text(out, 3, span->state);

    if (peri_otlp_has_parent(span)) {
        rc = rc || put_bytes(out, 4, span->parent_id, PERI_SPAN_ID_BYTES);
    }
    rc = rc || put_text(out, 5, span->name) || put_number(out, 6, span->kind) ||
         put_fixed64(out, 7, span->start_unix_ns) ||
         put_fixed64(out, 8, span->end_unix_ns) ||
         put_attributes(out, 9, span->attributes) ||
         put_number(out, 10, span->attributes->dropped);
    for (size_t i = 0; rc == 0 && i < span->event_count; i++) {
        rc = put_event(out, &span->events[i]);
    }
    rc = rc || put_number(out, 12, span->dropped_events);
    for (size_t i = 0; rc == 0 && i < span->link_count; i++) {
        rc = put_link(out, &span->links[i]);
    }
    return rc || put_status(out, span) ||
           put_fixed32(out, 16, peri_otlp_flags(span)) ||
           close_message(out, start);
}

static int frame_protobuf(peri_buf *out, const peri_attributes *resource,
                          peri_slice spans)
{
    size_t all = open_message(out, 1);
    size_t part = open_message(out, 1);
    size_t scope_spans;
    size_t scope;
    int rc = put_attributes(out, 1, resource) || close_message(out, part);

    scope_spans = open_message(out, 2);
    scope = open_message(out, 1);
    rc = rc || put_text(out, 1, PERI_SLICE(SCOPE)) ||
         put_text(out, 2, PERI_SLICE(PERI_VERSION)) ||
         close_message(out, scope);
    return rc || peri_buf_append_slice(out, spans) ||
           close_message(out, scope_spans) || close_message(out, all);
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

int peri_otlp_frame_spans(peri_buf *out, peri_otlp_format format,
                          const peri_attributes *resource, peri_slice spans)
{
    int rc = format == PERI_OTLP_JSON
                 ? peri_otlp_json_frame(out, resource, spans)
                 : frame_protobuf(out, resource, spans);

    return rc != 0 ? PERI_ELIMIT : 0;
}
