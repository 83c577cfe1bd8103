/* OTLP: its JSON form. Ids are hexadecimal, 64-bit numbers are strings, names
 * are in camel case, as the protocol says. */
#include <inttypes.h>

#include "core/base/json_text.h"
#include "core/base/number.h"
#include "core/base/otlp_internal.h"
#include "core/base/text_code.h"

static int put(peri_buf *out, const char *text)
{
    return peri_buf_append_str(out, text);
}

int peri_otlp_json_id(peri_buf *out, const char *before,
                      const unsigned char *id, size_t count)
{
    char hex[2 * PERI_TRACE_ID_BYTES];

    peri_hex_encode(id, count, hex);
    return put(out, before) || peri_buf_append(out, hex, 2 * count) ||
           put(out, "\"");
}

int peri_otlp_json_double(peri_buf *out, double value)
{
    char text[PERI_NUMBER_TEXT_BYTES];

    if (value != value || value - value != 0) { /* NaN, infinite */
        return put(out, value != value ? "\"NaN\""
                        : value > 0    ? "\"Infinity\""
                                       : "\"-Infinity\"");
    }
    return peri_buf_append(out, text, peri_number_write(value, text));
}

static int put_value(peri_buf *out, const peri_attribute *one)
{
    switch (one->type) {
    case PERI_ATTRIBUTE_STRING:
        return put(out, "{\"stringValue\":") ||
               peri_json_append_string(out, one->text) || put(out, "}");
    case PERI_ATTRIBUTE_BOOL:
        return put(out, one->value.truth ? "{\"boolValue\":true}"
                                         : "{\"boolValue\":false}");
    case PERI_ATTRIBUTE_INT:
        return peri_buf_printf(out, "{\"intValue\":\"%" PRId64 "\"}",
                               one->value.integer);
    case PERI_ATTRIBUTE_DOUBLE:
    default:
        return put(out, "{\"doubleValue\":") ||
               peri_otlp_json_double(out, one->value.real) || put(out, "}");
    }
}

int peri_otlp_json_attributes(peri_buf *out, const peri_attributes *attributes)
{
    peri_slice packed = peri_buf_slice(&attributes->packed);
    peri_attribute one;
    int rc = put(out, "\"attributes\":[");

    for (int i = 0; rc == 0 && peri_attributes_next(&packed, &one); i++) {
        rc = put(out, i == 0 ? "{\"key\":" : ",{\"key\":") ||
             peri_json_append_string(out, one.key) || put(out, ",\"value\":") ||
             put_value(out, &one) || put(out, "}");
    }
    return rc || put(out, "]");
}

/* ,"NAME":count; nothing when it is 0. */
static int put_count(peri_buf *out, const char *name, uint32_t count)
{
    return count == 0 ? 0 : peri_buf_printf(out, ",\"%s\":%u", name, count);
}

static int put_events(peri_buf *out, const peri_otlp_span *span)
{
    int rc = put(out, ",\"events\":[");

    for (size_t i = 0; rc == 0 && i < span->event_count; i++) {
        const peri_span_event *event = &span->events[i];

        rc = peri_buf_printf(out, "%s{\"timeUnixNano\":\"%" PRIu64 "\",",
                             i == 0 ? "" : ",", event->unix_ns) ||
             put(out, "\"name\":") ||
             peri_json_append_string(out, peri_slice_str(event->name)) ||
             put(out, ",") ||
             peri_otlp_json_attributes(out, &event->attributes) ||
             put(out, "}");
    }
    return rc || put(out, "]");
}

static int put_links(peri_buf *out, const peri_otlp_span *span)
{
    int rc = put(out, ",\"links\":[");

    for (size_t i = 0; rc == 0 && i < span->link_count; i++) {
        rc = peri_otlp_json_id(out,
                               i == 0 ? "{\"traceId\":\"" : ",{\"traceId\":\"",
                               span->links[i].trace_id, PERI_TRACE_ID_BYTES) ||
             peri_otlp_json_id(out, ",\"spanId\":\"", span->links[i].span_id,
                               PERI_SPAN_ID_BYTES) ||
             peri_buf_printf(out, ",\"flags\":%u}",
                             peri_otlp_link_flags(&span->links[i]));
    }
    return rc || put(out, "]");
}

static int put_status(peri_buf *out, const peri_otlp_span *span)
{
    int rc = peri_buf_printf(out, ",\"status\":{\"code\":%d", span->status);

    if (span->message.length != 0) {
        rc = rc || put(out, ",\"message\":") ||
             peri_json_append_string(out, span->message);
    }
    return rc || put(out, "}");
}

int peri_otlp_json_span(peri_buf *out, const peri_otlp_span *span)
{
    const peri_trace_context *context = &span->context;
    int rc = peri_otlp_json_id(out, ",{\"traceId\":\"", context->trace_id,
                               PERI_TRACE_ID_BYTES) ||
             peri_otlp_json_id(out, ",\"spanId\":\"", context->span_id,
                               PERI_SPAN_ID_BYTES);

    if (peri_otlp_has_parent(span)) {
        rc = rc || peri_otlp_json_id(out, ",\"parentSpanId\":\"",
                                     span->parent_id, PERI_SPAN_ID_BYTES);
    }
    if (span->state.length != 0) {
        rc = rc || put(out, ",\"traceState\":") ||
             peri_json_append_string(out, span->state);
    }
    rc = rc || put(out, ",\"name\":") ||
         peri_json_append_string(out, span->name) ||
         peri_buf_printf(out,
                         ",\"kind\":%d,\"startTimeUnixNano\":\"%" PRIu64
                         "\",\"endTimeUnixNano\":\"%" PRIu64 "\",\"flags\":%u,",
                         span->kind, span->start_unix_ns, span->end_unix_ns,
                         peri_otlp_flags(span)) ||
         peri_otlp_json_attributes(out, span->attributes);
    rc = rc ||
         put_count(out, "droppedAttributesCount", span->attributes->dropped) ||
         put_count(out, "droppedEventsCount", span->dropped_events) ||
         put_count(out, "droppedLinksCount", span->dropped_links);
    if (span->event_count != 0) {
        rc = rc || put_events(out, span);
    }
    if (span->link_count != 0) {
        rc = rc || put_links(out, span);
    }
    return rc || put_status(out, span) || put(out, "}");
}

int peri_otlp_json_frame(peri_buf *out, peri_otlp_signal signal,
                         const peri_attributes *resource, peri_slice items)
{
    static const char *const names[][3] = {
        [PERI_OTLP_TRACES] = {"resourceSpans", "scopeSpans", "spans"},
        [PERI_OTLP_LOGS] = {"resourceLogs", "scopeLogs", "logRecords"},
        [PERI_OTLP_METRICS] = {"resourceMetrics", "scopeMetrics", "metrics"},
    };
    const char *const *name = names[signal];

    if (items.length != 0) { /* each has a comma in front */
        items.data++;
        items.length--;
    }
    return peri_buf_printf(out, "{\"%s\":[{\"resource\":{", name[0]) ||
           peri_otlp_json_attributes(out, resource) ||
           peri_buf_printf(out,
                           "},\"%s\":[{\"scope\":{\"name\":\"perigee\","
                           "\"version\":\"" PERI_VERSION "\"},\"%s\":[",
                           name[1], name[2]) ||
           peri_buf_append_slice(out, items) || put(out, "]}]}]}");
}
