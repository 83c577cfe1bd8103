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
#include "core/base/bundle.h"
#include "core/base/err.h"
#include "core/base/list.h"
#include "core/cluster/channel.h"
#include "core/cluster/inherit.h"
#include "core/cluster/limits.h"
#include "core/cluster/logs.h"
#include "core/cluster/pulse.h"
#include "core/http/server.h"
#include "core/shm/cells.h"
#include "core/shm/ring_writer.h"
#include "core/shm/segment.h"

#define FLUSH_MS 1000
#define SHUTDOWN_DEFAULT_MS 25000
#define WATCHDOG_DEFAULT_MS 30000

typedef enum worker_phase {
    PHASE_STAGING,
    PHASE_WAITING, /* staged; the others have yet to be */
    PHASE_SERVING,
    PHASE_DRAINING,
    PHASE_ENDING /* the application is being destroyed */
} worker_phase;

typedef struct worker worker;

/* One call of the application's stage(): its answer may come after the vote
 * was lost, or never. */
typedef struct stage_job {
    peri_list link; /* of worker.old_jobs once it is over */
    worker *worker;
    uint64_t generation;
    uint32_t attempt; /* the master's count: a refused generation's number is
                         used again */
    bool over;
} stage_job;

struct worker {
    const peri_worker_app *app;
    void *host; /* the application's own */
    uv_loop_t loop;
    peri_inherited inherited;
    peri_segment *segment;
    peri_slot *slot;
    peri_logs logs;
    peri_ring_writer *writer;
    peri_logger logger;
    peri_regions *regions;
    peri_cells *cells;              /* NULL: no room for metrics */
    peri_pulse *pulse;              /* NULL: metrics.enabled is false */
    peri_settings *settings;        /* of the generation that serves */
    peri_settings *staged_settings; /* of the one being voted on, or NULL */
    peri_channel *channel;
    peri_http_server *server;
    char **proxies;

    uv_prepare_t prepare;
    uv_timer_t beat;
    uv_signal_t term;
    uv_timer_t deadline;

    worker_phase phase;
    stage_job *job; /* being staged, or NULL */
    peri_list old_jobs;
    bool cut; /* requests had to be cut off */
    bool asked_recycle;
    uint32_t later_attempt;
    uint64_t later_generation; /* arrived while staging; 0: none */
    int later_fd;
    uint64_t past_requests; /* of the slot's earlier workers */
    uint64_t past_connections;
    uint64_t requests_max; /* cluster.max_requests; 0: none */
    uint32_t hard_ms;
    int exit_code;
};

static void tell(worker *w, peri_channel_verb verb, uint32_t number,
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
    worker *w = data;
    peri_channel_message message = {
        .verb = PERI_CHANNEL_PUBLISH, .text = text, .fd = -1};

    if (text.length > PERI_CHANNEL_TEXT_MAX) {
        return PERI_ELIMIT;
    }
    return w->channel != NULL ? peri_channel_send(w->channel, &message)
                              : PERI_EGONE;
}

/* ---- heartbeat and counters ---- */

static void publish(worker *w)
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
    if (w->requests_max != 0 && stats.requests_total >= w->requests_max &&
        !w->asked_recycle && w->phase == PHASE_SERVING) {
        w->asked_recycle = true;
        tell(w, PERI_CHANNEL_RECYCLE, 0, 0, NULL);
    }
}

/* The loop is about to wait. */
static void on_prepare(uv_prepare_t *prepare)
{
    worker *w = prepare->data;

    if (w->server != NULL) {
        publish(w);
    }
    atomic_store_explicit(&w->slot->heartbeat_ms, uv_now(&w->loop),
                          memory_order_relaxed);
}

static void on_beat(uv_timer_t *timer)
{
    (void)timer; /* that the loop turned is all */
}

static void start_beat(worker *w)
{
    int64_t limit_ms =
        peri_settings_int(w->settings, "cluster.watchdog", WATCHDOG_DEFAULT_MS);
    uint64_t every_ms = limit_ms < 200 ? 50 : (uint64_t)limit_ms / 4;

    if (limit_ms > 0) {
        uv_timer_start(&w->beat, on_beat, every_ms, every_ms);
    }
}

/* ---- the end ---- */

static void end_loop(worker *w)
{
    uv_close((uv_handle_t *)&w->prepare, NULL);
    uv_close((uv_handle_t *)&w->beat, NULL);
    uv_close((uv_handle_t *)&w->term, NULL);
    peri_pulse_stop(w->pulse);
    w->pulse = NULL;
    /* The deadline stays, unreferenced: should the application have left
     * something open, the process still ends. */
    peri_channel_close(w->channel);
    w->channel = NULL;
}

static void on_destroyed(void *data)
{
    worker *w = data;

    w->host = NULL;
    end_loop(w);
}

static void on_server_closed(void *data)
{
    worker *w = data;

    w->server = NULL;
    if (w->host != NULL) {
        w->app->destroy(w->host, on_destroyed, w);
    } else {
        end_loop(w);
    }
}

static void destroy_app(worker *w)
{
    if (w->phase == PHASE_ENDING) {
        return;
    }
    w->phase = PHASE_ENDING;
    if (w->server != NULL) {
        publish(w);
        peri_http_server_close(w->server, on_server_closed, w);
    } else {
        on_server_closed(w);
    }
}

static void on_drained(void *data)
{
    destroy_app(data);
}

/* Not even cutting requests off has ended it. */
static void on_hard_deadline(uv_timer_t *timer)
{
    worker *w = timer->data;

    peri_log(&w->logger, PERI_LOG_ERROR,
             "worker does not end; leaving without on_stop");
    peri_ring_writer_flush(w->writer, FLUSH_MS);
    _exit(1);
}

static void on_soft_deadline(uv_timer_t *timer)
{
    worker *w = timer->data;
    peri_http_server_stats stats = {0};

    if (w->phase == PHASE_DRAINING && w->server != NULL) {
        peri_http_server_get_stats(w->server, &stats);
    }
    if (stats.requests_active > 0) {
        w->cut = true;
        peri_log(&w->logger, PERI_LOG_WARN,
                 "shutdown.timeout: cutting off %u requests",
                 stats.requests_active);
    }
    uv_timer_start(timer, on_hard_deadline, w->hard_ms, 0);
    destroy_app(w);
}

/* limit_ms: then somebody kills this process. The last fifth of it, a second
 * at most, is for cancelling what still runs and for on_stop. */
static void drain(worker *w, uint64_t limit_ms)
{
    uint64_t reserve = limit_ms / 5 < 1000 ? limit_ms / 5 : 1000;

    if (w->phase >= PHASE_DRAINING) {
        return;
    }
    atomic_store(&w->slot->state, PERI_SLOT_DRAINING);
    w->hard_ms = (uint32_t)reserve;
    uv_timer_start(&w->deadline, on_soft_deadline, limit_ms - reserve, 0);
    if (w->server == NULL || w->phase != PHASE_SERVING) {
        w->phase = PHASE_DRAINING;
        destroy_app(w);
        return;
    }
    w->phase = PHASE_DRAINING;
    peri_http_server_drain(w->server, on_drained, w);
}

static uint64_t own_timeout_ms(const worker *w)
{
    return (uint64_t)peri_settings_int(w->settings, "shutdown.timeout",
                                       SHUTDOWN_DEFAULT_MS);
}

static void on_term(uv_signal_t *handle, int signum)
{
    worker *w = handle->data;

    (void)signum;
    tell(w, PERI_CHANNEL_RECYCLE, 0, 0, NULL);
    drain(w, own_timeout_ms(w));
}

/* ---- generations ---- */

static peri_settings *settings_of(int bundle_fd)
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

static void apply_settings(worker *w, peri_settings *settings)
{
    peri_settings_destroy(w->settings);
    w->settings = settings;
    w->logger.level = peri_logs_level(settings);
    w->requests_max =
        (uint64_t)peri_settings_int(settings, "cluster.max_requests", 0);
    if (w->server != NULL) {
        peri_http_limits limits;

        peri_limits_read(&limits, settings);
        peri_http_server_set_limits(w->server, &limits);
    }
}

static void on_staged(void *data, const char *error);

static void start_stage(worker *w, uint32_t attempt, uint64_t generation,
                        int bundle_fd)
{
    stage_job *job = peri_calloc(1, sizeof *job);

    job->worker = w;
    job->generation = generation;
    job->attempt = attempt;
    w->job = job;
    peri_settings_destroy(w->staged_settings);
    w->staged_settings = settings_of(bundle_fd);
    w->app->stage(w->host, generation, bundle_fd, on_staged, job);
}

static void start_later_stage(worker *w)
{
    uint64_t later = w->later_generation;

    if (later != 0 && w->phase < PHASE_DRAINING) {
        w->later_generation = 0;
        start_stage(w, w->later_attempt, later, w->later_fd);
    }
}

static void on_first_staged(worker *w, uint64_t generation, const char *error)
{
    if (error == NULL) {
        w->phase = PHASE_WAITING;
        tell(w, PERI_CHANNEL_READY, 0, generation, NULL);
        return;
    }
    w->exit_code = 78;
    tell(w, PERI_CHANNEL_FAILED, 0, generation, error);
    destroy_app(w);
}

static void on_staged(void *data, const char *error)
{
    stage_job *job = data;
    worker *w = job->worker;
    uint64_t generation = job->generation;
    uint32_t attempt = job->attempt;

    if (job->over) {
        return; /* nobody waits for it any more */
    }
    w->job = NULL;
    free(job);
    if (w->phase >= PHASE_DRAINING) {
        return;
    }
    if (w->phase == PHASE_STAGING) {
        on_first_staged(w, generation, error);
    } else {
        if (error != NULL && *error == '\0') {
            error = "no reason was given";
        }
        tell(w, PERI_CHANNEL_VOTE, attempt, generation, error);
    }
    start_later_stage(w);
}

static void on_stage(worker *w, const peri_channel_message *message)
{
    uint64_t generation = message->generation;
    int fd = message->fd;

    if (w->phase >= PHASE_DRAINING) {
        close(fd);
        return;
    }
    if (w->job == NULL) {
        start_stage(w, message->number, generation, fd);
        return;
    }
    if (w->later_generation != 0) {
        close(w->later_fd);
    }
    w->later_generation = generation;
    w->later_attempt = message->number;
    w->later_fd = fd;
}

static void on_abandon(worker *w, uint64_t generation)
{
    if (w->later_generation == generation) {
        close(w->later_fd);
        w->later_generation = 0;
        return;
    }
    if (w->host == NULL || w->phase == PHASE_ENDING) {
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

static void start_serving(worker *w)
{
    peri_http_limits limits;
    int backlog = (int)peri_settings_int(w->settings, "http.backlog", 511);
    int fd = w->inherited.listener_fd;
    int rc;

    peri_limits_read(&limits, w->settings);
    w->proxies = peri_limits_list(
        peri_settings_str(w->settings, "http.trust_proxies", "[]"));
    w->server =
        peri_http_server_create(&w->loop, &limits, w->app->http(w->host),
                                &w->logger, (const char *const *)w->proxies);
    rc = listen(fd, backlog) < 0 ? -errno
                                 : peri_http_server_listen(w->server, fd);
    if (rc < 0) {
        peri_log(&w->logger, PERI_LOG_FATAL, "cannot listen: %s",
                 peri_err_text(rc));
        w->exit_code = 71;
        destroy_app(w);
        return;
    }
    w->phase = PHASE_SERVING;
    atomic_store(&w->slot->state, PERI_SLOT_SERVING);
}

static void on_commit(worker *w, uint64_t generation)
{
    if (w->phase >= PHASE_DRAINING) {
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
    if (w->phase == PHASE_WAITING) {
        start_serving(w);
    }
}

/* ---- the channel ---- */

static void on_reload_failed(worker *w, peri_slice text)
{
    char *reason;

    if (w->app->reload_failed == NULL || w->phase >= PHASE_DRAINING) {
        return;
    }
    reason = text.length == 0 ? NULL : peri_strndup(text.data, text.length);
    w->app->reload_failed(w->host, reason);
    free(reason);
}

static void on_adopt(worker *w, int fd)
{
    if (w->server == NULL || w->phase == PHASE_ENDING ||
        peri_http_server_adopt(w->server, fd) < 0) {
        close(fd);
    }
    tell(w, PERI_CHANNEL_ADOPTED, 0, 0, NULL);
}

static void on_message(void *data, const peri_channel_message *message)
{
    worker *w = data;

    if (message == NULL) {
        drain(w, own_timeout_ms(w)); /* the master is dead */
        return;
    }
    switch (message->verb) {
    case PERI_CHANNEL_STAGE:
        on_stage(w, message);
        break;
    case PERI_CHANNEL_COMMIT:
        on_commit(w, message->generation);
        break;
    case PERI_CHANNEL_ABANDON:
        on_abandon(w, message->generation);
        break;
    case PERI_CHANNEL_DRAIN:
        drain(w, message->number);
        break;
    case PERI_CHANNEL_REOPEN:
        peri_log_sink_reopen(w->logs.sink);
        break;
    case PERI_CHANNEL_ADOPT:
        on_adopt(w, message->fd);
        break;
    case PERI_CHANNEL_RELOAD_FAILED:
        on_reload_failed(w, message->text);
        break;
    case PERI_CHANNEL_HEAR:
        if (w->app->hear != NULL && w->host != NULL) {
            w->app->hear(w->host, message->text);
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
    static const int ignored[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGPIPE,
                                  SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU};

    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) {
        signal(ignored[i], SIG_IGN);
    }
}

static int open_inherited(worker *w)
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
    w->regions =
        peri_regions_attach(peri_segment_area(w->segment), PERI_REGIONS_BYTES);
    w->cells = peri_cells_open(w->regions, (int)w->inherited.record);
    w->settings = settings_of(w->inherited.bundle_fd);
    return w->settings != NULL ? 0 : PERI_EFORMAT;
}

static int open_logs(worker *w)
{
    peri_ring *ring = &w->segment->log[w->inherited.record];
    int rc = peri_logs_init(&w->logs, w->settings);

    if (rc < 0) {
        fprintf(stderr, "perigee: log.destination: %s\n", peri_err_text(rc));
        return rc;
    }
    peri_logger_init(&w->logger, peri_logs_level(w->settings), NULL, NULL);
    rc = peri_ring_writer_create(ring, w->logs.fd, &w->logger, &w->writer);
    if (rc == 0) {
        peri_logs_attach(&w->logs, &w->logger, peri_ring_writer_put, w->writer);
    }
    return rc;
}

static int open_loop(worker *w)
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
    worker *w = data;

    return w->host != NULL && w->app->heap_bytes != NULL
               ? w->app->heap_bytes(w->host)
               : 0;
}

static void create_app(worker *w)
{
    peri_worker_info info = {
        .loop = &w->loop,
        .logger = &w->logger,
        .slot = w->inherited.number,
        .workers = w->inherited.workers,
        .dir = w->inherited.dir,
        .env = w->inherited.env,
        .generation = &w->segment->header.generation,
        .stopping = &w->segment->header.stopping,
        .doing_route = w->slot->doing_route,
        .doing_request = w->slot->doing_request,
        .shared = peri_segment_area(w->segment),
        .cells = w->cells,
        .publish = publish_event,
        .worker = w,
    };

    w->host = w->app->create(&info);
    if (w->host == NULL) {
        w->exit_code = 70;
        tell(w, PERI_CHANNEL_FAILED, 0, w->inherited.generation,
             "the application's host could not be made");
        destroy_app(w);
        return;
    }
    if (w->cells != NULL &&
        peri_settings_bool(w->settings, "metrics.enabled", true)) {
        w->pulse = peri_pulse_start(&w->loop, w->cells, w->inherited.record,
                                    heap_bytes, w);
    }
    start_stage(w, 0, w->inherited.generation, w->inherited.bundle_fd);
}

static void release(worker *w)
{
    while (!peri_list_empty(&w->old_jobs)) {
        stage_job *job = PERI_CONTAINER(w->old_jobs.next, stage_job, link);

        peri_list_remove(&job->link);
        free(job);
    }
    free(w->job);
    peri_ring_writer_destroy(w->writer, FLUSH_MS);
    peri_logs_fini(&w->logs);
    peri_settings_destroy(w->settings);
    peri_settings_destroy(w->staged_settings);
    peri_cells_close(w->cells);
    peri_regions_destroy(w->regions);
    peri_segment_close(w->segment);
    free(w->proxies);
    free(w);
}

static int run(worker *w)
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
    worker *w = peri_calloc(1, sizeof *w);
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
