/* Response: the bytes of an answer's head, and what the host itself answers. */
#ifndef PERI_HTTP_RESPONSE_H
#define PERI_HTTP_RESPONSE_H

#include "core/base/buf.h"
#include "core/http/exchange.h"

/* "Date: Tue, 24 Nov 2026 00:04:06 GMT\r\n" */
#define PERI_DATE_LINE_BYTES 37

typedef struct peri_response {
    int status;
    peri_slice content_type; /* length 0: none, unless among the fields */
    const peri_field *fields;
    size_t field_count;
    int64_t length;        /* of the body; -1: unknown */
    bool chunked;          /* sends Transfer-Encoding */
    bool close;            /* sends Connection: close */
    bool keep_alive;       /* sends Connection: keep-alive, for HTTP/1.0 */
    uint64_t took_us;      /* sends Server-Timing, unless 0 */
    peri_slice id;         /* X-Request-Id */
    const char *date_line; /* of PERI_DATE_LINE_BYTES */
} peri_response;

/* Whether a field may be sent: framing is the host's own, and neither name nor
 * value may hold what would end them. */
bool peri_response_takes(const peri_field *field);

/* Whether the application asks for Connection: close. */
bool peri_response_wants_close(const peri_field *fields, size_t count);

/* 204, 304 and 1xx have no body. */
static inline bool peri_status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* At least what peri_response_write() needs. */
size_t peri_response_bound(const peri_response *response);

/* Writes the head, its empty line included; returns behind it. *dropped counts
 * the fields that could not be sent. */
char *peri_response_write(const peri_response *response, char *out,
                          unsigned *dropped);

/* The body of a problem (RFC 9457). */
void peri_problem_write(peri_buf *out, int status, peri_slice detail,
                        peri_slice instance, peri_slice id);

/* Decimal digits; returns behind them. */
char *peri_digits_write(char *out, uint64_t value);

#endif
