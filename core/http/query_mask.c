/* Query: credentials are masked, by the names that signed URLs of clouds have.
 */
#include "core/http/query_mask.h"

#include <string.h>

#define REDACTED "REDACTED"

/* Case matters, says the convention. */
static bool is_credential(peri_slice name)
{
    static const char *const names[] = {
        "sig",
        "Signature",
        "AWSAccessKeyId",
        "X-Amz-Credential",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Goog-Signature",
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (peri_slice_equal(name, peri_slice_str(names[i]))) {
            return true;
        }
    }
    return false;
}

/* The next "name=value" of *at, which moves behind its '&'. *value: what
 * follows '=', or NULL data. False at the end. */
static bool next_pair(const char **at, const char *end, peri_slice *name,
                      peri_slice *value)
{
    const char *from = *at;
    const char *stop;
    const char *equals;

    if (from == NULL) {
        return false;
    }
    stop = memchr(from, '&', (size_t)(end - from));
    *at = stop != NULL ? stop + 1 : NULL;
    stop = stop != NULL ? stop : end;
    equals = memchr(from, '=', (size_t)(stop - from));
    if (equals == NULL) {
        *name = peri_slice_of(from, (size_t)(stop - from));
        *value = (peri_slice){NULL, 0};
    } else {
        *name = peri_slice_of(from, (size_t)(equals - from));
        *value = peri_slice_of(equals + 1, (size_t)(stop - equals - 1));
    }
    return true;
}

bool peri_query_mask(peri_slice query, peri_buf *out)
{
    const char *at = query.data;
    const char *end = query.data + query.length;
    const char *told = query.data; /* up to here it is in out */
    peri_slice name;
    peri_slice value;

    while (next_pair(&at, end, &name, &value)) {
        if (value.data != NULL && is_credential(name)) {
            peri_buf_append(out, told, (size_t)(value.data - told));
            peri_buf_append_str(out, REDACTED);
            told = value.data + value.length;
        }
    }
    if (told == query.data) {
        return false;
    }
    peri_buf_append(out, told, (size_t)(end - told));
    return true;
}
