/* Breaker: a circuit breaker whose state all workers of a host share.
 *
 * Closed: calls go through, failures are counted in a sliding window. Open:
 * calls are refused. After open_ms some probes may go through; when they have
 * succeeded it closes, when one fails it opens anew. All of it in single
 * words, so a process killed at any instruction leaves it in a true state; a
 * probe that died with its process is given up after open_ms. */
#ifndef PERI_SHM_BREAKER_H
#define PERI_SHM_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/shm/regions.h"

#define PERI_BREAKER_PROBES_MAX 1000

typedef struct peri_breaker peri_breaker;

typedef enum peri_breaker_state {
    PERI_BREAKER_CLOSED,
    PERI_BREAKER_OPEN,
    PERI_BREAKER_HALF_OPEN
} peri_breaker_state;

typedef struct peri_breaker_rules {
    double failures;  /* in the window: opens; 0: not by count */
    double rate;      /* of failures among calls, 0..1; 0: not by rate */
    double min_calls; /* in the window, before the rate means anything */
    uint64_t window_ms;
    uint64_t open_ms;
    uint32_t probes;
} peri_breaker_rules;

typedef enum peri_breaker_result {
    PERI_BREAKER_FAILED,
    PERI_BREAKER_SUCCEEDED,
    PERI_BREAKER_UNKNOWN /* cancelled */
} peri_breaker_result;

typedef struct peri_breaker_counts {
    uint32_t state;
    uint64_t failed;    /* in the window; */
    uint64_t succeeded; /* these only when there is a rate */
    uint64_t opened_total;
    uint64_t refused_total;
} peri_breaker_counts;

/* The breaker of that name, with rules of this handle. Caller owns the handle.
 * 0 or PERI_ELIMIT: there is no room. */
int peri_breaker_open(peri_regions *regions, const char *name,
                      const peri_breaker_rules *rules, peri_breaker **out);
void peri_breaker_close(peri_breaker *breaker);

/* As peri_dict_set_clock(). */
void peri_breaker_set_clock(peri_breaker *breaker,
                            uint64_t (*now_ms)(void *data), void *data);

/* 0: go on; 1: go on, as a probe; below 0: refused, for so many ms. */
int64_t peri_breaker_enter(peri_breaker *breaker);

/* How a call went that was let in; entered is what enter() returned. */
void peri_breaker_leave(peri_breaker *breaker, int64_t entered,
                        peri_breaker_result result);

/* Of a breaker's region, for who has no handle: state and totals. Returns the
 * ms since it took that state. */
uint64_t peri_breaker_peek(const void *region, size_t bytes,
                           peri_breaker_counts *out);

void peri_breaker_stat(peri_breaker *breaker, peri_breaker_counts *out);

/* For operators and tests: opens it for open_ms, or closes it. */
void peri_breaker_force(peri_breaker *breaker, peri_breaker_state state);

#endif
