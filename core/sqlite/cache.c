/* Cache: a hash table and a list in order of use. */
#include "core/sqlite/cache.h"

#include <stdint.h>
#include <stdlib.h>

#include "core/base/alloc.h"

typedef struct cache_entry {
    peri_list in_bucket;
    peri_list in_recent;
    sqlite3_stmt *stmt;
    uint32_t hash;
    size_t length;
    char sql[];
} cache_entry;

static uint32_t hash_of(peri_slice sql)
{
    uint64_t hash = sql.length;
    uint64_t word;
    size_t i = 0;

    for (; i + sizeof word <= sql.length; i += sizeof word) {
        memcpy(&word, sql.data + i, sizeof word);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    for (; i < sql.length; i++) {
        hash = (hash ^ (unsigned char)sql.data[i]) * 16777619u;
    }
    return (uint32_t)(hash ^ (hash >> 32));
}

static void entry_destroy(peri_sqlite_cache *cache, cache_entry *entry)
{
    peri_list_remove(&entry->in_bucket);
    peri_list_remove(&entry->in_recent);
    sqlite3_finalize(entry->stmt);
    free(entry);
    cache->count--;
}

void peri_sqlite_cache_init(peri_sqlite_cache *cache)
{
    peri_list_init(&cache->recent);
    for (int i = 0; i < PERI_SQLITE_CACHE_BUCKETS; i++) {
        peri_list_init(&cache->buckets[i]);
    }
    cache->count = 0;
}

void peri_sqlite_cache_fini(peri_sqlite_cache *cache)
{
    while (!peri_list_empty(&cache->recent)) {
        entry_destroy(
            cache, PERI_CONTAINER(cache->recent.next, cache_entry, in_recent));
    }
}

sqlite3_stmt *peri_sqlite_cache_get(peri_sqlite_cache *cache, peri_slice sql)
{
    uint32_t hash = hash_of(sql);
    peri_list *head = &cache->buckets[hash % PERI_SQLITE_CACHE_BUCKETS];

    for (peri_list *at = head->next; at != head; at = at->next) {
        cache_entry *entry = PERI_CONTAINER(at, cache_entry, in_bucket);

        if (entry->hash == hash &&
            peri_slice_equal(peri_slice_of(entry->sql, entry->length), sql)) {
            peri_list_remove(&entry->in_recent);
            peri_list_prepend(&cache->recent, &entry->in_recent);
            return entry->stmt;
        }
    }
    return NULL;
}

void peri_sqlite_cache_put(peri_sqlite_cache *cache, peri_slice sql,
                           sqlite3_stmt *stmt)
{
    cache_entry *entry = peri_alloc(sizeof *entry + sql.length);

    if (cache->count == PERI_SQLITE_CACHE_MAX) {
        entry_destroy(
            cache, PERI_CONTAINER(cache->recent.prev, cache_entry, in_recent));
    }
    entry->stmt = stmt;
    entry->hash = hash_of(sql);
    entry->length = sql.length;
    memcpy(entry->sql, sql.data, sql.length);
    peri_list_append(&cache->buckets[entry->hash % PERI_SQLITE_CACHE_BUCKETS],
                     &entry->in_bucket);
    peri_list_prepend(&cache->recent, &entry->in_recent);
    cache->count++;
}
