/* Master, inside: what its files share.
 *
 *   master.c    life and end           start.c    the beginning
 *   master_settings.c  of the generation that serves
 *   watchdog.c  stuck workers          seat.c     listeners, who serves them
 *   proc.c      one worker process     spare.c    listeners without a worker
 *   reload.c    generations, votes; reload_stage.c compiles
 *   stop.c      signals, draining
 *   control.c   var/perigee.sock       status.c   what it answers as JSON
 *   log_tail.c  reading along    log_levels.c set by hand
 *   log_export.c by OTLP
 *   admin.c     the admin listener     metrics.c  /metrics
 *   accept.c    in which form          compat.c   under other names, too
 *   dashboard*.c  its dashboard        ask.c      questions to a worker
 *   resources.c what workers share, for both
 *   statsd.c, otlp.c  who push metrics
 *   identity.c  certificates
 *   profile.c   profiles of workers, merged
 *
 * A seat is a listener with the worker in charge of it. A proc is one process;
 * for a while a seat may have two (a successor starts before its predecessor
 * drains), so each proc has a record of its own in the segment. */
#ifndef PERI_CLUSTER_MASTER_STATE_H
#define PERI_CLUSTER_MASTER_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/base/buf.h"
#include "core/base/list.h"
#include "core/base/log.h"
#include "core/base/settings.h"
#include "core/cluster/channel.h"
#include "core/cluster/child.h"
#include "core/cluster/listen.h"
#include "core/cluster/lock.h"
#include "core/cluster/logs.h"
#include "core/cluster/master.h"
#include "core/cluster/profile.h"
#include "core/cluster/upgrade.h"
#include "core/http/server.h"
#include "core/loop/watch.h"
#include "core/shm/cells.h"
#include "core/shm/segment.h"

#define PERI_SEATS_MAX 256
#define PERI_STARTS_MAX 10 /* of a seat, in PERI_STARTS_WINDOW_NS */
#define PERI_STARTS_WINDOW_NS ((uint64_t)10 * 1000000000u)
#define PERI_RELOAD_HISTORY 10
#define PERI_REASON_MAX ((size_t)16 << 10)

typedef struct peri_seat peri_seat;
typedef struct peri_proc peri_proc;

typedef enum peri_proc_state {
    PERI_PROC_STARTING,
    PERI_PROC_READY, /* staged, waits for the first COMMIT */
    PERI_PROC_SERVING,
    PERI_PROC_DRAINING
} peri_proc_state;

/* Why a worker ended, for perigee_worker_restarts_total{reason}. */
typedef enum peri_end_reason {
    PERI_END_EXIT,     /* by itself */
    PERI_END_SIGNAL,   /* a crash, or a kill */
    PERI_END_WATCHDOG, /* stuck, killed by us */
    PERI_END_START,    /* could not load the application */
    PERI_END_RECYCLE,  /* cluster.max_requests */
    PERI_END_REASONS
} peri_end_reason;

typedef enum peri_vote {
    PERI_VOTE_NONE, /* is not asked */
    PERI_VOTE_OPEN,
    PERI_VOTE_YES
} peri_vote;

struct peri_proc {
    peri_list link; /* of master->procs */
    peri_child child;
    peri_master *master;
    peri_seat *seat;     /* NULL once another is in charge there */
    peri_seat *replaces; /* a successor that is not in charge yet */
    peri_channel *channel;
    uv_timer_t timer; /* until READY; then until a drain's deadline */
    peri_proc_state state;
    peri_vote vote;
    bool profiled;          /* its part of the profile has yet to come */
    peri_end_reason reason; /* EXIT unless we know better */
    int pid;
    int record;
    int number;
    uint64_t generation;
    uint64_t catching_up; /* the generation it is staging, alone */
    uint64_t serving_since_ns;
    uint64_t stale_beat_ms; /* a heartbeat that was found old once */
    char *fault;            /* of FAILED */
    peri_list handed; /* connections it was given and has yet to confirm */
};

struct peri_seat {
    peri_master *master;
    int number;
    int listener_fd;
    uv_poll_t poll; /* accepts while nobody else does */
    bool polling;
    bool closing;
    peri_proc *proc;      /* in charge, or NULL */
    peri_proc *successor; /* being started beside it, or NULL */
    uv_timer_t retry;
    bool retrying;
    int record_hint;   /* of the last proc: its counters and its log go on */
    int failures;      /* deaths in a row without a while of service */
    int failed_starts; /* of them, before it served */
    uint64_t starts_ns[PERI_STARTS_MAX];
    uint32_t starts;
    int open_handles;
};

typedef enum peri_master_phase {
    PERI_MASTER_STARTING, /* no worker has served yet */
    PERI_MASTER_RUNNING,
    PERI_MASTER_LEAVING, /* readiness fails, requests are still served */
    PERI_MASTER_DRAINING,
    PERI_MASTER_ENDED
} peri_master_phase;

/* The outcome of a reload. */
typedef struct peri_reload_outcome {
    uint64_t generation;
    uint64_t at_ms;
    uint64_t elapsed_ms;
    const char *cause;
    char *reason; /* NULL: it went well */
} peri_reload_outcome;

/* Somebody who waits for a reload's outcome. */
typedef struct peri_waiter {
    peri_list link;
    void (*fn)(struct peri_waiter *waiter, int code, const char *text);
} peri_waiter;

typedef enum peri_reload_phase {
    PERI_RELOAD_IDLE,
    PERI_RELOAD_STAGING, /* the stage process runs */
    PERI_RELOAD_VOTING
} peri_reload_phase;

/* What has become of log records for a collector. */
typedef enum peri_records {
    PERI_RECORDS_EXPORTED,
    PERI_RECORDS_DROPPED, /* there was no room */
    PERI_RECORDS_FAILED,  /* refused, or never answered */
    PERI_RECORDS_MISSED,  /* written faster than they are read */
    PERI_RECORDS
} peri_records;

typedef struct peri_identity peri_identity;
typedef struct peri_ask peri_ask;

#define PERI_LEVELS_MAX 64
#define PERI_MODULE_BYTES 128

typedef struct peri_level_set {
    char module[PERI_MODULE_BYTES]; /* "": the host's */
    int level;
} peri_level_set;

typedef struct peri_reload {
    peri_reload_phase phase;
    bool trial;        /* of another program: peri_reload_try_program() */
    bool again;        /* asked for meanwhile: what is on disk may be newer */
    bool rollback;     /* the running one is */
    const char *cause; /* "signal", "control", "watch" */
    peri_child child;
    uv_poll_t *poll; /* of the pipe for faults, or NULL */
    int pipe_fd;     /* -1: none */
    uv_timer_t timer;
    peri_buf faults;
    int bundle_fd;       /* of the new generation, or -1 */
    uint64_t generation; /* the number it will have */
    uint32_t attempt;    /* of reloads so far; 0: a worker that catches up */
    uint64_t started_ns;
    uint64_t elapsed_ms; /* of the last one */
    peri_list waiters;   /* of the running one */
    peri_list later;     /* of the next one */
    /* the last one's outcome */
    bool happened;
    bool ok;
    char *reason; /* NULL when ok */
    uint64_t at_ms;
    uint64_t ok_total;
    uint64_t failed_total;
    peri_reload_outcome history[PERI_RELOAD_HISTORY]; /* the latest first */
} peri_reload;

struct peri_master {
    const peri_master_options *options;
    uv_loop_t loop;
    peri_master_phase phase;
    int exit_code;
    bool closing;

    peri_handover handover;
    peri_lock lock;
    char *logs_text; /* settings that the logs were opened with */
    peri_settings *logs_settings;
    peri_logs logs;
    peri_logs access; /* of dead workers */
    peri_logger logger;
    peri_level_set levels[PERI_LEVELS_MAX]; /* set while it runs */
    int level_count;
    struct peri_log_export *log_export; /* NULL: by OTLP no logs are sent */
    double log_records[PERI_RECORDS];
    /* Lines that readers along have passed over. */
    double log_missed_by_logs;
    double log_missed_by_dashboard;
    peri_settings *settings;
    peri_segment *segment;
    peri_regions *regions; /* of the segment */
    peri_cells *cells;     /* all workers' metrics, to be read */
    int segment_fd;

    int bundle_fd;   /* of the generation that serves */
    int previous_fd; /* of the one before it, or -1 */
    uint64_t generation;

    peri_address address;
    peri_seat *seats[PERI_SEATS_MAX];
    int seat_count;
    int web_workers; /* the first of them, which run no jobs */
    int next_adopter;
    bool listening_told;
    peri_list procs;
    peri_children children;
    bool record_used[PERI_SLOTS_MAX];
    int records_high; /* above the highest that was ever used */
    uint64_t ends_total[PERI_END_REASONS];

    uv_signal_t signals[8];
    uv_timer_t stop_timer;
    uv_timer_t watchdog;
    bool cut; /* a worker had to be cut off */
    peri_reload reload;
    peri_watch *watch;
    const char *watched[5]; /* what it looks at, NULL-ended */
    char dotenv[32];        /* ".env.development" */
    struct peri_control *control;
    struct peri_admin *admin;
    struct peri_dashboard *dashboard;
    peri_list asks;
    int ask_count;
    uint32_t ask_number;
    uint32_t next_asked;
    struct peri_statsd *statsd;  /* NULL: nothing is sent */
    struct peri_otlp_push *otlp; /* NULL: the same */
    struct peri_compat *compat;  /* NULL: nobody has asked */
    struct peri_rotate *rotate;  /* NULL: the log file stays */
    struct peri_spare *spare;
    peri_identity *identity; /* NULL: without TLS */
    peri_list stop_waiters;
    peri_profile *profile;  /* NULL: none is being taken */
    uint64_t profile_count; /* of this host so far */

    uint64_t started_ns;
    uint64_t started_ms;  /* Unix time */
    uint64_t stopping_ns; /* when the first signal to end came */
};

/* ---- proc.c ---- */

/* Starts a worker for a seat; with successor, beside the one in charge. 0 or
 * -errno. */
int peri_proc_start(peri_seat *seat, bool successor);
int peri_proc_tell(peri_proc *proc, peri_channel_verb verb, uint32_t number,
                   uint64_t generation, const char *text, int fd);
/* Asks it to finish; kills it after the limit. */
void peri_proc_drain(peri_proc *proc, uint64_t limit_ms);
void peri_proc_kill(peri_proc *proc);
void peri_proc_serve(peri_proc *proc); /* the first COMMIT */
peri_slot *peri_proc_slot(const peri_proc *proc);

/* ---- seat.c ---- */

/* Binds one more listener. 0 or a negative code, and why. */
int peri_seat_add(peri_master *master, char *why, size_t why_bytes);
void peri_seat_start(peri_seat *seat); /* its worker */
void peri_seats_listen(peri_master *master);
/* Takes the last one away gracefully. */
void peri_seat_remove_last(peri_master *master);
void peri_seat_proc_ready(peri_seat *seat, peri_proc *proc);
void peri_seat_proc_ended(peri_seat *seat, peri_proc *proc);
/* A successor first, then the old one is drained. */
void peri_seat_recycle(peri_seat *seat);
/* Starts what waits in a back-off at once: the code has changed. */
void peri_seat_retry_now(peri_master *master);
void peri_seats_close_listeners(peri_master *master);
void peri_seats_close(peri_master *master);
int peri_seats_serving(const peri_master *master);

/* ---- spare.c ---- */

void peri_spare_create(peri_master *master);
void peri_spare_destroy(peri_master *master);
/* Looks again at who accepts where; after every change of a worker's state. */
void peri_spare_update(peri_master *master);
/* A worker has confirmed the oldest connection that it was given. */
void peri_spare_adopted(peri_proc *proc);
/* It is dead: what it had not confirmed goes to another. */
void peri_spare_take_back(peri_proc *proc);
/* Whether the master accepts at a seat. */
void peri_spare_watch(peri_seat *seat, bool accept);
/* Accepts what waits at a seat and hands it on, or answers 503. */
void peri_spare_accept(peri_seat *seat);

/* ---- reload.c ---- */

void peri_reload_init(peri_master *master);
void peri_reload_close(peri_master *master);
/* waiter may be NULL. */
void peri_reload_ask(peri_master *master, const char *cause,
                     peri_waiter *waiter);
/* Stages with the program on disk, only to see whether it can. */
void peri_reload_try_program(peri_master *master);
/* Begins what was asked for before the host served. */
void peri_reload_kick(peri_master *master);
void peri_reload_rollback(peri_master *master, peri_waiter *waiter);
/* reason NULL: yes. */
void peri_reload_voted(peri_proc *proc, uint32_t attempt, const char *reason);
void peri_reload_proc_ended(peri_proc *proc);

/* fault: what the process that compiles has said; NULL: the bundle is there. */
void peri_reload_staged(peri_master *master, const char *fault);

/* ---- reload_stage.c ---- */

/* Starts the process; peri_reload_staged() tells of its end. */
int peri_reload_stage(peri_master *master);
void peri_reload_stage_close(peri_reload *reload);
/* ---- identity.c ---- */

/* Reads the certificates, where there are to be some. 0, or negative and why.
 */
int peri_identity_create(peri_master *master, char *why, size_t why_bytes);
/* Reads them again; what is unusable is logged and changes nothing. */
void peri_identity_refresh(peri_master *master);
/* Before the worker serves. */
void peri_identity_give(peri_proc *proc);
/* Unix time when the first of the certificates expires. */
int64_t peri_identity_expires_s(const peri_master *master);
void peri_identity_destroy(peri_master *master);

/* ---- stop.c ---- */

int peri_signals_start(peri_master *master);
void peri_signals_close(peri_master *master);
void peri_stop(peri_master *master, int exit_code);
void peri_stop_now(peri_master *master, int exit_code);
void peri_stop_check(peri_master *master); /* after a worker has ended */
/* told: the line that says so. */
void peri_reopen_logs(peri_master *master, const char *told);

/* ---- upgrade.c ---- */

void peri_upgrade(peri_master *master); /* USR2 */
/* fault NULL: the program on disk can serve this application. */
void peri_upgrade_checked(peri_master *master, const char *fault);

/* ---- control.c, status.c ---- */

int peri_control_create(peri_master *master, char *why, size_t why_bytes);
void peri_control_unlink(const peri_master *master);
void peri_control_destroy(peri_master *master);
void peri_status_json(const peri_master *master, peri_buf *out);
const char *peri_proc_state_name(const peri_proc *proc);

/* ---- admin.c, metrics.c ---- */

int peri_admin_create(peri_master *master, char *why, size_t why_bytes);
void peri_admin_destroy(peri_master *master);
int peri_admin_port(const peri_master *master); /* 0: there is none */

typedef enum peri_metrics_form {
    PERI_FORM_TEXT, /* Prometheus 0.0.4 */
    PERI_FORM_OPENMETRICS,
    PERI_FORM_PROTOBUF /* Prometheus', with native histograms */
} peri_metrics_form;

/* accept.c */
peri_metrics_form peri_accepts_metrics(peri_slice accept);
void peri_metrics_write(peri_master *master, peri_expo *out);

/* ---- dashboard.c; dashboard_guard.c, dashboard_live.c, dashboard_state.c,
 * dashboard_queues.c ---- */

void peri_dashboard_create(peri_master *master);
/* Ends what viewers follow; before the admin listener's end. */
void peri_dashboard_destroy(peri_master *master);
/* Answers what is below /dashboard, or /; false: it is something else. */
bool peri_dashboard_answer(peri_master *master, peri_exchange *ex,
                           peri_slice path);
void peri_dashboard_gone(peri_master *master, peri_exchange *ex);

/* ---- ask.c ---- */

/* NULL: no worker serves, or too much was asked already. told comes once, from
 * the loop: a status of HTTP, and JSON. */
peri_ask *peri_ask_worker(peri_master *master, peri_slice question,
                          void (*told)(void *data, int status, peri_slice json),
                          void *data);
/* Who asked has gone: told is not called. */
void peri_ask_forget(peri_ask *ask);
void peri_ask_told(peri_proc *proc, const peri_channel_message *message);
void peri_ask_proc_ended(peri_proc *proc);
void peri_ask_close(peri_master *master);

/* ---- compat.c ---- */

bool peri_compat_is_wanted(const peri_master *master);
void peri_compat_write(peri_master *master, peri_expo *out);
void peri_compat_destroy(peri_master *master);

/* ---- statsd.c ---- */

/* Begins, goes on or ends as metrics.statsd says; after every change of the
 * configuration. */
void peri_statsd_refresh(peri_master *master);
void peri_statsd_destroy(peri_master *master); /* sends once more */

/* ---- otlp.c ---- */

/* The same for metrics.otlp. */
void peri_otlp_push_refresh(peri_master *master);
void peri_otlp_push_destroy(peri_master *master);
void peri_otlp_push_metrics(const peri_master *master, peri_expo *out);

/* For peri_cells_view: whether a process writes as that record. */
bool peri_metrics_is_alive(const void *data, int record);

/* resources.c: what workers share. As members of an object, with a comma
 * behind. */
void peri_resources_metrics(const peri_master *master, peri_expo *out);
void peri_resources_json(const peri_master *master, peri_buf *out);

/* pools.c: pools of connections, as a member of an object. */
void peri_pools_json(const peri_master *master, peri_buf *out);

/* ---- log_levels.c ---- */

/* what: "LEVEL" or "MODULE=LEVEL". The command's exit code, and what it says.
 */
int peri_log_level_set(peri_master *master, const char *what, char *said,
                       size_t said_bytes);
/* To a worker that begins to serve. */
void peri_log_levels_give(peri_proc *proc);

/* ---- log_export.c ---- */

/* log.otlp; after every change of the configuration. */
void peri_log_export_refresh(peri_master *master);
void peri_log_export_destroy(peri_master *master); /* sends what is left */

/* ---- rotate.c ---- */

/* log.rotate; after every change of the configuration. */
void peri_rotate_refresh(peri_master *master);
void peri_rotate_destroy(peri_master *master);

/* ---- profile.c ---- */

/* A worker's part; takes the message's descriptor. */
void peri_profile_take(peri_proc *proc, const peri_channel_message *message);
void peri_profile_proc_ended(peri_proc *proc);
void peri_profile_close(peri_master *master);

/* ---- master_settings.c ---- */

/* A time-out of the configuration in ms. */
uint64_t peri_master_setting(const peri_master *master, const char *key,
                             uint64_t fallback);
/* Of a bundle; NULL: it is unreadable. */
peri_settings *peri_master_settings_of(int bundle_fd);
/* Logs what of the configuration was passed over. */
void peri_master_say_notes(peri_master *master);
/* The bundle became the one that serves; takes it. */
void peri_master_switch(peri_master *master, uint64_t generation,
                        int bundle_fd);

/* ---- start.c, watchdog.c ---- */

/* 0, or the exit code. */
int peri_master_start(peri_master *master);
void peri_watchdog_start(peri_master *master);

/* ---- master.c ---- */

void peri_master_first_ready(peri_master *master);
void peri_master_boot_failed(peri_master *master, int code, const char *reason);
void peri_master_close(peri_master *master); /* all workers are gone */

#endif
