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

/* The inside of brackets at the start of path: "*", an index, or a name in
 * quotes, which may hold anything else. How many bytes it takes with them; 0:
 * they do not end. */
static size_t bracketed(peri_slice path, peri_slice *segment)
{
    char quote = path.length > 1 ? path.data[1] : '\0';
    size_t from = quote == '"' || quote == '\'' ? 2 : 1;
    char last = from == 2 ? quote : ']';
    const char *end = path.length > from
                          ? memchr(path.data + from, last, path.length - from)
                          : NULL;
    size_t length;

    if (end == NULL) {
        return 0;
    }
    *segment =
        peri_slice_of(path.data + from, (size_t)(end - path.data) - from);
    length = (size_t)(end - path.data) + from; /* behind the bracket */
    return length <= path.length && path.data[length - 1] == ']' ? length : 0;
}

/* Takes the next segment off the front of a path: up to a dot or a bracket, or
 * what is between two. False: it is malformed. */
static bool next_segment(peri_slice *path, peri_slice *segment)
{
    size_t length = 0;

    if (path->data[0] == '[') {
        length = bracketed(*path, segment);
    } else {
        while (length < path->length && path->data[length] != '.' &&
               path->data[length] != '[') {
            length++;
        }
        *segment = peri_slice_of(path->data, length);
    }
    if (length == 0 || segment->length == 0) {
        return false;
    }
    path->data += length;
    path->length -= length;
    if (path->length > 0 && path->data[0] == '.') {
        path->data++;
        path->length--;
        return path->length > 0 && path->data[0] != '[';
    }
    return path->length == 0 || path->data[0] == '[';
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
        peri_slice segment;
        int at = redact->paths[i].length;

        if (at == PERILUA_LOG_SEGMENTS_MAX || !next_segment(&path, &segment)) {
            return PERI_EFORMAT;
        }
        redact->paths[i].segments[at] =
            peri_strndup(segment.data, segment.length);
        redact->paths[i].length++;
    }
    return redact->paths[i].length != 0 ? 0 : PERI_EFORMAT;
}

bool perilua_redact_covers(const perilua_redact *redact,
                           const char *const *names)
{
    for (int i = 0; i < redact->count; i++) {
        int k = 0;

        while (k < redact->paths[i].length && names[k] != NULL &&
               (strcmp(redact->paths[i].segments[k], "*") == 0 ||
                strcmp(redact->paths[i].segments[k], names[k]) == 0)) {
            k++;
        }
        if (k == redact->paths[i].length && names[k] == NULL) {
            return true;
        }
    }
    return false;
}
