/* Seat: a listener, kept by the master, and who is in charge of it. */
#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/cluster/master_state.h"

#define STEADY_NS ((uint64_t)5 * 1000000000u) /* served so long: no loop */
#define FREE_FAILURES 3                       /* in a row, without a delay */
#define BACKOFF_DEFAULT_MS 100
#define BACKOFF_MAX_MS 30000
#define SHUTDOWN_DEFAULT_MS 25000
#define LINGER_MS 1000 /* for handshakes that were under way */

#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif

/* ---- starting again ---- */

static void start(peri_seat *seat);

static void on_retry(uv_timer_t *timer)
{
    peri_seat *seat = timer->data;

    seat->retrying = false;
    start(seat);
    peri_spare_update(seat->master);
}

static uint64_t oldest_start_ns(const peri_seat *seat)
{
    if (seat->starts < PERI_STARTS_MAX) {
        return 0;
    }
    return seat->starts_ns[seat->starts % PERI_STARTS_MAX];
}

/* How long to wait before the next start, in ms. */
static uint64_t backoff_ms(const peri_seat *seat, uint64_t now_ns)
{
    uint64_t base = peri_master_setting(seat->master, "cluster.restart_backoff",
                                        BACKOFF_DEFAULT_MS);
    uint64_t oldest = oldest_start_ns(seat);
    uint64_t delay = 0;

    if (seat->failures > FREE_FAILURES) {
        int doublings = seat->failures - FREE_FAILURES - 1;

        doublings = doublings < 16 ? doublings : 16;
        delay = base << doublings;
        delay = delay > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : delay;
    }
    if (oldest != 0 && now_ns - oldest < PERI_STARTS_WINDOW_NS) {
        uint64_t wait =
            (oldest + PERI_STARTS_WINDOW_NS - now_ns) / 1000000u + 1;

        delay = wait > delay ? wait : delay;
    }
    return delay;
}

static void start_later(peri_seat *seat)
{
    uint64_t delay = backoff_ms(seat, peri_clock_monotonic_ns());

    if (delay == 0) {
        start(seat);
        return;
    }
    peri_log(&seat->master->logger, PERI_LOG_WARN,
             "worker %d keeps failing: next start in %llu ms", seat->number,
             (unsigned long long)delay);
    seat->retrying = true;
    uv_timer_start(&seat->retry, on_retry, delay, 0);
}

static void start(peri_seat *seat)
{
    int rc;

    seat->starts_ns[seat->starts++ % PERI_STARTS_MAX] =
        peri_clock_monotonic_ns();
    rc = peri_proc_start(seat, false);
    if (rc < 0) {
        peri_log(&seat->master->logger, PERI_LOG_ERROR,
                 "cannot start worker %d: %s", seat->number, peri_err_text(rc));
        seat->failures =
            (seat->failures > FREE_FAILURES ? seat->failures : FREE_FAILURES) +
            1;
        seat->failed_starts++;
        start_later(seat);
    }
}

void peri_seat_retry_now(peri_master *master)
{
    for (int i = 0; i < master->seat_count; i++) {
        peri_seat *seat = master->seats[i];

        seat->failures = 0;
        seat->failed_starts = 0;
        if (seat->retrying) {
            uv_timer_stop(&seat->retry);
            seat->retrying = false;
            start_later(seat);
        }
    }
}

/* ---- coming and going ---- */

static void on_seat_handle_closed(uv_handle_t *handle)
{
    peri_seat *seat = handle->data;

    seat->open_handles--;
    if (seat->open_handles == 0) {
        free(seat);
    }
}

static void close_listener(peri_seat *seat)
{
    if (seat->listener_fd < 0) {
        return;
    }
    peri_spare_watch(seat, false);
    uv_close((uv_handle_t *)&seat->poll, on_seat_handle_closed);
    close(seat->listener_fd);
    seat->listener_fd = -1;
}

/* No more connections at the last seat: of a reuse-port group the kernel takes
 * the member that this program names, counted in the order of listen(). */
static void steer(peri_master *master, int members)
{
    int fd = master->seats[0]->listener_fd;
    struct sock_filter code[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0,
         (uint32_t)(SKF_AD_OFF + SKF_AD_RANDOM)},
        {BPF_ALU | BPF_MOD | BPF_K, 0, 0, (uint32_t)members},
        {BPF_RET | BPF_A, 0, 0, 0},
    };
    struct sock_fprog program = {3, code};

    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program,
                   sizeof program) < 0) {
        peri_log(&master->logger, PERI_LOG_WARN,
                 "a listener is closed without warning: %s", strerror(errno));
    }
}

static void free_seat(peri_seat *seat)
{
    int zero = 0;
    peri_master *master = seat->master;

    if (seat->listener_fd >= 0) {
        peri_spare_accept(seat); /* the last that came */
        close_listener(seat);
        if (master->seat_count > 0 && master->seats[0]->listener_fd >= 0) {
            setsockopt(master->seats[0]->listener_fd, SOL_SOCKET,
                       SO_DETACH_REUSEPORT_BPF, &zero, sizeof zero);
        }
    }
    if (seat->record_hint >= 0) {
        master->record_used[seat->record_hint] = false;
    }
    uv_close((uv_handle_t *)&seat->retry, on_seat_handle_closed);
}

/* The one in charge finishes what it has, and is in charge no more. */
static void retire(peri_seat *seat)
{
    peri_proc *proc = seat->proc;

    proc->reason = PERI_END_RECYCLE;
    proc->seat = NULL;
    seat->proc = NULL;
    peri_proc_drain(proc, peri_master_setting(seat->master, "shutdown.timeout",
                                              SHUTDOWN_DEFAULT_MS));
}

static void on_linger_over(uv_timer_t *timer)
{
    free_seat(timer->data);
}

void peri_seat_remove_last(peri_master *master)
{
    peri_seat *seat;

    if (master->seat_count <= 1 || master->phase != PERI_MASTER_RUNNING) {
        return;
    }
    steer(master, master->seat_count - 1);
    seat = master->seats[--master->seat_count];
    atomic_store(&master->segment->header.workers,
                 (uint32_t)master->seat_count);
    seat->closing = true;
    if (seat->successor != NULL) {
        peri_proc_kill(seat->successor);
        seat->successor->replaces = NULL;
        seat->successor = NULL;
    }
    if (seat->proc != NULL) {
        retire(seat);
        seat->record_hint = -1; /* released when the process has ended */
    }
    /* Connections that had reached this listener go to the others. */
    peri_spare_watch(seat, true);
    uv_timer_start(&seat->retry, on_linger_over, LINGER_MS, 0);
    peri_log(&master->logger, PERI_LOG_INFO, "one worker less: %d",
             master->seat_count);
}

static peri_seat *new_seat(peri_master *master, int listener_fd, int record)
{
    peri_seat *seat = peri_calloc(1, sizeof *seat);

    seat->master = master;
    seat->number = master->seat_count;
    seat->listener_fd = listener_fd;
    seat->record_hint = record;
    uv_timer_init(&master->loop, &seat->retry);
    uv_poll_init(&master->loop, &seat->poll, listener_fd);
    seat->retry.data = seat->poll.data = seat;
    seat->open_handles = 2;
    master->record_used[record] = true;
    master->seats[master->seat_count++] = seat;
    atomic_store(&master->segment->header.workers,
                 (uint32_t)master->seat_count);
    return seat;
}

int peri_seat_add(peri_master *master, char *why, size_t why_bytes)
{
    int record = 0;
    int fd;
    int rc;

    while (record < PERI_SLOTS_MAX && master->record_used[record]) {
        record++;
    }
    if (record == PERI_SLOTS_MAX || master->seat_count == PERI_SEATS_MAX) {
        snprintf(why, why_bytes, "no more than %d workers", PERI_SEATS_MAX);
        return PERI_ELIMIT;
    }
    fd = peri_handover_take(&master->handover, &master->address);
    rc = fd >= 0 ? 0 : peri_listen_bind(&master->address, true, &fd);
    if (rc < 0) {
        snprintf(why, why_bytes, "%s port %d: %s", master->address.host,
                 master->address.port, peri_err_text(rc));
        return rc;
    }
    new_seat(master, fd, record);
    return 0;
}

void peri_seats_listen(peri_master *master)
{
    int backlog = (int)peri_master_setting(master, "http.backlog", 511);
    int web = (int)peri_master_setting(master, "cluster.roles.web", 0);

    /* In this order: steer() counts on it. The workers' own listen() is then
     * the second, and changes nothing. */
    for (int i = 0; i < master->seat_count; i++) {
        if (listen(master->seats[i]->listener_fd, backlog) < 0) {
            peri_log(&master->logger, PERI_LOG_ERROR, "cannot listen: %s",
                     strerror(errno));
        }
    }
    if (web > 0 && web < master->seat_count) {
        steer(master, web); /* the others run jobs alone */
    }
}

void peri_seat_start(peri_seat *seat)
{
    start(seat);
}

void peri_seats_close_listeners(peri_master *master)
{
    for (int i = 0; i < master->seat_count; i++) {
        peri_seat *seat = master->seats[i];

        if (seat->proc == NULL || seat->proc->state != PERI_PROC_SERVING) {
            peri_spare_accept(seat);
        }
        close_listener(seat);
    }
}

void peri_seats_close(peri_master *master)
{
    while (master->seat_count > 0) {
        free_seat(master->seats[--master->seat_count]);
    }
}

int peri_seats_serving(const peri_master *master)
{
    int serving = 0;

    for (int i = 0; i < master->seat_count; i++) {
        const peri_proc *proc = master->seats[i]->proc;

        serving += proc != NULL && proc->state == PERI_PROC_SERVING;
    }
    return serving;
}

/* ---- what its processes tell ---- */

/* The successor listens; the old one may go. */
static void hand_over(peri_seat *seat, peri_proc *proc)
{
    if (seat->proc != NULL) {
        retire(seat);
        seat->master->ends_total[PERI_END_RECYCLE]++; /* replaced already */
    }
    seat->successor = NULL;
    seat->proc = proc;
    seat->record_hint = proc->record;
    proc->replaces = NULL;
    proc->seat = seat;
}

void peri_seat_proc_ready(peri_seat *seat, peri_proc *proc)
{
    peri_master *master = seat->master;

    if (master->phase >= PERI_MASTER_DRAINING) {
        return;
    }
    if (master->phase == PERI_MASTER_STARTING) {
        for (int i = 0; i < master->seat_count; i++) {
            peri_proc *other = master->seats[i]->proc;

            if (other == NULL || other->state != PERI_PROC_READY) {
                return;
            }
        }
        peri_master_first_ready(master);
        return;
    }
    if (master->reload.phase == PERI_RELOAD_VOTING) {
        return; /* which code it is to serve is known when the vote is over */
    }
    if (proc->generation != master->generation) {
        proc->catching_up = master->generation;
        if (peri_proc_tell(proc, PERI_CHANNEL_STAGE, 0, master->generation,
                           NULL, master->bundle_fd) < 0) {
            peri_proc_kill(proc); /* its successor begins with that code */
        }
        return;
    }
    peri_proc_serve(proc);
    seat->failed_starts = 0;
    if (proc == seat->successor) {
        hand_over(seat, proc);
    }
    peri_spare_update(master);
}

static void count_failure(peri_seat *seat, const peri_proc *proc)
{
    uint64_t since = proc->serving_since_ns;
    bool steady = since != 0 && peri_clock_monotonic_ns() - since >= STEADY_NS;

    seat->failures = steady ? 0 : seat->failures + 1;
    seat->failed_starts = since != 0 ? 0 : seat->failed_starts + 1;
}

/* The jobs that it ran are for the others to take back, at once. */
static void tell_others(peri_master *master, const peri_proc *gone)
{
    for (int i = 0; i < master->seat_count; i++) {
        peri_proc *proc = master->seats[i]->proc;

        if (proc != NULL && proc != gone && proc->state == PERI_PROC_SERVING) {
            peri_proc_tell(proc, PERI_CHANNEL_HEAR, 0, 0,
                           "perigee.worker.exit\n{}", -1);
        }
    }
}

/* What the host ends with when its first worker cannot start. */
static int boot_code(const peri_proc *proc)
{
    /* perigee/health.lua says it in these words. */
    static const char required[] = "a required dependency is not available";

    return proc->fault != NULL && strstr(proc->fault, required) != NULL ? 69
                                                                        : 78;
}

void peri_seat_proc_ended(peri_seat *seat, peri_proc *proc)
{
    peri_master *master = seat->master;

    master->ends_total[proc->reason]++;
    tell_others(master, proc);
    if (proc == seat->successor) {
        seat->successor = NULL;
        master->record_used[proc->record] = false;
        return; /* the old one goes on */
    }
    seat->proc = NULL;
    if (master->phase >= PERI_MASTER_DRAINING || seat->closing) {
        return;
    }
    if (seat->successor != NULL) {
        peri_proc *successor = seat->successor;

        hand_over(seat, successor); /* sooner than it was ready */
        master->record_used[proc->record] = false;
        return;
    }
    atomic_fetch_add(&peri_proc_slot(proc)->restarts_total, 1);
    count_failure(seat, proc);
    if (master->phase == PERI_MASTER_STARTING) {
        if (proc->reason == PERI_END_START) {
            peri_master_boot_failed(master, boot_code(proc), proc->fault);
            return;
        }
        /* It crashed. Others may serve, and a retry may do better. */
        peri_master_first_ready(master);
    }
    start_later(seat);
}

void peri_seat_recycle(peri_seat *seat)
{
    int rc;

    if (seat->successor != NULL || seat->closing ||
        seat->master->phase != PERI_MASTER_RUNNING) {
        return;
    }
    rc = peri_proc_start(seat, true);
    if (rc < 0) {
        peri_log(&seat->master->logger, PERI_LOG_WARN,
                 "worker %d cannot be replaced: %s", seat->number,
                 peri_err_text(rc));
        return;
    }
    seat->proc->reason = PERI_END_RECYCLE;
    peri_log(&seat->master->logger, PERI_LOG_INFO,
             "worker %d leaves (cluster.max_requests, or TERM): replaced",
             seat->number);
}
