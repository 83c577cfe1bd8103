/* Wheel: slots of one tick each; what lies further ahead than one turn waits in
 * the last slot and is put forward when that comes up. */
#include "core/loop/wheel.h"

#include <stddef.h>

#define TICK PERI_WHEEL_TICK_MS
#define SLOTS PERI_WHEEL_SLOTS

static void on_timer(uv_timer_t *timer);

static void arm(peri_wheel *wheel, uint64_t tick)
{
    uint64_t now_ms = uv_now(wheel->timer.loop);
    uint64_t at_ms = tick * TICK;

    wheel->armed = tick;
    uv_timer_start(&wheel->timer, on_timer, at_ms > now_ms ? at_ms - now_ms : 0,
                   0);
}

static void arm_next(peri_wheel *wheel)
{
    wheel->armed = PERI_WHEEL_NEVER;
    for (uint64_t i = 1; i <= SLOTS; i++) {
        if (!peri_list_empty(&wheel->slots[(wheel->tick + i) % SLOTS])) {
            arm(wheel, wheel->tick + i);
            return;
        }
    }
}

void peri_wheel_insert(peri_wheel *wheel, peri_wheel_entry *entry)
{
    uint64_t tick = entry->deadline_ms / TICK + 1;

    if (wheel->armed == PERI_WHEEL_NEVER) {
        /* Empty until now: nothing lies in the ticks that were skipped. */
        wheel->tick = uv_now(wheel->timer.loop) / TICK;
    }
    if (tick <= wheel->tick) {
        tick = wheel->tick + 1;
    }
    if (tick > wheel->tick + SLOTS - 1) {
        tick = wheel->tick + SLOTS - 1;
    }
    peri_list_remove(&entry->link);
    peri_list_append(&wheel->slots[tick % SLOTS], &entry->link);
    entry->tick = tick;
    if (tick < wheel->armed) {
        arm(wheel, tick);
    }
}

static void slot_work_off(peri_wheel *wheel, peri_list *slot, uint64_t now_ms)
{
    peri_list work;

    if (peri_list_empty(slot)) {
        return;
    }
    work = *slot;
    work.next->prev = &work;
    work.prev->next = &work;
    peri_list_init(slot);
    while (!peri_list_empty(&work)) {
        peri_wheel_entry *entry =
            PERI_CONTAINER(work.next, peri_wheel_entry, link);
        uint64_t deadline_ms = entry->deadline_ms;

        peri_list_remove(&entry->link);
        entry->tick = PERI_WHEEL_NEVER;
        if (deadline_ms <= now_ms) {
            entry->deadline_ms = PERI_WHEEL_NEVER;
            wheel->due(entry);
        } else if (deadline_ms != PERI_WHEEL_NEVER) {
            peri_wheel_insert(wheel, entry);
        }
    }
}

static void on_timer(uv_timer_t *timer)
{
    peri_wheel *wheel = timer->data;
    uint64_t now_ms = uv_now(timer->loop);
    uint64_t until = now_ms / TICK;

    /* `armed` stays set meanwhile, so that insert leaves the tick alone. */
    wheel->armed = 0;
    if (until - wheel->tick > SLOTS) {
        wheel->tick = until - SLOTS; /* each slot once is enough */
    }
    while (wheel->tick < until) {
        wheel->tick++;
        slot_work_off(wheel, &wheel->slots[wheel->tick % SLOTS], now_ms);
    }
    arm_next(wheel);
}

void peri_wheel_init(peri_wheel *wheel, uv_loop_t *loop,
                     void (*due)(peri_wheel_entry *entry))
{
    uv_timer_init(loop, &wheel->timer);
    wheel->timer.data = wheel;
    wheel->tick = uv_now(loop) / TICK;
    wheel->armed = PERI_WHEEL_NEVER;
    wheel->due = due;
    wheel->closed = NULL;
    for (unsigned i = 0; i < SLOTS; i++) {
        peri_list_init(&wheel->slots[i]);
    }
}

static void on_closed(uv_handle_t *handle)
{
    peri_wheel *wheel = handle->data;

    if (wheel->closed != NULL) {
        wheel->closed(wheel->closed_data);
    }
}

void peri_wheel_close(peri_wheel *wheel, void (*closed)(void *data), void *data)
{
    wheel->closed = closed;
    wheel->closed_data = data;
    uv_close((uv_handle_t *)&wheel->timer, on_closed);
}
