/* Timers: the heap and the one libuv timer below it. */
#include "core/loop/timers.h"

#include <assert.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"

#define NS_PER_MS 1000000u

struct peri_timers {
    uv_timer_t handle;
    peri_timer **heap; /* from 1 */
    size_t count;
    size_t capacity;
    uint64_t armed_ns; /* when the libuv timer will fire; 0: it is stopped */
    uint64_t frozen_ns;
    uint64_t wall_ahead_ns; /* of frozen_ns */
    bool frozen;
    void (*closed)(void *data);
    void *closed_data;
};

static void place(peri_timers *timers, size_t at, peri_timer *timer)
{
    timers->heap[at] = timer;
    timer->position = at;
}

static void sift_up(peri_timers *timers, size_t at)
{
    peri_timer *timer = timers->heap[at];

    while (at > 1 && timers->heap[at / 2]->due_ns > timer->due_ns) {
        place(timers, at, timers->heap[at / 2]);
        at /= 2;
    }
    place(timers, at, timer);
}

static void sift_down(peri_timers *timers, size_t at)
{
    peri_timer *timer = timers->heap[at];
    size_t child;

    while ((child = at * 2) <= timers->count) {
        if (child < timers->count &&
            timers->heap[child + 1]->due_ns < timers->heap[child]->due_ns) {
            child++;
        }
        if (timers->heap[child]->due_ns >= timer->due_ns) {
            break;
        }
        place(timers, at, timers->heap[child]);
        at = child;
    }
    place(timers, at, timer);
}

static void on_fire(uv_timer_t *handle);

static void arm(peri_timers *timers)
{
    uint64_t due_ns;
    uint64_t now_ns;
    uint64_t wait_ms;

    if (timers->count == 0 || timers->frozen) {
        if (timers->armed_ns != 0) {
            timers->armed_ns = 0;
            uv_timer_stop(&timers->handle);
        }
        return;
    }
    due_ns = timers->heap[1]->due_ns;
    if (timers->armed_ns != 0 && timers->armed_ns <= due_ns) {
        return; /* it will wake early at worst, and be armed again */
    }
    now_ns = uv_hrtime();
    wait_ms =
        due_ns > now_ns ? (due_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
    /* libuv counts from its cached time, which may lie behind. */
    uv_update_time(timers->handle.loop);
    uv_timer_start(&timers->handle, on_fire, wait_ms, 0);
    timers->armed_ns = due_ns;
}

static void fire_due(peri_timers *timers, uint64_t now_ns)
{
    while (timers->count > 0 && timers->heap[1]->due_ns <= now_ns) {
        peri_timer *timer = timers->heap[1];

        peri_timer_stop(timers, timer);
        timer->fn(timer);
    }
}

static void on_fire(uv_timer_t *handle)
{
    peri_timers *timers = handle->data;

    timers->armed_ns = 0;
    if (!timers->frozen) {
        fire_due(timers, uv_hrtime());
    }
    arm(timers);
}

static void on_closed(uv_handle_t *handle)
{
    peri_timers *timers = handle->data;

    if (timers->closed != NULL) {
        timers->closed(timers->closed_data);
    }
    free(timers->heap);
    free(timers);
}

peri_timers *peri_timers_create(uv_loop_t *loop)
{
    peri_timers *timers = peri_calloc(1, sizeof *timers);

    timers->capacity = 16;
    timers->heap = peri_calloc(timers->capacity, sizeof(peri_timer *));
    uv_timer_init(loop, &timers->handle);
    timers->handle.data = timers;
    return timers;
}

void peri_timers_close(peri_timers *timers, void (*closed)(void *data),
                       void *data)
{
    while (timers->count > 0) {
        timers->heap[timers->count--]->position = 0;
    }
    timers->closed = closed;
    timers->closed_data = data;
    uv_close((uv_handle_t *)&timers->handle, on_closed);
}

uint64_t peri_timers_now_ns(const peri_timers *timers)
{
    return timers->frozen ? timers->frozen_ns : uv_hrtime();
}

uint64_t peri_timers_wall_ms(const peri_timers *timers)
{
    return timers->frozen
               ? (timers->frozen_ns + timers->wall_ahead_ns) / NS_PER_MS
               : peri_clock_wall_ms();
}

void peri_timer_start(peri_timers *timers, peri_timer *timer, uint64_t due_ns,
                      void (*fn)(peri_timer *timer))
{
    if (timer->position != 0) {
        peri_timer_stop(timers, timer);
    }
    if (timers->count + 2 > timers->capacity) {
        timers->capacity *= 2;
        timers->heap =
            peri_realloc(timers->heap, timers->capacity * sizeof(peri_timer *));
    }
    timer->due_ns = due_ns;
    timer->fn = fn;
    timers->heap[++timers->count] = timer;
    sift_up(timers, timers->count);
    arm(timers);
}

void peri_timer_stop(peri_timers *timers, peri_timer *timer)
{
    size_t at = timer->position;
    peri_timer *last;

    if (at == 0) {
        return;
    }
    assert(timers->heap[at] == timer);
    timer->position = 0;
    last = timers->heap[timers->count--];
    if (last != timer) {
        place(timers, at, last);
        sift_up(timers, at);
        sift_down(timers, last->position);
    }
    if (timers->count == 0) {
        arm(timers); /* an idle loop must not be kept alive */
    }
}

uint64_t peri_timers_next_ns(const peri_timers *timers)
{
    return timers->count > 0 ? timers->heap[1]->due_ns : 0;
}

const uint64_t *peri_timers_frozen_ns(const peri_timers *timers)
{
    return &timers->frozen_ns;
}

bool peri_timers_frozen(const peri_timers *timers)
{
    return timers->frozen;
}

void peri_timers_freeze(peri_timers *timers)
{
    uint64_t wall_ns = peri_timers_wall_ms(timers) * NS_PER_MS;

    /* Whole milliseconds, so that differences are whole as well. */
    timers->frozen_ns =
        (peri_timers_now_ns(timers) / NS_PER_MS + 1) * NS_PER_MS;
    timers->wall_ahead_ns = wall_ns - timers->frozen_ns;
    timers->frozen = true;
    arm(timers);
}

void peri_timers_advance(peri_timers *timers, uint64_t by_ns)
{
    uint64_t until_ns = timers->frozen_ns + by_ns;

    assert(timers->frozen);
    while (timers->count > 0 && timers->heap[1]->due_ns <= until_ns) {
        if (timers->heap[1]->due_ns > timers->frozen_ns) {
            timers->frozen_ns = timers->heap[1]->due_ns;
        }
        fire_due(timers, timers->frozen_ns);
    }
    timers->frozen_ns = until_ns;
}

void peri_timers_thaw(peri_timers *timers)
{
    timers->frozen = false;
    timers->frozen_ns = 0;
    timers->armed_ns = 0;
    arm(timers);
}
