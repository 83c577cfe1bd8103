/* Text code: bytes as base64, base64url and hexadecimal text, RFC 4648.
 *
 * Strict on input: one text for each string of bytes. No white space, no
 * missing or extra padding, no bits left over. */
#ifndef PERI_BASE_TEXT_CODE_H
#define PERI_BASE_TEXT_CODE_H

#include <stdbool.h>
#include <stddef.h>

typedef enum peri_base64 {
    PERI_BASE64,    /* + and /, padded with = */
    PERI_BASE64_URL /* - and _, never padded */
} peri_base64;

/* Room that encoding length bytes needs. */
static inline size_t peri_base64_room(size_t length)
{
    return (length + 2) / 3 * 4;
}

/* How many characters were written. */
size_t peri_base64_encode(peri_base64 kind, const char *data, size_t length,
                          char *out);

/* Room for out: length / 4 * 3 + 2. False when the text is malformed. */
bool peri_base64_decode(peri_base64 kind, const char *text, size_t length,
                        char *out, size_t *out_length);

/* Writes 2 * length characters, lower case; no NUL follows. */
void peri_hex_encode(const void *data, size_t length, char *out);

/* Writes length / 2 bytes. Either case is read. False when it is malformed. */
bool peri_hex_decode(const char *text, size_t length, char *out);

#endif
