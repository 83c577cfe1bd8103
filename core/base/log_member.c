/* Log member: brackets are counted, nothing is proven. */
#include "core/base/log_member.h"

#include <string.h>

size_t peri_log_skip_blank(peri_slice text, size_t at)
{
    while (at < text.length && (text.data[at] == ' ' || text.data[at] == '\t' ||
                                text.data[at] == '\r')) {
        at++;
    }
    return at;
}

/* Behind the string that begins at `at`; 0: there is none. */
static size_t skip_string(peri_slice text, size_t at)
{
    if (at >= text.length || text.data[at] != '"') {
        return 0;
    }
    for (at++; at < text.length; at++) {
        if (text.data[at] == '"') {
            return at + 1;
        }
        if (text.data[at] == '\\') {
            at++;
        }
    }
    return 0;
}

/* Brackets are counted, not matched: this is for display. */
static size_t skip_nested(peri_slice text, size_t at)
{
    int depth = 0;

    while (at < text.length) {
        char c = text.data[at];

        if (c == '"') {
            at = skip_string(text, at);
            if (at == 0) {
                return 0;
            }
            continue;
        }
        at++;
        if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
            if (depth == 0) {
                return at;
            }
        }
    }
    return 0;
}

size_t peri_log_skip_value(peri_slice text, size_t at)
{
    size_t start = at;

    if (at >= text.length) {
        return 0;
    }
    if (text.data[at] == '"') {
        return skip_string(text, at);
    }
    if (text.data[at] == '{' || text.data[at] == '[') {
        return skip_nested(text, at);
    }
    while (at < text.length && strchr(",}] \t\r", text.data[at]) == NULL) {
        at++;
    }
    return at > start ? at : 0;
}

int peri_log_next(peri_slice object, size_t *at, peri_slice *key,
                  peri_slice *value)
{
    size_t from = peri_log_skip_blank(object, *at == 0 ? 1 : *at);
    size_t key_end;
    size_t end;

    if (object.length < 2 || object.data[0] != '{') {
        return -1;
    }
    if (from < object.length && object.data[from] == '}') {
        return peri_log_skip_blank(object, from + 1) == object.length ? 0 : -1;
    }
    if (*at != 0) {
        if (from >= object.length || object.data[from] != ',') {
            return -1;
        }
        from = peri_log_skip_blank(object, from + 1);
    }
    key_end = skip_string(object, from);
    if (key_end == 0) {
        return -1;
    }
    *key = peri_slice_part(object, from + 1, key_end - 1);
    from = peri_log_skip_blank(object, key_end);
    if (from >= object.length || object.data[from] != ':') {
        return -1;
    }
    from = peri_log_skip_blank(object, from + 1);
    end = peri_log_skip_value(object, from);
    if (end == 0) {
        return -1;
    }
    *value = peri_slice_part(object, from, end);
    *at = end;
    return 1;
}

peri_slice peri_log_member(peri_slice object, const char *key)
{
    peri_slice name;
    peri_slice value;
    size_t at = 0;

    while (peri_log_next(object, &at, &name, &value) > 0) {
        if (peri_slice_equal(name, peri_slice_str(key))) {
            return value;
        }
    }
    return (peri_slice){NULL, 0};
}
