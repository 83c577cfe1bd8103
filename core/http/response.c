/* Response: heads are written with plain copies into room that was measured
 * before, since every request passes here. */
#include "core/http/response.h"

#include <assert.h>

#include "core/base/json_text.h"
#include "core/http/scan_text.h"

#define PROBLEM_MAX_BYTES 65536
/* Status line, Date, names of our own fields, numbers, line ends. */
#define FIXED_BYTES 384

static char *put(char *out, const char *data, size_t length)
{
    memcpy(out, data, length);
    return out + length;
}

#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static char *put_slice(char *out, peri_slice slice)
{
    return slice.length != 0 ? put(out, slice.data, slice.length) : out;
}

char *peri_digits_write(char *out, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return put(out, digits + at, sizeof digits - at);
}

/* ---- which fields may pass ---- */

static bool name_is(peri_slice name, const char *lower, size_t length)
{
    return name.length == length && peri_token_is(name.data, lower, length);
}

#define NAME_IS(name, literal) name_is(name, literal, sizeof(literal) - 1)

/* Those that the host writes itself. */
static bool is_ours(peri_slice name)
{
    switch (name.length) {
    case 4:
        return NAME_IS(name, "date");
    case 7:
        return NAME_IS(name, "upgrade") || NAME_IS(name, "trailer");
    case 10:
        return NAME_IS(name, "connection") || NAME_IS(name, "keep-alive");
    case 12:
        return NAME_IS(name, "x-request-id");
    case 14:
        return NAME_IS(name, "content-length");
    case 16:
        return NAME_IS(name, "proxy-connection");
    case 17:
        return NAME_IS(name, "transfer-encoding");
    default:
        return false;
    }
}

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Whether there may be a control character among eight bytes. */
static bool has_control(const char *at)
{
    uint64_t word;
    uint64_t del;

    memcpy(&word, at, sizeof word);
    del = word ^ EACH(0x7f);
    return ((((word - EACH(0x20)) & ~word) | ((del - EACH(1)) & ~del)) &
            EACH(0x80)) != 0;
}

static bool value_is_sound(peri_slice value)
{
    size_t i = 0;

    while (value.length - i >= 8 && !has_control(value.data + i)) {
        i += 8;
    }
    for (; i < value.length; i++) {
        unsigned char c = (unsigned char)value.data[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool is_sound(const peri_field *field)
{
    for (size_t i = 0; i < field->name.length; i++) {
        if (!peri_char_is(field->name.data[i], PERI_CHAR_TOKEN)) {
            return false;
        }
    }
    return field->name.length != 0 && value_is_sound(field->value);
}

bool peri_response_takes(const peri_field *field)
{
    return is_sound(field) && !is_ours(field->name);
}

bool peri_response_wants_close(const peri_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (NAME_IS(fields[i].name, "connection") &&
            peri_slice_equal_nocase(fields[i].value, PERI_SLICE("close"))) {
            return true;
        }
    }
    return false;
}

static bool has_content_type(const peri_response *response)
{
    for (size_t i = 0; i < response->field_count; i++) {
        if (NAME_IS(response->fields[i].name, "content-type")) {
            return true;
        }
    }
    return false;
}

/* ---- the head ---- */

size_t peri_response_bound(const peri_response *response)
{
    size_t bytes =
        FIXED_BYTES + response->content_type.length + response->id.length;

    for (size_t i = 0; i < response->field_count; i++) {
        bytes += response->fields[i].name.length +
                 response->fields[i].value.length + 4;
    }
    return bytes;
}

static char *put_status_line(char *out, int status)
{
    const char *reason;

    if (status == 200) {
        return PUT(out, "HTTP/1.1 200 OK\r\n");
    }
    assert(status >= 100 && status <= 999);
    reason = peri_status_reason(status);
    out = PUT(out, "HTTP/1.1 ");
    out = peri_digits_write(out, (uint64_t)status);
    *out++ = ' ';
    out = put(out, reason, strlen(reason));
    return PUT(out, "\r\n");
}

static char *put_fields(const peri_response *response, char *out,
                        unsigned *dropped)
{
    for (size_t i = 0; i < response->field_count; i++) {
        const peri_field *field = &response->fields[i];

        if (!is_sound(field)) {
            (*dropped)++;
            continue;
        }
        if (is_ours(field->name) &&
            !(response->status == 426 && NAME_IS(field->name, "upgrade"))) {
            continue;
        }
        out = put_slice(out, field->name);
        out = PUT(out, ": ");
        out = put_slice(out, field->value);
        out = PUT(out, "\r\n");
    }
    return out;
}

/* "Server-Timing: total;dur=1.234" */
static char *put_timing(char *out, uint64_t us)
{
    out = PUT(out, "Server-Timing: total;dur=");
    out = peri_digits_write(out, us / 1000);
    *out++ = '.';
    *out++ = (char)('0' + us / 100 % 10);
    *out++ = (char)('0' + us / 10 % 10);
    *out++ = (char)('0' + us % 10);
    return PUT(out, "\r\n");
}

static char *put_framing(const peri_response *response, char *out)
{
    if (response->chunked) {
        out = PUT(out, "Transfer-Encoding: chunked\r\n");
    } else if (response->length >= 0 &&
               peri_status_has_body(response->status)) {
        out = PUT(out, "Content-Length: ");
        out = peri_digits_write(out, (uint64_t)response->length);
        out = PUT(out, "\r\n");
    }
    if (response->took_us != 0) {
        out = put_timing(out, response->took_us);
    }
    if (response->status == 426) { /* RFC 9110, section 15.5.22 */
        out = PUT(out, "Connection: upgrade\r\n");
    }
    if (response->close) {
        out = PUT(out, "Connection: close\r\n");
    } else if (response->keep_alive) {
        out = PUT(out, "Connection: keep-alive\r\n");
    }
    return out;
}

char *peri_response_write(const peri_response *response, char *out,
                          unsigned *dropped)
{
    out = put_status_line(out, response->status);
    out = put(out, response->date_line, PERI_DATE_LINE_BYTES);
    out = PUT(out, "X-Request-Id: ");
    out = put_slice(out, response->id);
    out = PUT(out, "\r\n");
    if (response->content_type.length != 0 &&
        (response->field_count == 0 || !has_content_type(response)) &&
        value_is_sound(response->content_type)) {
        out = PUT(out, "Content-Type: ");
        out = put_slice(out, response->content_type);
        out = PUT(out, "\r\n");
    }
    if (response->field_count != 0) {
        out = put_fields(response, out, dropped);
    }
    out = put_framing(response, out);
    return PUT(out, "\r\n");
}

/* ---- problems ---- */

void peri_problem_write(peri_buf *out, int status, peri_slice detail,
                        peri_slice instance, peri_slice id)
{
    peri_slice title = peri_slice_str(peri_status_reason(status));

    out->max_bytes = PROBLEM_MAX_BYTES;
    peri_buf_append_str(out, "{\"type\":\"about:blank\",\"title\":");
    peri_json_append_string(out, title);
    peri_buf_append_str(out, ",\"status\":");
    peri_buf_append_u64(out, (uint64_t)status);
    peri_buf_append_str(out, ",\"detail\":");
    peri_json_append_string(out, detail.length != 0 ? detail : title);
    peri_buf_append_str(out, ",\"instance\":");
    peri_json_append_string(out, instance);
    peri_buf_append_str(out, ",\"request_id\":");
    peri_json_append_string(out, id);
    peri_buf_append_str(out, "}");
}
