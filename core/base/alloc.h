/* Allocation for our own small needs: aborts when memory is gone.
 *
 * Whatever has a size that a peer chooses has a maximum checked before it
 * gets here. Release with free(). */
#ifndef PERI_BASE_ALLOC_H
#define PERI_BASE_ALLOC_H

#include <stddef.h>

/* Uninitialised; never NULL. Caller owns. */
void *peri_alloc(size_t size_bytes);

/* Zero-filled; never NULL. Caller owns. */
void *peri_calloc(size_t count, size_t size_bytes);

/* As realloc(); never NULL. */
void *peri_realloc(void *memory, size_t size_bytes);

/* Copies with a closing NUL. Caller owns. */
char *peri_strdup(const char *text);
char *peri_strndup(const char *text, size_t length);

#endif
