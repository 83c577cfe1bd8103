/* Reply: hiredis's reader, with functions that make flat nodes. */
#include "core/redis/reply.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

#include "core/base/alloc.h"

/* hiredis 1 counts elements in size_t. */
#if HIREDIS_MAJOR >= 1
typedef size_t element_count;
#else
typedef int element_count;
#endif

/* hiredis 0.14 reads so many levels and no more; 1.x knows no maximum. */
#define NESTING_MAX 8

static peri_redis_node *add(const redisReadTask *task, peri_redis_type type)
{
    peri_redis_reply *reply = task->privdata;
    peri_redis_node *node;

    if (reply->count * sizeof *node + reply->bytes.length > reply->max_bytes) {
        reply->too_large = true;
        return NULL; /* the reader stops */
    }
    if (reply->count == reply->capacity) {
        reply->capacity = reply->capacity * 2 + 16;
        reply->nodes =
            peri_realloc(reply->nodes, reply->capacity * sizeof *node);
    }
    node = &reply->nodes[reply->count++];
    *node = (peri_redis_node){.type = type};
    return node;
}

static void *create_string(const redisReadTask *task, char *text, size_t length)
{
    peri_redis_reply *reply = task->privdata;
    peri_redis_node *node;
    peri_redis_type type = PERI_REDIS_STRING;

    if (task->type == REDIS_REPLY_ERROR) {
        type = PERI_REDIS_ERROR;
    } else if (task->type == REDIS_REPLY_STATUS) {
        type = PERI_REDIS_STATUS;
    } else if (task->type == REDIS_REPLY_STRING &&
               (text[length] != '\r' || text[length + 1] != '\n')) {
        return NULL; /* hiredis skips them unseen: bytes were lost or added */
    }
    node = add(task, type);
    if (node == NULL) {
        return NULL;
    }
    node->offset = reply->bytes.length;
    node->length = length;
    if (peri_buf_append(&reply->bytes, text, length) < 0) {
        reply->too_large = true;
        return NULL;
    }
    return reply;
}

static void *create_array(const redisReadTask *task, element_count elements)
{
    const peri_redis_reply *reply = task->privdata;
    peri_redis_node *node;

    if (reply->reader->ridx >= NESTING_MAX) {
        return NULL; /* as what is malformed */
    }
    node = add(task, PERI_REDIS_ARRAY);
    if (node == NULL) {
        return NULL;
    }
    node->value = (int64_t)elements;
    return task->privdata;
}

static void *create_integer(const redisReadTask *task, long long value)
{
    peri_redis_node *node = add(task, PERI_REDIS_INTEGER);

    if (node == NULL) {
        return NULL;
    }
    node->value = value;
    return task->privdata;
}

static void *create_nil(const redisReadTask *task)
{
    return add(task, PERI_REDIS_NIL) != NULL ? task->privdata : NULL;
}

#if HIREDIS_MAJOR >= 1
/* RESP3, which we do not ask for. */
static void *create_double(const redisReadTask *task, double value, char *text,
                           size_t length)
{
    (void)value;
    return create_string(task, text, length);
}

static void *create_bool(const redisReadTask *task, int value)
{
    return create_integer(task, value);
}
#endif

static void free_object(void *object)
{
    (void)object; /* the reply itself */
}

static const redisReplyObjectFunctions functions = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
#if HIREDIS_MAJOR >= 1
    .createDouble = create_double,
    .createBool = create_bool,
#endif
    .createNil = create_nil,
    .freeObject = free_object,
};

void peri_redis_reply_init(peri_redis_reply *reply, size_t max_bytes)
{
    union {
        const redisReplyObjectFunctions *in;
        redisReplyObjectFunctions *out; /* hiredis only reads it */
    } plain = {&functions};

    *reply = (peri_redis_reply){.max_bytes = max_bytes};
    peri_buf_init(&reply->bytes, max_bytes);
    reply->reader = redisReaderCreateWithFunctions(plain.out);
    if (reply->reader == NULL) {
        abort(); /* no memory */
    }
    reply->reader->privdata = reply; /* the macro casts to int */
}

void peri_redis_reply_fini(peri_redis_reply *reply)
{
    redisReaderFree(reply->reader);
    free(reply->nodes);
    peri_buf_fini(&reply->bytes);
}

static int failure(const peri_redis_reply *reply)
{
    return reply->too_large ? PERI_ELIMIT : PERI_EFORMAT;
}

int peri_redis_reply_feed(peri_redis_reply *reply, peri_slice bytes)
{
    if (redisReaderFeed(reply->reader, bytes.data, bytes.length) != REDIS_OK) {
        return failure(reply);
    }
    return 0;
}

int peri_redis_reply_next(peri_redis_reply *reply)
{
    const redisReader *reader = reply->reader;
    void *object = NULL;

    if (redisReaderGetReply(reply->reader, &object) != REDIS_OK) {
        return failure(reply);
    }
    if (object != NULL) {
        return 1;
    }
    /* What is left belongs to one reply, not to several small ones. */
    if (reader->len - reader->pos > reply->max_bytes) {
        reply->too_large = true;
        return PERI_ELIMIT;
    }
    return 0;
}

#define KEEP_BYTES ((size_t)1 << 20)

void peri_redis_reply_clear(peri_redis_reply *reply)
{
    reply->count = 0;
    peri_buf_clear(&reply->bytes);
    if (reply->bytes.capacity > KEEP_BYTES) {
        peri_buf_fini(&reply->bytes);
    }
    if (reply->capacity * sizeof *reply->nodes > KEEP_BYTES) {
        free(reply->nodes);
        reply->nodes = NULL;
        reply->capacity = 0;
    }
}

void peri_redis_code(peri_slice message, char code[PERI_REDIS_CODE_BYTES])
{
    size_t length = 0;

    while (length < message.length && length < PERI_REDIS_CODE_BYTES - 1 &&
           message.data[length] >= 'A' && message.data[length] <= 'Z') {
        code[length] = message.data[length];
        length++;
    }
    if (length == 0 ||
        (length < message.length && message.data[length] != ' ')) {
        memcpy(code, "ERR", 4);
        return;
    }
    code[length] = '\0';
}
