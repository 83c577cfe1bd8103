/* OTLP: what a collector answers. It comes from elsewhere, so nothing of it is
 * believed but numbers and words. */
#include "core/base/otlp.h"

#include "core/base/protobuf.h"

#define MESSAGE_MAX 500

/* ---- protobuf ---- */

static peri_slice bytes_of(peri_slice message, uint32_t number)
{
    peri_protobuf_field field;
    peri_slice found = {NULL, 0};

    while (peri_protobuf_next(&message, &field)) {
        if (field.number == number && field.type == PERI_PROTOBUF_BYTES) {
            found = field.bytes;
        }
    }
    return found;
}

static peri_otlp_partial read_protobuf(peri_slice body)
{
    peri_slice part = bytes_of(body, 1);
    peri_otlp_partial partial = {.message = bytes_of(part, 2)};
    peri_protobuf_field field;

    while (peri_protobuf_next(&part, &field)) {
        if (field.number == 1 && field.type == PERI_PROTOBUF_VARINT) {
            partial.rejected = field.value;
        }
    }
    return partial;
}

/* ---- JSON ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ':';
}

/* What stands behind a key, wherever that is: an answer has each key once. */
static peri_slice behind(peri_slice text, const char *key)
{
    const char *at = text.length != 0
                         ? memmem(text.data, text.length, key, strlen(key))
                         : NULL;
    const char *end = text.data + text.length;

    if (at == NULL) {
        return PERI_SLICE("");
    }
    at += strlen(key);
    while (at < end && *at != ':') { /* the rest of the key */
        at++;
    }
    while (at < end && is_blank(*at)) {
        at++;
    }
    return peri_slice_of(at, (size_t)(end - at));
}

/* A string as it is written, up to its end. */
static peri_slice string_of(peri_slice text)
{
    size_t at = 1;

    if (text.length == 0 || text.data[0] != '"') {
        return PERI_SLICE("");
    }
    while (at < text.length && text.data[at] != '"') {
        at += text.data[at] == '\\' ? 2 : 1;
    }
    return at < text.length ? peri_slice_of(text.data + 1, at - 1)
                            : PERI_SLICE("");
}

static peri_otlp_partial read_json(peri_slice body)
{
    peri_slice part = behind(body, "\"partialSuccess\"");
    peri_slice number = behind(part, "\"rejected");
    peri_otlp_partial partial = {
        .message = string_of(behind(part, "\"errorMessage\""))};

    for (size_t i = number.length != 0 && number.data[0] == '"';
         i < number.length && i < 12 && number.data[i] >= '0' &&
         number.data[i] <= '9';
         i++) {
        partial.rejected =
            partial.rejected * 10 + (uint64_t)(number.data[i] - '0');
    }
    return partial;
}

/* ---- both ---- */

static peri_slice bounded(peri_slice message)
{
    if (message.length > MESSAGE_MAX) {
        message.length = MESSAGE_MAX;
    }
    return message;
}

peri_otlp_partial peri_otlp_read_partial(peri_otlp_format format,
                                         peri_slice body)
{
    peri_otlp_partial partial =
        format == PERI_OTLP_JSON ? read_json(body) : read_protobuf(body);

    partial.message = bounded(partial.message);
    return partial;
}

peri_slice peri_otlp_read_refusal(peri_otlp_format format, peri_slice body)
{
    /* google.rpc.Status */
    peri_slice message = format == PERI_OTLP_JSON
                             ? string_of(behind(body, "\"message\""))
                             : bytes_of(body, 2);

    return bounded(message);
}
