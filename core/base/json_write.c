/* JSON write: plain characters by blocks, the others one by one. */
#include "core/base/json_write.h"

#include <stdint.h>

#include "core/base/json_scan.h"
#include "core/base/utf8.h"

#define PAGE_BYTES 4096u

#ifdef __SSE2__
/* The last bytes of a Lua string, fewer than a block, in one step: a block that
 * does not cross a page can be read whatever lies behind the string. */
__attribute__((no_sanitize("address"))) static inline const char *
copy_rest(const char *at, const char *end, char **to)
{
    size_t rest = (size_t)(end - at);
    unsigned plain;

    if (((uintptr_t)at & (PAGE_BYTES - 1)) > PAGE_BYTES - PERI_JSON_BLOCK) {
        for (; at < end && peri_json_is_plain(*at); at++) {
            *(*to)++ = *at;
        }
        return at;
    }
    _mm_storeu_si128((__m128i *)(void *)*to,
                     _mm_loadu_si128((const __m128i *)(const void *)at));
    plain = peri_json_block_plain(at);
    if (plain < rest) {
        rest = plain;
    }
    *to += rest;
    return at + rest;
}
#else
static inline const char *copy_rest(const char *at, const char *end, char **to)
{
    for (; at < end && peri_json_is_plain(*at); at++) {
        *(*to)++ = *at;
    }
    return at;
}
#endif

/* Copies plain characters; out has room for PERI_JSON_BLOCK more than there
 * are. */
static inline const char *copy_plain(const char *at, const char *end, char **to)
{
    while (end - at >= PERI_JSON_BLOCK) {
        unsigned plain = peri_json_block_plain(at);

        memcpy(*to, at, PERI_JSON_BLOCK);
        at += plain;
        *to += plain;
        if (plain != PERI_JSON_BLOCK) {
            return at;
        }
    }
    return copy_rest(at, end, to);
}

static size_t write_escape(unsigned char byte, char *out)
{
    static const char hex[] = "0123456789abcdef";
    static const char letters[] = "uuuuuuuubtnufruu";

    out[0] = '\\';
    if (byte >= 0x20) {
        out[1] = (char)byte;
        return 2;
    }
    out[1] = byte < 16 ? letters[byte] : 'u';
    if (out[1] != 'u') {
        return 2;
    }
    out[2] = '0';
    out[3] = '0';
    out[4] = hex[byte >> 4];
    out[5] = hex[byte & 15];
    return 6;
}

/* Writes what is not plain at at; returns what is behind it, NULL when it is
 * not UTF-8. */
static const char *copy_special(const char *at, const char *end, char **to)
{
    if ((unsigned char)*at < 0x80) {
        *to += write_escape((unsigned char)*at, *to);
        return at + 1;
    }
    while (at < end && (unsigned char)*at >= 0x80) {
        size_t width = peri_utf8_width(at, (size_t)(end - at));

        if (width == 0) {
            return NULL;
        }
        for (size_t i = 0; i < width; i++) {
            *(*to)++ = *at++;
        }
    }
    return at;
}

/* The text from at on, which is not plain, and the closing quote. */
static int write_special(peri_buf *out, const char *at, const char *end,
                         char *to)
{
    while (at != end) {
        out->length = (size_t)(to - out->data);
        if (peri_buf_reserve(out, (size_t)(end - at) + 8 + PERI_JSON_BLOCK +
                                      PERI_JSON_TAIL) < 0) {
            return PERI_ELIMIT;
        }
        to = out->data + out->length;
        at = copy_special(at, end, &to);
        if (at == NULL) {
            return PERI_EFORMAT;
        }
        at = copy_plain(at, end, &to);
    }
    *to++ = '"';
    out->length = (size_t)(to - out->data);
    return 0;
}

int peri_json_write_string(peri_buf *out, char mark, peri_slice text)
{
    const char *at = text.data;
    const char *end = text.data + text.length;
    char *to;

    if (peri_buf_reserve(out, text.length + 3 + PERI_JSON_BLOCK +
                                  PERI_JSON_TAIL) < 0) {
        return PERI_ELIMIT;
    }
    to = out->data + out->length;
    *to = mark;
    to += mark != '\0';
    *to++ = '"';
    at = copy_plain(at, end, &to);
    if (at != end) {
        return write_special(out, at, end, to);
    }
    *to++ = '"';
    out->length = (size_t)(to - out->data);
    return 0;
}
