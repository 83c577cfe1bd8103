/* Headers of traces: no input is read past its end, and what is believed is
 * passed on as something that others believe too. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/otlp.h"
#include "core/base/trace.h"

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static bool is_zero(const unsigned char *bytes, size_t count)
{
    while (count > 0 && bytes[count - 1] == 0) {
        count--;
    }
    return count == 0;
}

static void check_context(const peri_trace_context *context)
{
    char text[PERI_TRACEPARENT_BYTES];
    peri_trace_context again;

    require(!is_zero(context->trace_id, PERI_TRACE_ID_BYTES));
    require(!is_zero(context->span_id, PERI_SPAN_ID_BYTES));
    peri_traceparent_write(context, text);
    require(peri_traceparent_read(peri_slice_of(text, sizeof text), &again) ==
            0);
    require(memcmp(again.trace_id, context->trace_id, PERI_TRACE_ID_BYTES) ==
            0);
    require(again.sampled == context->sampled &&
            again.random == context->random);
}

/* Without what separates members. */
static size_t content_bytes(peri_slice text)
{
    size_t count = 0;

    for (size_t i = 0; i < text.length; i++) {
        count += strchr(", \t", text.data[i]) == NULL;
    }
    return count;
}

static void check_state(peri_slice text)
{
    peri_buf out;

    if (!peri_tracestate_is_sane(text)) {
        return;
    }
    peri_buf_init(&out, PERI_TRACESTATE_MAX);
    peri_tracestate_append(&out, text);
    require(out.length <= PERI_TRACESTATE_MAX);
    require(memchr(out.data, '\n', out.length) == NULL);
    /* Nothing is left of one whose members are all too large. */
    require(out.length == 0 || peri_tracestate_is_sane(peri_buf_slice(&out)));
    require(text.length > PERI_TRACESTATE_MAX ||
            content_bytes(text) == content_bytes(peri_buf_slice(&out)));
    peri_buf_fini(&out);
}

/* Up to the next line feed; the rest moves on. */
static peri_slice line_of(peri_slice *rest)
{
    const char *end =
        rest->length != 0 ? memchr(rest->data, '\n', rest->length) : NULL;
    size_t length = end != NULL ? (size_t)(end - rest->data) : rest->length;
    peri_slice line = peri_slice_of(rest->data, length);

    rest->data += length + (end != NULL);
    rest->length -= length + (end != NULL);
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 1); /* its end is watched */
    peri_slice rest = peri_slice_of(copy, size);
    peri_trace_context context;

    memcpy(copy, data, size);
    peri_otlp_read_partial(PERI_OTLP_JSON, rest);
    peri_otlp_read_partial(PERI_OTLP_PROTOBUF, rest);
    peri_otlp_read_refusal(PERI_OTLP_JSON, rest);
    peri_otlp_read_refusal(PERI_OTLP_PROTOBUF, rest);
    while (rest.length != 0) {
        peri_slice line = line_of(&rest);
        peri_slice before = rest;
        peri_slice span_id;

        if (peri_traceparent_read(line, &context) == 0) {
            require(line.length >= PERI_TRACEPARENT_BYTES);
            check_context(&context);
        }
        if (peri_b3_read(line, &context) == 0) {
            check_context(&context);
        }
        span_id = line_of(&before);
        if (peri_b3_multi_read(line, span_id, line_of(&before),
                               line_of(&before), &context) == 0) {
            check_context(&context);
        }
        check_state(line);
        if (peri_baggage_is_sane(line)) {
            require(line.length <= PERI_BAGGAGE_MAX);
        }
    }
    free(copy);
    return 0;
}
