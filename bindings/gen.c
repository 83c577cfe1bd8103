/* Generation: how one is made, retires and ends. */
#include "bindings/gen.h"
#include "bindings/db_watch.h"

#include <stdlib.h>

#include "bindings/budget.h"
#include "bindings/pools.h"
#include "bindings/profile.h"
#include "core/base/alloc.h"
#include "core/http/access.h"
#include "core/http/client.h"
#include "core/http/file.h"
#include "core/http/tracer.h"
#include "core/redis/set.h"
#include "core/shm/regions.h"
#include "core/sqlite/set.h"

#define OLD_GENERATIONS_MAX 2

perilua_gen *perilua_gen_create(peri_host *host, uint64_t number,
                                peri_bundle *bundle)
{
    perilua_gen *gen = peri_calloc(1, sizeof *gen);
    const peri_settings *settings;

    gen->host = host;
    gen->number = number;
    gen->bundle = bundle;
    gen->settings = peri_settings_create(peri_bundle_find(bundle, "@settings"));
    settings = gen->settings;
    gen->router = peri_router_create();
    gen->request_timeout_ms =
        (uint32_t)peri_settings_int(settings, "http.request_timeout", 30000);
    gen->body_max_bytes =
        (uint64_t)peri_settings_int(settings, "http.body_max", 1 << 20);
    gen->health_paths = peri_settings_bool(settings, "http.health", true);
    gen->serves_files = peri_settings_bool(settings, "http.static", true);
    gen->not_found = LUA_NOREF;
    gen->refused = LUA_NOREF;
    peri_list_init(&gen->link);
    gen->vm = perilua_vm_create(&host->env, bundle, gen->settings, number);
    gen->vm->gen = gen;
    perilua_profile_add(host->profile, gen->vm);
    host->open++;
    return gen;
}

static void host_released(peri_host *host)
{
    if (--host->open > 0) {
        return;
    }
    while (host->free_requests != NULL) {
        perilua_request *request = host->free_requests;

        host->free_requests = request->next_free;
        free(request);
    }
    peri_buf_fini(&host->scratch);
    perilua_budget_destroy(host->budget);
    peri_files_destroy(host->files);
    peri_meter_destroy(host->meter);
    perilua_db_meter_destroy(host->env.db_meter);
    perilua_pools_destroy(host->pools);
    if (host->owns_cells) {
        peri_cells_close(host->cells);
    }
    peri_regions_destroy(host->env.regions);
    if (host->closed != NULL) {
        host->closed(host->closed_data);
    }
    free(host->fault);
    peri_access_destroy(host->access);
    free(host->dir);
    free(host->env_name);
    free(host);
}

static void on_databases_closed(void *data)
{
    host_released(data);
}

static void on_client_closed(void *data)
{
    peri_host *host = data;

    host->open++; /* two sets */
    peri_sqlite_set_close(host->env.sqlite, on_databases_closed, host);
    peri_redis_set_close(host->env.redis, on_databases_closed, host);
}

static void on_tracer_closed(void *data)
{
    peri_host *host = data;

    peri_client_close(host->env.client, on_client_closed, host);
}

static void on_host_timers_closed(void *data)
{
    peri_host *host = data;

    peri_tracer_close(host->env.tracer, on_tracer_closed, host);
}

void perilua_host_release(peri_host *host)
{
    if (host->closing && host->open == 1 && host->timers != NULL) {
        peri_timers *timers = host->timers;

        host->timers = NULL;
        peri_timers_close(timers, on_host_timers_closed, host);
    }
}

static void on_vm_closed(void *data)
{
    perilua_gen *gen = data;
    peri_host *host = gen->host;

    peri_meter_forget(host->meter);
    peri_router_destroy(gen->router);
    peri_settings_destroy(gen->settings);
    peri_bundle_close(gen->bundle);
    free(gen);
    host->open--;
    perilua_host_release(host);
}

static void gen_close(perilua_gen *gen)
{
    if (gen->host->timers != NULL) {
        peri_timer_stop(gen->host->timers, &gen->drain);
    }
    peri_list_remove(&gen->link);
    perilua_profile_forget(gen->host->profile, gen->vm);
    perilua_budget_forget(gen->host->budget, gen->vm);
    perilua_vm_close(gen->vm, on_vm_closed, gen);
}

void perilua_gen_tell_failure(const perilua_gen *gen, const perilua_task *task,
                              lua_State *co, const char *what)
{
    if (task->cancel_kind != NULL) {
        return;
    }
    lua_getglobal(co, "tostring");
    lua_insert(co, -2);
    if (lua_pcall(co, 1, 1, 0) == 0) {
        peri_log(gen->host->env.logger, PERI_LOG_ERROR, "%s: %s", what,
                 lua_tostring(co, -1));
    }
}

static void on_stopped(void *data, perilua_task *task, lua_State *co, int rc,
                       int nresults)
{
    perilua_gen *gen = data;

    (void)nresults;
    if (rc < 0) {
        perilua_gen_tell_failure(gen, task, co, "on_stop failed");
    }
    gen_close(gen);
}

/* Starts require("perigee.app")[name](nargs values on top of L). */
void perilua_gen_start(perilua_gen *gen, const char *name, uint64_t deadline_ns,
                       perilua_task_done done, void *data)
{
    lua_State *L = gen->vm->L;

    perilua_require(L, "perigee.app");
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
    perilua_task_start(gen->vm, L, 0, deadline_ns, done, data);
}

/* The last request has ended: on_unload, on_stop, then the end. */
void perilua_gen_stop(perilua_gen *gen)
{
    if (gen->stopping) {
        return;
    }
    gen->stopping = true;
    if (!gen->loaded) {
        gen_close(gen);
        return;
    }
    perilua_gen_start(gen, "stop", perilua_now_ns(gen->vm) + 5000000000u,
                      on_stopped, gen);
}

void perilua_gen_unused(perilua_gen *gen)
{
    gen->active--;
    if (gen->active == 0 && gen->retiring) {
        perilua_gen_stop(gen);
    }
}

void perilua_gen_hold_job(perilua_gen *gen)
{
    gen->active++;
    gen->host->jobs++;
}

void perilua_gen_release_job(perilua_gen *gen)
{
    peri_host *host = gen->host;

    if (--host->jobs == 0 && host->jobs_ended != NULL) {
        void (*ended)(void *data) = host->jobs_ended;

        host->jobs_ended = NULL;
        ended(host->jobs_ended_data);
    }
    perilua_gen_unused(gen);
}

static void on_jobs_stopped(void *data, perilua_task *task, lua_State *co,
                            int rc, int nresults)
{
    perilua_gen *gen = data;

    (void)task;
    (void)nresults;
    if (rc < 0) {
        peri_log(gen->host->env.logger, PERI_LOG_ERROR,
                 "stopping the jobs failed: %s",
                 lua_tostring(co, -1) != NULL ? lua_tostring(co, -1) : "?");
    }
    perilua_gen_release_job(gen);
}

void perilua_gen_stop_jobs(perilua_gen *gen)
{
    if (!gen->runs_jobs) {
        return;
    }
    gen->runs_jobs = false;
    perilua_gen_hold_job(gen);
    perilua_gen_start(gen, "stop_jobs", 0, on_jobs_stopped, gen);
}

void perilua_gen_cancel(perilua_gen *gen, const char *message)
{
    perilua_scheduler_cancel_all(gen->vm, "unavailable", message);
}

static void on_drain_over(peri_timer *timer)
{
    perilua_gen *gen = PERI_CONTAINER(timer, perilua_gen, drain);

    perilua_gen_cancel(gen, "the code was replaced, and reload.drain is over");
}

void perilua_gen_retire(perilua_gen *gen)
{
    peri_host *host = gen->host;
    int64_t drain_ms = peri_settings_int(gen->settings, "reload.drain", 30000);
    int count = 0;

    gen->retiring = true;
    peri_list_append(&host->retired, &gen->link);
    perilua_gen_stop_jobs(gen);
    if (gen->active == 0) {
        perilua_gen_stop(gen);
        return;
    }
    peri_timer_start(host->timers, &gen->drain,
                     peri_timers_now_ns(host->timers) +
                         (uint64_t)drain_ms * 1000000u,
                     on_drain_over);
    for (peri_list *link = host->retired.prev; link != &host->retired;
         link = link->prev) {
        if (++count > OLD_GENERATIONS_MAX) {
            perilua_gen_cancel(PERI_CONTAINER(link, perilua_gen, link),
                               "the code was replaced too often");
        }
    }
}
