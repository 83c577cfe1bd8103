/* Reload: from a request for new code to all workers serving it, or none.
 *
 *   idle --ask--> staging (a process compiles) --> voting --> commit or not
 *
 * What is asked for meanwhile starts one more round when this one is over: the
 * files may have changed since they were read. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/cluster/master_state.h"

#define SELFCHECK_DEFAULT_MS 10000

static void begin(peri_master *master);

/* ---- the outcome ---- */

static void answer_waiters(peri_list *waiters, int code, const char *text)
{
    while (!peri_list_empty(waiters)) {
        peri_waiter *waiter = PERI_CONTAINER(waiters->next, peri_waiter, link);

        peri_list_remove(&waiter->link);
        waiter->fn(waiter, code, text);
    }
}

static void log_outcome(peri_master *master, const char *reason)
{
    peri_reload *reload = &master->reload;
    peri_log_field fields[4];
    int count = 0;

    fields[count++] = PERI_FIELD_NUM("generation", reload->generation);
    fields[count++] = PERI_FIELD_NUM("durationMs", reload->elapsed_ms);
    fields[count++] = PERI_FIELD_STR("cause", reload->cause);
    if (reason != NULL) {
        fields[count++] = PERI_FIELD_STR("reason", reason);
    }
    peri_log_fields(
        &master->logger, reason == NULL ? PERI_LOG_INFO : PERI_LOG_ERROR,
        reason == NULL ? "reload committed" : "reload refused", fields, count);
}

/* Procs that became ready during the vote have waited for its outcome. */
static void release_held(peri_master *master)
{
    for (int i = 0; i < master->seat_count; i++) {
        peri_seat *seat = master->seats[i];

        if (seat->proc != NULL && seat->proc->state == PERI_PROC_READY) {
            peri_seat_proc_ready(seat, seat->proc);
        }
        if (seat->successor != NULL &&
            seat->successor->state == PERI_PROC_READY) {
            peri_seat_proc_ready(seat, seat->successor);
        }
    }
}

static void remember(peri_reload *reload)
{
    peri_reload_outcome *history = reload->history;

    free(history[PERI_RELOAD_HISTORY - 1].reason);
    memmove(history + 1, history,
            (PERI_RELOAD_HISTORY - 1) * sizeof history[0]);
    history[0] = (peri_reload_outcome){
        .generation = reload->generation,
        .at_ms = reload->at_ms,
        .elapsed_ms = reload->elapsed_ms,
        .cause = reload->cause,
        .reason = reload->reason != NULL ? peri_strdup(reload->reason) : NULL,
    };
}

/* reason NULL: committed. */
static void finish(peri_master *master, const char *reason)
{
    peri_reload *reload = &master->reload;
    char text[128];

    uv_timer_stop(&reload->timer);
    reload->elapsed_ms =
        (peri_clock_monotonic_ns() - reload->started_ns) / 1000000u;
    reload->phase = PERI_RELOAD_IDLE;
    reload->happened = true;
    reload->ok = reason == NULL;
    reload->at_ms = peri_clock_wall_ms();
    free(reload->reason);
    reload->reason = reason != NULL ? peri_strdup(reason) : NULL;
    reload->ok_total += reason == NULL;
    reload->failed_total += reason != NULL;
    remember(reload);
    log_outcome(master, reason);
    release_held(master);
    snprintf(text, sizeof text, "generation %llu serves (%llu ms)",
             (unsigned long long)reload->generation,
             (unsigned long long)reload->elapsed_ms);
    answer_waiters(&reload->waiters, reason == NULL ? 0 : 3,
                   reason == NULL ? text : reload->reason);
    if (reload->again) {
        reload->again = false;
        begin(master);
    }
}

/* The other program can, or cannot: nothing changes here. */
static void end_trial(peri_master *master, const char *fault)
{
    peri_reload *reload = &master->reload;

    uv_timer_stop(&reload->timer);
    reload->trial = false;
    reload->phase = PERI_RELOAD_IDLE;
    if (reload->bundle_fd >= 0) {
        close(reload->bundle_fd);
        reload->bundle_fd = -1;
    }
    peri_upgrade_checked(master, fault);
    peri_reload_kick(master);
}

static void refuse(peri_master *master, const char *reason)
{
    if (master->reload.trial) {
        end_trial(master, reason);
        return;
    }
    /* The development error page shows it. */
    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        peri_proc *proc = PERI_CONTAINER(link, peri_proc, link);

        if (proc->vote != PERI_VOTE_NONE) {
            proc->vote = PERI_VOTE_NONE;
            peri_proc_tell(proc, PERI_CHANNEL_ABANDON, 0,
                           master->reload.generation, NULL, -1);
        }
        if (proc->state == PERI_PROC_SERVING) {
            peri_proc_tell(proc, PERI_CHANNEL_RELOAD_FAILED, 0, 0, reason, -1);
        }
    }
    if (master->reload.bundle_fd >= 0) {
        close(master->reload.bundle_fd);
        master->reload.bundle_fd = -1;
    }
    if (master->options->dev &&
        strncmp(
            peri_settings_str(master->logs_settings, "log.destination", "std"),
            "std", 3) != 0) {
        /* The log goes elsewhere; somebody looks at the terminal. */
        fprintf(stderr, "%s\n", reason);
    }
    finish(master, reason);
}

__attribute__((format(printf, 2, 3))) static void
refuse_with(peri_master *master, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    refuse(master, text);
}

static void commit(peri_master *master)
{
    peri_reload *reload = &master->reload;
    int fd = reload->bundle_fd;

    reload->bundle_fd = -1;
    /* From here on no request anywhere starts on the old code. */
    peri_master_switch(master, reload->generation, fd);
    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        peri_proc *proc = PERI_CONTAINER(link, peri_proc, link);

        if (proc->vote == PERI_VOTE_YES) {
            proc->vote = PERI_VOTE_NONE;
            proc->generation = reload->generation;
            peri_proc_tell(proc, PERI_CHANNEL_COMMIT, 0, reload->generation,
                           NULL, -1);
        }
    }
    finish(master, NULL);
    peri_seat_retry_now(master);
}

/* ---- the vote ---- */

static void commit_if_all_agree(peri_master *master)
{
    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        if (PERI_CONTAINER(link, peri_proc, link)->vote == PERI_VOTE_OPEN) {
            return;
        }
    }
    commit(master);
}

static void on_vote_timeout(uv_timer_t *timer)
{
    peri_reload *reload = timer->data;
    peri_master *master = PERI_CONTAINER(reload, peri_master, reload);

    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        peri_proc *proc = PERI_CONTAINER(link, peri_proc, link);

        if (proc->vote == PERI_VOTE_OPEN) {
            refuse_with(master,
                        "worker %d was not ready within "
                        "reload.selfcheck_timeout",
                        proc->number);
            return;
        }
    }
}

/* False: one of them cannot be asked, and the reload is refused. */
static bool ask_for_votes(peri_master *master)
{
    peri_reload *reload = &master->reload;

    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        peri_proc *proc = PERI_CONTAINER(link, peri_proc, link);
        int rc;

        if (proc->state != PERI_PROC_SERVING) {
            continue;
        }
        proc->vote = PERI_VOTE_OPEN;
        rc = peri_proc_tell(proc, PERI_CHANNEL_STAGE, reload->attempt,
                            reload->generation, NULL, reload->bundle_fd);
        /* One that has gone is seen to end. */
        if (rc < 0 && rc != PERI_EGONE) {
            proc->vote = PERI_VOTE_NONE; /* it has nothing to abandon */
            refuse_with(master, "worker %d cannot be told of the new code: %s",
                        proc->number, peri_err_text(rc));
            return false;
        }
    }
    return true;
}

static void hold_vote(peri_master *master, int bundle_fd)
{
    peri_reload *reload = &master->reload;
    uint64_t limit_ms = peri_master_setting(master, "reload.selfcheck_timeout",
                                            SELFCHECK_DEFAULT_MS);

    reload->phase = PERI_RELOAD_VOTING;
    reload->bundle_fd = bundle_fd;
    if (!ask_for_votes(master)) {
        return;
    }
    uv_timer_start(&reload->timer, on_vote_timeout, limit_ms, 0);
    commit_if_all_agree(master); /* when nobody lives, nobody objects */
}

/* A worker that started on the generation before this one has caught up. */
static void caught_up(peri_proc *proc, const char *reason)
{
    peri_seat *seat = proc->seat != NULL ? proc->seat : proc->replaces;

    if (proc->state != PERI_PROC_READY) {
        return;
    }
    if (reason != NULL) {
        peri_log(&proc->master->logger, PERI_LOG_ERROR,
                 "worker %d does not load the generation that serves: %s",
                 proc->number, reason);
        proc->reason = PERI_END_START;
        peri_proc_kill(proc);
        return;
    }
    proc->generation = proc->catching_up;
    if (seat != NULL) {
        peri_seat_proc_ready(seat, proc);
    }
}

void peri_reload_voted(peri_proc *proc, uint32_t attempt, const char *reason)
{
    peri_master *master = proc->master;

    if (attempt == 0) {
        caught_up(proc, reason);
        return;
    }
    if (master->reload.phase != PERI_RELOAD_VOTING ||
        attempt != master->reload.attempt || proc->vote != PERI_VOTE_OPEN) {
        return; /* too late */
    }
    if (reason != NULL) {
        refuse(master, reason);
        return;
    }
    proc->vote = PERI_VOTE_YES;
    commit_if_all_agree(master);
}

void peri_reload_proc_ended(peri_proc *proc)
{
    if (proc->vote != PERI_VOTE_NONE &&
        proc->master->reload.phase == PERI_RELOAD_VOTING) {
        refuse_with(proc->master, "worker %d died while it loaded the new code",
                    proc->number);
    }
}

/* ---- rounds ---- */

void peri_reload_staged(peri_master *master, const char *fault)
{
    peri_reload *reload = &master->reload;
    int fd;

    uv_timer_stop(&reload->timer);
    if (reload->phase != PERI_RELOAD_STAGING) {
        return; /* the host is ending */
    }
    if (fault != NULL) {
        refuse(master, fault);
    } else if (reload->trial) {
        end_trial(master, NULL);
    } else {
        fd = reload->bundle_fd;
        reload->bundle_fd = -1;
        hold_vote(master, fd);
    }
}

static void prepare(peri_master *master)
{
    peri_reload *reload = &master->reload;

    reload->generation = master->generation + 1;
    reload->attempt++;
    reload->started_ns = peri_clock_monotonic_ns();
    peri_buf_clear(&reload->faults);
    while (!peri_list_empty(&reload->later)) {
        peri_list *link = reload->later.next;

        peri_list_remove(link);
        peri_list_append(&reload->waiters, link);
    }
}

static void begin(peri_master *master)
{
    peri_reload *reload = &master->reload;
    int rc;

    prepare(master);
    reload->phase = PERI_RELOAD_STAGING;
    rc = peri_reload_stage(master);
    if (rc < 0) {
        refuse_with(master, "cannot start the process that compiles: %s",
                    peri_err_text(rc));
    }
}

/* ---- from outside ---- */

void peri_reload_init(peri_master *master)
{
    peri_reload *reload = &master->reload;

    reload->pipe_fd = -1;
    reload->bundle_fd = -1;
    peri_list_init(&reload->waiters);
    peri_list_init(&reload->later);
    peri_buf_init(&reload->faults, PERI_REASON_MAX);
    uv_timer_init(&master->loop, &reload->timer);
    reload->timer.data = reload;
}

void peri_reload_close(peri_master *master)
{
    peri_reload *reload = &master->reload;

    reload->phase = PERI_RELOAD_IDLE;
    reload->again = false;
    if (reload->child.pid != 0) {
        kill(reload->child.pid, SIGKILL);
    }
    peri_reload_stage_close(reload);
    if (reload->bundle_fd >= 0) {
        close(reload->bundle_fd);
        reload->bundle_fd = -1;
    }
    answer_waiters(&reload->waiters, 1, "the host is stopping");
    answer_waiters(&reload->later, 1, "the host is stopping");
    if (!uv_is_closing((uv_handle_t *)&reload->timer)) {
        uv_close((uv_handle_t *)&reload->timer, NULL);
    }
    peri_buf_fini(&reload->faults);
    free(reload->reason);
    reload->reason = NULL;
    for (size_t i = 0; i < PERI_RELOAD_HISTORY; i++) {
        free(reload->history[i].reason);
        reload->history[i].reason = NULL;
    }
}

void peri_reload_ask(peri_master *master, const char *cause,
                     peri_waiter *waiter)
{
    peri_reload *reload = &master->reload;

    if (master->phase >= PERI_MASTER_LEAVING) {
        if (waiter != NULL) {
            waiter->fn(waiter, 1, "the host is stopping");
        }
        return;
    }
    if (waiter != NULL) {
        peri_list_append(&reload->later, &waiter->link);
    }
    reload->cause = cause;
    if (reload->phase != PERI_RELOAD_IDLE ||
        master->phase == PERI_MASTER_STARTING) {
        reload->again = true;
        return;
    }
    begin(master);
}

void peri_reload_try_program(peri_master *master)
{
    int rc;

    master->reload.trial = true;
    master->reload.phase = PERI_RELOAD_STAGING;
    peri_buf_clear(&master->reload.faults);
    rc = peri_reload_stage(master);
    if (rc < 0) {
        end_trial(master, peri_err_text(rc));
    }
}

void peri_reload_kick(peri_master *master)
{
    if (master->reload.again && master->reload.phase == PERI_RELOAD_IDLE) {
        master->reload.again = false;
        begin(master);
    }
}

void peri_reload_rollback(peri_master *master, peri_waiter *waiter)
{
    peri_reload *reload = &master->reload;
    int fd;

    if (master->phase != PERI_MASTER_RUNNING ||
        reload->phase != PERI_RELOAD_IDLE) {
        waiter->fn(waiter, 1,
                   "the host is busy: starting, reloading, or "
                   "stopping");
        return;
    }
    fd = master->previous_fd < 0
             ? -1
             : fcntl(master->previous_fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        waiter->fn(waiter, 1, "there is no earlier generation to go back to");
        return;
    }
    peri_list_append(&reload->later, &waiter->link);
    reload->cause = "rollback";
    prepare(master);
    hold_vote(master, fd);
}
