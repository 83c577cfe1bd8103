/* Chunked: llhttp's callbacks, and the accounts it does not keep. */
#include "core/http/chunked.h"

#include <string.h>

#include "core/base/err.h"
#include "core/http/scan.h"

/* Between the data of two chunks: two line ends and a size, without excess. */
#define BETWEEN_BYTES 20

static uint64_t excess(const peri_chunked *c, uint64_t position)
{
    uint64_t between = position - c->data_end;

    return between > BETWEEN_BYTES ? between - BETWEEN_BYTES : 0;
}

static int on_chunk_header(llhttp_t *parser)
{
    peri_chunked *c = parser->data;
    uint64_t length = parser->content_length;

    if (length > c->max_bytes || c->total_bytes > c->max_bytes - length) {
        c->rc = PERI_ELIMIT;
        return -1;
    }
    c->total_bytes += length;
    if (length == 0) {
        c->in_trailers = true;
        return HPE_PAUSED;
    }
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t length)
{
    peri_chunked *c = parser->data;
    uint64_t position = c->fed_bytes + (uint64_t)(at - c->from);

    c->excess_bytes += excess(c, position);
    c->data_end = position + length;
    return peri_buf_append(c->out, at, length) < 0 ? -1 : 0;
}

static const llhttp_settings_t settings = {
    .on_body = on_body,
    .on_chunk_header = on_chunk_header,
};

void peri_chunked_init(peri_chunked *chunked, uint64_t max_bytes)
{
    static const char head[] =
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";

    memset(chunked, 0, sizeof *chunked);
    chunked->max_bytes = max_bytes;
    llhttp_init(&chunked->parser, HTTP_REQUEST, &settings);
    chunked->parser.data = chunked;
    llhttp_execute(&chunked->parser, head, sizeof head - 1);
}

static ptrdiff_t feed_trailers(peri_chunked *c, const char *data, size_t length)
{
    peri_refusal refusal;
    int rc = peri_scan_trailers(data, length, &refusal);

    if (rc < 0) {
        return refusal.status == 431 ? PERI_ELIMIT : PERI_EFORMAT;
    }
    c->ended = rc > 0;
    return rc;
}

static ptrdiff_t feed_chunks(peri_chunked *c, const char *data, size_t length)
{
    llhttp_errno_t error;

    c->from = data;
    error = llhttp_execute(&c->parser, data, length);
    if (c->rc < 0) {
        return c->rc;
    }
    if (c->in_trailers) {
        length = (size_t)(llhttp_get_error_pos(&c->parser) - data);
    } else if (error != HPE_OK) {
        return PERI_EFORMAT;
    }
    c->fed_bytes += length;
    if (c->excess_bytes + excess(c, c->fed_bytes) >
        PERI_CHUNKED_EXCESS_MAX_BYTES) {
        return PERI_EFORMAT;
    }
    return (ptrdiff_t)length;
}

ptrdiff_t peri_chunked_feed(peri_chunked *chunked, const char *data,
                            size_t length, peri_buf *out)
{
    ptrdiff_t used = 0;
    ptrdiff_t more;

    chunked->out = out;
    if (!chunked->in_trailers) {
        used = feed_chunks(chunked, data, length);
        if (used < 0 || !chunked->in_trailers) {
            return used;
        }
    }
    more = feed_trailers(chunked, data + used, length - (size_t)used);
    return more < 0 ? more : used + more;
}

bool peri_chunked_self_test(void)
{
    static const char loose[] = "3\r\nabcXX";
    static const char sound[] = "3\r\nabc\r\n0\r\n\r\n\0\0\0\0\0\0\0";
    peri_chunked chunked;
    peri_buf out;
    bool ok;

    peri_buf_init(&out, 64);
    peri_chunked_init(&chunked, 64);
    ok = peri_chunked_feed(&chunked, loose, sizeof loose - 1, &out) < 0;
    peri_buf_clear(&out);
    peri_chunked_init(&chunked, 64);
    ok = ok && peri_chunked_feed(&chunked, sound, 13, &out) == 13 &&
         chunked.ended && out.length == 3;
    peri_buf_fini(&out);
    return ok;
}
