/* Timers: many deadlines on one libuv timer.
 *
 * A binary heap by time. A node is embedded in its owner, is armed at most
 * once, and costs nothing while idle. For tests the clock can be frozen and
 * moved by hand; nodes then fire when it is moved past them. Loop thread. */
#ifndef PERI_LOOP_TIMERS_H
#define PERI_LOOP_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

typedef struct peri_timers peri_timers;
typedef struct peri_timer peri_timer;

struct peri_timer {
    uint64_t due_ns;
    size_t position; /* in the heap, from 1; 0: not armed */
    void (*fn)(peri_timer *timer);
};

/* Caller owns; the loop may not be closed before `closed` has been called. */
peri_timers *peri_timers_create(uv_loop_t *loop);

/* Armed nodes are forgotten. closed (may be NULL) comes from the loop. */
void peri_timers_close(peri_timers *timers, void (*closed)(void *data),
                       void *data);

/* Monotonic; the frozen time while frozen. */
uint64_t peri_timers_now_ns(const peri_timers *timers);

/* Unix time; while frozen it moves with the frozen time, to the millisecond. */
uint64_t peri_timers_wall_ms(const peri_timers *timers);

/* Arms, or moves when armed. fn runs from the loop, at due_ns or later (as
 * soon as possible when that has passed), with the node disarmed. */
void peri_timer_start(peri_timers *timers, peri_timer *timer, uint64_t due_ns,
                      void (*fn)(peri_timer *timer));

/* Disarms; nothing happens when not armed. */
void peri_timer_stop(peri_timers *timers, peri_timer *timer);

/* When the first node fires; 0: none is armed. */
uint64_t peri_timers_next_ns(const peri_timers *timers);

/* For who reads it without a call: the frozen time, 0 while it is not. */
const uint64_t *peri_timers_frozen_ns(const peri_timers *timers);

/* Freezes the clock where it is; advance moves it and fires what is due, in
 * order of time; thaw lets it run on from real time. */
bool peri_timers_frozen(const peri_timers *timers);
void peri_timers_freeze(peri_timers *timers);
void peri_timers_advance(peri_timers *timers, uint64_t by_ns);
void peri_timers_thaw(peri_timers *timers);

#endif
