/* Trace: reading and writing of trace headers. */
#include "core/base/trace.h"

#include <string.h>

#include "core/base/err.h"

#define TRACESTATE_MEMBERS_MAX 32
#define TRACE_HEX ((size_t)PERI_TRACE_ID_BYTES * 2)
#define SPAN_HEX ((size_t)PERI_SPAN_ID_BYTES * 2)

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void peri_hex_write(const unsigned char *bytes, size_t count, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < count; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
}

int peri_trace_id_read(peri_slice text, unsigned char *out, size_t count)
{
    unsigned char any = 0;

    if (text.length != count * 2) {
        return PERI_EFORMAT;
    }
    for (size_t i = 0; i < count; i++) {
        int high = digit(text.data[2 * i]);
        int low = digit(text.data[2 * i + 1]);

        if (high < 0 || low < 0) {
            return PERI_EFORMAT;
        }
        out[i] = (unsigned char)(high * 16 + low);
        any |= out[i];
    }
    return any != 0 ? 0 : PERI_EFORMAT;
}

static int read_ids(peri_slice trace_id, peri_slice span_id,
                    peri_trace_context *out)
{
    if (peri_trace_id_read(trace_id, out->trace_id, PERI_TRACE_ID_BYTES) < 0 ||
        peri_trace_id_read(span_id, out->span_id, PERI_SPAN_ID_BYTES) < 0) {
        return PERI_EFORMAT;
    }
    return 0;
}

/* ---- W3C ---- */

int peri_traceparent_read(peri_slice text, peri_trace_context *out)
{
    const char *at = text.data;
    int version;
    int flags;

    if (text.length < PERI_TRACEPARENT_BYTES || digit(at[0]) < 0 ||
        digit(at[1]) < 0 || at[2] != '-' || at[35] != '-' || at[52] != '-' ||
        digit(at[53]) < 0 || digit(at[54]) < 0) {
        return PERI_EFORMAT;
    }
    version = digit(at[0]) * 16 + digit(at[1]);
    flags = digit(at[53]) * 16 + digit(at[54]);
    if (version == 255 ||
        (text.length > PERI_TRACEPARENT_BYTES &&
         (version == 0 || at[PERI_TRACEPARENT_BYTES] != '-'))) {
        return PERI_EFORMAT;
    }
    out->sampled = (flags & 1) != 0;
    return read_ids(peri_slice_of(at + 3, TRACE_HEX),
                    peri_slice_of(at + 36, SPAN_HEX), out);
}

void peri_traceparent_write(const peri_trace_context *context, char *out)
{
    memcpy(out, "00-", 3);
    peri_hex_write(context->trace_id, PERI_TRACE_ID_BYTES, out + 3);
    out[35] = '-';
    peri_hex_write(context->span_id, PERI_SPAN_ID_BYTES, out + 36);
    memcpy(out + 52, context->sampled ? "-01" : "-00", 3);
}

static bool is_printable(peri_slice text)
{
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (c != '\t' && (c < 0x20 || c > 0x7e)) {
            return false;
        }
    }
    return true;
}

bool peri_tracestate_is_sane(peri_slice text)
{
    const char *at = text.data;
    const char *end = text.data + text.length;
    size_t members = 0;

    if (text.length == 0 || text.length > PERI_TRACESTATE_MAX ||
        !is_printable(text)) {
        return false;
    }
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma != NULL ? comma : end;

        while (at < stop && (*at == ' ' || *at == '\t')) {
            at++;
        }
        if (at < stop) { /* an empty one is allowed, and counts for nothing */
            const char *equals = memchr(at, '=', (size_t)(stop - at));

            if (equals == NULL || equals == at || equals + 1 == stop ||
                ++members > TRACESTATE_MEMBERS_MAX) {
                return false;
            }
        }
        at = stop + 1;
    }
    return members > 0;
}

bool peri_baggage_is_sane(peri_slice text)
{
    return text.length > 0 && text.length <= PERI_BAGGAGE_MAX &&
           is_printable(text);
}

/* ---- B3 ---- */

int peri_b3_multi_read(peri_slice trace_id, peri_slice span_id,
                       peri_slice sampled, peri_slice flags,
                       peri_trace_context *out)
{
    char wide[TRACE_HEX];

    if (trace_id.length == TRACE_HEX / 2) {
        memset(wide, '0', TRACE_HEX / 2);
        memcpy(wide + TRACE_HEX / 2, trace_id.data, TRACE_HEX / 2);
        trace_id = peri_slice_of(wide, sizeof wide);
    }
    if (read_ids(trace_id, span_id, out) < 0) {
        return PERI_EFORMAT;
    }
    out->sampled = (sampled.length == 1 &&
                    (sampled.data[0] == '1' || sampled.data[0] == 'd')) ||
                   peri_slice_equal_nocase(sampled, PERI_SLICE("true")) ||
                   peri_slice_equal(flags, PERI_SLICE("1"));
    return 0;
}

static peri_slice next_part(peri_slice *text)
{
    const char *dash =
        text->length != 0 ? memchr(text->data, '-', text->length) : NULL;
    size_t length = dash != NULL ? (size_t)(dash - text->data) : text->length;
    peri_slice part = peri_slice_of(text->data, length);

    text->data += length + (dash != NULL);
    text->length -= length + (dash != NULL);
    return part;
}

int peri_b3_read(peri_slice text, peri_trace_context *out)
{
    peri_slice parts[4];

    if (text.length == 0) {
        return PERI_EFORMAT;
    }
    for (int i = 0; i < 4; i++) {
        parts[i] = next_part(&text);
    }
    if (text.length != 0) {
        return PERI_EFORMAT;
    }
    return peri_b3_multi_read(parts[0], parts[1], parts[2], PERI_SLICE(""),
                              out);
}

/* ---- sampling ---- */

peri_sampling peri_sampling_parse(const char *name, double ratio)
{
    static const char prefix[] = "parentbased_";
    bool parent_based = strncmp(name, prefix, sizeof prefix - 1) == 0;
    const char *rest = parent_based ? name + sizeof prefix - 1 : name;
    peri_sampling sampling = {
        .sampler = PERI_SAMPLER_ON, .parent_based = parent_based, .ratio = 1};

    if (strcmp(rest, "always_off") == 0) {
        sampling.sampler = PERI_SAMPLER_OFF;
    } else if (strcmp(rest, "traceidratio") == 0) {
        sampling.sampler = PERI_SAMPLER_RATIO;
        sampling.ratio = ratio;
    } else if (strcmp(rest, "always_on") != 0) {
        sampling.parent_based = true;
    }
    return sampling;
}

/* By the id's last 56 random bits, as other services do: all of them decide
 * alike. */
static bool within_ratio(double ratio, const unsigned char *trace_id)
{
    uint64_t random = 0;

    for (int i = 9; i < PERI_TRACE_ID_BYTES; i++) {
        random = random << 8 | trace_id[i];
    }
    return (double)random < ratio * (double)((uint64_t)1 << 56);
}

bool peri_sampling_decide(const peri_sampling *sampling,
                          const unsigned char *trace_id,
                          const peri_trace_context *parent)
{
    if (parent != NULL && sampling->parent_based) {
        return parent->sampled;
    }
    switch (sampling->sampler) {
    case PERI_SAMPLER_OFF:
        return false;
    case PERI_SAMPLER_RATIO:
        return within_ratio(sampling->ratio, trace_id);
    case PERI_SAMPLER_ON:
    default:
        return true;
    }
}
