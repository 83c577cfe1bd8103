/* Accept: which text form of metrics a client wants. */
#include <stdlib.h>
#include <string.h>

#include "core/cluster/master_state.h"

/* The q of a media range, of its parameters; 1 unless it says so. */
static double quality(peri_slice range)
{
    for (size_t i = 0; i + 2 < range.length; i++) {
        if (range.data[i] == ';' || range.data[i] == ' ') {
            const char *at = &range.data[i + 1];

            if ((at[0] == 'q' || at[0] == 'Q') && at[1] == '=') {
                char number[8] = {0};
                size_t left = range.length - i - 3;

                memcpy(number, at + 2, left < 7 ? left : 7);
                return strtod(number, NULL);
            }
        }
    }
    return 1;
}

/* Without version, or 1.0.0: another is none of ours. */
static bool is_ours(peri_slice range)
{
    const char *version =
        memmem(range.data, range.length, "version=", strlen("version="));

    if (version == NULL) {
        return true;
    }
    version += strlen("version=");
    version += version < range.data + range.length && *version == '"';
    return peri_slice_starts(
        peri_slice_of(version, (size_t)(range.data + range.length - version)),
        PERI_SLICE("1.0.0"));
}

bool peri_accepts_openmetrics(peri_slice accept)
{
    const peri_slice name = PERI_SLICE("application/openmetrics-text");
    double open = 0;
    double plain = 0;

    for (size_t at = 0; at < accept.length;) {
        const char *end = memchr(accept.data + at, ',', accept.length - at);
        size_t length =
            end != NULL ? (size_t)(end - accept.data) - at : accept.length - at;
        peri_slice range = {accept.data + at, length};

        at += length + 1;
        while (range.length > 0 && range.data[0] == ' ') {
            range.data++;
            range.length--;
        }
        if (range.length >= name.length &&
            strncasecmp(range.data, name.data, name.length) == 0) {
            open =
                is_ours(range) && quality(range) > open ? quality(range) : open;
        } else if (peri_slice_starts(range, PERI_SLICE("text/")) ||
                   peri_slice_starts(range, PERI_SLICE("*/*"))) {
            plain = quality(range) > plain ? quality(range) : plain;
        }
    }
    return open > 0 && open >= plain;
}
