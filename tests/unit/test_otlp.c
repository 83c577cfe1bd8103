/* Protobuf's wire format, and what collectors answer. */
#include "core/base/otlp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/protobuf.h"

static void fields_are_read_as_they_were_written(void **state)
{
    peri_protobuf_field field;
    peri_slice inner;
    peri_slice rest;
    peri_buf out;
    size_t start;
    char text[300];

    (void)state;
    memset(text, 'x', sizeof text);
    peri_buf_init(&out, 4096);
    assert_int_equal(peri_protobuf_number(&out, 1, 300), 0);
    assert_int_equal(peri_protobuf_number(&out, 2, 0), 0); /* left out */
    assert_int_equal(peri_protobuf_fixed64(&out, 3, UINT64_MAX - 1), 0);
    assert_int_equal(peri_protobuf_fixed32(&out, 4, 7), 0);
    start = peri_protobuf_open(&out, 16);
    assert_int_equal(peri_protobuf_bytes(&out, 1, text, sizeof text), 0);
    assert_int_equal(peri_protobuf_close(&out, start), 0);
    rest = peri_buf_slice(&out);
    assert_true(peri_protobuf_next(&rest, &field));
    assert_int_equal(field.number, 1);
    assert_int_equal(field.value, 300);
    assert_true(peri_protobuf_next(&rest, &field));
    assert_int_equal(field.number, 3);
    assert_true(field.value == UINT64_MAX - 1);
    assert_true(peri_protobuf_next(&rest, &field));
    assert_int_equal(field.value, 7);
    assert_true(peri_protobuf_next(&rest, &field));
    assert_int_equal(field.number, 16);
    assert_int_equal(field.bytes.length, 1 + 2 + sizeof text);
    inner = field.bytes;
    assert_false(peri_protobuf_next(&rest, &field));
    assert_true(peri_protobuf_next(&inner, &field));
    assert_memory_equal(field.bytes.data, text, sizeof text);
    peri_buf_fini(&out);
}

/* The guess at its length is right, too small, or too large. */
static void a_message_of_likely_length_is_what_it_is(void **state)
{
    static const size_t lengths[] = {0, 1, 126, 127, 128, 16383, 16384, 17000};
    static const size_t guesses[] = {0, 127, 128, 16384, 3000000};
    const size_t n = sizeof lengths / sizeof lengths[0];
    const size_t m = sizeof guesses / sizeof guesses[0];
    char text[17000];

    (void)state;
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < n * m; i++) {
        size_t length = lengths[i % n];
        size_t guess = guesses[i / n];
        peri_protobuf_field field;
        peri_slice rest;
        peri_buf out;
        size_t start;

        peri_buf_init(&out, 20000);
        start = peri_protobuf_open_likely(&out, 1, guess);
        assert_int_equal(peri_buf_append(&out, text, length), 0);
        assert_int_equal(peri_protobuf_close_likely(&out, start, guess), 0);
        assert_int_equal(out.length,
                         1 + peri_protobuf_varint_bytes(length) + length);
        rest = peri_buf_slice(&out);
        assert_true(peri_protobuf_next(&rest, &field));
        assert_int_equal(field.bytes.length, length);
        assert_memory_equal(field.bytes.data, text, length);
        assert_int_equal(rest.length, 0);
        peri_buf_fini(&out);
    }
}

static void a_message_that_is_cut_is_never_read_past_its_end(void **state)
{
    static const char bytes[] = "\x0a\x05hello\x10\x96\x01\x19"
                                "12345678"
                                "\x25"
                                "1234";
    peri_protobuf_field field;

    (void)state;
    for (size_t length = 0; length < sizeof bytes; length++) {
        char copy[sizeof bytes];
        peri_slice rest = peri_slice_of(copy, length);
        int count = 0;

        memcpy(copy, bytes, length);
        while (peri_protobuf_next(&rest, &field)) {
            count++;
        }
        assert_true(count <= 4);
    }
    /* A length of nearly 2^64, and a number of eleven bytes. */
    peri_slice huge =
        PERI_SLICE("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    peri_slice endless = PERI_SLICE("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                                    "\xff\x01");

    assert_false(peri_protobuf_next(&huge, &field));
    assert_false(peri_protobuf_next(&endless, &field));
}

static peri_otlp_partial json(const char *text)
{
    return peri_otlp_read_partial(PERI_OTLP_JSON, peri_slice_str(text));
}

static void says(peri_slice text, const char *expected)
{
    assert_int_equal(text.length, strlen(expected));
    assert_memory_equal(text.data, expected, text.length);
}

static void answers_say_what_was_rejected(void **state)
{
    peri_otlp_partial partial = peri_otlp_read_partial(
        PERI_OTLP_PROTOBUF, PERI_SLICE("\x0a\x06\x08\x96\x01\x12\x01x"));

    (void)state;
    assert_int_equal(partial.rejected, 150);
    says(partial.message, "x");
    partial = json("{\"partialSuccess\": {\"rejectedSpans\" : \"12\", "
                   "\"errorMessage\":\"a \\\"b\\\"\"}}");
    assert_int_equal(partial.rejected, 12);
    says(partial.message, "a \\\"b\\\"");
    assert_int_equal(
        json("{\"partialSuccess\":{\"rejectedLogRecords\":3}}").rejected, 3);
    says(peri_otlp_read_refusal(PERI_OTLP_JSON,
                                PERI_SLICE("{\"code\":3,\"message\":\"no\"}")),
         "no");
    says(peri_otlp_read_refusal(PERI_OTLP_PROTOBUF,
                                PERI_SLICE("\x08\x03\x12\x02no")),
         "no");
}

static void nonsense_rejects_nothing(void **state)
{
    static const char *const texts[] = {
        "",
        "{}",
        "<html>",
        "{\"partialSuccess\"",
        "{\"partialSuccess\":{}}",
        "{\"partialSuccess\":{\"rejectedSpans\":\"",
        "{\"partialSuccess\":{\"rejectedSpans\":\"-1\"}}",
        "{\"partialSuccess\":{\"errorMessage\":\"open",
        "{\"partialSuccess\":{\"errorMessage\":\"open\\",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        peri_slice text = peri_slice_str(texts[i]);

        for (int form = PERI_OTLP_PROTOBUF; form <= PERI_OTLP_JSON; form++) {
            peri_otlp_partial partial =
                peri_otlp_read_partial((peri_otlp_format)form, text);

            assert_int_equal(partial.rejected, 0);
            assert_int_equal(partial.message.length, 0);
        }
    }
}

static void a_log_line_has_no_ids_but_its_own(void **state)
{
    peri_log_record record;
    peri_buf out;

    (void)state;
    peri_log_record_init(&record);
    peri_buf_init(&out, 4096);
    peri_log_record_read(
        &record,
        PERI_SLICE("{\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\","
                   "\"span_id\":\"b7ad6b7169203331\"}"));
    assert_int_equal(peri_otlp_append_log(&out, PERI_OTLP_JSON, &record), 0);
    assert_int_equal(peri_buf_append_byte(&out, '\0'), 0);
    assert_non_null(strstr(out.data, "\"spanId\":\"b7ad6b7169203331\""));
    peri_buf_clear(&out);
    peri_log_record_read(
        &record,
        PERI_SLICE("{\"trace_id\":\"00f7651916cd43dd8448eb211c80319c\"}"));
    assert_int_equal(peri_otlp_append_log(&out, PERI_OTLP_JSON, &record), 0);
    assert_int_equal(peri_buf_append_byte(&out, '\0'), 0);
    assert_non_null(
        strstr(out.data, "\"traceId\":\"00f7651916cd43dd8448eb211c80319c\""));
    assert_null(strstr(out.data, "spanId"));
    peri_buf_fini(&out);
    peri_log_record_fini(&record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_line_has_no_ids_but_its_own),
        cmocka_unit_test(fields_are_read_as_they_were_written),
        cmocka_unit_test(a_message_of_likely_length_is_what_it_is),
        cmocka_unit_test(a_message_that_is_cut_is_never_read_past_its_end),
        cmocka_unit_test(answers_say_what_was_rejected),
        cmocka_unit_test(nonsense_rejects_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
