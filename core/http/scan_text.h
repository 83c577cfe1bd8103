/* Classes of bytes in HTTP text. */
#ifndef PERI_HTTP_SCAN_TEXT_H
#define PERI_HTTP_SCAN_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PERI_CHAR_TOKEN = 1,  /* RFC 9110 tchar */
    PERI_CHAR_TARGET = 2, /* path and query, without '%' and '?' */
    PERI_CHAR_HOST = 4,   /* unreserved and sub-delims */
    PERI_CHAR_HEX = 8,
    PERI_CHAR_ID = 16, /* of an X-Request-Id */
    PERI_CHAR_DIGIT = 32,
};

extern const uint8_t peri_char_classes[256];

static inline bool peri_char_is(char c, uint8_t classes)
{
    return (peri_char_classes[(unsigned char)c] & classes) != 0;
}

/* name: lower case letters and '-' alone; text: a token of that length. */
static inline bool peri_token_is(const char *text, const char *name,
                                 size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if ((text[i] | 0x20) != name[i]) {
            return false;
        }
    }
    return true;
}

#endif
