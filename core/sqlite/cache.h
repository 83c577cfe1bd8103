/* Cache: a connection's prepared statements, by their text.
 *
 * The least recently used one makes room. Belongs to the thread of its
 * connection. */
#ifndef PERI_SQLITE_CACHE_H
#define PERI_SQLITE_CACHE_H

#include <sqlite3.h>

#include "core/base/list.h"
#include "core/base/slice.h"

#define PERI_SQLITE_CACHE_MAX 128 /* statements */
#define PERI_SQLITE_CACHE_BUCKETS 64

typedef struct peri_sqlite_cache {
    peri_list recent; /* first: used last */
    peri_list buckets[PERI_SQLITE_CACHE_BUCKETS];
    int count;
} peri_sqlite_cache;

void peri_sqlite_cache_init(peri_sqlite_cache *cache);

/* Finalizes all. */
void peri_sqlite_cache_fini(peri_sqlite_cache *cache);

/* Borrowed, reset, without bindings; NULL when it is not there. */
sqlite3_stmt *peri_sqlite_cache_get(peri_sqlite_cache *cache, peri_slice sql);

/* Takes the statement. */
void peri_sqlite_cache_put(peri_sqlite_cache *cache, peri_slice sql,
                           sqlite3_stmt *stmt);

#endif
