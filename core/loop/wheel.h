/* Wheel: deadlines of many things with one timer.
 *
 * For time-outs that are set often and seldom come true: moving a deadline
 * later is one store, and the entry is found where it was and put where it
 * belongs when its slot comes up. Precise to one tick (32 ms), never early.
 * Belongs to the loop thread; entries are embedded in their owners. */
#ifndef PERI_LOOP_WHEEL_H
#define PERI_LOOP_WHEEL_H

#include <stdint.h>
#include <uv.h>

#include "core/base/list.h"

#define PERI_WHEEL_TICK_MS 32u
#define PERI_WHEEL_SLOTS 256u
#define PERI_WHEEL_NEVER UINT64_MAX

typedef struct peri_wheel_entry {
    peri_list link;       /* in a slot, or of itself */
    uint64_t deadline_ms; /* uv_now() time, or NEVER */
    uint64_t tick;        /* of its slot; NEVER when in none */
} peri_wheel_entry;

typedef struct peri_wheel {
    uv_timer_t timer;
    uint64_t tick;  /* the last that was worked off */
    uint64_t armed; /* tick the timer is set for, or NEVER */
    void (*due)(peri_wheel_entry *entry);
    void (*closed)(void *data);
    void *closed_data;
    peri_list slots[PERI_WHEEL_SLOTS];
} peri_wheel;

/* due is called with the entry taken out and its deadline NEVER; it may free
 * it, and remove others. */
void peri_wheel_init(peri_wheel *wheel, uv_loop_t *loop,
                     void (*due)(peri_wheel_entry *entry));

/* Entries must have been removed. closed may be NULL. */
void peri_wheel_close(peri_wheel *wheel, void (*closed)(void *data),
                      void *data);

static inline void peri_wheel_entry_init(peri_wheel_entry *entry)
{
    peri_list_init(&entry->link);
    entry->deadline_ms = PERI_WHEEL_NEVER;
    entry->tick = PERI_WHEEL_NEVER;
}

void peri_wheel_insert(peri_wheel *wheel, peri_wheel_entry *entry);

/* deadline_ms in uv_now() time. */
static inline void peri_wheel_set(peri_wheel *wheel, peri_wheel_entry *entry,
                                  uint64_t deadline_ms)
{
    entry->deadline_ms = deadline_ms;
    if (entry->tick > deadline_ms / PERI_WHEEL_TICK_MS + 1) {
        peri_wheel_insert(wheel, entry);
    }
}

static inline void peri_wheel_clear(peri_wheel_entry *entry)
{
    entry->deadline_ms = PERI_WHEEL_NEVER;
}

/* Before the entry's memory goes. */
static inline void peri_wheel_remove(peri_wheel_entry *entry)
{
    peri_list_remove(&entry->link);
    entry->deadline_ms = PERI_WHEEL_NEVER;
    entry->tick = PERI_WHEEL_NEVER;
}

#endif
