/* Conditions: tags before times, as section 13.2.2 orders them. */
#include "core/http/condition.h"

#include "core/http/date.h"

static bool is_weak(peri_slice tag)
{
    return peri_slice_starts(tag, PERI_SLICE("W/"));
}

static peri_slice opaque(peri_slice tag)
{
    return is_weak(tag) ? peri_slice_of(tag.data + 2, tag.length - 2) : tag;
}

/* The next tag of a list; a malformed one ends it. */
static bool tag_next(peri_slice *list, peri_slice *tag)
{
    const char *p = list->data;
    const char *end = p + list->length;
    const char *from;
    const char *close;

    while (p < end && (*p == ' ' || *p == '\t' || *p == ',')) {
        p++;
    }
    from = p;
    if (end - p > 2 && p[0] == 'W' && p[1] == '/') {
        p += 2;
    }
    if (p == end || *p != '"') {
        return false;
    }
    close = memchr(p + 1, '"', (size_t)(end - p - 1));
    if (close == NULL) {
        return false;
    }
    *tag = peri_slice_of(from, (size_t)(close + 1 - from));
    *list = peri_slice_of(close + 1, (size_t)(end - close - 1));
    return true;
}

static bool list_has(peri_slice list, peri_slice tag, bool strong)
{
    peri_slice other;

    if (peri_slice_equal(list, PERI_SLICE("*"))) {
        return true;
    }
    while (tag_next(&list, &other)) {
        if (peri_slice_equal(opaque(other), opaque(tag)) &&
            !(strong && (is_weak(other) || is_weak(tag)))) {
            return true;
        }
    }
    return false;
}

int peri_condition_check(const peri_exchange *ex, peri_slice tag,
                         int64_t modified_seconds)
{
    peri_slice match = peri_exchange_field(ex, PERI_SLICE("if-match"));
    peri_slice none = peri_exchange_field(ex, PERI_SLICE("if-none-match"));
    peri_slice unmodified =
        peri_exchange_field(ex, PERI_SLICE("if-unmodified-since"));
    peri_slice modified =
        peri_exchange_field(ex, PERI_SLICE("if-modified-since"));
    int64_t seconds;

    if (match.data != NULL) {
        if (!list_has(match, tag, true)) {
            return 412;
        }
    } else if (unmodified.data != NULL &&
               peri_date_parse(unmodified, &seconds) == 0 &&
               modified_seconds > seconds) {
        return 412;
    }
    if (none.data != NULL) {
        return list_has(none, tag, false) ? 304 : 200;
    }
    if (modified.data != NULL && peri_date_parse(modified, &seconds) == 0 &&
        modified_seconds <= seconds) {
        return 304;
    }
    return 200;
}

bool peri_condition_range(const peri_exchange *ex, peri_slice tag,
                          int64_t modified_seconds)
{
    peri_slice version = peri_exchange_field(ex, PERI_SLICE("if-range"));
    int64_t seconds;

    if (version.data == NULL) {
        return true;
    }
    if (version.length != 0 && version.data[version.length - 1] == '"') {
        return !is_weak(tag) && peri_slice_equal(version, tag);
    }
    return peri_date_parse(version, &seconds) == 0 &&
           seconds == modified_seconds;
}
