/* Host: generations come, are committed, retire and end. */
#include "bindings/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bindings/bind_log.h"
#include "bindings/budget.h"
#include "bindings/db_watch.h"
#include "bindings/gen.h"
#include "bindings/hot.h"
#include "bindings/pools.h"
#include "bindings/profile.h"
#include "bindings/stall.h"
#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/http/access.h"
#include "core/http/client.h"
#include "core/http/file.h"
#include "core/http/flight.h"
#include "core/http/observe.h"
#include "core/http/tracer.h"
#include "core/redis/set.h"
#include "core/shm/regions.h"
#include "core/sqlite/set.h"

#define SCRATCH_MAX_BYTES ((size_t)64 << 20)
#define FAULT_MAX_BYTES 8192
#define DOING_ROUTE_BYTES 128
#define COLLECT_GROWTH 1.25
#define COLLECT_MIN_BYTES (512 * 1024.0)
#define STAGING_CPU_MS 2000 /* requests wait while scripts load */
#define BUCKETS "0.005,0.01,0.025,0.05,0.075,0.1,0.25,0.5,0.75,1,2.5,5,7.5,10"

/* One staging under way: who asked, and what went wrong. */
typedef struct staging {
    perilua_gen *gen;
    void (*done)(void *data, const char *error);
    void *data;
} staging;

perilua_budget *perilua_host_budget(peri_host *host)
{
    if (host->env.worker >= 0 && host->budget == NULL) {
        host->budget = perilua_budget_create();
    }
    return host->budget;
}

static void watch_budget(peri_host *host, perilua_gen *gen)
{
    int64_t limit_ms =
        peri_settings_int(gen->settings, "limits.cpu_per_request", 0);

    if (perilua_host_budget(host) != NULL) {
        perilua_budget_watch(host->budget, gen->vm, (uint32_t)limit_ms);
    }
}

/* ---- staging ---- */

void perilua_gen_bound_loading(perilua_gen *gen)
{
    if (gen->host->budget != NULL) {
        perilua_budget_stage(gen->host->budget, gen->vm, STAGING_CPU_MS);
    }
}

bool perilua_gen_overran(const perilua_gen *gen, char *text, size_t text_bytes)
{
    if (gen->vm->overrun[0] == '\0') {
        return false;
    }
    snprintf(text, text_bytes, "%s: loading takes over %d ms of CPU time",
             gen->vm->overrun, STAGING_CPU_MS);
    return true;
}

static void staging_end(staging *s, const char *error)
{
    perilua_gen *gen = s->gen;
    peri_host *host = gen->host;

    if (error != NULL) {
        if (host->staged == gen) {
            host->staged = NULL;
        }
        s->done(s->data, error);
        perilua_gen_stop(gen);
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
    perilua_budget_forget(s->gen->host->budget, s->gen->vm);
    if (s->gen->host->staged != s->gen) {
        staging_end(s, "the generation was abandoned");
        return;
    }
    if (rc == 0 && lua_toboolean(co, 1)) {
        staging_end(s, NULL);
        return;
    }
    if (perilua_gen_overran(s->gen, text, sizeof text)) {
        staging_end(s, text);
        return;
    }
    /* load() catches what the application raises and returns nil, text. */
    snprintf(text, sizeof text, "%s",
             lua_tostring(co, -1) != NULL ? lua_tostring(co, -1)
                                          : "loading was cancelled");
    staging_end(s, text);
}

/* Pushes perigee.hot's data table of a generation. */
static void push_hot_data(perilua_gen *gen)
{
    perilua_require(gen->vm->L, "perigee.hot");
    lua_getfield(gen->vm->L, -1, "data");
    lua_remove(gen->vm->L, -2);
}

/* Gives a copy of from's data to a function of to's perigee.hot: "given" before
 * its scripts load, "merge" when it takes over. */
static int hand_over(perilua_gen *from, perilua_gen *to, const char *function,
                     char *why, size_t why_bytes)
{
    lua_State *L = to->vm->L;
    int top = lua_gettop(L);
    int rc;

    perilua_require(L, "perigee.hot");
    lua_getfield(L, -1, function);
    lua_newtable(L);
    push_hot_data(from);
    rc = perilua_hot_copy(from->vm->L, -1, L, why, why_bytes);
    lua_pop(from->vm->L, 1);
    if (rc == 0 && lua_pcall(L, 1, 0, 0) != 0) {
        snprintf(why, why_bytes, "hot.data: %s", lua_tostring(L, -1));
        rc = PERI_EFORMAT;
    }
    lua_settop(L, top);
    return rc;
}

static int run_staging(lua_State *L)
{
    staging *s = lua_touserdata(L, 1);
    perilua_gen *gen = s->gen;
    char why[512];

    if (gen->host->live != NULL && gen->host->live->loaded &&
        hand_over(gen->host->live, gen, "given", why, sizeof why) < 0) {
        return luaL_error(L, "%s cannot be handed over", why);
    }
    perilua_gen_start(gen, "load", 0, on_loaded, s);
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

/* The environment that the first bundle was made for. */
static void take_environment(peri_host *host, const peri_bundle *bundle)
{
    peri_slice name = peri_bundle_find(bundle, "@env");

    host->env_name = name.data != NULL ? peri_strndup(name.data, name.length)
                                       : peri_strdup("production");
    host->env.name = host->env_name;
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
    if (host->env_name == NULL) {
        take_environment(host, bundle);
    }
    gen = perilua_gen_create(host, number, bundle);
    host->staged = gen;
    if (!load) {
        report_late(host, done, data, NULL);
        return;
    }
    perilua_host_budget(host);
    perilua_gen_bound_loading(gen);
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
        perilua_gen_stop(gen);
    }
}

static void on_committed(void *data, perilua_task *task, lua_State *co, int rc,
                         int nresults)
{
    (void)nresults;
    if (rc < 0) {
        perilua_gen_tell_failure(data, task, co, "jobs do not begin");
    }
}

void perilua_host_observe(peri_host *host, peri_exchange *exchange)
{
    uint64_t now_ns = peri_clock_monotonic_ns();

    if (host->meter != NULL) {
        peri_meter_observe(host->meter, exchange, now_ns);
    }
    if (host->access != NULL) {
        peri_access_write(host->access, host->access_logger, exchange, now_ns);
    } else if (host->logs_requests) {
        peri_access_log(host->access_logger, exchange, host->hidden, now_ns);
    }
    if (exchange->trace != NULL) {
        peri_tracer_done(exchange, now_ns);
    } else if (host->recorder != NULL) {
        peri_flight_request(host->recorder, exchange, now_ns);
    }
}

/* Flags that requests look at, instead of at what is behind them. */
static void note_observers(peri_host *host)
{
    bool traces = peri_tracer_is_on(host->env.tracer);

    /* A request that is under way may be traced although none is any more. */
    host->traced |= traces;
    host->observes = host->logs_requests || host->meter != NULL || host->traced;
    host->attentive = host->fault != NULL || traces;
}

/* metrics.* of the generation that is live now. */
static void apply_metrics(peri_host *host, const perilua_gen *gen)
{
    bool enabled = peri_settings_bool(gen->settings, "metrics.enabled", true);
    uint32_t exponential =
        peri_settings_bool(gen->settings, "metrics.exponential", false)
            ? PERI_EXPONENTIAL_BUCKETS
            : 0;
    double bounds[PERI_CELLS_BOUNDS_MAX];
    size_t count =
        peri_meter_bounds(peri_slice_str(peri_settings_str(
                              gen->settings, "metrics.buckets", BUCKETS)),
                          bounds);

    peri_meter_destroy(host->meter);
    host->meter = NULL;
    perilua_db_meter_configure(host->env.db_meter, enabled, exponential,
                               gen->number);
    if (host->cells == NULL || !enabled) {
        return;
    }
    peri_cells_set_series_max(
        host->cells,
        (uint32_t)peri_settings_int(gen->settings, "metrics.series_max", 2000));
    host->meter = peri_meter_create(host->cells, bounds, count, exponential,
                                    gen->number, host->env.logger);
    if (host->meter != NULL) {
        peri_meter_set_exemplars(
            host->meter,
            peri_settings_bool(gen->settings, "metrics.exemplars", true));
    }
}

/* log.stall; needs what workers alone have. */
static void apply_stalls(peri_host *host, const perilua_gen *gen)
{
    int64_t limit_ms = peri_settings_int(gen->settings, "log.stall", 50);

    if (host->env.worker < 0 || host->env.doing == NULL) {
        return;
    }
    if (host->stalls == NULL && limit_ms > 0) {
        host->stalls = perilua_stalls_create(host);
    }
    perilua_stalls_set_limit(host->stalls, (uint32_t)limit_ms);
}

static uint32_t client_setting(const perilua_gen *gen, const char *key,
                               uint32_t fallback)
{
    return (uint32_t)peri_settings_int(gen->settings, key, fallback);
}

static void apply_client(peri_host *host, const perilua_gen *gen)
{
    peri_client_limits limits = {
        .connections = client_setting(gen, "client.connections",
                                      PERI_CLIENT_CONNECTIONS_MAX),
        .waiting =
            client_setting(gen, "client.waiting", PERI_CLIENT_WAITING_MAX),
        .idle_ms =
            client_setting(gen, "client.idle_timeout", PERI_CLIENT_IDLE_MS),
        .dns_ms = client_setting(gen, "client.dns_ttl", PERI_CLIENT_DNS_MS),
    };

    peri_client_set_limits(host->env.client, &limits);
}

static void apply_logs(peri_host *host, const peri_settings *settings)
{
    const char *format =
        peri_settings_str(settings, "log.access.format", "json");
    char why[128];

    host->env.logger->level =
        peri_log_level_parse(peri_settings_str(settings, "log.level", "info"));
    host->access_logger->level = host->env.logger->level;
    host->logs_requests = peri_settings_bool(settings, "log.requests", true);
    peri_access_destroy(host->access);
    host->access = NULL;
    if (host->logs_requests && strcmp(format, "json") != 0 &&
        peri_access_create(format, &host->access, why, sizeof why) < 0) {
        peri_log(host->env.logger, PERI_LOG_ERROR, "log.access.format: %s",
                 why);
    }
}

void perilua_host_log_level(peri_host *host, peri_slice module, int level)
{
    lua_State *L = host->live != NULL ? host->live->vm->L : NULL;
    int top;

    if (module.length == 0) {
        host->env.logger->level = host->access_logger->level = level;
    }
    if (L == NULL) {
        return;
    }
    top = lua_gettop(L);
    perilua_require(L, "perigee.log_levels");
    lua_getfield(L, -1, "set");
    lua_pushlstring(L, module.data, module.length);
    lua_pushinteger(L, level);
    if (lua_pcall(L, 2, 0, 0) != 0) {
        peri_log(host->env.logger, PERI_LOG_ERROR, "log level: %s",
                 lua_tostring(L, -1));
    }
    lua_settop(L, top);
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
    watch_budget(host, gen);
    apply_logs(host, gen->settings);
    host->hidden = perilua_log_hidden(gen->vm->L);
    apply_metrics(host, gen);
    peri_tracer_configure(host->env.tracer, gen->settings);
    note_observers(host);
    apply_client(host, gen);
    apply_stalls(host, gen);
    atomic_store(&host->own_generation, number);
    if (old != NULL && old->loaded &&
        hand_over(old, gen, "merge", why, sizeof why) < 0) {
        peri_log(host->env.logger, PERI_LOG_ERROR,
                 "%s could not be handed over at the commit", why);
    }
    if (gen->loaded) {
        perilua_gen_start(gen, "committed", 0, on_committed, gen);
    }
    if (old != NULL) {
        perilua_gen_retire(old);
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
        perilua_gen_stop(gen); /* else staging_end does it */
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
    note_observers(host);
}

static double heap_of(const perilua_gen *gen)
{
    lua_State *L = gen->vm->L;

    return lua_gc(L, LUA_GCCOUNT, 0) * 1024.0 + lua_gc(L, LUA_GCCOUNTB, 0);
}

void perilua_host_cut(peri_host *host)
{
    static const char message[] = "the host is stopping";

    if (host->live != NULL) {
        perilua_gen_cancel(host->live, message);
    }
    for (const peri_list *link = host->retired.next; link != &host->retired;
         link = link->next) {
        perilua_gen_cancel(PERI_CONTAINER(link, perilua_gen, link), message);
    }
}

double perilua_host_heap_bytes(const peri_host *host)
{
    double bytes = host->live != NULL ? heap_of(host->live) : 0;

    for (const peri_list *link = host->retired.next; link != &host->retired;
         link = link->next) {
        bytes += heap_of(PERI_CONTAINER(link, perilua_gen, link));
    }
    return bytes;
}

void perilua_host_show_pools(peri_host *host)
{
    if (host->pools != NULL && !host->closing) {
        perilua_pools_show(host->pools, &host->env);
    }
}

/* One step; a finalizer may raise. */
static int collect_step(lua_State *L)
{
    bool *ended = lua_touserdata(L, 1);

    *ended = lua_gc(L, LUA_GCSTEP, 0) != 0;
    return 0;
}

/* LuaJIT collects when memory is asked for, which is when somebody waits. What
 * is done here need not be done then. */
uint64_t perilua_host_collect(peri_host *host, uint64_t limit_ns)
{
    perilua_gen *gen = host->live;
    uint64_t start_ns;
    uint64_t now_ns;
    double heap;

    if (gen == NULL || gen->active > 0 || gen->vm->current != NULL) {
        return 0;
    }
    heap = heap_of(gen);
    if (!host->collecting &&
        heap < host->collected_bytes * COLLECT_GROWTH + COLLECT_MIN_BYTES) {
        return 0;
    }
    start_ns = now_ns = peri_clock_monotonic_ns();
    host->collecting = host->collects = true;
    while (host->collecting && now_ns - start_ns < limit_ns) {
        bool ended = false;

        if (lua_cpcall(gen->vm->L, collect_step, &ended) != 0) {
            lua_pop(gen->vm->L, 1); /* as if nobody had raised it */
        }
        if (ended) {
            host->collecting = false;
            host->collected_bytes = heap_of(gen);
        }
        now_ns = peri_clock_monotonic_ns();
    }
    host->collects = false;
    return now_ns - start_ns;
}

/* ---- life ---- */

/* For the watchdog's report: what this worker was at when it got stuck. */
static void note_doing(const perilua_env *env, void *context)
{
    peri_host *host = env->host;
    peri_exchange *ex = context;
    peri_slice id;
    const char *route;
    size_t length;

    perilua_stalls_note(host->stalls, ex != NULL);
    if (ex == NULL) {
        return;
    }
    id = peri_exchange_id(ex);
    route = ex->route != NULL ? ex->route->pattern : "";
    length = strnlen(route, DOING_ROUTE_BYTES - 1);
    memcpy(host->doing_route, route, length);
    host->doing_route[length] = '\0';
    memcpy(host->doing_request, id.data, id.length);
    host->doing_request[id.length] = '\0';
}

peri_host *perilua_host_create(const peri_host_options *options)
{
    peri_host *host = peri_calloc(1, sizeof *host);
    char root[4096];

    host->dir = peri_strdup(options->dir);
    host->env_name = options->env != NULL ? peri_strdup(options->env) : NULL;
    host->stopping = options->stopping;
    host->generation = options->generation != NULL ? options->generation
                                                   : &host->own_generation;
    host->env = (perilua_env){
        .loop = options->loop,
        .logger = options->logger,
        .dir = host->dir,
        .name = host->env_name,
        .worker = options->worker,
        .workers = options->workers,
        .no_jobs = options->no_jobs,
        .host = host,
        .doing = options->doing_route != NULL ? note_doing : NULL,
        .sqlite = peri_sqlite_set_create(options->loop),
        .client = peri_client_create(options->loop),
        .redis = peri_redis_set_create(options->loop),
        .regions =
            options->shared != NULL
                ? peri_regions_attach(options->shared, PERI_REGIONS_BYTES)
                : peri_regions_create(PERI_REGIONS_BYTES),
    };
    host->access_logger = options->access_logger != NULL
                              ? options->access_logger
                              : options->logger;
    host->http = (peri_http_app){
        .data = host,
        .on_request = perilua_on_request,
        .on_gone = perilua_on_gone,
        .on_done = perilua_on_done,
    };
    host->owns_cells = options->cells == NULL;
    host->cells = options->cells;
    if (host->cells == NULL && host->env.regions != NULL) {
        host->cells = peri_cells_open(host->env.regions, 0);
    }
    host->env.cells = host->cells;
    host->env.tracer = peri_tracer_create(options->loop, host->env.client,
                                          options->logger, host->cells);
    host->recorder = options->recorder;
    peri_tracer_set_recorder(host->env.tracer, options->recorder);
    host->env.db_meter = perilua_db_meter_create(host->cells);
    if (options->cells != NULL) {
        host->pools = perilua_pools_create(host->cells, options->logger);
    }
    host->doing_route = options->doing_route;
    host->doing_request = options->doing_request;
    host->publish = options->publish;
    host->publisher = options->publisher;
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

bool perilua_host_stop_jobs(peri_host *host, void (*ended)(void *data),
                            void *data)
{
    if (host->live != NULL) {
        perilua_gen_stop_jobs(host->live);
    }
    if (host->jobs == 0) {
        return false;
    }
    host->jobs_ended = ended;
    host->jobs_ended_data = data;
    return true;
}

void perilua_host_close(peri_host *host, void (*done)(void *data), void *data)
{
    peri_list *link;
    perilua_gen *live = host->live;

    perilua_profile_close(host);
    perilua_stalls_destroy(host->stalls);
    host->stalls = NULL;
    host->closing = true;
    host->jobs_ended = NULL;
    host->closed = done;
    host->closed_data = data;
    if (host->staged != NULL) {
        perilua_host_abandon(host, host->staged->number);
    }
    host->live = NULL;
    for (link = host->retired.next; link != &host->retired; link = link->next) {
        perilua_gen_cancel(PERI_CONTAINER(link, perilua_gen, link),
                           "the host is closing");
    }
    if (live != NULL) {
        perilua_gen_cancel(
            live, "the host is closing"); /* not on_stop, that follows */
        perilua_gen_retire(live);
    }
    perilua_host_release(host);
}
