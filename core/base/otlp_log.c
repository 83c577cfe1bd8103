/* OTLP: log records, in both forms. */
#include <inttypes.h>

#include "core/base/json_text.h"
#include "core/base/log.h"
#include "core/base/otlp_internal.h"
#include "core/base/protobuf.h"

typedef struct severity {
    unsigned number;
    const char *text;
} severity;

static severity severity_of(int level)
{
    return level >= PERI_LOG_FATAL   ? (severity){21, "FATAL"}
           : level >= PERI_LOG_ERROR ? (severity){17, "ERROR"}
           : level >= PERI_LOG_WARN  ? (severity){13, "WARN"}
           : level >= PERI_LOG_INFO  ? (severity){9, "INFO"}
           : level >= PERI_LOG_DEBUG ? (severity){5, "DEBUG"}
           : level > 0               ? (severity){1, "TRACE"}
                                     : (severity){9, "INFO"};
}

static int put_record(peri_buf *out, const peri_log_record *record)
{
    severity of = severity_of(record->level);
    size_t start = peri_protobuf_open(out, 2);
    int rc = peri_protobuf_fixed64(out, 1, record->unix_ns) ||
             peri_protobuf_number(out, 2, of.number) ||
             peri_protobuf_text(out, 3, peri_slice_str(of.text));
    size_t body = peri_protobuf_open(out, 5);

    rc = rc ||
         peri_protobuf_bytes(out, 1, record->message.data,
                             record->message.length) ||
         peri_protobuf_close(out, body) ||
         peri_otlp_put_attributes(out, 6, &record->attributes) ||
         peri_protobuf_number(out, 7, record->attributes.dropped);
    if (record->has_trace) {
        rc = rc ||
             peri_protobuf_bytes(out, 9, record->trace_id, PERI_TRACE_ID_BYTES);
    }
    if (record->has_span) {
        rc = rc ||
             peri_protobuf_bytes(out, 10, record->span_id, PERI_SPAN_ID_BYTES);
    }
    return rc || peri_protobuf_fixed64(out, 11, record->unix_ns) ||
           peri_protobuf_close(out, start);
}

static int put_json(peri_buf *out, const peri_log_record *record)
{
    severity of = severity_of(record->level);
    int rc =
        peri_buf_printf(out,
                        ",{\"timeUnixNano\":\"%" PRIu64
                        "\",\"observedTimeUnixNano\":\"%" PRIu64
                        "\",\"severityNumber\":%u,\"severityText\":\"%s\","
                        "\"body\":{\"stringValue\":",
                        record->unix_ns, record->unix_ns, of.number, of.text) ||
        peri_json_append_string(out, peri_buf_slice(&record->message)) ||
        peri_buf_append_str(out, "},") ||
        peri_otlp_json_attributes(out, &record->attributes);

    if (record->attributes.dropped != 0) {
        rc = rc || peri_buf_printf(out, ",\"droppedAttributesCount\":%u",
                                   record->attributes.dropped);
    }
    if (record->has_trace) {
        rc = rc || peri_otlp_json_id(out, ",\"traceId\":\"", record->trace_id,
                                     PERI_TRACE_ID_BYTES);
    }
    if (record->has_span) {
        rc = rc || peri_otlp_json_id(out, ",\"spanId\":\"", record->span_id,
                                     PERI_SPAN_ID_BYTES);
    }
    return rc || peri_buf_append_str(out, "}");
}

int peri_otlp_append_log(peri_buf *out, peri_otlp_format format,
                         const peri_log_record *record)
{
    size_t before = out->length;
    int rc = format == PERI_OTLP_JSON ? put_json(out, record)
                                      : put_record(out, record);

    if (rc != 0) {
        out->length = before;
        return PERI_ELIMIT;
    }
    return 0;
}
