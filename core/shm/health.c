/* Health: a table of words that expire. */
#include "core/shm/health.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/shm/breaker.h"
#include "core/shm/lock.h"

#define BREAKER_PREFIX "breaker:"
#define LATELY_MS 60000u /* an open breaker that nobody asks says nothing */
#define READ_ATTEMPTS 16

typedef struct entry {
    _Atomic uint32_t seq; /* odd while it is written */
    uint64_t expires_ms;  /* monotonic; 0: never used */
    peri_health_check check;
} entry;

typedef struct table {
    peri_lock lock;
    _Atomic uint32_t seen_ready;
    entry entries[PERI_HEALTH_MAX];
} table;

struct peri_health {
    peri_regions *regions;
    table *table;
};

static uint64_t now_ms(void)
{
    return peri_clock_monotonic_ns() / 1000000u;
}

peri_health *peri_health_open(peri_regions *regions)
{
    peri_health *health;
    void *memory;
    size_t bytes;

    if (regions == NULL || peri_regions_get(regions, "health", sizeof(table),
                                            NULL, &memory, &bytes) < 0) {
        return NULL;
    }
    health = peri_calloc(1, sizeof *health);
    health->regions = regions;
    health->table = memory;
    return health;
}

void peri_health_close(peri_health *health)
{
    free(health);
}

/* The entry of that name, else one that is free. */
static entry *place_for(table *t, const char *name)
{
    uint64_t now = now_ms();
    entry *free_one = NULL;

    for (size_t i = 0; i < PERI_HEALTH_MAX; i++) {
        entry *at = &t->entries[i];

        if (strcmp(at->check.name, name) == 0) {
            return at;
        }
        if (free_one == NULL && at->expires_ms <= now) {
            free_one = at;
        }
    }
    return free_one;
}

bool peri_health_set(peri_health *health, const peri_health_check *check,
                     uint64_t ttl_ms)
{
    table *t = health->table;
    entry *at;

    peri_lock_take(&t->lock, peri_regions_self(health->regions));
    at = place_for(t, check->name);
    if (at != NULL) {
        /* A writer that died here left an odd number. */
        uint32_t seq = atomic_load(&at->seq) | 1u;

        atomic_store(&at->seq, seq);
        atomic_thread_fence(memory_order_release);
        at->check = *check;
        at->expires_ms = now_ms() + ttl_ms;
        atomic_store_explicit(&at->seq, seq + 1, memory_order_release);
    }
    peri_lock_release(&t->lock);
    return at != NULL;
}

bool peri_health_seen_ready(peri_health *health, bool now)
{
    if (now) {
        atomic_store(&health->table->seen_ready, 1);
    }
    return atomic_load(&health->table->seen_ready) != 0;
}

static bool read_entry(entry *at, uint64_t now, peri_health_check *out)
{
    for (int i = 0; i < READ_ATTEMPTS; i++) {
        uint32_t seq = atomic_load_explicit(&at->seq, memory_order_acquire);
        uint64_t expires_ms = at->expires_ms;

        if ((seq & 1) != 0) {
            continue;
        }
        *out = at->check;
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&at->seq, memory_order_relaxed) == seq) {
            return expires_ms > now;
        }
    }
    return false;
}

typedef struct list {
    peri_health_check *checks;
    size_t count;
    size_t max;
} list;

static void add_breaker(void *data, const char *name, void *memory,
                        size_t bytes)
{
    static const char *const states[] = {"closed", "open", "half open", "?"};
    list *l = data;
    peri_breaker_counts counts;
    peri_health_check *check;
    uint64_t since_ms;

    if (strncmp(name, BREAKER_PREFIX, sizeof BREAKER_PREFIX - 1) != 0 ||
        l->count == l->max) {
        return;
    }
    since_ms = peri_breaker_peek(memory, bytes, &counts);
    if (counts.state == PERI_BREAKER_CLOSED || since_ms > LATELY_MS) {
        return;
    }
    check = &l->checks[l->count++];
    check->status = PERI_HEALTH_WARN;
    check->internal = false;
    snprintf(check->name, sizeof check->name, "breaker %s",
             name + sizeof BREAKER_PREFIX - 1);
    snprintf(check->detail, sizeof check->detail, "warn: %s",
             states[counts.state & 3]);
}

size_t peri_health_read(peri_health *health, peri_health_check *out, size_t max)
{
    uint64_t now = now_ms();
    list l = {out, 0, max};

    for (size_t i = 0; i < PERI_HEALTH_MAX && l.count < max; i++) {
        if (read_entry(&health->table->entries[i], now, &out[l.count])) {
            l.count++;
        }
    }
    peri_regions_each(health->regions, add_breaker, &l);
    return l.count;
}

peri_health_status peri_health_worst(const peri_health_check *checks,
                                     size_t count)
{
    peri_health_status worst = PERI_HEALTH_PASS;

    for (size_t i = 0; i < count; i++) {
        if (checks[i].status > worst) {
            worst = checks[i].status;
        }
    }
    return worst;
}

bool peri_health_is_verbose(peri_slice query)
{
    const peri_slice name = PERI_SLICE("verbose");

    for (size_t at = 0; at < query.length;) {
        const char *from = query.data + at;
        const char *end = memchr(from, '&', query.length - at);
        peri_slice one = peri_slice_of(from, end != NULL ? (size_t)(end - from)
                                                         : query.length - at);

        at += one.length + 1;
        if (peri_slice_starts(one, name)) {
            peri_slice rest =
                peri_slice_of(one.data + name.length, one.length - name.length);

            if (rest.length == 0 ||
                (rest.data[0] == '=' &&
                 !peri_slice_equal(rest, PERI_SLICE("=0")) &&
                 !peri_slice_equal(rest, PERI_SLICE("=false")))) {
                return true;
            }
        }
    }
    return false;
}

void peri_health_write(const peri_health_check *checks, size_t count,
                       const char *asked, peri_buf *out)
{
    static const char *const ends[] = {"passed", "passed", "passed, warn",
                                       "failed"};

    for (size_t i = 0; i < count; i++) {
        char mark = checks[i].status == PERI_HEALTH_PASS   ? '+'
                    : checks[i].status == PERI_HEALTH_WARN ? '!'
                                                           : '-';

        peri_buf_printf(out, "[%c] %s: %s\n", mark, checks[i].name,
                        checks[i].detail);
    }
    peri_buf_printf(out, "%s %s\n", asked,
                    ends[peri_health_worst(checks, count) & 3]);
}
