/* Buf: bytes that grow, with a maximum.
 *
 * Embedded in its owner: init, append..., fini. After a failed append the
 * contents are what they were before it. */
#ifndef PERI_BASE_BUF_H
#define PERI_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/base/err.h"
#include "core/base/slice.h"

typedef struct peri_buf {
    char *data; /* NULL until the first append */
    size_t length;
    size_t capacity;
    size_t max_bytes;
} peri_buf;

/* Allocates nothing. */
void peri_buf_init(peri_buf *buf, size_t max_bytes);

/* Frees the bytes; the buf is as after init. */
void peri_buf_fini(peri_buf *buf);

/* Room for size_bytes more behind length: 0 or PERI_ELIMIT. */
int peri_buf_reserve_slow(peri_buf *buf, size_t size_bytes);

static inline int peri_buf_reserve(peri_buf *buf, size_t size_bytes)
{
    if (size_bytes <= buf->capacity - buf->length) {
        return 0;
    }
    return peri_buf_reserve_slow(buf, size_bytes);
}

static inline int peri_buf_append(peri_buf *buf, const void *data,
                                  size_t length)
{
    if (peri_buf_reserve(buf, length) < 0) {
        return PERI_ELIMIT;
    }
    if (length != 0) {
        memcpy(buf->data + buf->length, data, length);
        buf->length += length;
    }
    return 0;
}

static inline int peri_buf_append_slice(peri_buf *buf, peri_slice slice)
{
    return peri_buf_append(buf, slice.data, slice.length);
}

static inline int peri_buf_append_str(peri_buf *buf, const char *text)
{
    return peri_buf_append(buf, text, strlen(text));
}

static inline int peri_buf_append_byte(peri_buf *buf, char byte)
{
    return peri_buf_append(buf, &byte, 1);
}

/* Decimal digits of value. */
int peri_buf_append_u64(peri_buf *buf, uint64_t value);

/* As printf. */
__attribute__((format(printf, 2, 3))) int
peri_buf_printf(peri_buf *buf, const char *format, ...);

/* Drops the first length bytes; length <= buf->length. */
void peri_buf_consume(peri_buf *buf, size_t length);

static inline void peri_buf_clear(peri_buf *buf)
{
    buf->length = 0;
}

static inline peri_slice peri_buf_slice(const peri_buf *buf)
{
    return (peri_slice){buf->data, buf->length};
}

#endif
