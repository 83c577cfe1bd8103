/* Observe: the access log's line, built by hand: it is paid for by every
 * request. */
#include "core/http/observe.h"

#include "core/base/clock.h"
#include "core/base/json_scan.h"
#include "core/base/number.h"
#include "core/base/text_code.h"
#include "core/base/utf8.h"
#include "core/http/tracer.h"

/* Every byte of a URL may become six; the rest is short and bounded. */
#define LINE_BYTES (PERI_ACCESS_URL_MAX * 6 + 1024)
#define ID_MAX 128
#define METHOD_MAX 64
#define REMOTE_MAX 64

static char *put(char *at, const char *text, size_t length)
{
    memcpy(at, text, length);
    return at + length;
}

#define PUT(at, literal) put((at), (literal), sizeof(literal) - 1)

static char *put_escape(char *at, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";

    if (byte == '"' || byte == '\\') {
        *at++ = '\\';
        *at++ = (char)byte;
        return at;
    }
    if (byte >= 0x80) {
        return PUT(at, "\xef\xbf\xbd");
    }
    at = PUT(at, "\\u00");
    *at++ = hex[byte >> 4];
    *at++ = hex[byte & 15];
    return at;
}

/* The inside of a JSON string. */
static char *put_text(char *at, peri_slice text, size_t max_bytes)
{
    const char *from = text.data;
    const char *end =
        from + (text.length < max_bytes ? text.length : max_bytes);

    for (;;) {
        const char *odd = peri_json_skip_plain(from, end);
        size_t width;

        at = put(at, from, (size_t)(odd - from));
        if (odd == end) {
            break;
        }
        width = peri_utf8_width(odd, (size_t)(end - odd));
        if (width > 1) {
            at = put(at, odd, width);
            from = odd + width;
        } else {
            at = put_escape(at, (unsigned char)*odd);
            from = odd + 1;
        }
    }
    return text.length > max_bytes ? PUT(at, "...") : at;
}

static char *put_number(char *at, uint64_t value)
{
    return at + peri_number_write_u64(value, at);
}

/* Milliseconds, to the microsecond. */
static char *put_ms(char *at, uint64_t ns)
{
    uint64_t us = ns / 1000;
    uint64_t rest = us % 1000;

    at = put_number(at, us / 1000);
    *at++ = '.';
    *at++ = (char)('0' + rest / 100);
    *at++ = (char)('0' + rest / 10 % 10);
    *at++ = (char)('0' + rest % 10);
    return at;
}

static char *put_head(char *at, const peri_logger *logger, int level)
{
    at = PUT(at, "{\"level\":");
    at = put_number(at, (uint64_t)level);
    at = PUT(at, ",\"time\":");
    at = put_number(at, peri_clock_wall_ms());
    return put(at, logger->identity, logger->identity_length);
}

static char *put_trace(char *at, const peri_trace_context *context)
{
    at = PUT(at, ",\"trace_id\":\"");
    peri_hex_encode(context->trace_id, PERI_TRACE_ID_BYTES, at);
    at = PUT(at + 2 * PERI_TRACE_ID_BYTES, "\",\"span_id\":\"");
    peri_hex_encode(context->span_id, PERI_SPAN_ID_BYTES, at);
    return PUT(at + 2 * PERI_SPAN_ID_BYTES, "\"");
}

/* What pino-http makes of a status that is a failure. */
static char *put_failure(char *at, const peri_exchange *ex)
{
    if (ex->cut) {
        return PUT(at, ",\"err\":{\"type\":\"Error\",\"message\":\"the answer "
                       "was cut off\",\"stack\":\"Error: the answer was cut "
                       "off\"}");
    }
    at =
        PUT(at, ",\"err\":{\"type\":\"Error\",\"message\":\"failed with status "
                "code ");
    at = put_number(at, ex->status);
    at = PUT(at, "\",\"stack\":\"Error: failed with status code ");
    at = put_number(at, ex->status);
    return PUT(at, "\"}");
}

static char *put_hidden(char *at)
{
    return PUT(at, "\"[Redacted]\"");
}

static char *put_string(char *at, bool hidden, peri_slice text,
                        size_t max_bytes)
{
    if (hidden) {
        return put_hidden(at);
    }
    *at++ = '"';
    at = put_text(at, text, max_bytes);
    *at++ = '"';
    return at;
}

static char *put_request(char *at, peri_exchange *ex, unsigned hidden)
{
    if ((hidden & PERI_ACCESS_HIDES_REQ) != 0) {
        return put_hidden(at);
    }
    at = PUT(at, "{\"id\":");
    at = put_string(at, (hidden & PERI_ACCESS_HIDES_ID) != 0,
                    peri_exchange_id(ex), ID_MAX);
    at = PUT(at, ",\"method\":");
    at = put_string(at, (hidden & PERI_ACCESS_HIDES_METHOD) != 0,
                    peri_exchange_text(ex, ex->method_text), METHOD_MAX);
    at = PUT(at, ",\"url\":");
    at = put_string(at, (hidden & PERI_ACCESS_HIDES_URL) != 0,
                    peri_exchange_text(ex, ex->target), PERI_ACCESS_URL_MAX);
    at = PUT(at, ",\"remoteAddress\":");
    at = put_string(at, (hidden & PERI_ACCESS_HIDES_REMOTE) != 0,
                    peri_exchange_remote(ex), REMOTE_MAX);
    return PUT(at, "}");
}

static char *put_response(char *at, const peri_exchange *ex, unsigned hidden)
{
    if ((hidden & PERI_ACCESS_HIDES_RES) != 0) {
        return put_hidden(at);
    }
    at = PUT(at, "{\"statusCode\":");
    at = (hidden & PERI_ACCESS_HIDES_STATUS) != 0 ? put_hidden(at)
                                                  : put_number(at, ex->status);
    return PUT(at, "}");
}

void peri_access_log(const peri_logger *logger, peri_exchange *ex,
                     unsigned hidden, uint64_t now_ns)
{
    char line[LINE_BYTES];
    bool failed = ex->status >= 500 || ex->cut;
    int level = failed ? PERI_LOG_ERROR : PERI_LOG_INFO;
    uint64_t took_ns = now_ns > ex->started_ns ? now_ns - ex->started_ns : 0;
    char *at;

    if (!peri_log_enabled(logger, level)) {
        return;
    }
    at = put_head(line, logger, level);
    at = PUT(at, ",\"req\":");
    at = put_request(at, ex, hidden);
    at = PUT(at, ",\"res\":");
    at = put_response(at, ex, hidden);
    at = failed ? put_failure(at, ex) : at;
    at = PUT(at, ",\"responseTime\":");
    at = (hidden & PERI_ACCESS_HIDES_TIME) != 0 ? put_hidden(at)
                                                : put_ms(at, took_ns);
    if (ex->trace != NULL) {
        at = put_trace(at, &ex->trace->context);
    }
    at = ex->gone || ex->cut ? PUT(at, ",\"msg\":\"request aborted\"}\n")
                             : PUT(at, ",\"msg\":\"request completed\"}\n");
    logger->write(logger->data, peri_slice_of(line, (size_t)(at - line)));
}
