/* Trace: reading and writing of trace headers. */
#include "core/base/trace.h"

#include <string.h>

#include "core/base/err.h"
#include "core/base/text_code.h"

#define TRACESTATE_MEMBERS_MAX 32
#define TRACESTATE_LARGE 128 /* bytes of a member that goes first */
#define TENANT_MAX 241
#define VENDOR_MAX 14
#define STATE_TEXT_MAX 256 /* of keys, and of values */
#define FLAG_SAMPLED 1
#define FLAG_RANDOM 2
#define TRACE_HEX ((size_t)PERI_TRACE_ID_BYTES * 2)
#define SPAN_HEX ((size_t)PERI_SPAN_ID_BYTES * 2)

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
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
    out->sampled = (flags & FLAG_SAMPLED) != 0;
    out->random = (flags & FLAG_RANDOM) != 0;
    out->debug = false;
    return read_ids(peri_slice_of(at + 3, TRACE_HEX),
                    peri_slice_of(at + 36, SPAN_HEX), out);
}

void peri_traceparent_write(const peri_trace_context *context, char *out)
{
    memcpy(out, "00-", 3);
    peri_hex_encode(context->trace_id, PERI_TRACE_ID_BYTES, out + 3);
    out[35] = '-';
    peri_hex_encode(context->span_id, PERI_SPAN_ID_BYTES, out + 36);
    memcpy(out + 52, "-0", 2);
    out[54] = (char)('0' + (context->sampled ? FLAG_SAMPLED : 0) +
                     (context->random ? FLAG_RANDOM : 0));
}

/* ---- tracestate ---- */

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(peri_slice text, size_t max_bytes, bool digit_first)
{
    if (text.length == 0 || text.length > max_bytes ||
        !(is_lower(text.data[0]) || (digit_first && is_digit(text.data[0])))) {
        return false;
    }
    for (size_t i = 1; i < text.length; i++) {
        char c = text.data[i];

        if (!is_lower(c) && !is_digit(c) && c != '_' && c != '-' && c != '*' &&
            c != '/') {
            return false;
        }
    }
    return true;
}

/* "key", or "tenant@vendor". */
static bool is_key(peri_slice text)
{
    const char *at = memchr(text.data, '@', text.length);
    size_t tenant = at != NULL ? (size_t)(at - text.data) : 0;

    if (at == NULL) {
        return is_word(text, STATE_TEXT_MAX, false);
    }
    return is_word(peri_slice_of(text.data, tenant), TENANT_MAX, true) &&
           is_word(peri_slice_of(at + 1, text.length - tenant - 1), VENDOR_MAX,
                   false);
}

/* The text's ends are not blank. */
static bool is_value(peri_slice text)
{
    if (text.length == 0 || text.length > STATE_TEXT_MAX) {
        return false;
    }
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];

        if (c < ' ' || c > '~' || c == '=') {
            return false;
        }
    }
    return true;
}

/* Takes what is before the next comma, without blanks around it; it may be
 * empty. False: the end. */
static bool next_member(peri_slice *rest, peri_slice *out)
{
    const char *comma;
    const char *end;

    if (rest->data == NULL) {
        return false;
    }
    comma = memchr(rest->data, ',', rest->length);
    end = comma != NULL ? comma : rest->data + rest->length;
    *out = peri_slice_of(rest->data, (size_t)(end - rest->data));
    *rest = comma != NULL
                ? peri_slice_of(comma + 1, rest->length - out->length - 1)
                : (peri_slice){NULL, 0};
    while (out->length > 0 && (out->data[0] == ' ' || out->data[0] == '\t')) {
        out->data++;
        out->length--;
    }
    while (out->length > 0 && (out->data[out->length - 1] == ' ' ||
                               out->data[out->length - 1] == '\t')) {
        out->length--;
    }
    return true;
}

static bool is_member(peri_slice text)
{
    const char *equals = memchr(text.data, '=', text.length);
    size_t key = equals != NULL ? (size_t)(equals - text.data) : 0;

    return equals != NULL && is_key(peri_slice_of(text.data, key)) &&
           is_value(peri_slice_of(equals + 1, text.length - key - 1));
}

bool peri_tracestate_is_sane(peri_slice text)
{
    peri_slice member;
    size_t members = 0;

    while (next_member(&text, &member)) {
        if (member.length == 0) {
            continue; /* is allowed, and counts for nothing */
        }
        if (!is_member(member) || ++members > TRACESTATE_MEMBERS_MAX) {
            return false;
        }
    }
    return members > 0;
}

void peri_tracestate_append(peri_buf *out, peri_slice text)
{
    peri_slice member;
    size_t member_max =
        text.length > PERI_TRACESTATE_MAX ? TRACESTATE_LARGE : SIZE_MAX;

    while (next_member(&text, &member)) {
        size_t comma = out->length != 0;

        if (member.length == 0 || member.length > member_max) {
            continue;
        }
        if (out->length + comma + member.length > PERI_TRACESTATE_MAX) {
            return;
        }
        if (comma != 0) {
            peri_buf_append_byte(out, ',');
        }
        peri_buf_append_slice(out, member);
    }
}

/* ---- baggage ---- */

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

bool peri_baggage_is_sane(peri_slice text)
{
    return text.length > 0 && text.length <= PERI_BAGGAGE_MAX &&
           is_printable(text);
}

/* ---- B3 ---- */

/* What was decided: "0", "1" or, in its place, "d" (debug). Nothing: nobody
 * has. -1: none of these. */
static int read_decision(peri_slice text)
{
    if (text.length == 0 || peri_slice_equal(text, PERI_SLICE("0"))) {
        return 0;
    }
    return peri_slice_equal(text, PERI_SLICE("1")) ||
                   peri_slice_equal(text, PERI_SLICE("d"))
               ? 1
               : -1;
}

static int read_b3(peri_slice trace_id, peri_slice span_id, int decision,
                   peri_trace_context *out)
{
    char wide[TRACE_HEX];

    if (trace_id.length == TRACE_HEX / 2) {
        memset(wide, '0', TRACE_HEX / 2);
        memcpy(wide + TRACE_HEX / 2, trace_id.data, TRACE_HEX / 2);
        trace_id = peri_slice_of(wide, sizeof wide);
    }
    if (decision < 0 || read_ids(trace_id, span_id, out) < 0) {
        return PERI_EFORMAT;
    }
    out->sampled = decision == 1;
    out->random = false;
    out->debug = false;
    return 0;
}

int peri_b3_multi_read(peri_slice trace_id, peri_slice span_id,
                       peri_slice sampled, peri_slice flags,
                       peri_trace_context *out)
{
    /* What old senders wrote. */
    int decision = peri_slice_equal_nocase(sampled, PERI_SLICE("true")) ? 1
                   : peri_slice_equal_nocase(sampled, PERI_SLICE("false"))
                       ? 0
                       : read_decision(sampled);

    bool debug = peri_slice_equal(flags, PERI_SLICE("1"));
    int rc = read_b3(trace_id, span_id, debug ? 1 : decision, out);

    out->debug = rc == 0 && debug;
    return rc;
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
    unsigned char parent[PERI_SPAN_ID_BYTES];
    peri_slice parts[4];
    int rc;

    if (text.length == 0) {
        return PERI_EFORMAT;
    }
    for (int i = 0; i < 4; i++) {
        bool more = text.length != 0;

        parts[i] = next_part(&text);
        if (more && parts[i].length == 0) {
            return PERI_EFORMAT;
        }
    }
    if (text.length != 0 ||
        (parts[3].length != 0 &&
         peri_trace_id_read(parts[3], parent, sizeof parent) < 0)) {
        return PERI_EFORMAT;
    }
    rc = read_b3(parts[0], parts[1], read_decision(parts[2]), out);
    out->debug = rc == 0 && peri_slice_equal(parts[2], PERI_SLICE("d"));
    return rc;
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
