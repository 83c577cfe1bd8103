/* Method: those of HTTP that are routed. A set of them is bits 1 <<
 * peri_method.
 */
#ifndef PERI_HTTP_METHOD_H
#define PERI_HTTP_METHOD_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/slice.h"

typedef enum peri_method {
    PERI_METHOD_GET,
    PERI_METHOD_HEAD,
    PERI_METHOD_POST,
    PERI_METHOD_PUT,
    PERI_METHOD_PATCH,
    PERI_METHOD_DELETE,
    PERI_METHOD_OPTIONS,
    PERI_METHOD_CONNECT,
    PERI_METHOD_TRACE,
    PERI_METHOD_OTHER, /* a well-formed token that we do not route: 501 */
    PERI_METHODS
} peri_method;

/* Case-sensitive, RFC 9110 section 9.1. OTHER when unknown. */
peri_method peri_method_parse(peri_slice name);
const char *peri_method_name(peri_method method);

/* Of a set: "GET, HEAD, OPTIONS" for an Allow field; returns the length. */
size_t peri_methods_format(uint32_t methods, char *out, size_t out_bytes);

#endif
