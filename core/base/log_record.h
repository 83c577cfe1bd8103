/* Log record: a line of the log, taken apart for OTLP.
 *
 * Members of the line become attributes; those inside of others get dotted
 * names ("req.method"), lists stay JSON. err becomes exception.type, .message
 * and .stacktrace, as OpenTelemetry's conventions have it. */
#ifndef PERI_BASE_LOG_RECORD_H
#define PERI_BASE_LOG_RECORD_H

#include "core/base/attributes.h"
#include "core/base/trace.h"

typedef struct peri_log_record {
    uint64_t unix_ns;
    int level; /* pino's; 0: the line says none */
    bool has_trace;
    bool has_span;
    unsigned char trace_id[PERI_TRACE_ID_BYTES];
    unsigned char span_id[PERI_SPAN_ID_BYTES];
    peri_attributes attributes;
    peri_buf message; /* the body */
    peri_buf text;    /* of the value that is being read */
} peri_log_record;

void peri_log_record_init(peri_log_record *record);
void peri_log_record_fini(peri_log_record *record);

/* Reads a line over what was read before. One that is no JSON object is all
 * message. */
void peri_log_record_read(peri_log_record *record, peri_slice line);

#endif
