/* Route pattern: its segments are looked at once, where it is declared. */
#include "core/http/route_pattern.h"

#include <string.h>

static bool name_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

/* A request's path is ASCII; a pattern may be written as people read it. */
static char *encode_pattern(peri_arena *arena, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t length = strlen(text);
    char *out = peri_arena_alloc(arena, length * 3 + 1);
    size_t at = 0;

    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c > 0x20 && c < 0x7f) {
            out[at++] = (char)c;
        } else {
            out[at++] = '%';
            out[at++] = hex[c >> 4];
            out[at++] = hex[c & 15];
        }
    }
    out[at] = '\0';
    return out;
}

static const char *parse_name(peri_route_pattern *p, peri_slice name)
{
    if (name.length == 0) {
        return "a parameter needs a name";
    }
    for (size_t i = 0; i < name.length; i++) {
        if (!name_char(name.data[i], i == 0)) {
            return "a parameter is a whole segment and its name has letters, "
                   "digits and underscores";
        }
    }
    for (uint16_t i = 0; i < p->param_count; i++) {
        if (peri_slice_equal(p->names[i], name)) {
            return "two parameters have the same name";
        }
    }
    if (p->param_count == PERI_ROUTE_PARAMS_MAX) {
        return "too many parameters";
    }
    p->names[p->param_count++] = name;
    return NULL;
}

static const char *parse_segment(peri_route_pattern *p, const char *segment,
                                 size_t length, bool last)
{
    if (++p->segment_count > PERI_ROUTER_SEGMENTS_MAX) {
        return "too many segments";
    }
    if (length != 0 && segment[0] == ':') {
        return parse_name(p, peri_slice_of(segment + 1, length - 1));
    }
    if (length != 0 && segment[0] == '*') {
        return last ? parse_name(p, peri_slice_of(segment + 1, length - 1))
                    : "*rest must be the last segment";
    }
    if (memchr(segment, '*', length) != NULL) {
        return "* stands only at the start of a segment";
    }
    if (memchr(segment, '?', length) != NULL ||
        memchr(segment, '#', length) != NULL) {
        return "a path has no ? or #";
    }
    return NULL;
}

const char *peri_route_pattern_parse(peri_arena *arena, const char *text,
                                     peri_route_pattern *p)
{
    const char *at;

    *p = (peri_route_pattern){.text = encode_pattern(arena, text)};
    at = p->text;
    if (*at != '/') {
        return "a path begins with a slash";
    }
    while (at != NULL) {
        const char *slash = strchr(++at, '/');
        size_t length = slash != NULL ? (size_t)(slash - at) : strlen(at);
        const char *fault = parse_segment(p, at, length, slash == NULL);

        if (fault != NULL) {
            return fault;
        }
        at = slash;
    }
    return NULL;
}
