/* UTF-8: the table of well-formed sequences (Unicode 15, table 3-7). */
#include "core/base/utf8.h"

#include <stdint.h>
#include <string.h>

static bool in_range(unsigned char byte, unsigned char low, unsigned char high)
{
    return byte >= low && byte <= high;
}

static bool all_tails(const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!in_range(bytes[i], 0x80, 0xbf)) {
            return false;
        }
    }
    return true;
}

size_t peri_utf8_width(const char *text, size_t length)
{
    const unsigned char *b = (const unsigned char *)text;
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    size_t width;

    if (length == 0) {
        return 0;
    }
    if (b[0] < 0x80) {
        return 1;
    }
    if (in_range(b[0], 0xc2, 0xdf)) {
        width = 2;
    } else if (in_range(b[0], 0xe0, 0xef)) {
        width = 3;
        low = b[0] == 0xe0 ? 0xa0 : 0x80;
        high = b[0] == 0xed ? 0x9f : 0xbf;
    } else if (in_range(b[0], 0xf0, 0xf4)) {
        width = 4;
        low = b[0] == 0xf0 ? 0x90 : 0x80;
        high = b[0] == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (length < width || !in_range(b[1], low, high) ||
        !all_tails(b + 2, width - 2)) {
        return 0;
    }
    return width;
}

/* Bytes of ASCII at the start of text, by eights and then by ones. */
static size_t ascii_span(const char *text, size_t length)
{
    size_t at = 0;
    uint64_t word;

    while (length - at >= sizeof word) {
        memcpy(&word, text + at, sizeof word);
        if ((word & 0x8080808080808080u) != 0) {
            break;
        }
        at += sizeof word;
    }
    while (at < length && (unsigned char)text[at] < 0x80) {
        at++;
    }
    return at;
}

/* The width of the usual characters of two or three bytes; 0 for any other. */
static inline size_t usual_width(const unsigned char *b, size_t length)
{
    uint32_t c;

    if (length >= 3 && (b[0] & 0xf0) == 0xe0 && (b[1] & 0xc0) == 0x80 &&
        (b[2] & 0xc0) == 0x80) {
        c = (b[0] & 0xfu) << 12 | (b[1] & 0x3fu) << 6;
        return c >= 0x800 && (c & 0xf800) != 0xd800 ? 3 : 0;
    }
    if (length >= 2 && in_range(b[0], 0xc2, 0xdf) && (b[1] & 0xc0) == 0x80) {
        return 2;
    }
    return 0;
}

size_t peri_utf8_span(const char *text, size_t length)
{
    size_t at = ascii_span(text, length);

    while (at < length) {
        size_t width =
            usual_width((const unsigned char *)text + at, length - at);

        if (width == 0) {
            width = peri_utf8_width(text + at, length - at);
            if (width == 0) {
                return at;
            }
        }
        at += width;
        if (at < length && (unsigned char)text[at] < 0x80) {
            at += ascii_span(text + at, length - at);
        }
    }
    return at;
}

bool peri_utf8_valid(const char *text, size_t length)
{
    return peri_utf8_span(text, length) == length;
}
