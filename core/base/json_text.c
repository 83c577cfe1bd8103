/* JSON text: string escaping, RFC 8259 section 7. */
#include "core/base/json_text.h"

#include "core/base/utf8.h"

static int append_escape(peri_buf *buf, unsigned char byte)
{
    switch (byte) {
    case '"':
        return peri_buf_append(buf, "\\\"", 2);
    case '\\':
        return peri_buf_append(buf, "\\\\", 2);
    case '\n':
        return peri_buf_append(buf, "\\n", 2);
    case '\r':
        return peri_buf_append(buf, "\\r", 2);
    case '\t':
        return peri_buf_append(buf, "\\t", 2);
    default:
        return peri_buf_printf(buf, "\\u%04x", byte);
    }
}

static int append_body(peri_buf *buf, peri_slice text)
{
    size_t start = 0;
    size_t at = 0;

    while (at < text.length) {
        unsigned char byte = (unsigned char)text.data[at];
        size_t width;

        if (byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\') {
            at++;
            continue;
        }
        width = peri_utf8_width(text.data + at, text.length - at);
        if (width > 1) {
            at += width;
            continue;
        }
        if (peri_buf_append(buf, text.data + start, at - start) < 0 ||
            (byte >= 0x80 ? peri_buf_append(buf, "\xef\xbf\xbd", 3)
                          : append_escape(buf, byte)) < 0) {
            return PERI_ELIMIT;
        }
        start = ++at;
    }
    return peri_buf_append(buf, text.data + start, at - start);
}

int peri_json_append_string(peri_buf *buf, peri_slice text)
{
    size_t length = buf->length;

    if (peri_buf_append_byte(buf, '"') == 0 && append_body(buf, text) == 0 &&
        peri_buf_append_byte(buf, '"') == 0) {
        return 0;
    }
    buf->length = length;
    return PERI_ELIMIT;
}
