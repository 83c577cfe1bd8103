/* perigee.core.offload: Lua on other threads. See perigee/offload.lua.
 *
 * One crew a VM. What does not stop soon has been compiled, and gets the
 * process's profiler, which is the budget's at other times. */
#include <stdlib.h>

#include "bindings/bind.h"
#include "bindings/gen.h"
#include "bindings/offload_state.h"
#include "bindings/pack.h"
#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/loop/crew.h"

#define CREW "perigee.Crew"
#define TICK_MS 10
#define PATIENT_TICKS 3 /* then it is compiled code */
#define STUCK_TICKS 500 /* then it is a C function, and worth a line */
#define IDLE_MS 10000
#define REQUEST_MAX PERILUA_OFFLOAD_RESULT_MAX

int perilua_open_offload(lua_State *L);

typedef struct offload {
    perilua_vm *vm;
    perilua_budget *budget; /* the host's; NULL: compiled code is not stopped */
    peri_crew *crew;
    size_t memory_max_bytes;
    uv_timer_t tick;
    peri_list stopping; /* ops */
} offload;

typedef struct offload_op {
    offload *owner;
    peri_crew_job job;
    perilua_wait wait;
    peri_list link; /* in owner->stopping */
    unsigned ticks;
    peri_buf request;
    peri_buf output;
    perilua_offload_end end;
} offload_op;

static void op_free(offload_op *op)
{
    perilua_vm *vm = op->owner->vm;

    peri_list_remove(&op->link);
    peri_buf_fini(&op->request);
    peri_buf_fini(&op->output);
    free(op);
    perilua_vm_unref(vm);
}

/* ---- stopping ---- */

static void press(offload_op *op)
{
    const perilua_env *env = op->owner->vm->env;
    void *state;

    if (!peri_crew_seat(&op->job, &state) || state == NULL) {
        return;
    }
    op->ticks++;
    perilua_offload_state_stop(state);
    if (op->ticks > PATIENT_TICKS) {
        perilua_offload_state_look_up(state, op->owner->budget);
    }
    if (op->ticks == STUCK_TICKS) {
        peri_log(env->logger, PERI_LOG_ERROR,
                 "offloaded code does not stop: a C function holds its thread");
    }
}

static void on_tick(uv_timer_t *timer)
{
    offload *o = timer->data;
    peri_list *link = o->stopping.next;

    while (link != &o->stopping) {
        offload_op *op = PERI_CONTAINER(link, offload_op, link);

        link = link->next;
        press(op);
    }
    if (peri_list_empty(&o->stopping)) {
        uv_timer_stop(timer);
    }
}

static void on_cancel(perilua_wait *wait)
{
    offload_op *op = PERI_CONTAINER(wait, offload_op, wait);
    offload *o = op->owner;

    if (peri_crew_withdraw(o->crew, &op->job)) {
        op_free(op);
        return;
    }
    peri_list_append(&o->stopping, &op->link);
    press(op);
    uv_timer_start(&o->tick, on_tick, TICK_MS, TICK_MS);
}

/* ---- running ---- */

static perilua_budget *budget_of(peri_host *host)
{
    if (host != NULL && host->budget == NULL) {
        host->budget = perilua_budget_create();
    }
    return host != NULL ? host->budget : NULL;
}

static void *open_seat(void *data)
{
    offload *o = data;

    return perilua_offload_state_create(o->vm, o->budget, o->memory_max_bytes);
}

static void close_seat(void *seat)
{
    perilua_offload_state_destroy(seat);
}

/* The member's. */
static void on_run(peri_crew_job *job, void *seat)
{
    offload_op *op = PERI_CONTAINER(job, offload_op, job);

    op->end = seat == NULL
                  ? PERILUA_OFFLOAD_MEMORY
                  : perilua_offload_state_run(
                        seat, peri_buf_slice(&op->request), &op->output);
}

static int push_result(lua_State *L, void *data)
{
    offload_op *op = data;

    switch (op->end) {
    case PERILUA_OFFLOAD_DONE:
        if (perilua_unpack(L, peri_buf_slice(&op->output)) < 0) {
            return perilua_fail(L, "internal", NULL,
                                "offload: the result cannot be read");
        }
        return 1;
    case PERILUA_OFFLOAD_MEMORY:
        return perilua_fail(L, "too_large", "offload_memory",
                            "offload: more than limits.offload_memory "
                            "(%d KB)",
                            (int)(op->owner->memory_max_bytes >> 10));
    case PERILUA_OFFLOAD_RESULT:
        lua_pushlstring(L, op->output.data, op->output.length);
        return perilua_fail(L, "internal", "offload_result",
                            "offload: the result cannot be handed over: %s",
                            lua_tostring(L, -1));
    case PERILUA_OFFLOAD_STOPPED:
    default:
        return perilua_fail(L, "cancelled", NULL, "offload: stopped");
    }
}

static bool on_done(peri_crew_job *job)
{
    offload_op *op = PERI_CONTAINER(job, offload_op, job);
    bool whole =
        op->end == PERILUA_OFFLOAD_DONE || op->end == PERILUA_OFFLOAD_RESULT;

    whole = whole && op->ticks == 0;
    perilua_task_wake(&op->wait, push_result, op);
    op_free(op);
    return whole;
}

/* ---- functions ---- */

static uint64_t setting(const perilua_vm *vm, const char *key, int64_t fallback)
{
    int64_t value = vm->settings != NULL
                        ? peri_settings_int(vm->settings, key, fallback)
                        : fallback;

    return value > 0 ? (uint64_t)value : 1;
}

static void on_tick_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* The VM is being closed: nothing of it runs any more. */
static int crew_gc(lua_State *L)
{
    offload **at = luaL_checkudata(L, 1, CREW);

    if (*at != NULL) {
        peri_crew_close((*at)->crew);
        uv_close((uv_handle_t *)&(*at)->tick, on_tick_closed);
        *at = NULL;
    }
    return 0;
}

/* crew() -> the VM's threads; none is started yet. */
static int offload_crew(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    offload **at = lua_newuserdata(L, sizeof *at);
    peri_crew_config config = {
        .threads_max = (unsigned)setting(vm, "limits.offload_threads", 4),
        .queue_max = (unsigned)setting(vm, "limits.offload_queue", 1000),
        .idle_ms = IDLE_MS,
        .open = open_seat,
        .close = close_seat,
    };
    offload *o;

    *at = NULL;
    luaL_getmetatable(L, CREW);
    lua_setmetatable(L, -2);
    o = peri_calloc(1, sizeof *o);
    *at = o;
    o->vm = vm;
    o->budget = budget_of(vm->env->host);
    o->memory_max_bytes = setting(vm, "limits.offload_memory", 64 << 20);
    peri_list_init(&o->stopping);
    config.data = o;
    o->crew = peri_crew_create(vm->env->loop, &config);
    uv_timer_init(vm->env->loop, &o->tick);
    uv_unref((uv_handle_t *)&o->tick);
    o->tick.data = o;
    return 1;
}

static int refuse(lua_State *L, offload_op *op, int rc, const char *why)
{
    op_free(op);
    if (rc == PERI_EFORMAT) {
        lua_pushnil(L);
        lua_pushfstring(L, "offload: an argument cannot be handed over: %s",
                        why);
        return 2;
    }
    return perilua_fail(L, "too_large", "offload_arguments",
                        "offload: the arguments are over 64 MB");
}

/* run(crew, request) -> result; or nil and an error; a text: a wrong call. */
static int offload_run(lua_State *L)
{
    offload **at = luaL_checkudata(L, 1, CREW);
    perilua_vm *vm = perilua_vm_of(L);
    const char *why = NULL;
    offload_op *op;
    int rc;

    perilua_task_check(L);
    if (vm->current == NULL) {
        return luaL_error(L, "cannot wait here: no task is running");
    }
    op = peri_calloc(1, sizeof *op);
    op->owner = *at;
    op->job.run = on_run;
    op->job.done = on_done;
    op->wait.cancel = on_cancel;
    peri_list_init(&op->link);
    peri_buf_init(&op->request, REQUEST_MAX);
    peri_buf_init(&op->output, PERILUA_OFFLOAD_RESULT_MAX);
    perilua_vm_ref(vm);
    rc = perilua_pack(L, 2, &op->request, &why);
    if (rc < 0) {
        return refuse(L, op, rc, why);
    }
    if (peri_crew_submit((*at)->crew, &op->job) < 0) {
        op_free(op);
        return perilua_fail(L, "unavailable", "queue_full",
                            "offload: too many calls wait already");
    }
    return perilua_task_park(L, &op->wait);
}

int perilua_open_offload(lua_State *L)
{
    luaL_newmetatable(L, CREW);
    lua_pushcfunction(L, crew_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushcfunction(L, offload_crew);
    lua_setfield(L, -2, "crew");
    perilua_set_waiting(L, "run", offload_run);
    return 1;
}
