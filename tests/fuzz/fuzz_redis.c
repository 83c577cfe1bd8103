/* Replies of a Redis: whole and split they give the same values and the same
 * verdict; what is held stays within the maximum. The first byte says where to
 * split. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/err.h"
#include "core/redis/reply.h"

#define LARGE ((size_t)16 << 20)
#define SMALL ((size_t)2 << 10)

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

typedef struct verdict {
    int rc;
    uint64_t replies;
    uint64_t digest;
} verdict;

static void mix(verdict *v, const void *data, size_t length)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < length; i++) {
        v->digest = (v->digest ^ bytes[i]) * 0x100000001b3;
    }
}

/* Every node is there, and has its text. */
static size_t walk(verdict *v, const peri_redis_reply *reply, size_t at)
{
    const peri_redis_node *node = &reply->nodes[at++];

    require(at <= reply->count);
    mix(v, &node->type, sizeof node->type);
    mix(v, &node->value, sizeof node->value);
    require(node->offset + node->length <= reply->bytes.length);
    if (node->length > 0) {
        mix(v, reply->bytes.data + node->offset, node->length);
    }
    if (node->type == PERI_REDIS_ARRAY) {
        for (int64_t i = 0; i < node->value; i++) {
            at = walk(v, reply, at);
        }
    }
    return at;
}

static void feed(verdict *v, peri_redis_reply *reply, const uint8_t *data,
                 size_t length)
{
    char *copy = malloc(length);

    memcpy(copy, data, length);
    v->rc = peri_redis_reply_feed(reply, peri_slice_of(copy, length));
    free(copy);
    while (v->rc >= 0) {
        v->rc = peri_redis_reply_next(reply);
        require(reply->count * sizeof(peri_redis_node) <=
                reply->max_bytes + sizeof(peri_redis_node));
        require(reply->bytes.length <= reply->max_bytes);
        if (v->rc <= 0) {
            return;
        }
        v->replies++;
        require(walk(v, reply, 0) == reply->count);
        if (reply->nodes[0].type == PERI_REDIS_ERROR) {
            char code[PERI_REDIS_CODE_BYTES];

            peri_redis_code(peri_redis_text(reply, reply->nodes), code);
            require(strlen(code) > 0 && strlen(code) < sizeof code);
        }
        peri_redis_reply_clear(reply);
    }
}

static verdict read_all(const uint8_t *data, size_t size, size_t step,
                        size_t max_bytes)
{
    verdict v = {0};
    peri_redis_reply reply;

    peri_redis_reply_init(&reply, max_bytes);
    for (size_t at = 0; at < size && v.rc >= 0; at += step) {
        feed(&v, &reply, data + at, size - at < step ? size - at : step);
    }
    peri_redis_reply_fini(&reply);
    return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    verdict whole;
    verdict split;

    if (size < 2) {
        return 0;
    }
    whole = read_all(data + 1, size - 1, size, LARGE);
    split = read_all(data + 1, size - 1, data[0] % 32 + 1u, LARGE);
    require(whole.rc == split.rc && whole.replies == split.replies);
    require(whole.digest == split.digest);
    read_all(data + 1, size - 1, data[0] % 32 + 1u, SMALL);
    return 0;
}
