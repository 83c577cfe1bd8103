/* The worker's application: peri_worker_app, filled in with a host. */
#include <stdlib.h>

#include "bindings/host.h"
#include "bindings/profile.h"
#include "core/base/alloc.h"

static void *app_create(const peri_worker_info *info)
{
    peri_host_options options = {
        .loop = info->loop,
        .logger = info->logger,
        .access_logger = info->access_logger,
        .dir = info->dir,
        .env = info->env,
        .worker = info->slot,
        .workers = info->workers,
        .no_jobs = info->no_jobs,
        .generation = info->generation,
        .shared = info->shared,
        .cells = info->cells,
        .recorder = info->recorder,
        .stopping = info->stopping,
        .doing_route = info->doing_route,
        .doing_request = info->doing_request,
        .publish = info->publish,
        .publisher = info->worker,
    };

    return perilua_host_create(&options);
}

static void app_stage(void *app, uint64_t generation, int bundle_fd,
                      void (*done)(void *data, const char *error), void *data)
{
    perilua_host_stage(app, generation, bundle_fd, true, done, data);
}

static void app_abandon(void *app, uint64_t generation)
{
    perilua_host_abandon(app, generation);
}

static void app_commit(void *app, uint64_t generation)
{
    perilua_host_commit(app, generation);
    perilua_host_set_fault(app, NULL);
}

static const peri_http_app *app_http(void *app)
{
    return perilua_host_http(app);
}

static bool app_stop_jobs(void *app, void (*ended)(void *data), void *data)
{
    return perilua_host_stop_jobs(app, ended, data);
}

static void app_destroy(void *app, void (*done)(void *data), void *data)
{
    perilua_host_close(app, done, data);
}

static void app_reload_failed(void *app, const char *reason)
{
    perilua_host_set_fault(app, reason);
}

static void app_hear(void *app, peri_slice text)
{
    perilua_host_hear(app, text);
}

static void app_log_level(void *app, peri_slice module, int level)
{
    perilua_host_log_level(app, module, level);
}

static void app_cut(void *app)
{
    perilua_host_cut(app);
}

static void app_ask(void *app, peri_slice question,
                    void (*told)(void *data, int status, peri_slice json),
                    void *data)
{
    perilua_host_ask(app, question, told, data);
}

static double app_heap_bytes(void *app)
{
    return perilua_host_heap_bytes(app);
}

static uint64_t app_collect(void *app, uint64_t limit_ns)
{
    return perilua_host_collect(app, limit_ns);
}

static void app_show_pools(void *app)
{
    perilua_host_show_pools(app);
}

static int app_profile(void *app, const peri_profile_ask *ask,
                       void (*done)(void *data, peri_slice stacks), void *data)
{
    return perilua_profile_start(app, ask, done, data);
}

static void app_profile_end(void *app)
{
    perilua_profile_end(app);
}

const peri_worker_app perilua_worker_app = {
    .create = app_create,
    .stage = app_stage,
    .abandon = app_abandon,
    .commit = app_commit,
    .http = app_http,
    .stop_jobs = app_stop_jobs,
    .destroy = app_destroy,
    .reload_failed = app_reload_failed,
    .hear = app_hear,
    .log_level = app_log_level,
    .ask = app_ask,
    .heap_bytes = app_heap_bytes,
    .collect = app_collect,
    .show_pools = app_show_pools,
    .cut = app_cut,
    .profile = app_profile,
    .profile_end = app_profile_end,
};
