/* Breaker: the state is one word, each tenth of the window another. */
#include "core/shm/breaker.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/alloc.h"

#define BUCKETS 10u
#define COUNT_MAX 0xfffffu /* 20 bits */
#define EPOCH_MASK 0xffffffu
#define SINCE_MASK (((uint64_t)1 << 34) - 1)

/* state: 2 bits, probes issued: 14, probes that succeeded: 14, since (ms): 34
 */
typedef struct cell {
    _Alignas(64) _Atomic uint64_t state;
    _Atomic uint64_t opened_total;
    _Atomic uint64_t refused_total;
    /* epoch: 24 bits, succeeded: 20, failed: 20 */
    _Alignas(64) _Atomic uint64_t buckets[BUCKETS];
} cell;

struct peri_breaker {
    cell *cell;
    peri_breaker_rules rules;
    uint64_t bucket_ms;
    uint64_t (*now_ms)(void *data);
    void *now_data;
};

typedef struct word {
    uint32_t state;
    uint32_t issued;
    uint32_t succeeded;
    uint64_t since_ms;
} word;

static word unpack(uint64_t packed)
{
    return (word){.state = (uint32_t)packed & 3,
                  .issued = (uint32_t)(packed >> 2) & 0x3fff,
                  .succeeded = (uint32_t)(packed >> 16) & 0x3fff,
                  .since_ms = packed >> 30};
}

static uint64_t pack(word w)
{
    return (uint64_t)w.state | (uint64_t)w.issued << 2 |
           (uint64_t)w.succeeded << 16 | (w.since_ms & SINCE_MASK) << 30;
}

static uint64_t now_ms(const peri_breaker *breaker)
{
    struct timespec t;

    if (breaker->now_ms != NULL) {
        uint64_t now = breaker->now_ms(breaker->now_data);

        if (now != 0) {
            return now;
        }
    }
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

int peri_breaker_open(peri_regions *regions, const char *name,
                      const peri_breaker_rules *rules, peri_breaker **out)
{
    peri_breaker *breaker;
    void *memory;
    size_t size;
    int rc =
        peri_regions_get(regions, name, sizeof(cell), NULL, &memory, &size);

    if (rc < 0) {
        return rc;
    }
    breaker = peri_calloc(1, sizeof *breaker);
    breaker->cell = memory;
    breaker->rules = *rules;
    breaker->bucket_ms = rules->window_ms / BUCKETS;
    if (breaker->bucket_ms == 0) {
        breaker->bucket_ms = 1;
    }
    if (breaker->rules.probes == 0) {
        breaker->rules.probes = 1;
    } else if (breaker->rules.probes > PERI_BREAKER_PROBES_MAX) {
        breaker->rules.probes = PERI_BREAKER_PROBES_MAX;
    }
    *out = breaker;
    return 0;
}

void peri_breaker_close(peri_breaker *breaker)
{
    free(breaker);
}

void peri_breaker_set_clock(peri_breaker *breaker,
                            uint64_t (*clock_ms)(void *data), void *data)
{
    breaker->now_ms = clock_ms;
    breaker->now_data = data;
}

/* ---- the window ---- */

static void count(peri_breaker *breaker, uint64_t now, bool failed)
{
    uint64_t epoch = now / breaker->bucket_ms;
    _Atomic uint64_t *bucket = &breaker->cell->buckets[epoch % BUCKETS];
    uint64_t seen = atomic_load_explicit(bucket, memory_order_relaxed);
    uint64_t next;

    do {
        uint64_t bad = seen & COUNT_MAX;
        uint64_t good = seen >> 20 & COUNT_MAX;

        if (seen >> 40 != (epoch & EPOCH_MASK)) {
            bad = 0;
            good = 0;
        }
        bad += failed && bad < COUNT_MAX;
        good += !failed && good < COUNT_MAX;
        next = (epoch & EPOCH_MASK) << 40 | good << 20 | bad;
    } while (!atomic_compare_exchange_weak_explicit(
        bucket, &seen, next, memory_order_acq_rel, memory_order_relaxed));
}

static void sum(const peri_breaker *breaker, uint64_t now, uint64_t *failed,
                uint64_t *succeeded)
{
    uint64_t epoch = now / breaker->bucket_ms;

    *failed = 0;
    *succeeded = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        uint64_t seen = atomic_load(&breaker->cell->buckets[i]);

        if (((epoch - (seen >> 40)) & EPOCH_MASK) < BUCKETS) {
            *failed += seen & COUNT_MAX;
            *succeeded += seen >> 20 & COUNT_MAX;
        }
    }
}

static bool is_too_much(const peri_breaker *breaker, uint64_t now)
{
    const peri_breaker_rules *rules = &breaker->rules;
    uint64_t failed;
    uint64_t succeeded;
    double calls;

    sum(breaker, now, &failed, &succeeded);
    calls = (double)(failed + succeeded);
    return (rules->failures > 0 && (double)failed >= rules->failures) ||
           (rules->rate > 0 && calls >= rules->min_calls &&
            (double)failed >= rules->rate * calls);
}

static void forget(peri_breaker *breaker)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        atomic_store(&breaker->cell->buckets[i], 0);
    }
}

/* ---- the state ---- */

static bool change(peri_breaker *breaker, uint64_t *seen, word to)
{
    return atomic_compare_exchange_strong(&breaker->cell->state, seen,
                                          pack(to));
}

static int64_t refuse(peri_breaker *breaker, uint64_t left_ms)
{
    atomic_fetch_add(&breaker->cell->refused_total, 1);
    return -(int64_t)(left_ms > 0 ? left_ms : 1);
}

static int64_t enter_unclosed(peri_breaker *breaker, uint64_t seen)
{
    const peri_breaker_rules *rules = &breaker->rules;
    uint64_t now = now_ms(breaker);

    for (;;) {
        word w = unpack(seen);
        uint64_t age_ms = (now - w.since_ms) & SINCE_MASK;
        bool over = age_ms >= rules->open_ms;

        if (w.state == PERI_BREAKER_CLOSED) {
            return 0;
        }
        if (!over &&
            (w.state == PERI_BREAKER_OPEN || w.issued >= rules->probes)) {
            return refuse(breaker, rules->open_ms - age_ms);
        }
        if (over) { /* the first probe, or those before died unheard */
            w = (word){.state = PERI_BREAKER_HALF_OPEN, .since_ms = now};
        }
        w.issued++;
        if (change(breaker, &seen, w)) {
            return 1;
        }
    }
}

int64_t peri_breaker_enter(peri_breaker *breaker)
{
    uint64_t seen =
        atomic_load_explicit(&breaker->cell->state, memory_order_acquire);

    if ((seen & 3) == PERI_BREAKER_CLOSED) {
        return 0;
    }
    return enter_unclosed(breaker, seen);
}

static void trip(peri_breaker *breaker, uint64_t *seen, uint64_t now)
{
    word w = {.state = PERI_BREAKER_OPEN, .since_ms = now};

    if (change(breaker, seen, w)) {
        atomic_fetch_add(&breaker->cell->opened_total, 1);
    }
}

static void leave_closed(peri_breaker *breaker, peri_breaker_result result)
{
    uint64_t now;
    uint64_t seen = atomic_load(&breaker->cell->state);

    if (result == PERI_BREAKER_UNKNOWN || (seen & 3) != PERI_BREAKER_CLOSED ||
        (result == PERI_BREAKER_SUCCEEDED && breaker->rules.rate <= 0)) {
        return;
    }
    now = now_ms(breaker);
    count(breaker, now, result == PERI_BREAKER_FAILED);
    if (result == PERI_BREAKER_FAILED && is_too_much(breaker, now)) {
        trip(breaker, &seen, now);
    }
}

static void leave_probe(peri_breaker *breaker, peri_breaker_result result)
{
    uint64_t seen = atomic_load(&breaker->cell->state);

    for (;;) {
        word w = unpack(seen);

        if (w.state != PERI_BREAKER_HALF_OPEN) {
            return; /* another probe has decided */
        }
        if (result == PERI_BREAKER_FAILED) {
            trip(breaker, &seen, now_ms(breaker));
            return;
        }
        if (result == PERI_BREAKER_UNKNOWN) {
            w.issued -= w.issued > 0;
        } else if (++w.succeeded >= breaker->rules.probes) {
            forget(breaker);
            w = (word){.state = PERI_BREAKER_CLOSED};
        }
        if (change(breaker, &seen, w)) {
            return;
        }
    }
}

void peri_breaker_leave(peri_breaker *breaker, int64_t entered,
                        peri_breaker_result result)
{
    if (entered == 0) {
        leave_closed(breaker, result);
    } else if (entered == 1) {
        leave_probe(breaker, result);
    }
}

void peri_breaker_stat(peri_breaker *breaker, peri_breaker_counts *out)
{
    word w = unpack(atomic_load(&breaker->cell->state));

    out->state = w.state;
    sum(breaker, now_ms(breaker), &out->failed, &out->succeeded);
    out->opened_total = atomic_load(&breaker->cell->opened_total);
    out->refused_total = atomic_load(&breaker->cell->refused_total);
}

uint64_t peri_breaker_peek(const void *region, size_t bytes,
                           peri_breaker_counts *out)
{
    static const peri_breaker unowned = {.now_ms = NULL};
    const cell *at = region;
    word w;

    memset(out, 0, sizeof *out);
    if (bytes < sizeof *at) {
        return 0;
    }
    w = unpack(atomic_load(&at->state));
    out->state = w.state;
    out->opened_total = atomic_load(&at->opened_total);
    out->refused_total = atomic_load(&at->refused_total);
    return (now_ms(&unowned) - w.since_ms) & SINCE_MASK;
}

void peri_breaker_force(peri_breaker *breaker, peri_breaker_state state)
{
    word w = {.state = state, .since_ms = now_ms(breaker)};

    if (state == PERI_BREAKER_CLOSED) {
        forget(breaker);
    }
    atomic_store(&breaker->cell->state, pack(w));
}
