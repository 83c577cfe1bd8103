/* Buf: growth and formatting. */
#include "core/base/buf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"

#define BUF_MIN_BYTES 64

void peri_buf_init(peri_buf *buf, size_t max_bytes)
{
    *buf = (peri_buf){.max_bytes = max_bytes};
}

void peri_buf_fini(peri_buf *buf)
{
    free(buf->data);
    peri_buf_init(buf, buf->max_bytes);
}

int peri_buf_reserve_slow(peri_buf *buf, size_t size_bytes)
{
    size_t need;
    size_t capacity;

    if (size_bytes > buf->max_bytes ||
        buf->length > buf->max_bytes - size_bytes) {
        return PERI_ELIMIT;
    }
    need = buf->length + size_bytes;
    capacity = buf->capacity < BUF_MIN_BYTES ? BUF_MIN_BYTES : buf->capacity;
    while (capacity < need) {
        capacity = capacity > buf->max_bytes / 2 ? need : capacity * 2;
    }
    buf->data = peri_realloc(buf->data, capacity);
    buf->capacity = capacity;
    return 0;
}

int peri_buf_append_u64(peri_buf *buf, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return peri_buf_append(buf, digits + at, sizeof digits - at);
}

int peri_buf_printf(peri_buf *buf, const char *format, ...)
{
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(length >= 0);
    if (peri_buf_reserve(buf, (size_t)length + 1) < 0) {
        return PERI_ELIMIT;
    }
    va_start(args, format);
    vsnprintf(buf->data + buf->length, (size_t)length + 1, format, args);
    va_end(args);
    buf->length += (size_t)length;
    return 0;
}

void peri_buf_consume(peri_buf *buf, size_t length)
{
    assert(length <= buf->length);
    if (length != 0) {
        buf->length -= length;
        memmove(buf->data, buf->data + length, buf->length);
    }
}
