/* Codings and ranges: what the fields say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/err.h"
#include "core/http/decode.h"
#include "core/http/encoder.h"
#include "core/http/range.h"

#define TEST(name) static void name(void **state)

/* A text of so many bytes that packs well. */
static void fill(peri_buf *buf, size_t bytes)
{
    unsigned i = 0;

    peri_buf_init(buf, SIZE_MAX);
    while (buf->length < bytes) {
        peri_buf_printf(buf, "line %u of it\n", i++ % 1000);
    }
    buf->length = bytes;
}

static void decode(peri_decoder *decoder, peri_slice in, peri_buf *out)
{
    size_t in_before;
    size_t out_before;

    do {
        in_before = in.length;
        out_before = out->length;
        assert_int_equal(peri_decoder_step(decoder, &in, 65536, out), 0);
    } while (in.length != in_before || out->length != out_before);
    assert_int_equal(in.length, 0);
}

static void require_decoded(const char *coding, peri_slice coded,
                            peri_slice plain)
{
    peri_decoder *decoder = peri_decoder_create(peri_slice_str(coding));
    peri_buf out;

    peri_buf_init(&out, plain.length + 65536);
    decode(decoder, coded, &out);
    assert_true(peri_decoder_complete(decoder));
    assert_true(
        out.length == plain.length &&
        (plain.length == 0 || memcmp(out.data, plain.data, plain.length) == 0));
    peri_buf_fini(&out);
    peri_decoder_destroy(decoder);
}

TEST(what_is_coded_comes_out_equal)
{
    static const size_t sizes[] = {1, 100, 511, 4096, 65536, 700001};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (unsigned level = 1; level <= 9; level += 4) {
            for (peri_coding c = PERI_CODING_GZIP; c <= PERI_CODING_BR; c++) {
                peri_buf plain;
                peri_buf coded;

                fill(&plain, sizes[i]);
                peri_buf_init(&coded, SIZE_MAX);
                assert_int_equal(
                    peri_encode(c, level, peri_buf_slice(&plain), &coded), 0);
                require_decoded(c == PERI_CODING_BR ? "br" : "gzip",
                                peri_buf_slice(&coded), peri_buf_slice(&plain));
                peri_buf_fini(&plain);
                peri_buf_fini(&coded);
            }
        }
    }
}

TEST(what_would_get_longer_is_told)
{
    uint32_t noise = 1;
    char data[2000];
    peri_buf out;

    (void)state;
    for (size_t i = 0; i < sizeof data; i++) {
        noise = noise * 1664525u + 1013904223u;
        data[i] = (char)(noise >> 24);
    }
    for (peri_coding c = PERI_CODING_GZIP; c <= PERI_CODING_BR; c++) {
        peri_buf_init(&out, sizeof data);
        assert_int_equal(
            peri_encode(c, 5, peri_slice_of(data, sizeof data), &out),
            PERI_ELIMIT);
        peri_buf_fini(&out);
    }
}

TEST(each_flush_can_be_read)
{
    (void)state;
    for (peri_coding c = PERI_CODING_GZIP; c <= PERI_CODING_BR; c++) {
        peri_encoder *encoder = peri_encoder_create(c, 5, -1);
        peri_decoder *decoder = peri_decoder_create(
            peri_slice_str(c == PERI_CODING_BR ? "br" : "gzip"));
        peri_buf coded;
        peri_buf plain;

        peri_buf_init(&coded, SIZE_MAX);
        peri_buf_init(&plain, SIZE_MAX / 2);
        for (size_t i = 1; i <= 50; i++) {
            peri_buf_clear(&coded);
            peri_encoder_feed(encoder, PERI_SLICE("event\n"),
                              PERI_ENCODER_FLUSH, &coded);
            assert_true(coded.length > 0);
            decode(decoder, peri_buf_slice(&coded), &plain);
            assert_int_equal(plain.length, i * 6);
        }
        peri_encoder_destroy(encoder);
        peri_decoder_destroy(decoder);
        peri_buf_fini(&coded);
        peri_buf_fini(&plain);
    }
}

TEST(ranges_lie_within_the_file)
{
    peri_range r[PERI_RANGES_MAX];

    (void)state;
    assert_int_equal(peri_ranges_parse(PERI_SLICE("bytes=0-4,8-"), 10, r), 2);
    assert_int_equal(r[0].last, 4);
    assert_int_equal(r[1].first, 8);
    assert_int_equal(r[1].last, 9);
    assert_int_equal(peri_ranges_parse(PERI_SLICE("bytes=10-"), 10, r),
                     PERI_ELIMIT);
    assert_int_equal(peri_ranges_parse(PERI_SLICE("bytes=9-"), 10, r), 1);
    assert_int_equal(peri_ranges_parse(PERI_SLICE("bytes=-11"), 10, r), 1);
    assert_int_equal(r[0].first, 0);
    assert_int_equal(peri_ranges_parse(PERI_SLICE("bytes=0-9,0-0"), 10, r), 0);
    assert_int_equal(peri_ranges_parse(PERI_SLICE("bytes=0-8,0-0"), 10, r), 2);
    assert_int_equal(peri_ranges_parse(PERI_SLICE("bytes=0-1"), 0, r), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_coded_comes_out_equal),
        cmocka_unit_test(what_would_get_longer_is_told),
        cmocka_unit_test(each_flush_can_be_read),
        cmocka_unit_test(ranges_lie_within_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
