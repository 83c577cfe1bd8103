/* Decode: zlib and brotli behind one step. */
#include "core/http/decode.h"

#include <brotli/decode.h>
#include <stdlib.h>
#include <zlib.h>

#include "core/base/alloc.h"
#include "core/base/err.h"

#define PIECE_BYTES 65536u

struct peri_decoder {
    BrotliDecoderState *brotli; /* NULL: zlib */
    z_stream zlib;
    bool begun;
    bool ended;   /* a member is complete; another gzip member may follow */
    bool members; /* gzip: several may follow each other */
};

static bool is_any(peri_slice coding, const char *a, const char *b)
{
    return peri_slice_equal_nocase(coding, peri_slice_str(a)) ||
           peri_slice_equal_nocase(coding, peri_slice_str(b));
}

peri_decoder *peri_decoder_create(peri_slice coding)
{
    bool gzip = is_any(coding, "gzip", "x-gzip");
    peri_decoder *d;

    if (!gzip && !is_any(coding, "deflate", "br")) {
        return NULL;
    }
    d = peri_calloc(1, sizeof *d);
    if (is_any(coding, "br", "br")) {
        d->brotli = BrotliDecoderCreateInstance(NULL, NULL, NULL);
        if (d->brotli == NULL) {
            abort();
        }
        return d;
    }
    d->members = gzip;
    if (inflateInit2(&d->zlib, gzip ? 15 + 16 : 15) != Z_OK) {
        abort(); /* memory is gone */
    }
    return d;
}

void peri_decoder_destroy(peri_decoder *decoder)
{
    if (decoder == NULL) {
        return;
    }
    if (decoder->brotli != NULL) {
        BrotliDecoderDestroyInstance(decoder->brotli);
    } else {
        inflateEnd(&decoder->zlib);
    }
    free(decoder);
}

static int step_brotli(peri_decoder *d, peri_slice *in, size_t room,
                       peri_buf *out)
{
    const uint8_t *next_in = (const uint8_t *)in->data;
    uint8_t *next_out = (uint8_t *)out->data + out->length;
    size_t left = room;
    BrotliDecoderResult result;

    if (d->ended) {
        return in->length == 0 ? 0 : PERI_EFORMAT;
    }
    result = BrotliDecoderDecompressStream(d->brotli, &in->length, &next_in,
                                           &left, &next_out, NULL);
    in->data = (const char *)next_in;
    out->length += room - left;
    d->ended = result == BROTLI_DECODER_RESULT_SUCCESS;
    return result == BROTLI_DECODER_RESULT_ERROR ? PERI_EFORMAT : 0;
}

static int step_zlib(peri_decoder *d, peri_slice *in, size_t room,
                     peri_buf *out)
{
    z_stream *z = &d->zlib;
    size_t given = in->length < PIECE_BYTES ? in->length : PIECE_BYTES;
    int rc;

    if (d->ended) {
        if (in->length == 0) {
            return 0;
        }
        if (!d->members || inflateReset(z) != Z_OK) {
            return PERI_EFORMAT;
        }
        d->ended = false;
    }
    if (!d->members && z->total_in == 0 && given > 0 &&
        (in->data[0] & 0x0f) != Z_DEFLATED) {
        inflateReset2(z, -15); /* some servers leave zlib's frame out */
    }
    memcpy(&z->next_in, &in->data, sizeof z->next_in); /* it only reads */
    z->avail_in = (uInt)given;
    z->next_out = (Bytef *)out->data + out->length;
    z->avail_out = (uInt)room;
    rc = inflate(z, Z_NO_FLUSH);
    in->data += given - z->avail_in;
    in->length -= given - z->avail_in;
    out->length += room - z->avail_out;
    d->ended = rc == Z_STREAM_END;
    return rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR ? 0
                                                                 : PERI_EFORMAT;
}

int peri_decoder_step(peri_decoder *decoder, peri_slice *in, size_t max_bytes,
                      peri_buf *out)
{
    size_t room = max_bytes < PIECE_BYTES ? max_bytes : PIECE_BYTES;

    if (room == 0) {
        return 0;
    }
    decoder->begun = decoder->begun || in->length > 0;
    if (peri_buf_reserve(out, room) < 0) {
        return PERI_ELIMIT;
    }
    return decoder->brotli != NULL ? step_brotli(decoder, in, room, out)
                                   : step_zlib(decoder, in, room, out);
}

bool peri_decoder_complete(const peri_decoder *decoder)
{
    return decoder->ended || !decoder->begun;
}
