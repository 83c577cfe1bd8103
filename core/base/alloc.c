/* Allocation that aborts when memory is gone. */
#include "core/base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *memory, size_t size_bytes)
{
    if (memory == NULL) {
        fprintf(stderr, "perigee: out of memory (%zu bytes)\n", size_bytes);
        abort();
    }
    return memory;
}

void *peri_alloc(size_t size_bytes)
{
    return checked(malloc(size_bytes != 0 ? size_bytes : 1), size_bytes);
}

void *peri_calloc(size_t count, size_t size_bytes)
{
    return checked(calloc(count != 0 ? count : 1, size_bytes), size_bytes);
}

void *peri_realloc(void *memory, size_t size_bytes)
{
    return checked(realloc(memory, size_bytes != 0 ? size_bytes : 1),
                   size_bytes);
}

char *peri_strdup(const char *text)
{
    return peri_strndup(text, strlen(text));
}

char *peri_strndup(const char *text, size_t length)
{
    char *copy = peri_alloc(length + 1);

    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}
