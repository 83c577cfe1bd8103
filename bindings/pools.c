/* Pools: a table of the pools that are shown, by what they are called. */
#include "bindings/pools.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/db_watch.h"
#include "core/base/alloc.h"
#include "core/base/list.h"
#include "core/http/client.h"
#include "core/redis/set.h"
#include "core/sqlite/set.h"

#define BUCKETS 256 /* a power of two */
#define NAMES_MAX 3
#define KEY_BYTES (NAMES_MAX * (PERI_CELLS_VALUE_MAX + 1))

typedef struct kind {
    const char *open; /* metrics */
    const char *open_help;
    const char *waiting;
    const char *waiting_help;
    const char *labels[NAMES_MAX + 1]; /* names, then the state */
    size_t names;
    const char *used; /* how the state is called; the other one is idle */
} kind;

enum { HTTP, DB, KINDS };

static const kind kinds[KINDS] = {
    [HTTP] = {.open = "http_client_open_connections",
              .open_help = "Open connections of the HTTP client.",
              .waiting = "perigee_http_client_pending_requests",
              .waiting_help =
                  "Requests of the HTTP client that wait for a connection.",
              .labels = {"server_address", "server_port", "url_scheme",
                         "http_connection_state"},
              .names = 3,
              .used = "active"},
    [DB] = {.open = "db_client_open_connections",
            .open_help = "Open connections to databases.",
            .waiting = "db_client_connection_pending_requests",
            .waiting_help = "What waits for a database: statements that have "
                            "not begun, commands without a reply.",
            .labels = {"db_system_name", "db_client_connection_pool_name",
                       "db_client_connection_state"},
            .names = 2,
            .used = "used"},
};

typedef struct entry {
    peri_list link; /* in its bucket */
    double *used;   /* cells */
    double *idle;
    double *waiting;
    peri_pool_counts shown;
    peri_pool_counts now;
    int kind;
    size_t length;
    char key[]; /* its names, each ended by NUL */
} entry;

struct perilua_pools {
    peri_cells *cells;
    const peri_logger *logger;
    int open[KINDS]; /* families; negative: there was no room */
    int waiting[KINDS];
    peri_list buckets[BUCKETS];
};

static int declare(peri_cells *cells, const kind *it, bool open)
{
    const peri_cells_family family = {.name = open ? it->open : it->waiting,
                                      .help = open ? it->open_help
                                                   : it->waiting_help,
                                      .type = PERI_CELLS_GAUGE,
                                      .merge = PERI_CELLS_SUM,
                                      .labels = it->labels,
                                      .label_count = it->names + open};

    return peri_cells_declare(cells, &family, 0);
}

perilua_pools *perilua_pools_create(peri_cells *cells,
                                    const peri_logger *logger)
{
    perilua_pools *pools = peri_calloc(1, sizeof *pools);

    pools->cells = cells;
    pools->logger = logger;
    for (size_t i = 0; i < KINDS; i++) {
        pools->open[i] = declare(cells, &kinds[i], true);
        pools->waiting[i] = declare(cells, &kinds[i], false);
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        peri_list_init(&pools->buckets[i]);
    }
    return pools;
}

void perilua_pools_destroy(perilua_pools *pools)
{
    for (size_t i = 0; pools != NULL && i < BUCKETS; i++) {
        while (!peri_list_empty(&pools->buckets[i])) {
            entry *at = PERI_CONTAINER(pools->buckets[i].next, entry, link);

            peri_list_remove(&at->link);
            free(at);
        }
    }
    free(pools);
}

/* ---- finding ---- */

static double *series(perilua_pools *pools, int family, const char *name,
                      const peri_slice *values)
{
    double *cells;

    if (peri_cells_series(pools->cells, family, values, &cells) ==
        PERI_CELLS_OVERFLOW_FIRST) {
        peri_log(pools->logger, PERI_LOG_WARN,
                 "%s: too many series, the rest is counted as overflow "
                 "(metrics.series_max)",
                 name);
    }
    return cells;
}

static entry *add(perilua_pools *pools, int number, const peri_slice *names,
                  const char *key, size_t length, peri_list *bucket)
{
    const kind *it = &kinds[number];
    entry *made = peri_calloc(1, sizeof *made + length);
    peri_slice values[NAMES_MAX + 1];

    memcpy(values, names, it->names * sizeof *names);
    made->waiting = series(pools, pools->waiting[number], it->waiting, values);
    values[it->names] = peri_slice_str(it->used);
    made->used = series(pools, pools->open[number], it->open, values);
    values[it->names] = PERI_SLICE("idle");
    made->idle = series(pools, pools->open[number], it->open, values);
    made->kind = number;
    made->length = length;
    memcpy(made->key, key, length);
    peri_list_append(bucket, &made->link);
    return made;
}

static entry *find(perilua_pools *pools, int number, const peri_slice *names)
{
    char key[KEY_BYTES];
    size_t length = 0;
    peri_list *bucket;

    assert(kinds[number].names <= NAMES_MAX);
    for (size_t i = 0; i < kinds[number].names; i++) {
        size_t part = names[i].length < PERI_CELLS_VALUE_MAX
                          ? names[i].length
                          : PERI_CELLS_VALUE_MAX;

        memcpy(key + length, names[i].data, part);
        length += part;
        key[length++] = '\0';
    }
    bucket = &pools->buckets[peri_slice_hash(peri_slice_of(key, length),
                                             (uint32_t)number) %
                             BUCKETS];
    for (peri_list *link = bucket->next; link != bucket; link = link->next) {
        entry *at = PERI_CONTAINER(link, entry, link);

        if (at->kind == number && at->length == length &&
            memcmp(at->key, key, length) == 0) {
            return at;
        }
    }
    return add(pools, number, names, key, length, bucket);
}

/* ---- showing ---- */

static void count(perilua_pools *pools, int number, const peri_slice *names,
                  const peri_pool_counts *counts)
{
    entry *at;

    if (pools->open[number] < 0 || pools->waiting[number] < 0) {
        return;
    }
    at = find(pools, number, names);
    at->now.used += counts->used;
    at->now.idle += counts->idle;
    at->now.waiting += counts->waiting;
}

static void on_origin(void *data, const peri_client_pool *pool)
{
    const peri_slice names[] = {pool->host, pool->port,
                                pool->tls ? PERI_SLICE("https")
                                          : PERI_SLICE("http")};

    count(data, HTTP, names, &pool->counts);
}

/* Under the name that calls are counted by. */
static void on_database(perilua_pools *pools, peri_slice system,
                        const char *name, const peri_pool_counts *counts)
{
    size_t length = strnlen(name, PERILUA_DB_NAME_BYTES - 1);
    const peri_slice names[NAMES_MAX] = {system, peri_slice_of(name, length),
                                         PERI_SLICE("")};

    count(pools, DB, names, counts);
}

static void on_redis(void *data, const char *name,
                     const peri_pool_counts *counts)
{
    on_database(data, PERI_SLICE("redis"), name, counts);
}

static void on_sqlite(void *data, const char *name,
                      const peri_pool_counts *counts)
{
    on_database(data, PERI_SLICE("sqlite"), name, counts);
}

/* By what has changed: several pools may share a series, that of the overflow
 * above all. One that has nothing any more is forgotten. */
static void settle(entry *at)
{
    *at->used += (double)at->now.used - at->shown.used;
    *at->idle += (double)at->now.idle - at->shown.idle;
    *at->waiting += (double)at->now.waiting - at->shown.waiting;
    at->shown = at->now;
    at->now = (peri_pool_counts){0};
    if (at->shown.used + at->shown.idle + at->shown.waiting == 0) {
        peri_list_remove(&at->link);
        free(at);
    }
}

void perilua_pools_show(perilua_pools *pools, const perilua_env *env)
{
    peri_client_each_pool(env->client, on_origin, pools);
    peri_redis_set_each(env->redis, on_redis, pools);
    peri_sqlite_set_each(env->sqlite, on_sqlite, pools);
    for (size_t i = 0; i < BUCKETS; i++) {
        for (peri_list *link = pools->buckets[i].next;
             link != &pools->buckets[i];) {
            entry *at = PERI_CONTAINER(link, entry, link);

            link = link->next;
            settle(at);
        }
    }
}
