/* Host, settings: what the configuration of the generation that is live has the
 * host do for all of them. */
#include <stdlib.h>
#include <string.h>

#include "bindings/bind_log.h"
#include "bindings/budget.h"
#include "bindings/db_watch.h"
#include "bindings/gen.h"
#include "bindings/stall.h"
#include "core/base/alloc.h"
#include "core/http/access.h"
#include "core/http/client.h"
#include "core/http/tracer.h"

#define BUCKETS "0.005,0.01,0.025,0.05,0.075,0.1,0.25,0.5,0.75,1,2.5,5,7.5,10"

static void watch_budget(peri_host *host, perilua_gen *gen)
{
    int64_t limit_ms =
        peri_settings_int(gen->settings, "limits.cpu_per_request", 0);

    if (perilua_host_budget(host) != NULL) {
        perilua_budget_watch(host->budget, gen->vm, (uint32_t)limit_ms);
    }
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

/* Flags that requests look at, instead of at what is behind them. */
static void note_observers(peri_host *host)
{
    bool traces = peri_tracer_is_on(host->env.tracer);

    /* A request that is under way may be traced although none is any more. */
    host->traced |= traces;
    host->observes = host->logs_requests || host->meter != NULL || host->traced;
    host->attentive = host->fault != NULL || traces;
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

void perilua_host_apply(peri_host *host, perilua_gen *gen)
{
    watch_budget(host, gen);
    apply_logs(host, gen->settings);
    host->hidden = perilua_log_hidden(gen->vm->L);
    apply_metrics(host, gen);
    peri_tracer_configure(host->env.tracer, gen->settings);
    note_observers(host);
    apply_client(host, gen);
    apply_stalls(host, gen);
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

void perilua_host_set_fault(peri_host *host, const char *reason)
{
    free(host->fault);
    host->fault = reason != NULL ? peri_strdup(reason) : NULL;
    note_observers(host);
}
