/* JSON unescape: escapes and UTF-8, one by one. */
#include "core/base/json_unescape.h"

#include <stddef.h>
#include <string.h>

#include "core/base/json_scan.h"
#include "core/base/utf8.h"

/* The four digits at at; negative when they are none. */
static int read_hex(const char *at, const char *end)
{
    int value = 0;

    if (end - at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int c = (unsigned char)at[i];
        int letter = c | 0x20;

        if (c >= '0' && c <= '9') {
            value = value * 16 + c - '0';
        } else if (letter >= 'a' && letter <= 'f') {
            value = value * 16 + letter - 'a' + 10;
        } else {
            return -1;
        }
    }
    return value;
}

static char *put_utf8(char *to, int c)
{
    if (c < 0x80) {
        *to++ = (char)c;
        return to;
    }
    if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *to++ = (char)(0xe0 | c >> 12);
        } else {
            *to++ = (char)(0xf0 | c >> 18);
            *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        }
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
    }
    *to++ = (char)(0x80 | (c & 0x3f));
    return to;
}

/* at is behind "\u"; returns what is behind the escape, or NULL. */
static const char *unescape_unicode(const char *at, const char *end, char **to)
{
    int c = read_hex(at, end);
    int low;

    at += 4;
    if (c < 0 || (c >= 0xdc00 && c <= 0xdfff)) {
        return NULL;
    }
    if (c >= 0xd800 && c <= 0xdbff) {
        if (end - at < 6 || at[0] != '\\' || at[1] != 'u') {
            return NULL;
        }
        low = read_hex(at + 2, end);
        if (low < 0xdc00 || low > 0xdfff) {
            return NULL;
        }
        at += 6;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    *to = put_utf8(*to, c);
    return at;
}

static char escape_of(char c)
{
    switch (c) {
    case '"':
    case '\\':
    case '/':
        return c;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return '\0';
    }
}

/* One escape or one character over 0x7f; NULL and why when it is wrong. */
static const char *read_special(const char *at, const char *end, char **to,
                                const char **why)
{
    size_t width;

    if (*at == '\\') {
        at++;
        if (at < end && *at == 'u') {
            *why = "an escape that is no character";
            return unescape_unicode(at + 1, end, to);
        }
        *why = "an unknown escape";
        if (at == end || escape_of(*at) == '\0') {
            return NULL;
        }
        *(*to)++ = escape_of(*at);
        return at + 1;
    }
    if ((unsigned char)*at < 0x20) {
        *why = "a control character in a string";
        return NULL;
    }
    *why = "a string that is not UTF-8";
    width = peri_utf8_width(at, (size_t)(end - at));
    if (width == 0) {
        return NULL;
    }
    for (size_t i = 0; i < width; i++) {
        *(*to)++ = at[i];
    }
    return at + width;
}

const char *peri_json_unescape(const char *at, const char *end, char **to,
                               const char **why)
{
    while (at < end) {
        const char *plain = at;

        at = peri_json_skip_plain(at, end);
        memcpy(*to, plain, (size_t)(at - plain));
        *to += at - plain;
        while (at < end && !peri_json_is_plain(*at)) {
            const char *next = read_special(at, end, to, why);

            if (next == NULL) {
                return at;
            }
            at = next;
        }
    }
    return at;
}
