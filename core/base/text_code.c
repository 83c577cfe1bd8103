/* Text code: tables and loops. */
#include "core/base/text_code.h"

#include <endian.h>
#include <stdint.h>
#include <string.h>

static const char base64_letters[2][65] = {
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"};

size_t peri_base64_encode(peri_base64 kind, const char *data, size_t length,
                          char *out)
{
    const unsigned char *in = (const unsigned char *)data;
    const char *letters = base64_letters[kind];
    char *to = out;

    for (; length >= 3; length -= 3, in += 3) {
        uint32_t bits = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];

        *to++ = letters[bits >> 18];
        *to++ = letters[bits >> 12 & 63];
        *to++ = letters[bits >> 6 & 63];
        *to++ = letters[bits & 63];
    }
    if (length != 0) {
        uint32_t bits = (uint32_t)in[0] << 16;

        bits |= length == 2 ? (uint32_t)in[1] << 8 : 0;
        *to++ = letters[bits >> 18];
        *to++ = letters[bits >> 12 & 63];
        if (length == 2) {
            *to++ = letters[bits >> 6 & 63];
        }
        for (; kind == PERI_BASE64 && length < 3; length++) {
            *to++ = '=';
        }
    }
    return (size_t)(to - out);
}

/* 0 to 63; 64 for what is no letter. */
static uint32_t base64_value(peri_base64 kind, char c)
{
    if (c >= 'A' && c <= 'Z') {
        return (uint32_t)(c - 'A');
    }
    if (c >= 'a' && c <= 'z') {
        return (uint32_t)(c - 'a') + 26;
    }
    if (c >= '0' && c <= '9') {
        return (uint32_t)(c - '0') + 52;
    }
    if (c == base64_letters[kind][62]) {
        return 62;
    }
    return c == base64_letters[kind][63] ? 63 : 64;
}

static bool base64_strip(peri_base64 kind, const char *text, size_t *length)
{
    if (kind == PERI_BASE64_URL) {
        return *length % 4 != 1;
    }
    if (*length % 4 != 0) {
        return false;
    }
    for (int i = 0; i < 2 && *length > 0 && text[*length - 1] == '='; i++) {
        (*length)--;
    }
    return *length % 4 != 1;
}

bool peri_base64_decode(peri_base64 kind, const char *text, size_t length,
                        char *out, size_t *out_length)
{
    char *to = out;
    uint32_t bits = 0;
    int held = 0;

    if (!base64_strip(kind, text, &length)) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        uint32_t value = base64_value(kind, text[i]);

        if (value == 64) {
            return false;
        }
        bits = bits << 6 | value;
        held += 6;
        if (held >= 8) {
            held -= 8;
            *to++ = (char)(bits >> held & 0xff);
        }
    }
    *out_length = (size_t)(to - out);
    return (bits & ((1u << held) - 1)) == 0;
}

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* The eight digits of n, all at once; the first in the lowest byte. */
static uint64_t hex_digits(uint32_t n)
{
    uint64_t v = (uint64_t)(n & 0xffff) << 32 | n >> 16;
    uint64_t letters;

    v = ((v & UINT64_C(0x000000ff000000ff)) << 16) |
        (v >> 8 & UINT64_C(0x000000ff000000ff));
    v = ((v & UINT64_C(0x000f000f000f000f)) << 8) |
        (v >> 4 & UINT64_C(0x000f000f000f000f));
    letters = (v + EACH(6)) >> 4 & EACH(1);
    return v + EACH('0') + letters * ('a' - '0' - 10);
}

static void encode_four(const char *in, char *out)
{
    uint64_t digits;
    uint32_t bytes;

    memcpy(&bytes, in, sizeof bytes);
    digits = htole64(hex_digits(be32toh(bytes)));
    memcpy(out, &digits, sizeof digits);
}

void peri_hex_encode(const void *data, size_t length, char *out)
{
    const char *in = data;
    char rest[4] = "";
    char digits[8];
    size_t at = 0;

    for (; at + 4 <= length; at += 4) {
        encode_four(in + at, out + 2 * at);
    }
    if (at < length) {
        memcpy(rest, in + at, length - at);
        encode_four(rest, digits);
        memcpy(out + 2 * at, digits, 2 * (length - at));
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool peri_hex_decode(const char *text, size_t length, char *out)
{
    if (length % 2 != 0) {
        return false;
    }
    for (size_t i = 0; i < length; i += 2) {
        int high = hex_value(text[i]);
        int low = hex_value(text[i + 1]);

        if (high < 0 || low < 0) {
            return false;
        }
        out[i / 2] = (char)(high << 4 | low);
    }
    return true;
}
