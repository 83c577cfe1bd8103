/* Stop: signals, and the way to the end.
 *
 *   running --TERM--> leaving --drain_delay--> draining --all gone--> ended
 *
 * While leaving, readiness fails and requests are still served: whoever sends
 * them gets the time to notice. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/cluster/master_state.h"

#define SHUTDOWN_DEFAULT_MS 25000
/* timeout(1) sends TERM twice: to its child, then to the group. */
#define ECHO_NS ((uint64_t)3 * 1000000u)
#define LAST_LINES_MS 500 /* for a slow log destination, at the very end */

static const int watched[] = {SIGTERM, SIGQUIT, SIGINT,  SIGHUP,
                              SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU};

#define WATCHED (sizeof watched / sizeof watched[0])

void peri_stop_check(peri_master *master)
{
    if (master->phase == PERI_MASTER_DRAINING &&
        peri_list_empty(&master->procs)) {
        master->phase = PERI_MASTER_ENDED;
        if (master->cut && master->exit_code == 0) {
            master->exit_code = 1;
        }
        peri_log(&master->logger, PERI_LOG_INFO, "stopped");
        peri_master_close(master);
    }
}

static void drain_all(peri_master *master)
{
    uint64_t limit_ms =
        peri_master_setting(master, "shutdown.timeout", SHUTDOWN_DEFAULT_MS);

    master->phase = PERI_MASTER_DRAINING;
    /* First ours: the worker's copy is then the last, and closing it is the
     * end of the listener. */
    peri_seats_close_listeners(master);
    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        peri_proc_drain(PERI_CONTAINER(link, peri_proc, link), limit_ms);
    }
    peri_stop_check(master);
}

static void on_delay_over(uv_timer_t *timer)
{
    drain_all(timer->data);
}

void peri_stop(peri_master *master, int exit_code)
{
    uint64_t delay_ms = peri_master_setting(master, "shutdown.drain_delay", 0);
    bool served = master->phase == PERI_MASTER_RUNNING;

    if (master->phase >= PERI_MASTER_LEAVING) {
        return;
    }
    master->phase = PERI_MASTER_LEAVING;
    master->exit_code = exit_code;
    atomic_store(&master->segment->header.stopping, 1);
    peri_watch_destroy(master->watch);
    master->watch = NULL;
    peri_reload_close(master);
    if (delay_ms == 0 || !served) {
        drain_all(master);
        return;
    }
    uv_timer_start(&master->stop_timer, on_delay_over, delay_ms, 0);
}

void peri_stop_now(peri_master *master, int exit_code)
{
    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        peri_proc_kill(PERI_CONTAINER(link, peri_proc, link));
    }
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
        errno = 0;
    }
    peri_log(&master->logger, PERI_LOG_WARN, "stopped at once");
    for (int i = 0; i < master->records_high; i++) {
        peri_logs_drain(&master->logs, &master->segment->log[i],
                        LAST_LINES_MS / 10);
        peri_logs_drain(&master->access, &master->segment->access[i],
                        LAST_LINES_MS / 10);
    }
    peri_logs_flush(&master->logs, LAST_LINES_MS);
    if (master->control != NULL) {
        peri_control_unlink(master);
    }
    _exit(exit_code);
}

void peri_reopen_logs(peri_master *master, const char *told)
{
    int rc = peri_logs_reopen(&master->logs);
    int access_rc = peri_logs_reopen(&master->access);

    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        peri_proc_tell(PERI_CONTAINER(link, peri_proc, link),
                       PERI_CHANNEL_REOPEN, 0, 0, NULL, -1);
    }
    rc = rc < 0 ? rc : access_rc;
    if (rc < 0) {
        peri_log(&master->logger, PERI_LOG_ERROR,
                 "log.destination cannot be opened again: %s",
                 peri_err_text(rc));
    } else {
        peri_log(&master->logger, PERI_LOG_INFO, "%s", told);
    }
}

static void one_more(peri_master *master)
{
    char why[256];

    if (master->phase != PERI_MASTER_RUNNING) {
        return;
    }
    if (peri_seat_add(master, why, sizeof why) < 0) {
        peri_log(&master->logger, PERI_LOG_ERROR, "no worker more: %s", why);
        return;
    }
    peri_seats_listen(master);
    peri_seat_start(master->seats[master->seat_count - 1]);
    peri_spare_update(master);
    peri_log(&master->logger, PERI_LOG_INFO, "one worker more: %d",
             master->seat_count);
}

static void on_ending_signal(peri_master *master, int signum)
{
    if (master->phase < PERI_MASTER_LEAVING) {
        peri_log(&master->logger, PERI_LOG_INFO, "stopping: SIG%s",
                 sigabbrev_np(signum));
        master->stopping_ns = peri_clock_monotonic_ns();
        peri_stop(master, 0);
        return;
    }
    if (signum == SIGINT ||
        (signum == SIGTERM &&
         peri_clock_monotonic_ns() - master->stopping_ns > ECHO_NS)) {
        peri_stop_now(master, 1);
    }
}

static void on_signal(uv_signal_t *handle, int signum)
{
    peri_master *master = handle->data;

    switch (signum) {
    case SIGHUP:
        peri_reload_ask(master, "signal", NULL);
        break;
    case SIGUSR1:
        peri_reopen_logs(master, "logs reopened");
        break;
    case SIGUSR2:
        peri_upgrade(master);
        break;
    case SIGTTIN:
        one_more(master);
        break;
    case SIGTTOU:
        peri_seat_remove_last(master);
        break;
    default:
        on_ending_signal(master, signum);
        break;
    }
}

int peri_signals_start(peri_master *master)
{
    signal(SIGPIPE, SIG_IGN);
    /* A log file at its limit is an error of a write. */
    signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < WATCHED; i++) {
        uv_signal_t *handle = &master->signals[i];
        int rc;

        uv_signal_init(&master->loop, handle);
        handle->data = master;
        rc = uv_signal_start(handle, on_signal, watched[i]);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

void peri_signals_close(peri_master *master)
{
    for (size_t i = 0; i < WATCHED; i++) {
        uv_close((uv_handle_t *)&master->signals[i], NULL);
    }
}
