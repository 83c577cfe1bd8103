/* Trace headers, attributes, and spans as OTLP carries them. */
#include "core/base/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/otlp.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

static bool reads(const char *text)
{
    peri_trace_context context;

    return peri_traceparent_read(peri_slice_str(text), &context) == 0;
}

static void a_traceparent_goes_there_and_back(void **state)
{
    peri_trace_context context;
    char text[PERI_TRACEPARENT_BYTES];

    (void)state;
    assert_int_equal(
        peri_traceparent_read(PERI_SLICE("00-" TRACE "-" SPAN "-01"), &context),
        0);
    assert_true(context.sampled);
    peri_traceparent_write(&context, text);
    assert_memory_equal(text, "00-" TRACE "-" SPAN "-01", sizeof text);
    context.sampled = false;
    peri_traceparent_write(&context, text);
    assert_memory_equal(text, "00-" TRACE "-" SPAN "-00", sizeof text);
    assert_int_equal(
        peri_traceparent_read(PERI_SLICE("00-" TRACE "-" SPAN "-fe"), &context),
        0);
    peri_traceparent_write(&context, text); /* of the flags two are known */
    assert_memory_equal(text, "00-" TRACE "-" SPAN "-02", sizeof text);
}

static void malformed_traceparents_are_refused(void **state)
{
    (void)state;
    assert_true(reads("00-" TRACE "-" SPAN "-00"));
    assert_true(reads("00-" TRACE "-" SPAN "-ff"));
    assert_true(reads("cc-" TRACE "-" SPAN "-01"));
    assert_true(reads("cc-" TRACE "-" SPAN "-01-what-comes"));
    assert_false(reads(""));
    assert_false(reads("00-" TRACE "-" SPAN "-0"));
    assert_false(reads("00-" TRACE "-" SPAN "-01-more"));
    assert_false(reads("00-" TRACE "-" SPAN "-01 "));
    assert_false(reads("cc-" TRACE "-" SPAN "-01.what"));
    assert_false(reads("ff-" TRACE "-" SPAN "-01"));
    assert_false(reads("0-" TRACE "-" SPAN "-001"));
    assert_false(reads("00_" TRACE "-" SPAN "-01"));
    assert_false(reads("00-" TRACE "-" SPAN "-0G"));
    assert_false(reads("00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01"));
    assert_false(reads("00-00000000000000000000000000000000-" SPAN "-01"));
    assert_false(reads("00-" TRACE "-0000000000000000-01"));
    assert_false(reads("00-" TRACE "-b7ad6b716920333-01-"));
}

static bool is_state(const char *text)
{
    return peri_tracestate_is_sane(peri_slice_str(text));
}

static void tracestate_has_limits(void **state)
{
    char many[512] = "";

    (void)state;
    assert_true(is_state("a=1"));
    assert_true(is_state("a=1, b@c=x y ,,d=2"));
    assert_true(is_state("a=1 \t , \t b=2,"));
    assert_true(is_state("z0_-*/=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~"));
    assert_true(is_state("0a@b=1"));
    assert_false(is_state(""));
    assert_false(is_state(", ,"));
    assert_false(is_state("a =1"));
    assert_false(is_state("A=1"));
    assert_false(is_state("a.b=1"));
    assert_false(is_state("0a=1"));
    assert_false(is_state("a@=1,b=2"));
    assert_false(is_state("@a=1"));
    assert_false(is_state("a@@b=1"));
    assert_false(is_state("a@b@c=1"));
    assert_false(is_state("a=b=c"));
    assert_false(is_state("a=\x7f"));
    assert_false(is_state("a=\xc3\xa4"));
    assert_false(is_state("a"));
    assert_false(is_state("=1"));
    assert_false(is_state("a="));
    assert_false(is_state("a=\x01"));
    for (int i = 0; i < 32; i++) {
        sprintf(many + strlen(many), "%sk%d=v", i > 0 ? "," : "", i);
    }
    assert_true(is_state(many));
    strcat(many, ",k=v");
    assert_false(is_state(many));
}

static void has_state(bool expected, int key, int tenant, int vendor, int value)
{
    char text[1024] = "";
    char *at = text;

    for (int i = 0; i < key + tenant; i++) {
        *at++ = 'k';
    }
    at += sprintf(at, "%s", vendor > 0 ? "@" : "");
    for (int i = 0; i < vendor; i++) {
        *at++ = 'v';
    }
    *at++ = '=';
    for (int i = 0; i < value; i++) {
        *at++ = '1';
    }
    *at = '\0';
    assert_int_equal(is_state(text), expected);
}

static void keys_and_values_of_tracestate_have_lengths(void **state)
{
    (void)state;
    has_state(true, 256, 0, 0, 256);
    has_state(false, 257, 0, 0, 1);
    has_state(false, 1, 0, 0, 257);
    has_state(true, 0, 241, 14, 1);
    has_state(false, 0, 242, 14, 1);
    has_state(false, 0, 241, 15, 1);
}

static void a_long_tracestate_loses_large_members_first(void **state)
{
    char text[4096] = "";
    char large[200];
    peri_buf out;

    (void)state;
    memset(large, 'x', sizeof large);
    memcpy(large, "l=", 2);
    large[150] = '\0';
    for (int i = 0; i < 30; i++) {
        sprintf(text + strlen(text), "k%02d=%.40s,%s%s", i, large + 2,
                i == 0 ? large : "", i == 0 ? "," : "");
    }
    peri_buf_init(&out, PERI_TRACESTATE_MAX);
    peri_tracestate_append(&out, peri_slice_str("a=1"));
    assert_int_equal(out.length, 3);
    peri_buf_clear(&out);
    peri_tracestate_append(&out, peri_slice_str(",b=2 \t,, c@d=3 3 ,"));
    assert_int_equal(out.length, 11);
    assert_memory_equal(out.data, "b=2,c@d=3 3", 11);
    peri_buf_clear(&out);
    assert_true(strlen(text) > PERI_TRACESTATE_MAX);
    peri_tracestate_append(&out, peri_slice_str(text));
    assert_true(out.length > 512 && out.length <= PERI_TRACESTATE_MAX);
    assert_true(peri_tracestate_is_sane(peri_buf_slice(&out)));
    assert_memory_equal(out.data, "k00=xxxx", 8);
    assert_null(memmem(out.data, out.length, "l=", 2));
    assert_non_null(memmem(out.data, out.length, ",k01=", 5));
    assert_null(memmem(out.data, out.length, "k29=", 4));
    peri_buf_fini(&out);
}

static bool reads_b3(const char *text, peri_trace_context *out)
{
    return peri_b3_read(peri_slice_str(text), out) == 0;
}

static void b3_has_two_forms(void **state)
{
    peri_trace_context context;
    char text[PERI_TRACEPARENT_BYTES];

    (void)state;
    assert_true(reads_b3(TRACE "-" SPAN "-1-05e3ac9a4f6e3b90", &context));
    assert_true(context.sampled);
    assert_false(context.debug);
    assert_true(reads_b3(TRACE "-" SPAN "-d", &context));
    assert_true(context.sampled && context.debug);
    assert_true(reads_b3(TRACE "-" SPAN, &context));
    assert_false(context.sampled);
    assert_false(reads_b3("0", &context));
    assert_false(reads_b3("", &context));
    assert_false(reads_b3(TRACE "-" SPAN "-1-05e3ac9a4f6e3b90-x", &context));
    assert_false(reads_b3(TRACE "-" SPAN "-1-05e3ac9a4f6e3b9", &context));
    assert_false(reads_b3(TRACE "-" SPAN "-2", &context));
    assert_false(reads_b3(TRACE "--1", &context));
    assert_false(reads_b3(TRACE "-" SPAN "-true", &context));
    assert_int_equal(peri_b3_multi_read(PERI_SLICE(TRACE), PERI_SLICE(SPAN),
                                        PERI_SLICE("yes"), PERI_SLICE(""),
                                        &context),
                     PERI_EFORMAT);
    assert_int_equal(peri_b3_multi_read(PERI_SLICE(TRACE), PERI_SLICE(SPAN),
                                        PERI_SLICE("0"), PERI_SLICE("1"),
                                        &context),
                     0);
    assert_true(context.sampled && context.debug);
    /* ids of 64 bits are filled up */
    assert_int_equal(peri_b3_multi_read(PERI_SLICE("8448eb211c80319c"),
                                        PERI_SLICE(SPAN), PERI_SLICE("1"),
                                        PERI_SLICE(""), &context),
                     0);
    peri_traceparent_write(&context, text);
    assert_memory_equal(text, "00-00000000000000008448eb211c80319c-" SPAN "-01",
                        sizeof text);
}

static void the_ratio_sampler_takes_its_share(void **state)
{
    peri_sampling sampling = peri_sampling_parse("traceidratio", 0.25);
    unsigned char id[PERI_TRACE_ID_BYTES] = {1};
    int taken = 0;

    (void)state;
    for (int i = 0; i < 65536; i++) {
        id[9] = (unsigned char)(i >> 8);
        id[10] = (unsigned char)i;
        taken += peri_sampling_decide(&sampling, id, NULL);
    }
    assert_int_equal(taken, 16384);
}

static void samplers_with_a_parent_do_as_it_did(void **state)
{
    const unsigned char id[PERI_TRACE_ID_BYTES] = {1};
    peri_trace_context parent = {.sampled = true};
    peri_sampling off = peri_sampling_parse("parentbased_always_off", 1);
    peri_sampling on = peri_sampling_parse("parentbased_always_on", 1);
    peri_sampling always = peri_sampling_parse("always_on", 1);

    (void)state;
    assert_false(peri_sampling_decide(&off, id, NULL));
    assert_true(peri_sampling_decide(&off, id, &parent));
    parent.sampled = false;
    assert_true(peri_sampling_decide(&on, id, NULL));
    assert_false(peri_sampling_decide(&on, id, &parent));
    assert_true(peri_sampling_decide(&always, id, &parent));
}

static void attributes_replace_and_are_bounded(void **state)
{
    peri_attributes all;
    peri_attribute one = {.type = PERI_ATTRIBUTE_INT, .key = PERI_SLICE("b")};
    peri_slice packed;
    char key[16];
    int seen = 0;

    (void)state;
    peri_attributes_init(&all);
    peri_attributes_add_text(&all, "a",
                             PERI_SLICE("x\xff"
                                        "y"));
    peri_attributes_add_int(&all, "b", 1);
    peri_attributes_add_text(&all, "c", PERI_SLICE(""));
    one.value.integer = -2;
    peri_attributes_set(&all, &one);
    assert_int_equal(all.count, 3);
    packed = peri_buf_slice(&all.packed);
    while (peri_attributes_next(&packed, &one)) {
        seen++;
        if (one.key.data[0] == 'b') {
            assert_int_equal(one.value.integer, -2);
        } else if (one.key.data[0] == 'a') {
            assert_true(
                peri_slice_equal(one.text, PERI_SLICE("x\xef\xbf\xbdy")));
        }
    }
    assert_int_equal(seen, 3);
    for (int i = 0; i < PERI_ATTRIBUTES_MAX; i++) {
        sprintf(key, "k%d", i);
        peri_attributes_add_int(&all, key, i);
    }
    assert_int_equal(all.count, PERI_ATTRIBUTES_MAX);
    assert_int_equal(all.dropped, 3);
    peri_attributes_fini(&all);
}

static void spans_that_do_not_fit_leave_no_trace(void **state)
{
    peri_attributes some;
    int refused = 0;
    peri_otlp_span span = {.name = PERI_SLICE("name"),
                           .kind = PERI_SPAN_CLIENT};
    peri_buf out;

    (void)state;
    peri_attributes_init(&some);
    for (int i = 0; i < 20; i++) {
        peri_attributes_add_int(&some, "key", i);
    }
    span.attributes = &some;
    memset(span.context.trace_id, 1, sizeof span.context.trace_id);
    memset(span.context.span_id, 2, sizeof span.context.span_id);
    for (int format = PERI_OTLP_PROTOBUF; format <= PERI_OTLP_JSON; format++) {
        size_t whole;

        peri_buf_init(&out, 4096);
        assert_int_equal(
            peri_otlp_append_span(&out, (peri_otlp_format)format, &span), 0);
        whole = out.length;
        for (size_t room = 0; room < whole; room++) {
            out.length = 0;
            peri_buf_fini(&out);
            peri_buf_init(&out, room);
            /* A buffer may be larger than its maximum, by a little. */
            if (peri_otlp_append_span(&out, (peri_otlp_format)format, &span) <
                0) {
                assert_int_equal(out.length, 0);
                refused++;
            } else {
                assert_int_equal(out.length, whole);
            }
        }
        peri_buf_fini(&out);
    }
    assert_true(refused > 100);
    peri_attributes_fini(&some);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_traceparent_goes_there_and_back),
        cmocka_unit_test(malformed_traceparents_are_refused),
        cmocka_unit_test(tracestate_has_limits),
        cmocka_unit_test(keys_and_values_of_tracestate_have_lengths),
        cmocka_unit_test(a_long_tracestate_loses_large_members_first),
        cmocka_unit_test(b3_has_two_forms),
        cmocka_unit_test(the_ratio_sampler_takes_its_share),
        cmocka_unit_test(samplers_with_a_parent_do_as_it_did),
        cmocka_unit_test(attributes_replace_and_are_bounded),
        cmocka_unit_test(spans_that_do_not_fit_leave_no_trace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
