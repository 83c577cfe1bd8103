/* Host: the generation that serves, and the life of what all of them share. */
#include "bindings/host.h"

#include <stdio.h>
#include <string.h>

#include "bindings/budget.h"
#include "bindings/db_watch.h"
#include "bindings/gen.h"
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
#define DOING_ROUTE_BYTES 128
#define COLLECT_GROWTH 1.25
#define COLLECT_MIN_BYTES (512 * 1024.0)

perilua_budget *perilua_host_budget(peri_host *host)
{
    if (host->env.worker >= 0 && host->budget == NULL) {
        host->budget = perilua_budget_create();
    }
    return host->budget;
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
    perilua_host_apply(host, gen);
    atomic_store(&host->own_generation, number);
    if (old != NULL && old->loaded &&
        perilua_gen_hand_over(old, gen, "merge", why, sizeof why) < 0) {
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

/* A worker that takes a dead one's place loads what is committed already. */
perilua_gen *perilua_host_live(peri_host *host)
{
    perilua_gen *staged = host->staged;

    if (staged != NULL && staged->staged &&
        atomic_load_explicit(host->generation, memory_order_acquire) ==
            staged->number) {
        perilua_host_commit(host, staged->number);
    }
    return host->live;
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
