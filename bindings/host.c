/* Host: generations come, are committed, retire and end. */
#include "bindings/host.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bindings/gen.h"
#include "bindings/hot.h"
#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/http/file.h"
#include "core/http/observe.h"
#include "core/sqlite/set.h"

#define OLD_GENERATIONS_MAX 2
#define SCRATCH_MAX_BYTES ((size_t)64 << 20)
#define FAULT_MAX_BYTES 8192

/* One staging under way: who asked, and what went wrong. */
typedef struct staging {
    perilua_gen *gen;
    void (*done)(void *data, const char *error);
    void *data;
} staging;

/* ---- the end of a generation ---- */

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
    peri_files_destroy(host->files);
    if (host->closed != NULL) {
        host->closed(host->closed_data);
    }
    free(host->fault);
    free(host->dir);
    free(host->env_name);
    free(host);
}

static void on_databases_closed(void *data)
{
    host_released(data);
}

static void on_host_timers_closed(void *data)
{
    peri_host *host = data;

    peri_sqlite_set_close(host->env.sqlite, on_databases_closed, host);
}

static void maybe_close_timers(peri_host *host)
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

    peri_router_destroy(gen->router);
    peri_settings_destroy(gen->settings);
    peri_bundle_close(gen->bundle);
    free(gen);
    host->open--;
    maybe_close_timers(host);
}

static void gen_close(perilua_gen *gen)
{
    if (gen->host->timers != NULL) {
        peri_timer_stop(gen->host->timers, &gen->drain);
    }
    peri_list_remove(&gen->link);
    perilua_vm_close(gen->vm, on_vm_closed, gen);
}

static void on_stopped(void *data, perilua_task *task, lua_State *co, int rc,
                       int nresults)
{
    perilua_gen *gen = data;

    (void)task;
    (void)nresults;
    if (rc < 0) {
        lua_getglobal(co, "tostring");
        lua_insert(co, -2);
        if (lua_pcall(co, 1, 1, 0) == 0) {
            peri_log(gen->host->env.logger, PERI_LOG_ERROR,
                     "on_stop failed: %s", lua_tostring(co, -1));
        }
    }
    gen_close(gen);
}

/* Starts require("perigee.app")[name](nargs values on top of L). */
static void start_app(perilua_gen *gen, const char *name, uint64_t deadline_ns,
                      perilua_task_done done, void *data)
{
    lua_State *L = gen->vm->L;

    perilua_require(L, "perigee.app");
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
    perilua_task_start(gen->vm, L, 0, deadline_ns, done, data);
}

/* The last request has ended: on_unload, on_stop, then the end. */
static void gen_stop(perilua_gen *gen)
{
    if (gen->stopping) {
        return;
    }
    gen->stopping = true;
    if (!gen->loaded) {
        gen_close(gen);
        return;
    }
    start_app(gen, "stop", perilua_now_ns(gen->vm) + 5000000000u, on_stopped,
              gen);
}

void perilua_gen_unused(perilua_gen *gen)
{
    gen->active--;
    if (gen->active == 0 && gen->retiring) {
        gen_stop(gen);
    }
}

static void gen_cancel(perilua_gen *gen, const char *message)
{
    perilua_scheduler_cancel_all(gen->vm, "unavailable", message);
}

static void on_drain_over(peri_timer *timer)
{
    perilua_gen *gen = PERI_CONTAINER(timer, perilua_gen, drain);

    gen_cancel(gen, "the code was replaced, and reload.drain is over");
}

static void gen_retire(perilua_gen *gen)
{
    peri_host *host = gen->host;
    int64_t drain_ms = peri_settings_int(gen->settings, "reload.drain", 30000);
    int count = 0;

    gen->retiring = true;
    peri_list_append(&host->retired, &gen->link);
    if (gen->active == 0) {
        gen_stop(gen);
        return;
    }
    peri_timer_start(host->timers, &gen->drain,
                     peri_timers_now_ns(host->timers) +
                         (uint64_t)drain_ms * 1000000u,
                     on_drain_over);
    for (peri_list *link = host->retired.prev; link != &host->retired;
         link = link->prev) {
        if (++count > OLD_GENERATIONS_MAX) {
            gen_cancel(PERI_CONTAINER(link, perilua_gen, link),
                       "the code was replaced too often");
        }
    }
}

/* ---- staging ---- */

static void staging_end(staging *s, const char *error)
{
    perilua_gen *gen = s->gen;
    peri_host *host = gen->host;

    if (error != NULL) {
        if (host->staged == gen) {
            host->staged = NULL;
        }
        s->done(s->data, error);
        gen_stop(gen);
    } else {
        s->done(s->data, NULL);
    }
    free(s);
}

static void on_loaded(void *data, perilua_task *task, lua_State *co, int rc,
                      int nresults)
{
    staging *s = data;
    char text[FAULT_MAX_BYTES];

    (void)task;
    (void)nresults;
    s->gen->loaded = true; /* on_start may have run, even if load failed */
    if (s->gen->host->staged != s->gen) {
        staging_end(s, "the generation was abandoned");
        return;
    }
    if (rc == 0 && lua_toboolean(co, 1)) {
        staging_end(s, NULL);
        return;
    }
    /* load() catches what the application raises and returns nil, text. */
    snprintf(text, sizeof text, "%s",
             lua_tostring(co, -1) != NULL ? lua_tostring(co, -1)
                                          : "loading was cancelled");
    staging_end(s, text);
}

static perilua_gen *gen_create(peri_host *host, uint64_t number,
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
    host->open++;
    return gen;
}

/* Pushes perigee.hot's data table of a generation. */
static void push_hot_data(perilua_gen *gen)
{
    perilua_require(gen->vm->L, "perigee.hot");
    lua_getfield(gen->vm->L, -1, "data");
    lua_remove(gen->vm->L, -2);
}

static int hand_over(perilua_gen *from, perilua_gen *to, char *why,
                     size_t why_bytes)
{
    int rc;

    push_hot_data(from);
    push_hot_data(to);
    rc = perilua_hot_copy(from->vm->L, -1, to->vm->L, why, why_bytes);
    lua_pop(to->vm->L, 1);
    lua_pop(from->vm->L, 1);
    return rc;
}

static int run_staging(lua_State *L)
{
    staging *s = lua_touserdata(L, 1);
    perilua_gen *gen = s->gen;
    char why[512];

    if (gen->host->live != NULL && gen->host->live->loaded &&
        hand_over(gen->host->live, gen, why, sizeof why) < 0) {
        return luaL_error(L, "%s cannot be handed over", why);
    }
    start_app(gen, "load", 0, on_loaded, s);
    return 0;
}

/* What was to be reported in the call that asked for it comes one turn later.
 */
typedef struct late_report {
    uv_timer_t timer;
    void (*done)(void *data, const char *error);
    void *data;
    char *error;
} late_report;

static void on_report_closed(uv_handle_t *handle)
{
    late_report *report = handle->data;

    free(report->error);
    free(report);
}

static void on_report(uv_timer_t *timer)
{
    late_report *report = timer->data;

    report->done(report->data, report->error);
    uv_close((uv_handle_t *)timer, on_report_closed);
}

static void report_late(peri_host *host,
                        void (*done)(void *data, const char *error), void *data,
                        const char *error)
{
    late_report *report = peri_calloc(1, sizeof *report);

    report->done = done;
    report->data = data;
    report->error = error != NULL ? peri_strdup(error) : NULL;
    uv_timer_init(host->env.loop, &report->timer);
    report->timer.data = report;
    uv_timer_start(&report->timer, on_report, 0, 0);
}

void perilua_host_stage(peri_host *host, uint64_t number, int bundle_fd,
                        bool load, void (*done)(void *data, const char *error),
                        void *data)
{
    peri_bundle *bundle;
    perilua_gen *gen;
    staging *s;
    int rc = peri_bundle_open(bundle_fd, &bundle);

    close(bundle_fd);
    if (rc < 0) {
        report_late(host, done, data, "the bundle cannot be read");
        return;
    }
    if (host->staged != NULL) {
        perilua_host_abandon(host, host->staged->number);
    }
    gen = gen_create(host, number, bundle);
    host->staged = gen;
    if (!load) {
        report_late(host, done, data, NULL);
        return;
    }
    s = peri_calloc(1, sizeof *s);
    s->gen = gen;
    s->done = done;
    s->data = data;
    if (lua_cpcall(gen->vm->L, run_staging, s) != 0) {
        char text[FAULT_MAX_BYTES];

        snprintf(text, sizeof text, "%s", lua_tostring(gen->vm->L, -1));
        lua_pop(gen->vm->L, 1);
        host->staged = NULL;
        report_late(host, done, data, text);
        free(s);
        gen_stop(gen);
    }
}

static void on_committed(void *data, perilua_task *task, lua_State *co, int rc,
                         int nresults)
{
    perilua_gen *gen = data;

    (void)task;
    (void)nresults;
    if (rc < 0) {
        peri_log(gen->host->env.logger, PERI_LOG_ERROR, "on_load failed: %s",
                 lua_tostring(co, -1) != NULL ? lua_tostring(co, -1) : "?");
    }
}

static void log_request(peri_host *host, peri_exchange *exchange)
{
    peri_access_log(host->env.logger, exchange, peri_clock_monotonic_ns());
}

void perilua_host_commit(peri_host *host, uint64_t number)
{
    perilua_gen *old = host->live;
    perilua_gen *gen = host->staged;
    char why[512];

    if (gen == NULL || gen->number != number) {
        return;
    }
    host->staged = NULL;
    host->live = gen;
    host->env.logger->level = peri_log_level_parse(
        peri_settings_str(gen->settings, "log.level", "info"));
    host->observe = peri_settings_bool(gen->settings, "log.requests", true)
                        ? log_request
                        : NULL;
    atomic_store(&host->own_generation, number);
    if (old != NULL && old->loaded &&
        hand_over(old, gen, why, sizeof why) < 0) {
        peri_log(host->env.logger, PERI_LOG_ERROR,
                 "%s could not be handed over at the commit", why);
    }
    if (gen->loaded) {
        start_app(gen, "committed", 0, on_committed, gen);
    }
    if (old != NULL) {
        gen_retire(old);
    }
}

void perilua_host_abandon(peri_host *host, uint64_t number)
{
    perilua_gen *gen = host->staged;

    if (gen == NULL || gen->number != number) {
        return;
    }
    host->staged = NULL;
    gen->retiring = true;
    perilua_scheduler_cancel_all(gen->vm, "cancelled",
                                 "the generation was abandoned");
    if (gen->loaded) {
        gen_stop(gen); /* else staging_end does it */
    }
}

perilua_gen *perilua_host_live(peri_host *host)
{
    perilua_gen *staged = host->staged;

    if (staged != NULL &&
        atomic_load_explicit(host->generation, memory_order_acquire) ==
            staged->number) {
        perilua_host_commit(host, staged->number);
    }
    return host->live;
}

void perilua_host_set_fault(peri_host *host, const char *reason)
{
    free(host->fault);
    host->fault = reason != NULL ? peri_strdup(reason) : NULL;
}

/* ---- life ---- */

peri_host *perilua_host_create(const peri_host_options *options)
{
    peri_host *host = peri_calloc(1, sizeof *host);
    char root[4096];

    host->dir = peri_strdup(options->dir);
    host->env_name = peri_strdup(options->env);
    host->generation = options->generation != NULL ? options->generation
                                                   : &host->own_generation;
    host->env = (perilua_env){
        .loop = options->loop,
        .logger = options->logger,
        .dir = host->dir,
        .name = host->env_name,
        .worker = options->worker,
        .workers = options->workers,
        .host = host,
        .sqlite = peri_sqlite_set_create(options->loop),
    };
    host->http = (peri_http_app){
        .data = host,
        .on_request = perilua_on_request,
        .on_gone = perilua_on_gone,
        .on_done = perilua_on_done,
    };
    peri_list_init(&host->retired);
    peri_buf_init(&host->scratch, SCRATCH_MAX_BYTES);
    host->timers = peri_timers_create(options->loop);
    host->open = 1;
    snprintf(root, sizeof root, "%s/public", host->dir);
    host->files = peri_files_create(options->loop, root);
    return host;
}

const peri_http_app *perilua_host_http(peri_host *host)
{
    return &host->http;
}

void perilua_host_close(peri_host *host, void (*done)(void *data), void *data)
{
    peri_list *link;
    perilua_gen *live = host->live;

    host->closing = true;
    host->closed = done;
    host->closed_data = data;
    if (host->staged != NULL) {
        perilua_host_abandon(host, host->staged->number);
    }
    host->live = NULL;
    for (link = host->retired.next; link != &host->retired; link = link->next) {
        gen_cancel(PERI_CONTAINER(link, perilua_gen, link),
                   "the host is closing");
    }
    if (live != NULL) {
        gen_cancel(live, "the host is closing"); /* not on_stop, that follows */
        gen_retire(live);
    }
    maybe_close_timers(host);
}
