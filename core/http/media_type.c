/* Media type: what a request says its body is. */
#include "core/http/media_type.h"

#define SUFFIX PERI_SLICE("+json")

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

bool peri_media_type_is_json(peri_slice media_type)
{
    const char *at = media_type.data;
    const char *end = at + media_type.length;
    peri_slice kind;

    while (at < end && is_blank(*at)) {
        at++;
    }
    kind = peri_slice_of(at, 0);
    while (at < end && *at != ';' && !is_blank(*at)) {
        at++;
    }
    kind.length = (size_t)(at - kind.data);
    if (peri_slice_equal_nocase(kind, PERI_SLICE("application/json"))) {
        return true;
    }
    return kind.length > SUFFIX.length &&
           peri_slice_equal_nocase(
               peri_slice_of(at - SUFFIX.length, SUFFIX.length), SUFFIX);
}

bool peri_exchange_may_be_json(const peri_exchange *ex)
{
    bool given = false;

    for (uint16_t i = 0; i < ex->field_count; i++) {
        if (!peri_slice_equal_nocase(peri_exchange_text(ex, ex->fields[i].name),
                                     PERI_SLICE("content-type"))) {
            continue;
        }
        if (given || !peri_media_type_is_json(
                         peri_exchange_text(ex, ex->fields[i].value))) {
            return false;
        }
        given = true;
    }
    return true;
}
