/* Log redaction: reading paths. */
#include "bindings/log_redact.h"

#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/err.h"

void perilua_redact_fini(perilua_redact *redact)
{
    for (int i = 0; i < redact->count; i++) {
        for (int k = 0; k < redact->paths[i].length; k++) {
            free(redact->paths[i].segments[k]);
        }
    }
    redact->count = 0;
}

/* The next segment of a path: up to a dot or a bracket, or inside of one. */
static peri_slice next_segment(peri_slice *path)
{
    peri_slice segment;
    size_t length = 0;

    if (path->data[0] == '[') {
        const char *end = memchr(path->data, ']', path->length);
        size_t inside =
            end != NULL ? (size_t)(end - path->data) - 1 : path->length - 1;

        segment = peri_slice_of(path->data + 1, inside);
        if (inside >= 2 &&
            (segment.data[0] == '"' || segment.data[0] == '\'')) {
            segment = peri_slice_of(segment.data + 1, inside - 2);
        }
        length = end != NULL ? inside + 2 : path->length;
    } else {
        while (length < path->length && path->data[length] != '.' &&
               path->data[length] != '[') {
            length++;
        }
        segment = peri_slice_of(path->data, length);
    }
    if (length < path->length && path->data[length] == '.') {
        length++;
    }
    path->data += length;
    path->length -= length;
    return segment;
}

int perilua_redact_add(perilua_redact *redact, peri_slice path)
{
    int i = redact->count;

    if (i == PERILUA_LOG_REDACT_MAX) {
        return PERI_ELIMIT;
    }
    redact->paths[i].length = 0;
    redact->count++;
    while (path.length != 0) {
        peri_slice segment = next_segment(&path);
        int at = redact->paths[i].length;

        if (at == PERILUA_LOG_SEGMENTS_MAX || segment.length == 0) {
            return PERI_EFORMAT;
        }
        redact->paths[i].segments[at] =
            peri_strndup(segment.data, segment.length);
        redact->paths[i].length++;
    }
    return redact->paths[i].length != 0 ? 0 : PERI_EFORMAT;
}
