/* Proc: one worker process, from fork to the last line of its log. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/cluster/inherit.h"
#include "core/cluster/master_state.h"

#define START_TIMEOUT_MS 60000 /* on_start may have to migrate a database */
#define KILL_SLACK_MS 1000     /* a worker ends by itself earlier */

peri_slot *peri_proc_slot(const peri_proc *proc)
{
    return &proc->master->segment->slot[proc->record];
}

int peri_proc_tell(peri_proc *proc, peri_channel_verb verb, uint32_t number,
                   uint64_t generation, const char *text, int fd)
{
    peri_channel_message message = {.verb = verb,
                                    .number = number,
                                    .generation = generation,
                                    .text = peri_slice_str(text),
                                    .fd = fd};

    return peri_channel_send(proc->channel, &message);
}

void peri_proc_kill(peri_proc *proc)
{
    if (proc->child.pid != 0) {
        kill(proc->child.pid, SIGKILL);
    }
}

/* ---- its end ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    peri_proc *proc = handle->data;

    free(proc->fault);
    free(proc);
}

static void log_end(peri_proc *proc, int status)
{
    peri_log_field fields[5];
    bool expected = proc->state == PERI_PROC_DRAINING && status == 0;
    int count = 0;

    fields[count++] = PERI_FIELD_NUM("worker", proc->number);
    fields[count++] = PERI_FIELD_NUM("workerPid", proc->pid);
    if (WIFSIGNALED(status)) {
        fields[count++] =
            PERI_FIELD_STR("signal", sigabbrev_np(WTERMSIG(status)));
    } else {
        fields[count++] = PERI_FIELD_NUM("exitCode", WEXITSTATUS(status));
    }
    if (proc->fault != NULL) {
        fields[count++] = PERI_FIELD_STR("reason", proc->fault);
    }
    peri_log_fields(&proc->master->logger,
                    expected ? PERI_LOG_DEBUG : PERI_LOG_ERROR, "worker ended",
                    fields, count);
}

static uint64_t time_us(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_usec;
}

/* Lines that it had to drop and could not tell of. */
static void tell_lost(const peri_proc *proc, peri_ring *ring)
{
    uint64_t lost = atomic_load(&ring->lost_total);
    peri_log_field fields[] = {
        PERI_FIELD_NUM("lost", lost - atomic_load(&ring->lost_told)),
        PERI_FIELD_NUM("workerPid", proc->pid)};

    if (fields[0].number > 0) {
        atomic_store(&ring->lost_told, lost);
        peri_log_fields(&proc->master->logger, PERI_LOG_WARN, "log lines lost",
                        fields, 2);
    }
}

/* What a dead worker leaves in shared memory. */
static void settle_record(peri_proc *proc, const struct rusage *usage)
{
    peri_master *master = proc->master;
    peri_slot *slot = peri_proc_slot(proc);

    atomic_store(&slot->pid, 0);
    atomic_store(&slot->state, PERI_SLOT_EMPTY);
    atomic_store(&slot->requests_active, 0);
    atomic_store(&slot->connections_open, 0);
    atomic_fetch_add(&slot->user_past_us, time_us(usage->ru_utime));
    atomic_fetch_add(&slot->system_past_us, time_us(usage->ru_stime));
    /* What a slow destination does not take now, the slot's next worker or
     * the master's end will write. */
    peri_logs_drain(&master->logs, &master->segment->log[proc->record], 0);
    peri_logs_drain(&master->access, &master->segment->access[proc->record], 0);
    tell_lost(proc, &master->segment->log[proc->record]);
    tell_lost(proc, &master->segment->access[proc->record]);
}

static void on_exit_of(peri_child *child, int status,
                       const struct rusage *usage)
{
    peri_proc *proc = PERI_CONTAINER(child, peri_proc, child);
    peri_master *master = proc->master;
    peri_seat *seat = proc->seat != NULL ? proc->seat : proc->replaces;

    peri_channel_read_now(proc->channel); /* its last words */
    peri_channel_close(proc->channel);
    if (proc->reason == PERI_END_EXIT && WIFSIGNALED(status)) {
        proc->reason = PERI_END_SIGNAL;
    }
    /* One that has never served had no requests. */
    if (proc->state == PERI_PROC_DRAINING && proc->serving_since_ns != 0 &&
        status != 0 && proc->reason != PERI_END_WATCHDOG) {
        master->cut = true;
    }
    peri_spare_take_back(proc);
    peri_ask_proc_ended(proc);
    peri_profile_proc_ended(proc);
    log_end(proc, status);
    settle_record(proc, usage);
    peri_list_remove(&proc->link);
    if (seat == NULL) {
        master->record_used[proc->record] = false;
    } else {
        peri_seat_proc_ended(seat, proc);
    }
    peri_reload_proc_ended(proc);
    uv_close((uv_handle_t *)&proc->timer, on_timer_closed);
    peri_spare_update(master);
    peri_stop_check(master);
}

/* ---- the channel ---- */

static void on_failed(peri_proc *proc, peri_slice text)
{
    proc->reason = PERI_END_START;
    free(proc->fault);
    proc->fault = peri_strndup(text.length != 0 ? text.data : "", text.length);
}

static void on_vote(peri_proc *proc, const peri_channel_message *message)
{
    char *reason = NULL;

    if (message->text.length != 0) {
        reason = peri_strndup(message->text.data, message->text.length);
    }
    peri_reload_voted(proc, message->number, reason);
    free(reason);
}

/* In the order of arrival, to all that have begun: a worker hears its own words
 * in the place that all others hear them in. */
static void on_publish(peri_master *master, peri_slice text)
{
    peri_channel_message heard = {
        .verb = PERI_CHANNEL_HEAR, .text = text, .fd = -1};

    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        peri_channel_send(PERI_CONTAINER(link, peri_proc, link)->channel,
                          &heard);
    }
}

static void on_message(void *data, const peri_channel_message *message)
{
    peri_proc *proc = data;

    if (message == NULL) {
        return; /* it is ending: the kernel will tell */
    }
    if (message->verb == PERI_CHANNEL_PROFILED) {
        peri_profile_take(proc, message);
        return;
    }
    if (message->fd >= 0) {
        close(message->fd);
    }
    switch (message->verb) {
    case PERI_CHANNEL_READY:
        if (proc->state == PERI_PROC_STARTING) {
            proc->state = PERI_PROC_READY;
            uv_timer_stop(&proc->timer);
            peri_seat_proc_ready(
                proc->seat != NULL ? proc->seat : proc->replaces, proc);
        }
        break;
    case PERI_CHANNEL_FAILED:
        on_failed(proc, message->text);
        break;
    case PERI_CHANNEL_VOTE:
        on_vote(proc, message);
        break;
    case PERI_CHANNEL_ADOPTED:
        peri_spare_adopted(proc);
        break;
    case PERI_CHANNEL_PUBLISH:
        on_publish(proc->master, message->text);
        break;
    case PERI_CHANNEL_TOLD:
        peri_ask_told(proc, message);
        break;
    case PERI_CHANNEL_RECYCLE:
        if (proc->seat != NULL && proc->state == PERI_PROC_SERVING) {
            peri_seat_recycle(proc->seat);
        }
        break;
    default:
        break;
    }
}

/* ---- its life ---- */

static void on_start_timeout(uv_timer_t *timer)
{
    peri_proc *proc = timer->data;

    on_failed(proc, PERI_SLICE("the worker was not ready after 60 s"));
    peri_proc_kill(proc);
}

static void on_drain_timeout(uv_timer_t *timer)
{
    peri_proc *proc = timer->data;

    proc->master->cut = true;
    peri_log(&proc->master->logger, PERI_LOG_ERROR,
             "worker %d (pid %d) does not end in time: killed", proc->number,
             proc->pid);
    peri_proc_kill(proc);
}

void peri_proc_drain(peri_proc *proc, uint64_t limit_ms)
{
    if (proc->state == PERI_PROC_DRAINING) {
        return;
    }
    proc->state = PERI_PROC_DRAINING;
    proc->vote = PERI_VOTE_NONE;
    peri_proc_tell(proc, PERI_CHANNEL_DRAIN, (uint32_t)limit_ms, 0, NULL, -1);
    uv_timer_start(&proc->timer, on_drain_timeout, limit_ms + KILL_SLACK_MS, 0);
}

void peri_proc_serve(peri_proc *proc)
{
    proc->state = PERI_PROC_SERVING;
    proc->serving_since_ns = peri_clock_monotonic_ns();
    peri_identity_give(proc);
    peri_proc_tell(proc, PERI_CHANNEL_COMMIT,
                   proc->master->identity != NULL ? 1 : 0, proc->generation,
                   NULL, -1);
    peri_log_levels_give(proc);
}

static int free_record(const peri_master *master)
{
    for (int i = 0; i < PERI_SLOTS_MAX; i++) {
        if (!master->record_used[i]) {
            return i;
        }
    }
    return -1;
}

static int spawn_worker(peri_proc *proc, peri_seat *seat, int channel_fd)
{
    peri_master *master = proc->master;
    const char *argv[] = {master->options->program, "worker", NULL};
    peri_inherited *inherited = peri_calloc(1, sizeof *inherited);
    char **environment;
    size_t own;
    int rc;

    inherited->record = proc->record;
    inherited->number = proc->number;
    inherited->workers = master->seat_count;
    inherited->no_jobs = proc->number < master->web_workers;
    inherited->master_pid = (int)getpid();
    inherited->generation = proc->generation;
    snprintf(inherited->dir, sizeof inherited->dir, "%s", master->options->dir);
    snprintf(inherited->env, sizeof inherited->env, "%s", master->options->env);
    inherited->logs = master->logs_text;
    environment = peri_inherit_environment(inherited, &own);
    rc = peri_child_start(
        &master->children, &proc->child,
        &(peri_spawn){.program = master->options->program,
                      .argv = argv,
                      .environment = environment,
                      .fds = {master->segment_fd, channel_fd, master->bundle_fd,
                              seat->listener_fd}});
    for (char **own_text = environment + own; *own_text != NULL; own_text++) {
        free(*own_text);
    }
    free(environment);
    free(inherited);
    return rc;
}

static void clear_slot(peri_proc *proc)
{
    peri_slot *slot = peri_proc_slot(proc);

    atomic_store(&slot->state, PERI_SLOT_STARTING);
    atomic_store(&slot->started_ms, peri_clock_wall_ms());
    atomic_store(&slot->heartbeat_ms, 0);
    slot->doing_route[0] = '\0';
    slot->doing_request[0] = '\0';
}

int peri_proc_start(peri_seat *seat, bool successor)
{
    peri_master *master = seat->master;
    int record = successor ? free_record(master) : seat->record_hint;
    peri_proc *proc;
    int ends[2];
    int rc = record < 0 ? PERI_ELIMIT : peri_channel_pair(ends);

    if (rc < 0) {
        return rc;
    }
    proc = peri_calloc(1, sizeof *proc);
    proc->master = master;
    proc->record = record;
    proc->number = seat->number;
    proc->generation = master->generation;
    proc->child.on_exit = on_exit_of;
    peri_list_init(&proc->handed);
    clear_slot(proc);
    rc = spawn_worker(proc, seat, ends[1]);
    close(ends[1]);
    if (rc == 0) {
        rc = peri_channel_open(&master->loop, ends[0], on_message, proc,
                               &proc->channel);
    } else {
        close(ends[0]);
    }
    if (rc < 0) {
        free(proc);
        return rc;
    }
    master->record_used[record] = true;
    if (record >= master->records_high) {
        master->records_high = record + 1;
    }
    proc->pid = proc->child.pid;
    atomic_store(&peri_proc_slot(proc)->pid, proc->pid);
    uv_timer_init(&master->loop, &proc->timer);
    proc->timer.data = proc;
    uv_timer_start(&proc->timer, on_start_timeout, START_TIMEOUT_MS, 0);
    peri_list_append(&master->procs, &proc->link);
    if (successor) {
        proc->replaces = seat;
        seat->successor = proc;
    } else {
        proc->seat = seat;
        seat->proc = proc;
    }
    return 0;
}
