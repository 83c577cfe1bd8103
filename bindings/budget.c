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
#include "bindings/task.h"
#include "core/base/alloc.h"

#define TICK_MS 5
#define TICK_NS (TICK_MS * 1000000L)
#define NO_LIMIT UINT32_MAX
/* Whoever is overdue at a wait may still clean up for so long. */
#define GRACE_NS 200000000u
/* LuaJIT's profiler: with looks at each line, which is what compiled code is
 * made with; how often it makes them find something. */
#define LOOKS "l"
#define PROFILER "i10"
#define PROFILER_AT_REST "i100000000"

struct perilua_budget {
    timer_t timer;
    perilua_vm *volatile vm; /* read by the signal handler */
    volatile uint32_t limit_ticks;
    perilua_vm *volatile staged; /* being built */
    volatile uint32_t staged_limit_ticks;
    uv_mutex_t lock; /* of the profiler, which other threads give back */
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

/* Signal context: touches the counter of the running task, and lua_sethook,
 * which may be called here. */
static void charge(perilua_vm *vm, uint32_t limit_ticks)
{
    perilua_task *task = vm != NULL ? vm->current : NULL;

    if (task != NULL && (++task->cpu_ticks >= limit_ticks || is_late(task))) {
        if (!vm->hooked) {
            vm->overrun[0] = '\0';
            vm->late = task->cpu_ticks < limit_ticks;
        }
        vm->hooked = true;
        lua_sethook(vm->L, on_instruction, LUA_MASKCOUNT, 1);
    }
}

static void on_tick(int number, siginfo_t *info, void *context)
{
    perilua_budget *budget = info->si_value.sival_ptr;

    (void)number;
    (void)context;
    charge(budget->vm, budget->limit_ticks);
    charge(budget->staged, budget->staged_limit_ticks);
}

static void on_profile(void *data, lua_State *L, int samples, int state)
{
    (void)data;
    (void)L;
    (void)samples;
    (void)state;
}

/* Ticks only while somebody is watched. */
static void settle_timer(perilua_budget *budget)
{
    bool on = budget->vm != NULL || budget->staged != NULL;
    long tick_ns = on ? TICK_NS : 0;
    struct itimerspec every = {.it_interval = {.tv_nsec = tick_ns},
                               .it_value = {.tv_nsec = tick_ns}};

    timer_settime(budget->timer, 0, &every, NULL);
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
    perilua_vm *old = budget->vm;

    uv_mutex_lock(&budget->lock);
    budget->vm = NULL;
    if (old != NULL) {
        luaJIT_profile_stop(old->L);
    }
    if (vm != NULL && limit_ms != 0) {
        luaJIT_profile_start(vm->L, LOOKS PROFILER, on_profile, NULL);
        budget->limit_ticks =
            limit_ms / TICK_MS + (limit_ms % TICK_MS != 0 ? 1 : 0);
        budget->vm = vm;
    }
    settle_timer(budget);
    uv_mutex_unlock(&budget->lock);
}

void perilua_budget_bound(perilua_budget *budget, perilua_vm *vm)
{
    if (budget->vm == NULL) {
        perilua_budget_watch(budget, vm, NO_LIMIT);
    }
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
    luaJIT_profile_start(other, PROFILER_AT_REST, on_profile, NULL);
    luaJIT_profile_start(L, LOOKS PROFILER_AT_REST, on_profile, NULL);
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
        if (budget->vm != NULL) {
            luaJIT_profile_stop(budget->vm->L);
        }
        luaJIT_profile_start(to, PROFILER_AT_REST, on_profile, NULL);
        if (budget->vm != NULL) { /* is refused, but its code looks up again */
            luaJIT_profile_start(budget->vm->L, LOOKS PROFILER, on_profile,
                                 NULL);
        }
        budget->lent = true;
    }
    uv_mutex_unlock(&budget->lock);
    return free;
}

void perilua_budget_give_back(perilua_budget *budget, lua_State *from)
{
    uv_mutex_lock(&budget->lock);
    luaJIT_profile_stop(from);
    if (budget->vm != NULL) { /* without LOOKS it touches no code */
        luaJIT_profile_start(budget->vm->L, PROFILER, on_profile, NULL);
    }
    budget->lent = false;
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
