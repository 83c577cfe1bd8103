/* Worker: from its start by the master to its end.
 *
 *   staging --READY--> waiting --COMMIT--> serving --DRAIN--> draining --> gone
 *
 * The listener is opened only at the first COMMIT: no worker of a generation
 * serves before all of them could. Each turn of the loop is a heartbeat; a slow
 * timer sees to it that an idle loop turns, too. */
#include "core/cluster/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/cluster/certs.h"
#include "core/cluster/worker_state.h"

#define WATCHDOG_DEFAULT_MS 30000

void peri_worker_tell(peri_worker *w, peri_channel_verb verb, uint32_t number,
                      uint64_t generation, const char *text)
{
    peri_channel_message message = {.verb = verb,
                                    .number = number,
                                    .generation = generation,
                                    .text = peri_slice_str(text),
                                    .fd = -1};

    if (w->channel != NULL) {
        peri_channel_send(w->channel, &message);
    }
}

static int publish_event(void *data, peri_slice text)
{
    peri_worker *w = data;
    peri_channel_message message = {
        .verb = PERI_CHANNEL_PUBLISH, .text = text, .fd = -1};

    if (text.length > PERI_CHANNEL_TEXT_MAX) {
        return PERI_ELIMIT;
    }
    return w->channel != NULL ? peri_channel_send(w->channel, &message)
                              : PERI_EGONE;
}

/* ---- heartbeat and counters ---- */

static void count_handshakes(peri_worker *w, const peri_http_server_stats *s)
{
    const uint64_t counts[3] = {
        [PERI_SLOT_SHAKEN] = s->handshakes_total - s->handshakes_resumed,
        [PERI_SLOT_RESUMED] = s->handshakes_resumed,
        [PERI_SLOT_UNSHAKEN] = s->handshakes_failed,
    };

    for (size_t i = 0; i < 3; i++) {
        atomic_store_explicit(&w->slot->handshakes_total[i],
                              w->past_handshakes[i] + counts[i],
                              memory_order_relaxed);
    }
}

void peri_worker_count(peri_worker *w)
{
    peri_http_server_stats stats;
    peri_slot *slot = w->slot;

    peri_http_server_get_stats(w->server, &stats);
    atomic_store_explicit(&slot->requests_active, stats.requests_active,
                          memory_order_relaxed);
    atomic_store_explicit(&slot->connections_open, stats.connections_open,
                          memory_order_relaxed);
    atomic_store_explicit(&slot->requests_total,
                          w->past_requests + stats.requests_total,
                          memory_order_relaxed);
    atomic_store_explicit(&slot->connections_total,
                          w->past_connections + stats.connections_accepted,
                          memory_order_relaxed);
    if (w->tls != NULL) {
        count_handshakes(w, &stats);
    }
    if (w->requests_max != 0 && stats.requests_total >= w->requests_max &&
        !w->asked_recycle && w->phase == PERI_WORKER_SERVING) {
        w->asked_recycle = true;
        peri_worker_tell(w, PERI_CHANNEL_RECYCLE, 0, 0, NULL);
    }
}

/* The loop is about to wait. */
static void on_prepare(uv_prepare_t *prepare)
{
    peri_worker *w = prepare->data;

    if (w->server != NULL) {
        peri_worker_count(w);
    }
    atomic_store_explicit(&w->slot->heartbeat_ms, uv_now(&w->loop),
                          memory_order_relaxed);
}

static void on_beat(uv_timer_t *timer)
{
    (void)timer; /* that the loop turned is all */
}

static void start_beat(peri_worker *w)
{
    int64_t limit_ms =
        peri_settings_int(w->settings, "cluster.watchdog", WATCHDOG_DEFAULT_MS);
    uint64_t every_ms = limit_ms < 200 ? 50 : (uint64_t)limit_ms / 4;

    if (limit_ms > 0) {
        uv_timer_start(&w->beat, on_beat, every_ms, every_ms);
    }
}

/* ---- the channel ---- */

static void on_reload_failed(peri_worker *w, peri_slice text)
{
    char *reason;

    if (w->app->reload_failed == NULL || w->phase >= PERI_WORKER_DRAINING) {
        return;
    }
    reason = text.length == 0 ? NULL : peri_strndup(text.data, text.length);
    w->app->reload_failed(w->host, reason);
    free(reason);
}

static void on_log_level(peri_worker *w, peri_slice module, int level)
{
    if (module.length == 0) {
        w->logger.level = w->access_logger.level = level;
    }
    if (w->app->log_level != NULL && w->host != NULL) {
        w->app->log_level(w->host, module, level);
    }
}

/* Connections that are there keep what they have. */
static void on_certs(peri_worker *w, int fd)
{
    peri_tls_context *context;
    char why[512];
    int rc =
        peri_certs_context(fd, (const void *)w->segment->header.ticket_keys,
                           &context, why, sizeof why);

    close(fd);
    if (rc < 0) {
        peri_log(&w->logger, PERI_LOG_ERROR, "%s", why);
        return;
    }
    peri_tls_context_unref(w->tls);
    w->tls = context;
    if (w->server != NULL) {
        peri_http_server_set_tls(w->server, context);
    }
}

static void on_adopt(peri_worker *w, int fd)
{
    if (w->server == NULL || w->phase == PERI_WORKER_ENDING ||
        peri_http_server_adopt(w->server, fd) < 0) {
        close(fd);
    }
    peri_worker_tell(w, PERI_CHANNEL_ADOPTED, 0, 0, NULL);
}

static void on_message(void *data, const peri_channel_message *message)
{
    peri_worker *w = data;

    if (message == NULL) {
        peri_worker_drain_itself(w); /* the master is dead */
        return;
    }
    switch (message->verb) {
    case PERI_CHANNEL_STAGE:
        peri_worker_on_stage(w, message);
        break;
    case PERI_CHANNEL_COMMIT:
        w->tls_expected = message->number != 0;
        peri_worker_on_commit(w, message->generation);
        break;
    case PERI_CHANNEL_ABANDON:
        peri_worker_on_abandon(w, message->generation);
        break;
    case PERI_CHANNEL_DRAIN:
        peri_worker_drain(w, message->number);
        break;
    case PERI_CHANNEL_REOPEN:
        peri_logs_reopen(&w->logs);
        peri_logs_reopen(&w->access);
        break;
    case PERI_CHANNEL_ADOPT:
        on_adopt(w, message->fd);
        break;
    case PERI_CHANNEL_CERTS:
        on_certs(w, message->fd);
        break;
    case PERI_CHANNEL_RELOAD_FAILED:
        on_reload_failed(w, message->text);
        break;
    case PERI_CHANNEL_LOG_LEVEL:
        on_log_level(w, message->text, (int)message->number);
        break;
    case PERI_CHANNEL_ASK:
        peri_worker_on_ask(w, message);
        break;
    case PERI_CHANNEL_HEAR:
        if (w->app->hear != NULL && w->host != NULL) {
            w->app->hear(w->host, message->text);
        }
        break;
    case PERI_CHANNEL_PROFILE:
        peri_worker_on_profile(w, message);
        break;
    case PERI_CHANNEL_PROFILE_END:
        if (w->host != NULL && message->generation == w->profile) {
            w->app->profile_end(w->host);
        }
        break;
    default:
        break; /* of a newer master; none is known */
    }
}

/* ---- the beginning ---- */

/* The terminal signals a whole process group: the master decides for all. */
static void ignore_signals(void)
{
    static const int ignored[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGPIPE, SIGUSR1,
                                  SIGUSR2, SIGTTIN, SIGTTOU, SIGXFSZ};

    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) {
        signal(ignored[i], SIG_IGN);
    }
}

static int open_inherited(peri_worker *w)
{
    int rc = peri_segment_open(w->inherited.segment_fd, &w->segment);

    if (rc < 0) {
        return rc;
    }
    if (w->inherited.record >= PERI_SLOTS_MAX) {
        return PERI_EFORMAT;
    }
    w->slot = &w->segment->slot[w->inherited.record];
    w->past_requests = atomic_load(&w->slot->requests_total);
    w->past_connections = atomic_load(&w->slot->connections_total);
    for (size_t i = 0; i < 3; i++) {
        w->past_handshakes[i] = atomic_load(&w->slot->handshakes_total[i]);
    }
    w->regions =
        peri_regions_attach(peri_segment_area(w->segment), PERI_REGIONS_BYTES);
    w->cells = peri_cells_open(w->regions, (int)w->inherited.record);
    w->settings = peri_worker_settings(w->inherited.bundle_fd);
    return w->settings != NULL ? 0 : PERI_EFORMAT;
}

static int open_logs(peri_worker *w)
{
    size_t record = (size_t)w->inherited.record;
    peri_settings *settings =
        peri_settings_create(peri_slice_str(w->inherited.logs));
    int rc;

    peri_logger_init(&w->logger, peri_logs_level(w->settings), NULL, NULL);
    rc = peri_logs_open(&w->logs, settings, "log", &w->segment->log[record],
                        &w->logger, &w->logger);
    w->access_logger = w->logger;
    if (rc == 0) {
        rc = peri_logs_open(&w->access, settings, "log.access",
                            &w->segment->access[record], &w->access_logger,
                            &w->logger);
    }
    peri_settings_destroy(settings);
    if (rc < 0) {
        fprintf(stderr, "perigee: log destination: %s\n", peri_err_text(rc));
    }
    return rc;
}

static void on_term(uv_signal_t *handle, int signum)
{
    peri_worker *w = handle->data;

    (void)signum;
    peri_worker_tell(w, PERI_CHANNEL_RECYCLE, 0, 0, NULL);
    peri_worker_drain_itself(w);
}

static int open_loop(peri_worker *w)
{
    int rc = uv_loop_init(&w->loop);

    if (rc < 0) {
        return rc;
    }
    uv_prepare_init(&w->loop, &w->prepare);
    uv_timer_init(&w->loop, &w->beat);
    uv_signal_init(&w->loop, &w->term);
    uv_timer_init(&w->loop, &w->deadline);
    w->prepare.data = w->beat.data = w->term.data = w->deadline.data = w;
    uv_prepare_start(&w->prepare, on_prepare);
    start_beat(w);
    uv_unref((uv_handle_t *)&w->prepare);
    uv_unref((uv_handle_t *)&w->beat);
    uv_unref((uv_handle_t *)&w->deadline);
    rc = uv_signal_start(&w->term, on_term, SIGTERM);
    return rc < 0 ? rc
                  : peri_channel_open(&w->loop, w->inherited.channel_fd,
                                      on_message, w, &w->channel);
}

static double heap_bytes(void *data)
{
    peri_worker *w = data;

    return w->host != NULL && w->app->heap_bytes != NULL
               ? w->app->heap_bytes(w->host)
               : 0;
}

static uint64_t collect(void *data, uint64_t limit_ns)
{
    peri_worker *w = data;

    return w->host != NULL && w->app->collect != NULL
               ? w->app->collect(w->host, limit_ns)
               : 0;
}

static void show_pools(void *data)
{
    peri_worker *w = data;

    if (w->host != NULL && w->app->show_pools != NULL) {
        w->app->show_pools(w->host);
    }
}

static void start_pulse(peri_worker *w)
{
    const peri_pulse_app app = {.heap_bytes = heap_bytes,
                                .collect = collect,
                                .show_pools = show_pools,
                                .data = w};

    if (w->cells != NULL &&
        peri_settings_bool(w->settings, "metrics.enabled", true)) {
        w->pulse =
            peri_pulse_start(&w->loop, w->cells, w->inherited.record, &app);
    }
}

static void create_app(peri_worker *w)
{
    peri_worker_info info = {
        .loop = &w->loop,
        .logger = &w->logger,
        .access_logger = &w->access_logger,
        .slot = w->inherited.number,
        .workers = w->inherited.workers,
        .no_jobs = w->inherited.no_jobs != 0,
        .dir = w->inherited.dir,
        .env = w->inherited.env,
        .generation = &w->segment->header.generation,
        .stopping = &w->segment->header.stopping,
        .doing_route = w->slot->doing_route,
        .doing_request = w->slot->doing_request,
        .shared = peri_segment_area(w->segment),
        .cells = w->cells,
        .recorder = &w->segment->slow[w->inherited.record],
        .publish = publish_event,
        .worker = w,
    };

    w->host = w->app->create(&info);
    if (w->host == NULL) {
        w->exit_code = 70;
        peri_worker_tell(w, PERI_CHANNEL_FAILED, 0, w->inherited.generation,
                         "the application's host could not be made");
        peri_worker_end(w);
        return;
    }
    start_pulse(w);
    peri_worker_stage(w, 0, w->inherited.generation, w->inherited.bundle_fd);
}

static void release(peri_worker *w)
{
    while (!peri_list_empty(&w->old_jobs)) {
        peri_stage_job *job =
            PERI_CONTAINER(w->old_jobs.next, peri_stage_job, link);

        peri_list_remove(&job->link);
        free(job);
    }
    free(w->job);
    peri_logs_stop(&w->access, PERI_WORKER_FLUSH_MS);
    peri_logs_stop(&w->logs, PERI_WORKER_FLUSH_MS);
    peri_logs_close(&w->access);
    peri_logs_close(&w->logs);
    free(w->inherited.logs);
    peri_settings_destroy(w->settings);
    peri_settings_destroy(w->staged_settings);
    peri_tls_context_unref(w->tls);
    peri_cells_close(w->cells);
    peri_regions_destroy(w->regions);
    peri_segment_close(w->segment);
    free(w->proxies);
    free(w);
}

static int run(peri_worker *w)
{
    int code;

    create_app(w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&w->deadline, NULL);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    uv_loop_close(&w->loop);
    code = w->exit_code == 0 && w->cut ? 1 : w->exit_code;
    return code;
}

int peri_worker_run(const peri_worker_app *app)
{
    peri_worker *w = peri_calloc(1, sizeof *w);
    int code = 70;
    int rc;

    ignore_signals();
    prctl(PR_SET_NAME, "perigee-worker");
    w->app = app;
    peri_list_init(&w->old_jobs);
    rc = peri_inherit_read(&w->inherited);
    if (rc < 0) {
        fprintf(stderr, "perigee: a worker is started by its master only\n");
        free(w);
        return 2;
    }
    /* Beside the channel's end: holds while the loop is stuck, too. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != w->inherited.master_pid) {
        free(w);
        return 1; /* it died before the line above */
    }
    rc = open_inherited(w);
    if (rc == 0) {
        rc = open_logs(w);
    }
    if (rc == 0) {
        rc = open_loop(w);
    }
    if (rc < 0) {
        fprintf(stderr, "perigee: worker: %s\n", peri_err_text(rc));
    } else {
        code = run(w);
    }
    release(w);
    return code;
}
