/* Answers to the HTTP client: whole and split they get the same verdict, body
 * and length. The first byte says where to split. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/err.h"
#include "core/http/client_parse.h"

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

typedef struct verdict {
    bool refused;
    peri_reply_state state;
    int status;
    size_t used;
    peri_buf body;
} verdict;

/* Feeds data[*at..to], in memory of exactly its size. */
static void feed(peri_reply *reply, verdict *v, const uint8_t *data, size_t to)
{
    while (v->used < to && !v->refused && reply->state != PERI_REPLY_DONE) {
        size_t length = to - v->used;
        char *copy = malloc(length + PERI_SCAN_PADDING);
        ptrdiff_t rc;

        memcpy(copy, data + v->used, length);
        memset(copy + length, 0, PERI_SCAN_PADDING);
        rc = peri_reply_feed(reply, copy, length, &v->body);
        require(rc <= (ptrdiff_t)length && rc != 0);
        v->refused = rc < 0;
        v->used += rc > 0 ? (size_t)rc : 0;
        free(copy);
    }
}

static void parse(verdict *v, const uint8_t *data, size_t size, size_t step)
{
    peri_reply reply;

    memset(v, 0, sizeof *v);
    peri_buf_init(&v->body, SIZE_MAX / 2);
    peri_reply_init(&reply);
    for (size_t to = step; to < size; to += step) {
        feed(&reply, v, data, to);
    }
    feed(&reply, v, data, size);
    v->state = reply.state;
    v->status = reply.status;
    for (unsigned i = 0; i < reply.field_count; i++) {
        peri_span value = reply.fields[i].value;

        require(value.offset + value.length <= reply.head.length);
    }
    peri_reply_fini(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    verdict whole;
    verdict split;

    if (size < 2) {
        return 0;
    }
    parse(&whole, data + 1, size - 1, size);
    parse(&split, data + 1, size - 1, data[0] % 32 + 1u);
    require(whole.refused == split.refused);
    if (!whole.refused) {
        require(whole.state == split.state && whole.used == split.used);
        require(whole.status == split.status);
        require(peri_slice_equal(peri_buf_slice(&whole.body),
                                 peri_buf_slice(&split.body)));
    }
    peri_buf_fini(&whole.body);
    peri_buf_fini(&split.body);
    return 0;
}
