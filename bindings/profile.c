/* Profile: ticks, looks, and sums by stack. */
#include "bindings/profile.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "bindings/budget.h"
#include "bindings/census.h"
#include "bindings/frames.h"
#include "bindings/gen.h"
#include "bindings/heap.h"
#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/stacks.h"

#define VMS_MAX 8 /* live, staged, two retired, some that are being closed */
#define SLICE_NS 1000000u

struct perilua_profile {
    peri_host *host;
    perilua_sampler sampler;
    uv_timer_t timer;
    void (*done)(void *data, peri_slice stacks);
    void *data;
    peri_stacks *stacks;
    perilua_frames *frames;
    peri_buf key;
    perilua_vm *volatile vms[VMS_MAX];
    perilua_heap *heap; /* NULL: of the CPU, or sampling is over */
    /* The VM that is counted, after the sampling. */
    perilua_census *census;
    int counted; /* the VMs before it have been */
    bool counting;
    uint64_t longest_ns;
    /* Of the signal handler, which may come at any instruction. */
    uint64_t last_ns;
    _Atomic uint64_t asked_ns; /* of samples that wait for a look */
    _Atomic uint64_t asked;
    _Atomic uint64_t host_ns; /* outside of tasks */
    _Atomic uint64_t host_samples;
    _Atomic uint64_t collect_ns;
    _Atomic uint64_t collect_samples;
};

static uint64_t thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- samples ---- */

/* In signal context. */
static void on_tick(void *data)
{
    perilua_profile *p = data;
    uint64_t now_ns = thread_ns();
    uint64_t past_ns = now_ns - p->last_ns;

    p->last_ns = now_ns;
    for (int i = 0; i < VMS_MAX; i++) {
        perilua_vm *vm = p->vms[i];

        if (vm != NULL && vm->current != NULL) {
            atomic_fetch_add(&p->asked_ns, past_ns);
            atomic_fetch_add(&p->asked, 1);
            perilua_budget_ask(p->host->budget, vm);
            return;
        }
    }
    if (p->host->collects) {
        atomic_fetch_add(&p->collect_ns, past_ns);
        atomic_fetch_add(&p->collect_samples, 1);
    } else {
        atomic_fetch_add(&p->host_ns, past_ns);
        atomic_fetch_add(&p->host_samples, 1);
    }
}

/* What was asked for and has not been looked at yet goes to the key. */
static void settle(perilua_profile *p, const perilua_vm *vm)
{
    uint64_t values[PERI_STACK_VALUES] = {atomic_exchange(&p->asked, 0),
                                          atomic_exchange(&p->asked_ns, 0)};

    if (p->heap != NULL) {
        perilua_heap_settle(p->heap, vm, peri_buf_slice(&p->key));
    } else if (values[0] != 0) {
        peri_stacks_add(p->stacks, peri_buf_slice(&p->key), values);
    }
}

static void begin_key(perilua_profile *p, char state, const perilua_task *task)
{
    peri_buf_clear(&p->key);
    peri_buf_append_byte(&p->key, state);
    perilua_frames_root(task, &p->key);
}

static void on_take(void *data, perilua_vm *vm, lua_State *L, char state)
{
    perilua_profile *p = data;
    bool wanted = p->heap != NULL ? perilua_heap_waits(p->heap, vm)
                                  : atomic_load(&p->asked) != 0;

    if (vm->current != NULL && wanted) {
        begin_key(p, state, vm->current);
        perilua_frames_append(p->frames, vm, L, &p->key);
        settle(p, vm);
    }
}

/* What was asked for and has not been looked at is the last C function's. */
static void on_left(void *data, const perilua_task *task)
{
    perilua_profile *p = data;
    bool wanted = p->heap != NULL ? perilua_heap_waits(p->heap, task->vm)
                                  : atomic_load(&p->asked) != 0;

    if (wanted) {
        begin_key(p, 'C', task);
        settle(p, task->vm);
    }
}

/* ---- whose ---- */

void perilua_profile_add(perilua_profile *profile, perilua_vm *vm)
{
    for (int i = 0; profile != NULL && i < VMS_MAX; i++) {
        if (profile->vms[i] == NULL) {
            profile->vms[i] = vm;
            if (profile->heap != NULL) {
                perilua_heap_attach(profile->heap, vm);
            }
            return;
        }
    }
}

void perilua_profile_forget(perilua_profile *profile, const perilua_vm *vm)
{
    for (int i = 0; profile != NULL && i < VMS_MAX; i++) {
        if (profile->vms[i] != vm) {
            continue;
        }
        profile->vms[i] = NULL;
        if (profile->heap != NULL) {
            perilua_heap_detach(profile->heap, vm);
        }
        if (profile->census != NULL && profile->counted == i) {
            perilua_census_destroy(profile->census, true);
            profile->census = NULL;
            profile->counted++;
        }
    }
}

static void add_all(perilua_profile *p)
{
    peri_host *host = p->host;

    if (host->live != NULL) {
        perilua_profile_add(p, host->live->vm);
    }
    if (host->staged != NULL) {
        perilua_profile_add(p, host->staged->vm);
    }
    for (peri_list *link = host->retired.next; link != &host->retired;
         link = link->next) {
        perilua_profile_add(p, PERI_CONTAINER(link, perilua_gen, link)->vm);
    }
}

/* ---- beginning and end ---- */

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void add_host(perilua_profile *p)
{
    const uint64_t own[PERI_STACK_VALUES] = {atomic_load(&p->host_samples),
                                             atomic_load(&p->host_ns)};
    const uint64_t gc[PERI_STACK_VALUES] = {atomic_load(&p->collect_samples),
                                            atomic_load(&p->collect_ns)};

    if (own[0] != 0) {
        peri_stacks_add(p->stacks, PERI_SLICE("H;[host]"), own);
    }
    if (gc[0] != 0) {
        peri_stacks_add(p->stacks, PERI_SLICE("G;[host]"), gc);
    }
}

/* Tells what was seen, and frees. */
static void deliver(perilua_profile *p)
{
    peri_buf text;

    p->host->profile = NULL;
    perilua_census_destroy(p->census, false);
    peri_buf_init(&text, 2 * PERI_STACKS_TEXT_MAX);
    peri_stacks_write(p->stacks, &text); /* fits: keys have a maximum */
    p->done(p->data, peri_buf_slice(&text));
    peri_buf_fini(&text);
    peri_buf_fini(&p->key);
    perilua_frames_destroy(p->frames);
    peri_stacks_destroy(p->stacks);
    uv_close((uv_handle_t *)&p->timer, on_closed);
}

/* A slice of what is to be counted. False: that was all. */
static bool count_on(perilua_profile *p)
{
    uint64_t start_ns = peri_clock_monotonic_ns();
    uint64_t took_ns;

    while (p->counted < VMS_MAX && p->vms[p->counted] == NULL) {
        p->counted++;
    }
    if (p->counted == VMS_MAX) {
        return false;
    }
    if (p->census == NULL) {
        p->census = perilua_census_create(p->vms[p->counted]);
    }
    if (!perilua_census_step(p->census, SLICE_NS)) {
        perilua_census_add(p->census, p->stacks);
        perilua_census_destroy(p->census, false);
        p->census = NULL;
        p->counted++;
    }
    took_ns = peri_clock_monotonic_ns() - start_ns;
    p->longest_ns = took_ns > p->longest_ns ? took_ns : p->longest_ns;
    return true;
}

static void on_count(uv_timer_t *timer)
{
    perilua_profile *p = timer->data;
    uint64_t longest[PERI_STACK_VALUES] = {0};

    if (!count_on(p)) {
        longest[0] = p->longest_ns / 1000;
        peri_stacks_add(p->stacks, PERI_SLICE("M;longest_us"), longest);
        deliver(p);
    }
}

/* The sampling is over; then comes the counting of a heap. */
static void stop(perilua_profile *p)
{
    bool heap = p->heap != NULL;

    perilua_budget_sample(p->host->budget, PERILUA_SAMPLER_PROFILE, NULL);
    perilua_heap_finish(p->heap);
    p->heap = NULL;
    if (heap) {
        p->counting = true;
        uv_timer_start(&p->timer, on_count, 0, 1);
    } else {
        add_host(p);
        deliver(p);
    }
}

void perilua_profile_end(peri_host *host)
{
    perilua_profile *p = host->profile;

    if (p != NULL && !p->counting) {
        stop(p);
    }
}

void perilua_profile_close(peri_host *host)
{
    perilua_profile_end(host);
    if (host->profile != NULL) {
        deliver(host->profile); /* as far as it has come */
    }
}

static void on_time(uv_timer_t *timer)
{
    stop(timer->data);
}

int perilua_profile_start(peri_host *host, const peri_profile_ask *ask,
                          void (*done)(void *data, peri_slice stacks),
                          void *data)
{
    bool heap = ask->kind == PERI_PROFILE_HEAP;
    perilua_profile *p;

    if (host->profile != NULL) {
        return -EBUSY;
    }
    if (perilua_host_budget(host) == NULL || host->closing) {
        return -ENOTSUP;
    }
    p = peri_calloc(1, sizeof *p);
    p->host = host;
    p->done = done;
    p->data = data;
    p->stacks = peri_stacks_create();
    p->frames = perilua_frames_create();
    p->heap = heap ? perilua_heap_create(p->stacks) : NULL;
    peri_buf_init(&p->key, PERI_STACK_KEY_MAX + 1024);
    p->sampler = (perilua_sampler){.looks = true,
                                   .tick = heap ? NULL : on_tick,
                                   .take = on_take,
                                   .left = on_left,
                                   .data = p};
    uv_timer_init(host->env.loop, &p->timer);
    p->timer.data = p;
    uv_unref((uv_handle_t *)&p->timer);
    uv_timer_start(&p->timer, on_time, ask->duration_ms, 0);
    host->profile = p;
    p->last_ns = thread_ns();
    perilua_budget_sample(host->budget, PERILUA_SAMPLER_PROFILE, &p->sampler);
    add_all(p);
    return 0;
}
