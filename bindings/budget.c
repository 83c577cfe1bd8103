/* Budget: ticks, the hook, and the profiler that compiled code heeds. */
#include "bindings/budget.h"

#include <luajit.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bindings/error.h"
#include "bindings/gen.h"
#include "bindings/task.h"
#include "core/base/alloc.h"

#define TICK_MS 5
#define TICK_NS (TICK_MS * 1000000L)
#define SAMPLE_NS 1000000L
#define NO_LIMIT UINT32_MAX
/* Whoever is overdue at a wait may still clean up for so long. */
#define GRACE_NS 200000000u
/* LuaJIT's profiler: with looks at each line, which is what compiled code is
 * made with. Its own timer is at rest: its signal is raised where a look is to
 * find something. */
#define LOOKS "l"
#define PROFILER "i100000000"

struct perilua_budget {
    timer_t timer;
    volatile long tick_ns;   /* of the timer; 0: it is off */
    long owed_ns;            /* of ticks that were too short to be charged */
    perilua_vm *volatile vm; /* whose tasks are charged, if there is a limit;
                                read by the signal handler */
    volatile uint32_t limit_ticks; /* 0: none */
    perilua_vm *volatile staged;   /* being built */
    volatile uint32_t staged_limit_ticks;
    const perilua_sampler *volatile samplers[PERILUA_SAMPLERS]; /* or NULL */
    uv_mutex_t lock; /* of the profiler, which other threads give back */
    perilua_vm *volatile looking; /* whose compiled code looks up, or NULL */
    volatile sig_atomic_t own;    /* the profiler is at work for it */
    bool lent;
};

/* Raises at each instruction that follows, so that no pcall gets away. */
static void on_instruction(lua_State *L, lua_Debug *where)
{
    perilua_vm *vm = perilua_vm_of(L);

    if (vm->overrun[0] == '\0' && lua_getinfo(L, "Sl", where)) {
        snprintf(vm->overrun, sizeof vm->overrun, "%s:%d", where->short_src,
                 where->currentline);
    }
    if (vm->late) {
        perilua_push_error(L, "timeout", NULL, "the deadline has passed");
    } else {
        perilua_push_error(L, "timeout", "cpu_budget",
                           "the CPU time allowed for this is used up");
    }
    lua_error(L);
}

static bool is_late(const perilua_task *task)
{
    return task->bounded && task->deadline_ns != 0 &&
           uv_hrtime() > task->deadline_ns + GRACE_NS;
}

/* Signal context, as all up to on_tick. */
static void wake_looks(const perilua_budget *budget, const perilua_vm *vm)
{
    if (vm == budget->looking && budget->own) {
        raise(SIGPROF);
    }
}

/* Touches the counter of the running task, and lua_sethook, which may be called
 * here. */
static void charge(const perilua_budget *budget, perilua_vm *vm,
                   uint32_t limit_ticks, uint32_t ticks)
{
    perilua_task *task = vm != NULL ? vm->current : NULL;

    if (task == NULL || limit_ticks == 0) {
        return;
    }
    task->cpu_ticks += ticks;
    if (task->cpu_ticks >= limit_ticks || is_late(task)) {
        if ((vm->hooked & PERILUA_VM_STOPPED) == 0) {
            vm->overrun[0] = '\0';
            vm->late = task->cpu_ticks < limit_ticks;
        }
        vm->hooked |= PERILUA_VM_STOPPED;
        lua_sethook(vm->L, on_instruction, LUA_MASKCOUNT, 1);
        wake_looks(budget, vm);
    }
}

static void take(const perilua_budget *budget, perilua_vm *vm, lua_State *L,
                 char state)
{
    for (int i = 0; i < PERILUA_SAMPLERS; i++) {
        const perilua_sampler *sampler = budget->samplers[i];

        if (sampler != NULL) {
            sampler->take(sampler->data, vm, L, state);
        }
    }
}

/* Once, at the next instruction of a VM whose code does not look up. */
static void on_asked(lua_State *L, lua_Debug *where)
{
    perilua_vm *vm = perilua_vm_of(L);
    const peri_host *host = vm->env->host;

    (void)where;
    if ((vm->hooked & PERILUA_VM_STOPPED) == 0) {
        lua_sethook(vm->L, NULL, 0, 0);
    }
    take(host->budget, vm, L, '?');
}

void perilua_budget_left(perilua_vm *vm, const perilua_task *task)
{
    const peri_host *host = vm->env->host;

    lua_sethook(vm->L, NULL, 0, 0);
    for (int i = 0; i < PERILUA_SAMPLERS; i++) {
        const perilua_sampler *sampler = host->budget->samplers[i];

        if (sampler != NULL) {
            sampler->left(sampler->data, task);
        }
    }
}

void perilua_budget_ask(perilua_budget *budget, perilua_vm *vm)
{
    bool stopped = (vm->hooked & PERILUA_VM_STOPPED) != 0;

    vm->hooked |= PERILUA_VM_ASKED;
    if (vm == budget->looking && budget->own) {
        raise(SIGPROF);
    } else if (!stopped) {
        lua_sethook(vm->L, on_asked, LUA_MASKCOUNT, 1);
    }
}

static void on_tick(int number, siginfo_t *info, void *context)
{
    perilua_budget *budget = info->si_value.sival_ptr;
    uint32_t ticks;

    (void)number;
    (void)context;
    budget->owed_ns += budget->tick_ns * (1 + info->si_overrun);
    ticks = (uint32_t)(budget->owed_ns / TICK_NS);
    budget->owed_ns %= TICK_NS;
    charge(budget, budget->vm, budget->limit_ticks, ticks);
    charge(budget, budget->staged, budget->staged_limit_ticks, ticks);
    for (int i = 0; i < PERILUA_SAMPLERS; i++) {
        const perilua_sampler *sampler = budget->samplers[i];

        if (sampler != NULL && sampler->tick != NULL) {
            sampler->tick(sampler->data);
        }
    }
}

static void on_profile(void *data, lua_State *L, int samples, int state)
{
    const perilua_budget *budget = data;

    (void)samples;
    if (budget != NULL && budget->looking != NULL) {
        take(budget, budget->looking, L, (char)state);
    }
}

static bool has_ticks(const perilua_budget *budget)
{
    const perilua_sampler *sampler = budget->samplers[PERILUA_SAMPLER_PROFILE];

    return sampler != NULL && sampler->tick != NULL;
}

static bool wants_looks(const perilua_budget *budget)
{
    const perilua_sampler *sampler = budget->samplers[PERILUA_SAMPLER_PROFILE];

    return budget->limit_ticks != 0 || (sampler != NULL && sampler->looks);
}

/* Ticks only while somebody is watched. */
static void settle_timer(perilua_budget *budget)
{
    bool charged = budget->vm != NULL && budget->limit_ticks != 0;
    bool on = charged || budget->staged != NULL;
    long tick_ns = has_ticks(budget) ? SAMPLE_NS : on ? TICK_NS : 0;
    struct itimerspec every = {.it_interval = {.tv_nsec = tick_ns},
                               .it_value = {.tv_nsec = tick_ns}};

    budget->tick_ns = tick_ns;
    timer_settime(budget->timer, 0, &every, NULL);
}

/* The compiled code of the VM that is charged or sampled looks up. */
static void settle_looks(perilua_budget *budget)
{
    perilua_vm *vm = wants_looks(budget) ? budget->vm : NULL;

    uv_mutex_lock(&budget->lock);
    if (vm != budget->looking) {
        budget->own = false;
        if (budget->looking != NULL) {
            luaJIT_profile_stop(budget->looking->L);
        }
        budget->looking = vm;
        if (vm != NULL) { /* while it is lent: only the looks */
            luaJIT_profile_start(vm->L, LOOKS PROFILER, on_profile, budget);
            budget->own = !budget->lent;
        }
    }
    uv_mutex_unlock(&budget->lock);
}

perilua_budget *perilua_budget_create(void)
{
    perilua_budget *budget = peri_calloc(1, sizeof *budget);
    struct sigaction action = {.sa_sigaction = on_tick,
                               .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                             .sigev_signo = SIGRTMIN,
                             .sigev_value = {.sival_ptr = budget}};

    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    sigemptyset(&action.sa_mask);
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &budget->timer) < 0) {
        free(budget);
        return NULL;
    }
    uv_mutex_init(&budget->lock);
    sigaction(SIGRTMIN, &action, NULL);
    return budget;
}

void perilua_budget_destroy(perilua_budget *budget)
{
    if (budget == NULL) {
        return;
    }
    for (int i = 0; i < PERILUA_SAMPLERS; i++) {
        budget->samplers[i] = NULL;
    }
    perilua_budget_watch(budget, NULL, 0);
    perilua_budget_stage(budget, NULL, 0);
    timer_delete(budget->timer);
    signal(SIGRTMIN, SIG_IGN); /* one tick may still be on its way */
    uv_mutex_destroy(&budget->lock);
    free(budget);
}

void perilua_budget_watch(perilua_budget *budget, perilua_vm *vm,
                          uint32_t limit_ms)
{
    budget->vm = NULL; /* not charged with the other's limit */
    budget->limit_ticks =
        vm != NULL ? limit_ms / TICK_MS + (limit_ms % TICK_MS != 0 ? 1 : 0) : 0;
    budget->vm = vm;
    settle_looks(budget);
    settle_timer(budget);
}

void perilua_budget_bound(perilua_budget *budget, perilua_vm *vm)
{
    bool live = budget->vm == NULL || budget->vm == vm;

    if (live && budget->limit_ticks == 0) {
        perilua_budget_watch(budget, vm, NO_LIMIT);
    }
}

void perilua_budget_sample(perilua_budget *budget, perilua_sampler_kind kind,
                           const perilua_sampler *sampler)
{
    budget->samplers[kind] = sampler;
    settle_looks(budget);
    settle_timer(budget);
}

/* Starting the profiler makes the compiler put in looks, also where the start
 * is refused: while another state, a passing one if need be, has it. */
void perilua_budget_looks(perilua_budget *budget, lua_State *L)
{
    lua_State *other = budget != NULL ? luaL_newstate() : NULL;

    if (other == NULL) {
        return;
    }
    uv_mutex_lock(&budget->lock);
    luaJIT_profile_start(other, PROFILER, on_profile, NULL);
    luaJIT_profile_start(L, LOOKS PROFILER, on_profile, NULL);
    luaJIT_profile_stop(other);
    uv_mutex_unlock(&budget->lock);
    lua_close(other);
}

bool perilua_budget_lend(perilua_budget *budget, lua_State *to)
{
    bool free;

    if (budget == NULL) {
        return false;
    }
    uv_mutex_lock(&budget->lock);
    free = !budget->lent;
    if (free) {
        budget->own = false;
        budget->lent = true;
        if (budget->looking != NULL) {
            luaJIT_profile_stop(budget->looking->L);
        }
        luaJIT_profile_start(to, PROFILER, on_profile, NULL);
        if (budget->looking != NULL) {
            /* is refused, but its code looks up again */
            luaJIT_profile_start(budget->looking->L, LOOKS PROFILER, on_profile,
                                 budget);
        }
    }
    uv_mutex_unlock(&budget->lock);
    return free;
}

void perilua_budget_give_back(perilua_budget *budget, lua_State *from)
{
    uv_mutex_lock(&budget->lock);
    luaJIT_profile_stop(from);
    if (budget->looking != NULL) { /* without LOOKS it touches no code */
        luaJIT_profile_start(budget->looking->L, PROFILER, on_profile, budget);
    }
    budget->lent = false;
    budget->own = budget->looking != NULL;
    uv_mutex_unlock(&budget->lock);
}

void perilua_budget_stage(perilua_budget *budget, perilua_vm *vm,
                          uint32_t limit_ms)
{
    perilua_vm *old = budget->staged;

    budget->staged = NULL;
    if (old != NULL) {
        luaJIT_setmode(old->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_ON);
    }
    if (vm != NULL) {
        luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
        budget->staged_limit_ticks = (limit_ms + TICK_MS - 1) / TICK_MS;
        budget->staged = vm;
    }
    settle_timer(budget);
}

void perilua_budget_forget(perilua_budget *budget, const perilua_vm *vm)
{
    if (budget != NULL && budget->vm == vm) {
        perilua_budget_watch(budget, NULL, 0);
    }
    if (budget != NULL && budget->staged == vm) {
        perilua_budget_stage(budget, NULL, 0);
    }
}
