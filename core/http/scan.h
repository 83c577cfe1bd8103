/* Scan: one pass over the raw bytes of a request's head.
 *
 * Stricter than llhttp's strict mode, which does not see what happened between
 * its callbacks (folded lines, bare line feeds, missing Host, ...). Decides by
 * what lies to the left only: the same bytes get the same verdict however they
 * were split on their way. No state, no allocation. */
#ifndef PERI_HTTP_SCAN_H
#define PERI_HTTP_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/slice.h"

/* Bytes behind the data that must be readable; the first of them must be 0. */
#define PERI_SCAN_PADDING 8

#define PERI_SCAN_NONE UINT16_MAX

/* A stretch of the head: offsets from its first byte. */
typedef struct peri_span {
    uint32_t offset;
    uint32_t length;
} peri_span;

typedef struct peri_head_field {
    peri_span name;
    peri_span value; /* outer white space taken off */
} peri_head_field;

typedef struct peri_scan_limits {
    uint32_t head_max_bytes; /* request line and fields, line ends included */
    uint32_t url_max_bytes;
    uint16_t field_count_max; /* there is room for so many */
    bool tls;                 /* the scheme of absolute targets is https */
} peri_scan_limits;

typedef struct peri_refusal {
    int status;
    const char *detail; /* static; "" when the status says it all */
} peri_refusal;

typedef struct peri_head {
    peri_head_field *fields; /* the caller's */
    uint16_t field_count;
    uint8_t method;        /* peri_method */
    uint8_t version_minor; /* 0 or 1; HTTP/1.2 and up are served as 1.1 */
    peri_span method_text;
    peri_span target;
    peri_span path;         /* starts with '/', or is "*" */
    peri_span query;        /* without the '?' */
    int64_t content_length; /* -1: no such field */
    bool chunked;
    bool keep_alive;
    bool expect_continue;
    uint16_t request_id; /* index of that field, or PERI_SCAN_NONE */
    peri_refusal refusal;
} peri_head;

/* The head at the start of data. Its length, final empty line included; 0 when
 * more is needed; -1 when it is refused (out->refusal says how; spans of what
 * had been read are set). fields must be set in *out before. */
int peri_scan_head(const char *data, size_t length,
                   const peri_scan_limits *limits, peri_head *out);

/* The trailer section behind a last chunk, by the same rules; nothing in it is
 * kept. As above; PERI_SCAN_TRAILERS_MAX_BYTES is its limit. */
#define PERI_SCAN_TRAILERS_MAX_BYTES 8192
int peri_scan_trailers(const char *data, size_t length, peri_refusal *refusal);

#endif
