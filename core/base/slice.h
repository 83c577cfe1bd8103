/* Slice: bytes that belong to somebody else. Passed by value. */
#ifndef PERI_BASE_SLICE_H
#define PERI_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

typedef struct peri_slice {
    const char *data; /* not ended by NUL; may be NULL when length is 0 */
    size_t length;
} peri_slice;

/* A slice of a string literal. */
#define PERI_SLICE(literal) ((peri_slice){("" literal), sizeof(literal) - 1})

/* The same in an initializer of what is static, which must be constant. */
#define PERI_SLICE_INIT(literal)                                               \
    {                                                                          \
        ("" literal), sizeof(literal) - 1                                      \
    }

static inline peri_slice peri_slice_of(const char *data, size_t length)
{
    return (peri_slice){data, length};
}

static inline peri_slice peri_slice_str(const char *text)
{
    return (peri_slice){text, text != NULL ? strlen(text) : 0};
}

/* Of its bytes, those from one to before the other. */
static inline peri_slice peri_slice_part(peri_slice text, size_t from,
                                         size_t to)
{
    return peri_slice_of(text.data + from, to - from);
}

static inline bool peri_slice_equal(peri_slice a, peri_slice b)
{
    return a.length == b.length &&
           (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

/* ASCII case is ignored. */
static inline bool peri_slice_equal_nocase(peri_slice a, peri_slice b)
{
    return a.length == b.length &&
           (a.length == 0 || strncasecmp(a.data, b.data, a.length) == 0);
}

static inline bool peri_slice_starts(peri_slice text, peri_slice prefix)
{
    return text.length >= prefix.length &&
           (prefix.length == 0 ||
            memcmp(text.data, prefix.data, prefix.length) == 0);
}

/* For tables; the same in every process (FNV-1a). salt tells apart what is of
 * different kinds. */
static inline uint32_t peri_slice_hash(peri_slice text, uint32_t salt)
{
    uint32_t hash = 2166136261u ^ salt;

    for (size_t i = 0; i < text.length; i++) {
        hash = (hash ^ (unsigned char)text.data[i]) * 16777619u;
    }
    return hash ^ hash >> 15;
}

#endif
