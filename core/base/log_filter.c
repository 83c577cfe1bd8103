/* Log filter. */
#include "core/base/log_filter.h"

#include "core/base/log_head.h"
#include "core/base/log_member.h"

/* Up to the next '/', which both lose with it. */
static peri_slice next_segment(peri_slice *path)
{
    const char *slash =
        path->length > 0 ? memchr(path->data, '/', path->length) : NULL;
    size_t length = slash != NULL ? (size_t)(slash - path->data) : path->length;
    peri_slice segment = peri_slice_of(path->data, length);

    path->data += length + (slash != NULL);
    path->length -= length + (slash != NULL);
    return segment;
}

bool peri_route_covers(const char *route, peri_slice path)
{
    peri_slice pattern = peri_slice_str(route);

    while (pattern.length > 0 && path.length > 0) {
        peri_slice want = next_segment(&pattern);
        peri_slice have = next_segment(&path);

        if (want.length > 0 && want.data[0] == '*') {
            return true;
        }
        if (want.length > 0 && want.data[0] == ':') {
            if (have.length == 0) {
                return false;
            }
        } else if (!peri_slice_equal(want, have)) {
            return false;
        }
    }
    return path.length == 0 && (pattern.length == 0 || pattern.data[0] == '*');
}

/* Without its quotes; NULL data when it is no string. */
static peri_slice text_of(peri_slice value)
{
    if (value.length < 2 || value.data[0] != '"') {
        return (peri_slice){NULL, 0};
    }
    return peri_slice_of(value.data + 1, value.length - 2);
}

static bool is_of_route(const char *route, peri_slice line)
{
    peri_slice named = text_of(peri_log_member(line, "route"));
    peri_slice url =
        text_of(peri_log_member(peri_log_member(line, "req"), "url"));
    const char *query;

    if (named.data != NULL) {
        return peri_slice_equal(named, peri_slice_str(route));
    }
    if (url.data == NULL) {
        return false;
    }
    query = url.length > 0 ? memchr(url.data, '?', url.length) : NULL;
    if (query != NULL) {
        url.length = (size_t)(query - url.data);
    }
    return peri_route_covers(route, url);
}

bool peri_log_filter_passes(const peri_log_filter *filter, peri_slice line)
{
    while (line.length > 0 && (line.data[line.length - 1] == '\n' ||
                               line.data[line.length - 1] == '\r')) {
        line.length--;
    }
    if (filter->level != 0) {
        peri_slice level = peri_log_member(line, "level");

        if (peri_log_level_of(level) < filter->level) {
            return false;
        }
    }
    if (filter->trace_id != NULL &&
        !peri_slice_starts(text_of(peri_log_member(line, "trace_id")),
                           peri_slice_str(filter->trace_id))) {
        return false;
    }
    return filter->route == NULL || is_of_route(filter->route, line);
}
