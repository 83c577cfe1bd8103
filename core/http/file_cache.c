/* File cache: a table of chains, and a list by last use. */
#include "core/http/file_cache.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/list.h"

#define BUCKETS 256u

typedef struct entry {
    peri_list chain;
    peri_list used; /* the last one first */
    uint64_t until_ms;
    unsigned variant;
    char *path;
    peri_file_copy copy;
} entry;

struct peri_file_cache {
    peri_list buckets[BUCKETS];
    peri_list used;
    size_t count;
    size_t bytes;
};

peri_file_cache *peri_file_cache_create(void)
{
    peri_file_cache *cache = peri_calloc(1, sizeof *cache);

    for (unsigned i = 0; i < BUCKETS; i++) {
        peri_list_init(&cache->buckets[i]);
    }
    peri_list_init(&cache->used);
    return cache;
}

static void drop(peri_file_cache *cache, entry *e)
{
    peri_list_remove(&e->chain);
    peri_list_remove(&e->used);
    cache->count--;
    cache->bytes -= e->copy.body.length;
    free((void *)(uintptr_t)e->copy.body.data);
    free(e->path);
    free(e);
}

void peri_file_cache_destroy(peri_file_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    while (!peri_list_empty(&cache->used)) {
        drop(cache, PERI_CONTAINER(cache->used.next, entry, used));
    }
    free(cache);
}

static peri_list *bucket_of(peri_file_cache *cache, const char *path,
                            unsigned variant)
{
    return &cache->buckets[peri_slice_hash(peri_slice_str(path), variant) %
                           BUCKETS];
}

static entry *find(peri_file_cache *cache, const char *path, unsigned variant)
{
    peri_list *bucket = bucket_of(cache, path, variant);

    for (peri_list *l = bucket->next; l != bucket; l = l->next) {
        entry *e = PERI_CONTAINER(l, entry, chain);

        if (e->variant == variant && strcmp(e->path, path) == 0) {
            return e;
        }
    }
    return NULL;
}

static bool is_as_it_was(const char *root, const entry *e)
{
    const struct stat *was = &e->copy.stat;
    char path[PATH_MAX];
    struct stat now;
    int length = snprintf(path, sizeof path, "%s/%s", root, e->path);

    return length > 0 && (size_t)length < sizeof path &&
           stat(path, &now) == 0 && now.st_ino == was->st_ino &&
           now.st_dev == was->st_dev && now.st_size == was->st_size &&
           now.st_mtim.tv_sec == was->st_mtim.tv_sec &&
           now.st_mtim.tv_nsec == was->st_mtim.tv_nsec &&
           now.st_mode == was->st_mode;
}

const peri_file_copy *peri_file_cache_get(peri_file_cache *cache,
                                          const char *root, const char *path,
                                          unsigned variant, uint64_t now_ms)
{
    entry *e = find(cache, path, variant);

    if (e == NULL) {
        return NULL;
    }
    if (now_ms >= e->until_ms || !is_as_it_was(root, e)) {
        drop(cache, e);
        return NULL;
    }
    peri_list_remove(&e->used);
    peri_list_prepend(&cache->used, &e->used);
    return &e->copy;
}

void peri_file_cache_put(peri_file_cache *cache, const char *path,
                         unsigned variant, const peri_file_copy *copy,
                         uint64_t now_ms)
{
    entry *e = find(cache, path, variant);

    if (e != NULL) {
        drop(cache, e);
    }
    while (cache->count > 0 &&
           (cache->count >= PERI_FILE_CACHE_ENTRIES ||
            cache->bytes + copy->body.length > PERI_FILE_CACHE_BYTES)) {
        drop(cache, PERI_CONTAINER(cache->used.prev, entry, used));
    }
    e = peri_calloc(1, sizeof *e);
    e->variant = variant;
    e->until_ms = now_ms + PERI_FILE_CACHE_MS;
    e->path = peri_strdup(path);
    e->copy = *copy;
    e->copy.body.data = peri_strndup(copy->body.data, copy->body.length);
    peri_list_append(bucket_of(cache, path, variant), &e->chain);
    peri_list_prepend(&cache->used, &e->used);
    cache->count++;
    cache->bytes += copy->body.length;
}
