/* UTF-8, RFC 3629: no overlong forms, no surrogates, nothing over U+10FFFF. */
#ifndef PERI_BASE_UTF8_H
#define PERI_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the well-formed character at text, 1 to 4; 0 when there is none. */
size_t peri_utf8_width(const char *text, size_t length);

/* How many bytes from the start on are well formed. */
size_t peri_utf8_span(const char *text, size_t length);

/* Whether all of it is well formed. */
bool peri_utf8_valid(const char *text, size_t length);

#endif
