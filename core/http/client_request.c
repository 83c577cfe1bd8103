/* Client request: what goes out, proven to be one request. */
#include "core/base/err.h"
#include "core/http/client_internal.h"
#include "core/http/scan_text.h"

static bool is_token(peri_slice text)
{
    for (size_t i = 0; i < text.length; i++) {
        if (!peri_char_is(text.data[i], PERI_CHAR_TOKEN)) {
            return false;
        }
    }
    return text.length > 0;
}

/* No byte that ends a line or a target early. */
static bool is_clean(peri_slice text, unsigned char above)
{
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if ((c <= above && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

bool peri_call_is_sound(const peri_call_options *o)
{
    if (!is_clean(o->tunnel, ' ') || !is_clean(o->tunnel_auth, 0x1f) ||
        !is_token(o->method) || o->target.length == 0 ||
        !is_clean(o->target, ' ') ||
        memchr(o->target.data, '\t', o->target.length) != NULL) {
        return false;
    }
    for (size_t i = 0; i < o->field_count; i++) {
        if (!is_token(o->fields[i].name) ||
            !is_clean(o->fields[i].value, 0x1f)) {
            return false;
        }
    }
    return true;
}

bool peri_call_method_in(peri_slice method, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (peri_slice_equal(method, peri_slice_str(*names))) {
            return true;
        }
    }
    return false;
}

static void write_framing(peri_call *call, const peri_call_options *o)
{
    static const char *const with_body[] = {"POST", "PUT", "PATCH", NULL};
    peri_buf *out = &call->request;

    if (o->streams_body) {
        peri_buf_append_str(out, "transfer-encoding: chunked\r\n");
    } else if (o->body.length > 0 ||
               peri_call_method_in(o->method, with_body)) {
        peri_buf_append_str(out, "content-length: ");
        peri_buf_append_u64(out, o->body.length);
        peri_buf_append_str(out, "\r\n");
    }
}

static void write_head(peri_buf *out, const peri_call_options *o)
{
    peri_buf_append_slice(out, o->method);
    peri_buf_append_byte(out, ' ');
    peri_buf_append_slice(out, o->target);
    peri_buf_append_str(out, " HTTP/1.1\r\n");
}

static void write_fields(peri_buf *out, const peri_call_options *o)
{
    for (size_t i = 0; i < o->field_count; i++) {
        peri_buf_append_slice(out, o->fields[i].name);
        peri_buf_append_str(out, ": ");
        peri_buf_append_slice(out, o->fields[i].value);
        peri_buf_append_str(out, "\r\n");
    }
}

void peri_call_write_request(peri_call *call, const peri_call_options *o)
{
    peri_buf *out = &call->request;

    if (o->prepared.length > 0) {
        peri_buf_append_slice(out, o->prepared);
    } else {
        write_head(out, o);
    }
    write_fields(out, o);
    write_framing(call, o);
    peri_buf_append_str(out, "\r\n");
    peri_buf_append_slice(out, o->body);
}

int peri_call_prepare(const peri_call_options *options, peri_buf *out)
{
    if (!peri_call_is_sound(options)) {
        return PERI_EFORMAT;
    }
    write_head(out, options);
    write_fields(out, options);
    return 0;
}
