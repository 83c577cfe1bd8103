/* Offload state: one lua_State for one thread, and how it is stopped. */
#include "bindings/offload_state.h"

#include <luajit.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bindings/budget.h"
#include "bindings/pack.h"
#include "bindings/vm.h"
#include "core/base/alloc.h"
#include "core/base/err.h"

#define TICK_NS (10 * 1000000L)
#define KEEP_BYTES ((size_t)4 << 20)

struct perilua_offload_state {
    perilua_vm vm;
    perilua_env env;
    lua_State *L;
    lua_Alloc allocate;
    void *allocate_data;
    size_t memory_bytes;
    size_t memory_max_bytes;
    volatile sig_atomic_t running;
    atomic_bool stop;
    bool refused;    /* memory */
    uv_mutex_t lock; /* of what follows, and of running's changes */
    pid_t thread;
    timer_t timer;
    bool timed;
    bool profiled;
    perilua_budget *lender;
};

/* ---- stopping ---- */

/* At each instruction that follows, so that no pcall gets away. */
static void on_instruction(lua_State *L, lua_Debug *where)
{
    (void)where;
    lua_pushliteral(L, "stopped");
    lua_error(L);
}

/* On the state's own thread, where lua_sethook may be called. */
static void on_stop(int number, siginfo_t *info, void *context)
{
    perilua_offload_state *s = info->si_value.sival_ptr;
    sigset_t profile;

    (void)number;
    (void)context;
    if (info->si_code != SI_TIMER || s == NULL || !s->running) {
        return;
    }
    lua_sethook(s->L, on_instruction, LUA_MASKCOUNT, 1);
    if (s->profiled) {
        /* The profiler's, which makes compiled code look up. At other times it
         * is blocked here: it may be about the worker's own state. */
        sigemptyset(&profile);
        sigaddset(&profile, SIGPROF);
        raise(SIGPROF);
        pthread_sigmask(SIG_UNBLOCK, &profile, NULL);
        pthread_sigmask(SIG_BLOCK, &profile, NULL);
    }
}

void perilua_offload_state_stop(perilua_offload_state *state)
{
    struct sigaction action = {.sa_sigaction = on_stop,
                               .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                             .sigev_signo = SIGRTMIN + 1,
                             .sigev_value = {.sival_ptr = state}};
    struct itimerspec every = {.it_interval = {.tv_nsec = TICK_NS},
                               .it_value = {.tv_nsec = 1}};

    sigemptyset(&action.sa_mask);
    sigaction(SIGRTMIN + 1, &action, NULL);
    uv_mutex_lock(&state->lock);
    atomic_store(&state->stop, true);
    event._sigev_un._tid = state->thread;
    if (state->running && !state->timed &&
        timer_create(CLOCK_MONOTONIC, &event, &state->timer) == 0) {
        state->timed = true;
        timer_settime(state->timer, 0, &every, NULL);
    }
    uv_mutex_unlock(&state->lock);
}

void perilua_offload_state_look_up(perilua_offload_state *state,
                                   perilua_budget *budget)
{
    uv_mutex_lock(&state->lock);
    if (state->running && !state->profiled &&
        perilua_budget_lend(budget, state->L)) {
        state->lender = budget;
        state->profiled = true;
    }
    uv_mutex_unlock(&state->lock);
}

/* The signal that stops it; members of a crew block all others. */
static void admit_signal(int how)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    pthread_sigmask(how, &set, NULL);
}

static void run_begins(perilua_offload_state *s)
{
    uv_mutex_lock(&s->lock);
    s->refused = false;
    s->thread = (pid_t)syscall(SYS_gettid);
    s->running = 1;
    uv_mutex_unlock(&s->lock);
}

static void run_ends(perilua_offload_state *s)
{
    admit_signal(SIG_BLOCK);
    uv_mutex_lock(&s->lock);
    s->running = 0;
    if (s->timed) {
        timer_delete(s->timer);
        s->timed = false;
    }
    lua_sethook(s->L, NULL, 0, 0);
    if (s->profiled) {
        s->profiled = false;
        perilua_budget_give_back(s->lender, s->L);
    }
    uv_mutex_unlock(&s->lock);
}

/* ---- memory ---- */

static void *bounded_allocate(void *data, void *memory, size_t old_bytes,
                              size_t new_bytes)
{
    perilua_offload_state *s = data;
    void *result;

    if (s->running && new_bytes > old_bytes &&
        s->memory_bytes + (new_bytes - old_bytes) > s->memory_max_bytes) {
        s->refused = true;
        return NULL;
    }
    result = s->allocate(s->allocate_data, memory, old_bytes, new_bytes);
    if (result != NULL || new_bytes == 0) {
        s->memory_bytes = s->memory_bytes + new_bytes - old_bytes;
    }
    return result;
}

/* ---- running ---- */

typedef struct run {
    perilua_offload_state *state;
    peri_slice request;
    peri_buf *output;
    const char *why; /* static */
    int rc;
} run;

static int run_request(lua_State *L)
{
    run *r = lua_touserdata(L, 1);

    perilua_require(L, "perigee.offload_state");
    lua_getfield(L, -1, "run");
    r->rc = perilua_unpack(L, r->request);
    if (r->rc == 0) {
        lua_call(L, 1, 1);
        r->rc = perilua_pack(L, lua_gettop(L), r->output, &r->why);
    }
    return 0;
}

static perilua_offload_end end_of(perilua_offload_state *s, run *r, int rc)
{
    if (atomic_load(&s->stop)) {
        return PERILUA_OFFLOAD_STOPPED;
    }
    if (rc != 0 || (s->refused && r->rc != 0)) {
        return PERILUA_OFFLOAD_MEMORY;
    }
    if (r->rc != 0) {
        peri_buf_clear(r->output);
        peri_buf_append_str(r->output,
                            r->why != NULL ? r->why : "more than 64 MB");
        return PERILUA_OFFLOAD_RESULT;
    }
    return PERILUA_OFFLOAD_DONE;
}

perilua_offload_end perilua_offload_state_run(perilua_offload_state *state,
                                              peri_slice request,
                                              peri_buf *output)
{
    run r = {.state = state, .request = request, .output = output};
    perilua_offload_end end;
    int rc;

    run_begins(state);
    admit_signal(SIG_UNBLOCK);
    rc = lua_cpcall(state->L, run_request, &r);
    run_ends(state);
    end = end_of(state, &r, rc);
    lua_settop(state->L, 0);
    if (end == PERILUA_OFFLOAD_DONE && state->memory_bytes > KEEP_BYTES) {
        lua_gc(state->L, LUA_GCCOLLECT, 0);
    }
    return end;
}

/* ---- life ---- */

static int install(lua_State *L)
{
    perilua_require(L, "perigee.offload_state");
    lua_getfield(L, -1, "install");
    lua_call(L, 0, 0);
    return 0;
}

perilua_offload_state *perilua_offload_state_create(const perilua_vm *parent,
                                                    perilua_budget *budget,
                                                    size_t memory_max_bytes)
{
    perilua_offload_state *s = peri_calloc(1, sizeof *s);

    s->env = (perilua_env){.dir = parent->env->dir,
                           .name = parent->env->name,
                           .worker = parent->env->worker,
                           .workers = parent->env->workers};
    s->vm.env = &s->env;
    s->vm.bundle = parent->bundle;
    s->vm.settings = parent->settings;
    s->vm.generation = parent->generation;
    s->memory_max_bytes = memory_max_bytes;
    atomic_init(&s->stop, false);
    uv_mutex_init(&s->lock);
    s->L = luaL_newstate();
    if (s->L == NULL) {
        uv_mutex_destroy(&s->lock);
        free(s);
        return NULL;
    }
    s->allocate = lua_getallocf(s->L, &s->allocate_data);
    if (perilua_vm_init_apart(&s->vm, s->L) != 0 ||
        lua_cpcall(s->L, install, NULL) != 0) {
        perilua_offload_state_destroy(s);
        return NULL;
    }
    perilua_budget_looks(budget, s->L);
    s->memory_bytes = (size_t)lua_gc(s->L, LUA_GCCOUNT, 0) * 1024;
    lua_setallocf(s->L, bounded_allocate, s);
    return s;
}

void perilua_offload_state_destroy(perilua_offload_state *state)
{
    if (state != NULL) {
        lua_close(state->L);
        uv_mutex_destroy(&state->lock);
        free(state);
    }
}
