/* Encoder: zlib and brotli behind one step. Windows fit what is to come: an
 * encoder for a short answer costs little, one for events stays small. */
#include "core/http/encoder.h"

#include <brotli/encode.h>
#include <stdlib.h>
#include <zlib.h>

#include "core/base/alloc.h"
#include "core/base/err.h"

#define STEP_MIN_BYTES 512u
#define STEP_MAX_BYTES 65536u
#define GZIP_WRAP 16
#define STREAM_WINDOW_BITS 14
#define BROTLI_WINDOW_MAX_BITS 18

struct peri_encoder {
    BrotliEncoderState *brotli; /* NULL: zlib */
    z_stream zlib;
};

/* That a window of so many bits holds size_bytes. */
static int window_bits(int64_t size_bytes, int min, int max)
{
    int bits = min;

    if (size_bytes < 0) {
        return STREAM_WINDOW_BITS;
    }
    while (bits < max && INT64_C(1) << bits < size_bytes) {
        bits++;
    }
    return bits;
}

peri_encoder *peri_encoder_create(peri_coding coding, unsigned level,
                                  int64_t size_bytes)
{
    peri_encoder *e = peri_calloc(1, sizeof *e);
    int bits;

    if (coding == PERI_CODING_BR) {
        e->brotli = BrotliEncoderCreateInstance(NULL, NULL, NULL);
        if (e->brotli == NULL) {
            abort(); /* memory is gone */
        }
        bits = window_bits(size_bytes, BROTLI_MIN_WINDOW_BITS,
                           BROTLI_WINDOW_MAX_BITS);
        BrotliEncoderSetParameter(e->brotli, BROTLI_PARAM_QUALITY, level);
        BrotliEncoderSetParameter(e->brotli, BROTLI_PARAM_LGWIN,
                                  (uint32_t)bits);
        if (size_bytes > 0) {
            BrotliEncoderSetParameter(
                e->brotli, BROTLI_PARAM_SIZE_HINT,
                size_bytes < 1 << 30 ? (uint32_t)size_bytes : 1u << 30);
        }
        return e;
    }
    bits = window_bits(size_bytes, 9, 15);
    if (deflateInit2(&e->zlib, (int)level, Z_DEFLATED, bits + GZIP_WRAP,
                     bits > 13 && size_bytes >= 0 ? 8 : 6,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        abort();
    }
    return e;
}

void peri_encoder_destroy(peri_encoder *encoder)
{
    if (encoder == NULL) {
        return;
    }
    if (encoder->brotli != NULL) {
        BrotliEncoderDestroyInstance(encoder->brotli);
    } else {
        deflateEnd(&encoder->zlib);
    }
    free(encoder);
}

/* What is worth asking for at once, within out's maximum. */
static size_t step_bytes(const peri_buf *out, size_t length)
{
    size_t left = out->max_bytes - out->length;
    size_t step = length / 2 + STEP_MIN_BYTES;

    step = step < STEP_MAX_BYTES ? step : STEP_MAX_BYTES;
    return step < left ? step : left;
}

static int feed_brotli(peri_encoder *e, peri_slice data, peri_encoder_op op,
                       peri_buf *out)
{
    static const BrotliEncoderOperation ops[] = {
        [PERI_ENCODER_MORE] = BROTLI_OPERATION_PROCESS,
        [PERI_ENCODER_FLUSH] = BROTLI_OPERATION_FLUSH,
        [PERI_ENCODER_END] = BROTLI_OPERATION_FINISH,
    };
    const uint8_t *in = (const uint8_t *)data.data;
    size_t in_bytes = data.length;

    do {
        size_t room = step_bytes(out, in_bytes);
        size_t left = room;
        uint8_t *at;

        if (room == 0 || peri_buf_reserve(out, room) < 0) {
            return PERI_ELIMIT;
        }
        at = (uint8_t *)out->data + out->length;
        if (!BrotliEncoderCompressStream(e->brotli, ops[op], &in_bytes, &in,
                                         &left, &at, NULL)) {
            return PERI_ELIMIT;
        }
        out->length += room - left;
    } while (in_bytes != 0 || BrotliEncoderHasMoreOutput(e->brotli));
    return 0;
}

static int feed_zlib(peri_encoder *e, peri_slice data, peri_encoder_op op,
                     peri_buf *out)
{
    static const int flushes[] = {
        [PERI_ENCODER_MORE] = Z_NO_FLUSH,
        [PERI_ENCODER_FLUSH] = Z_SYNC_FLUSH,
        [PERI_ENCODER_END] = Z_FINISH,
    };
    z_stream *z = &e->zlib;

    z->next_in = (Bytef *)(uintptr_t)data.data;
    z->avail_in = (uInt)data.length;
    do {
        size_t room = step_bytes(out, z->avail_in);

        if (room == 0 || peri_buf_reserve(out, room) < 0) {
            return PERI_ELIMIT;
        }
        z->next_out = (Bytef *)out->data + out->length;
        z->avail_out = (uInt)room;
        if (deflate(z, flushes[op]) == Z_STREAM_ERROR) {
            return PERI_ELIMIT;
        }
        out->length += room - z->avail_out;
    } while (z->avail_out == 0);
    return 0;
}

int peri_encoder_feed(peri_encoder *encoder, peri_slice data,
                      peri_encoder_op op, peri_buf *out)
{
    while (data.length > UINT32_MAX / 2) {
        peri_slice part = peri_slice_of(data.data, UINT32_MAX / 2);
        int rc = peri_encoder_feed(encoder, part, PERI_ENCODER_MORE, out);

        if (rc < 0) {
            return rc;
        }
        data.data += part.length;
        data.length -= part.length;
    }
    return encoder->brotli != NULL ? feed_brotli(encoder, data, op, out)
                                   : feed_zlib(encoder, data, op, out);
}

int peri_encode(peri_coding coding, unsigned level, peri_slice data,
                peri_buf *out)
{
    peri_encoder *encoder =
        peri_encoder_create(coding, level, (int64_t)data.length);
    int rc = peri_encoder_feed(encoder, data, PERI_ENCODER_END, out);

    peri_encoder_destroy(encoder);
    return rc;
}
