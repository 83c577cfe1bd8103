/* File cache: small files as they were sent a moment ago.
 *
 * An entry is used while the file looks as it did (one stat a use), for a
 * second at most: then a thread looks again, also for packed files beside it.
 * Belongs to the loop thread. */
#ifndef PERI_HTTP_FILE_CACHE_H
#define PERI_HTTP_FILE_CACHE_H

#include <sys/stat.h>

#include "core/base/slice.h"
#include "core/http/coding.h"

#define PERI_FILE_CACHE_ENTRIES 256
#define PERI_FILE_CACHE_BYTES ((size_t)2 << 20)
#define PERI_FILE_CACHE_MS 1000

typedef struct peri_file_cache peri_file_cache;

/* What a thread found, and made of it. */
typedef struct peri_file_copy {
    struct stat stat;      /* of the file that was asked for */
    struct stat sent_stat; /* of the one whose bytes these are */
    peri_coding coding;
    bool coded_before;
    peri_slice body;
} peri_file_copy;

peri_file_cache *peri_file_cache_create(void);
void peri_file_cache_destroy(peri_file_cache *cache);

/* variant: whatever else decides what is sent for a path. Borrowed until the
 * next call; NULL: not there, or not as it was. root is the folder's. */
const peri_file_copy *peri_file_cache_get(peri_file_cache *cache,
                                          const char *root, const char *path,
                                          unsigned variant, uint64_t now_ms);

/* Copies. */
void peri_file_cache_put(peri_file_cache *cache, const char *path,
                         unsigned variant, const peri_file_copy *copy,
                         uint64_t now_ms);

#endif
