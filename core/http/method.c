/* Method: names and numbers. */
#include "core/http/method.h"

#include <assert.h>
#include <string.h>

static const char *const method_names[PERI_METHODS] = {
    "GET",    "HEAD",    "POST",    "PUT",   "PATCH",
    "DELETE", "OPTIONS", "CONNECT", "TRACE", "OTHER",
};

static bool is(const char *text, const char *name, size_t length)
{
    return memcmp(text, name, length) == 0;
}

peri_method peri_method_parse(peri_slice name)
{
    const char *t = name.data;

    switch (name.length) {
    case 3:
        return is(t, "GET", 3)   ? PERI_METHOD_GET
               : is(t, "PUT", 3) ? PERI_METHOD_PUT
                                 : PERI_METHOD_OTHER;
    case 4:
        return is(t, "POST", 4)   ? PERI_METHOD_POST
               : is(t, "HEAD", 4) ? PERI_METHOD_HEAD
                                  : PERI_METHOD_OTHER;
    case 5:
        return is(t, "PATCH", 5)   ? PERI_METHOD_PATCH
               : is(t, "TRACE", 5) ? PERI_METHOD_TRACE
                                   : PERI_METHOD_OTHER;
    case 6:
        return is(t, "DELETE", 6) ? PERI_METHOD_DELETE : PERI_METHOD_OTHER;
    case 7:
        return is(t, "OPTIONS", 7)   ? PERI_METHOD_OPTIONS
               : is(t, "CONNECT", 7) ? PERI_METHOD_CONNECT
                                     : PERI_METHOD_OTHER;
    default:
        return PERI_METHOD_OTHER;
    }
}

const char *peri_method_name(peri_method method)
{
    return method < PERI_METHODS ? method_names[method] : "OTHER";
}

size_t peri_methods_format(uint32_t methods, char *out, size_t out_bytes)
{
    size_t at = 0;

    assert(out_bytes > 0);
    for (unsigned m = 0; m < PERI_METHOD_OTHER; m++) {
        size_t length = strlen(method_names[m]);
        size_t comma = at != 0 ? 2 : 0;

        if ((methods & (1u << m)) == 0 || at + comma + length >= out_bytes) {
            continue;
        }
        memcpy(out + at, ", ", comma);
        memcpy(out + at + comma, method_names[m], length);
        at += comma + length;
    }
    out[at] = '\0';
    return at;
}
