/* Access: what the variables of a format stand for. */
#include "core/base/clock.h"
#include "core/base/text_code.h"
#include "core/http/access_internal.h"
#include "core/http/tracer.h"

#define VALUE_MAX_BYTES 4096 /* longer ones are cut, marked by "..." */

static bool is_plain(unsigned char c)
{
    return c >= ' ' && c <= '~' && c != '"' && c != '\\';
}

static void put_escape(peri_access *access, unsigned char c)
{
    static const char hex[] = "0123456789ABCDEF";
    const char text[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};

    peri_buf_append(&access->line, text, sizeof text);
}

/* A number with three digits behind the point. */
static void put_thousandths(peri_access *access, uint64_t thousandths)
{
    unsigned rest = (unsigned)(thousandths % 1000);
    const char text[4] = {'.', (char)('0' + rest / 100),
                          (char)('0' + rest / 10 % 10),
                          (char)('0' + rest % 10)};

    peri_buf_append_u64(&access->line, thousandths / 1000);
    peri_buf_append(&access->line, text, sizeof text);
}

static void put_safe(peri_access *access, peri_slice text)
{
    size_t length =
        text.length < VALUE_MAX_BYTES ? text.length : VALUE_MAX_BYTES;

    if (text.length == 0) {
        peri_buf_append_byte(&access->line, '-');
        return;
    }
    for (size_t i = 0; i < length; i++) {
        size_t from = i;

        while (i < length && is_plain((unsigned char)text.data[i])) {
            i++;
        }
        peri_buf_append(&access->line, text.data + from, i - from);
        if (i < length) {
            put_escape(access, (unsigned char)text.data[i]);
        }
    }
    if (length < text.length) {
        peri_buf_append_str(&access->line, "...");
    }
}

static void refresh_stamps(peri_access *access)
{
    time_t now = (time_t)(peri_clock_wall_ms() / 1000);
    struct tm parts;

    if (now == access->second || localtime_r(&now, &parts) == NULL) {
        return;
    }
    access->second = now;
    strftime(access->local, PERI_ACCESS_STAMP_BYTES, "%d/%b/%Y:%H:%M:%S %z",
             &parts);
    strftime(access->iso, PERI_ACCESS_STAMP_BYTES, "%Y-%m-%dT%H:%M:%S%z",
             &parts);
    /* "+0200" becomes "+02:00". */
    memmove(access->iso + 23, access->iso + 22, 3);
    access->iso[22] = ':';
}

#define PUT(name)                                                              \
    static void put_##name(peri_access *access, const peri_access_part *part,  \
                           peri_exchange *ex, uint64_t took_ns)

#define UNUSED(a, b) ((void)(a), (void)(b))

void peri_access_put_literal(peri_access *access, const peri_access_part *part,
                             peri_exchange *ex, uint64_t took_ns)
{
    UNUSED(ex, took_ns);
    peri_buf_append(&access->line, part->text, part->length);
}

PUT(remote_addr)
{
    UNUSED(part, took_ns);
    put_safe(access, peri_exchange_remote(ex));
}

/* The name in "Basic ..." */
PUT(remote_user)
{
    peri_slice field = peri_exchange_field(ex, PERI_SLICE("authorization"));
    char name[512];
    const char *end = NULL;
    size_t n = 0;

    UNUSED(part, took_ns);
    if (field.length > 6 && field.length < sizeof name &&
        strncasecmp(field.data, "basic ", 6) == 0 &&
        peri_base64_decode(PERI_BASE64, field.data + 6, field.length - 6, name,
                           &n)) {
        end = memchr(name, ':', n);
    }
    put_safe(access, end != NULL ? peri_slice_of(name, (size_t)(end - name))
                                 : peri_slice_of(NULL, 0));
}

PUT(time_local)
{
    UNUSED(part, took_ns);
    (void)ex;
    refresh_stamps(access);
    peri_buf_append_str(&access->line, access->local);
}

PUT(time_iso8601)
{
    UNUSED(part, took_ns);
    (void)ex;
    refresh_stamps(access);
    peri_buf_append_str(&access->line, access->iso);
}

PUT(msec)
{
    UNUSED(part, took_ns);
    (void)ex;
    put_thousandths(access, peri_clock_wall_ms());
}

PUT(request_method)
{
    UNUSED(part, took_ns);
    put_safe(access, peri_exchange_text(ex, ex->method_text));
}

PUT(request_uri)
{
    UNUSED(part, took_ns);
    put_safe(access, peri_exchange_text(ex, ex->target));
}

PUT(uri)
{
    UNUSED(part, took_ns);
    put_safe(access, peri_exchange_text(ex, ex->path));
}

PUT(args)
{
    UNUSED(part, took_ns);
    put_safe(access, peri_exchange_text(ex, ex->query));
}

PUT(server_protocol)
{
    UNUSED(part, took_ns);
    peri_buf_append_str(&access->line,
                        ex->version_minor == 0 ? "HTTP/1.0" : "HTTP/1.1");
}

PUT(request)
{
    if (ex->method_text.length == 0) {
        peri_buf_append_byte(&access->line, '-');
        return;
    }
    put_request_method(access, part, ex, took_ns);
    peri_buf_append_byte(&access->line, ' ');
    put_request_uri(access, part, ex, took_ns);
    peri_buf_append_byte(&access->line, ' ');
    put_server_protocol(access, part, ex, took_ns);
}

PUT(scheme)
{
    UNUSED(part, took_ns);
    peri_buf_append_str(&access->line, ex->is_tls ? "https" : "http");
}

PUT(status)
{
    UNUSED(part, took_ns);
    peri_buf_append_u64(&access->line, ex->status);
}

PUT(body_bytes_sent)
{
    UNUSED(part, took_ns);
    peri_buf_append_u64(&access->line, ex->sent_bytes);
}

/* Seconds, to the millisecond. */
PUT(request_time)
{
    (void)part;
    (void)ex;
    put_thousandths(access, took_ns / 1000000u);
}

/* Milliseconds, to the microsecond, as in the line of JSON. */
PUT(response_time)
{
    (void)part;
    (void)ex;
    put_thousandths(access, took_ns / 1000u);
}

PUT(request_id)
{
    UNUSED(part, took_ns);
    put_safe(access, peri_exchange_id(ex));
}

PUT(route)
{
    UNUSED(part, took_ns);
    put_safe(access,
             peri_slice_str(ex->route != NULL ? ex->route->pattern : ""));
}

PUT(pid)
{
    UNUSED(part, took_ns);
    (void)ex;
    peri_buf_append_u64(&access->line, (uint64_t)access->logger->pid);
}

PUT(hostname)
{
    UNUSED(part, took_ns);
    (void)ex;
    put_safe(access, peri_slice_str(access->logger->hostname));
}

void peri_access_put_header(peri_access *access, const peri_access_part *part,
                            peri_exchange *ex, uint64_t took_ns)
{
    (void)took_ns;
    put_safe(access,
             peri_exchange_field(ex, peri_slice_of(part->text, part->length)));
}

static void put_id(peri_access *access, const unsigned char *id, size_t bytes)
{
    char hex[2 * PERI_TRACE_ID_BYTES];

    peri_hex_encode(id, bytes, hex);
    peri_buf_append(&access->line, hex, 2 * bytes);
}

PUT(trace_id)
{
    UNUSED(part, took_ns);
    if (ex->trace != NULL) {
        put_id(access, ex->trace->context.trace_id, PERI_TRACE_ID_BYTES);
    } else {
        peri_buf_append_byte(&access->line, '-');
    }
}

PUT(span_id)
{
    UNUSED(part, took_ns);
    if (ex->trace != NULL) {
        put_id(access, ex->trace->context.span_id, PERI_SPAN_ID_BYTES);
    } else {
        peri_buf_append_byte(&access->line, '-');
    }
}

static const struct {
    const char *name;
    peri_access_put put;
} variables[] = {
    {"remote_addr", put_remote_addr},
    {"remote_user", put_remote_user},
    {"time_local", put_time_local},
    {"time_iso8601", put_time_iso8601},
    {"msec", put_msec},
    {"request", put_request},
    {"request_method", put_request_method},
    {"request_uri", put_request_uri},
    {"uri", put_uri},
    {"args", put_args},
    {"server_protocol", put_server_protocol},
    {"scheme", put_scheme},
    {"status", put_status},
    {"body_bytes_sent", put_body_bytes_sent},
    {"request_time", put_request_time},
    {"response_time", put_response_time},
    {"request_id", put_request_id},
    {"route", put_route},
    {"pid", put_pid},
    {"hostname", put_hostname},
    {"trace_id", put_trace_id},
    {"span_id", put_span_id},
};

peri_access_put peri_access_variable(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        if (strlen(variables[i].name) == length &&
            memcmp(variables[i].name, name, length) == 0) {
            return variables[i].put;
        }
    }
    return NULL;
}
