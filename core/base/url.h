/* URL text: percent-decoding (RFC 3986, section 2.1). */
#ifndef PERI_BASE_URL_H
#define PERI_BASE_URL_H

#include <stdbool.h>

#include "core/base/slice.h"

/* Decodes into out, which has room for text.length bytes; returns the length.
 * plus: '+' is a space, as in forms and queries. Bad escapes stay as they
 * are. */
size_t peri_url_decode(peri_slice text, bool plus, char *out);

#endif
