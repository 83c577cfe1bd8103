/* Accept: which form of metrics a client wants. */
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

/* What a parameter says, without quotes; empty: it is not there. */
static peri_slice parameter(peri_slice range, peri_slice name)
{
    const char *end = range.data + range.length;

    for (const char *at = range.data; at < end; at++) {
        const char *stop;

        if (*at != ';') {
            continue;
        }
        do {
            at++;
        } while (at < end && *at == ' ');
        if ((size_t)(end - at) <= name.length || at[name.length] != '=' ||
            strncasecmp(at, name.data, name.length) != 0) {
            at--; /* it may be a semicolon itself */
            continue;
        }
        at += name.length + 1;
        at += at < end && *at == '"';
        for (stop = at; stop < end && strchr("\"; ", *stop) == NULL; stop++) {
        }
        return peri_slice_of(at, (size_t)(stop - at));
    }
    return PERI_SLICE("");
}

static bool is_type(peri_slice range, peri_slice type)
{
    return range.length >= type.length &&
           strncasecmp(range.data, type.data, type.length) == 0 &&
           (range.length == type.length ||
            strchr("; ", range.data[type.length]) != NULL);
}

/* The form that a media range asks for; -1: none of ours. */
static int form_of(peri_slice range)
{
    if (is_type(range, PERI_SLICE("application/openmetrics-text"))) {
        peri_slice version = parameter(range, PERI_SLICE("version"));

        return version.length == 0 ||
                       peri_slice_equal(version, PERI_SLICE("1.0.0"))
                   ? PERI_FORM_OPENMETRICS
                   : -1;
    }
    if (is_type(range, PERI_SLICE("application/vnd.google.protobuf"))) {
        peri_slice message = parameter(range, PERI_SLICE("proto"));
        peri_slice encoding = parameter(range, PERI_SLICE("encoding"));

        return peri_slice_equal(message, PERI_SLICE("io.prometheus.client."
                                                    "MetricFamily")) &&
                       peri_slice_equal(encoding, PERI_SLICE("delimited"))
                   ? PERI_FORM_PROTOBUF
                   : -1;
    }
    return is_type(range, PERI_SLICE("text/plain")) ||
                   is_type(range, PERI_SLICE("text/*")) ||
                   is_type(range, PERI_SLICE("*/*"))
               ? PERI_FORM_TEXT
               : -1;
}

peri_metrics_form peri_accepts_metrics(peri_slice accept)
{
    double best[3] = {0, 0, 0};
    int form = PERI_FORM_TEXT;

    for (size_t at = 0; at < accept.length;) {
        const char *end = memchr(accept.data + at, ',', accept.length - at);
        size_t length =
            end != NULL ? (size_t)(end - accept.data) - at : accept.length - at;
        peri_slice range = {accept.data + at, length};
        int asked;

        at += length + 1;
        while (range.length > 0 && range.data[0] == ' ') {
            range.data++;
            range.length--;
        }
        asked = form_of(range);
        if (asked >= 0 && quality(range) > best[asked]) {
            best[asked] = quality(range);
        }
    }
    for (int i = 0; i < 3; i++) { /* of equals the one that says more */
        if (best[i] > 0 && best[i] >= best[form]) {
            form = i;
        }
    }
    return (peri_metrics_form)form;
}
