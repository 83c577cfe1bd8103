/* Worker: generations, staged, voted on, committed. See worker_state.h for the
 * map. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/bundle.h"
#include "core/base/err.h"
#include "core/cluster/limits.h"
#include "core/cluster/worker_state.h"

peri_settings *peri_worker_settings(int bundle_fd)
{
    peri_bundle *bundle;
    peri_settings *settings;

    if (peri_bundle_open(bundle_fd, &bundle) < 0) {
        return NULL;
    }
    settings = peri_settings_create(peri_bundle_find(bundle, "@settings"));
    peri_bundle_close(bundle);
    return settings;
}

static void limits_read(const peri_worker *w, const peri_settings *settings,
                        peri_http_limits *out)
{
    peri_limits_read(out, settings);
    out->server_timing = strcmp(w->inherited.env, "development") == 0;
}

static void apply_settings(peri_worker *w, peri_settings *settings)
{
    peri_settings_destroy(w->settings);
    w->settings = settings;
    w->logger.level = peri_logs_level(settings);
    w->requests_max =
        (uint64_t)peri_settings_int(settings, "cluster.max_requests", 0);
    if (w->server != NULL) {
        peri_http_limits limits;

        limits_read(w, settings, &limits);
        peri_http_server_set_limits(w->server, &limits);
    }
}

static void on_staged(void *data, const char *error);

void peri_worker_stage(peri_worker *w, uint32_t attempt, uint64_t generation,
                       int bundle_fd)
{
    peri_stage_job *job = peri_calloc(1, sizeof *job);

    job->worker = w;
    job->generation = generation;
    job->attempt = attempt;
    w->job = job;
    peri_settings_destroy(w->staged_settings);
    w->staged_settings = peri_worker_settings(bundle_fd);
    w->app->stage(w->host, generation, bundle_fd, on_staged, job);
}

static void start_later_stage(peri_worker *w)
{
    uint64_t later = w->later_generation;

    if (later != 0 && w->phase < PERI_WORKER_DRAINING) {
        w->later_generation = 0;
        peri_worker_stage(w, w->later_attempt, later, w->later_fd);
    }
}

static void on_first_staged(peri_worker *w, uint64_t generation,
                            const char *error)
{
    if (error == NULL) {
        w->phase = PERI_WORKER_WAITING;
        peri_worker_tell(w, PERI_CHANNEL_READY, 0, generation, NULL);
        return;
    }
    w->exit_code = 78;
    peri_worker_tell(w, PERI_CHANNEL_FAILED, 0, generation, error);
    peri_worker_end(w);
}

static void on_staged(void *data, const char *error)
{
    peri_stage_job *job = data;
    peri_worker *w = job->worker;
    uint64_t generation = job->generation;
    uint32_t attempt = job->attempt;

    if (job->over) {
        return; /* nobody waits for it any more */
    }
    w->job = NULL;
    free(job);
    if (w->phase >= PERI_WORKER_DRAINING) {
        return;
    }
    if (w->phase == PERI_WORKER_STAGING) {
        on_first_staged(w, generation, error);
    } else {
        if (error != NULL && *error == '\0') {
            error = "no reason was given";
        }
        peri_worker_tell(w, PERI_CHANNEL_VOTE, attempt, generation, error);
    }
    start_later_stage(w);
}

void peri_worker_on_stage(peri_worker *w, const peri_channel_message *message)
{
    uint64_t generation = message->generation;
    int fd = message->fd;

    if (w->phase >= PERI_WORKER_DRAINING) {
        close(fd);
        return;
    }
    if (w->job == NULL) {
        peri_worker_stage(w, message->number, generation, fd);
        return;
    }
    if (w->later_generation != 0) {
        close(w->later_fd);
    }
    w->later_generation = generation;
    w->later_attempt = message->number;
    w->later_fd = fd;
}

void peri_worker_on_abandon(peri_worker *w, uint64_t generation)
{
    if (w->later_generation == generation) {
        close(w->later_fd);
        w->later_generation = 0;
        return;
    }
    if (w->host == NULL || w->phase == PERI_WORKER_ENDING) {
        return;
    }
    if (w->job != NULL && w->job->generation == generation) {
        w->job->over = true;
        peri_list_append(&w->old_jobs, &w->job->link);
        w->job = NULL;
    }
    w->app->abandon(w->host, generation);
    peri_settings_destroy(w->staged_settings);
    w->staged_settings = NULL;
    start_later_stage(w);
}

static void start_serving(peri_worker *w)
{
    peri_http_limits limits;
    int backlog = (int)peri_settings_int(w->settings, "http.backlog", 511);
    int fd = w->inherited.listener_fd;
    int rc;

    if (w->tls == NULL && w->tls_expected) {
        w->exit_code = 78; /* the log says why */
        peri_worker_end(w);
        return;
    }
    limits_read(w, w->settings, &limits);
    w->proxies = peri_limits_list(
        peri_settings_str(w->settings, "http.trust_proxies", "[]"));
    w->server =
        peri_http_server_create(&w->loop, &limits, w->app->http(w->host),
                                &w->logger, (const char *const *)w->proxies);
    peri_http_server_set_tls(w->server, w->tls);
    rc = listen(fd, backlog) < 0 ? -errno
                                 : peri_http_server_listen(w->server, fd);
    if (rc < 0) {
        peri_log(&w->logger, PERI_LOG_FATAL, "cannot listen: %s",
                 peri_err_text(rc));
        w->exit_code = 71;
        peri_worker_end(w);
        return;
    }
    w->phase = PERI_WORKER_SERVING;
    atomic_store(&w->slot->state, PERI_SLOT_SERVING);
}

void peri_worker_on_commit(peri_worker *w, uint64_t generation)
{
    if (w->phase >= PERI_WORKER_DRAINING) {
        return;
    }
    if (w->staged_settings != NULL) {
        apply_settings(w, w->staged_settings);
        w->staged_settings = NULL;
    }
    atomic_store(&w->slot->generation, generation);
    w->app->commit(w->host, generation);
    if (w->app->reload_failed != NULL) {
        w->app->reload_failed(w->host, NULL);
    }
    if (w->phase == PERI_WORKER_WAITING) {
        start_serving(w);
    }
}
