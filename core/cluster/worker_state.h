/* What the files of the worker share: its state, and the steps between them.
 *
 *   worker.c        the beginning, the heartbeat, the channel
 *   worker_stage.c  generations
 *   worker_end.c    draining and the end
 *   worker_ask.c    questions of the master's
 *   worker_profile.c  profiles */
#ifndef PERI_CLUSTER_WORKER_STATE_H
#define PERI_CLUSTER_WORKER_STATE_H

#include "core/base/list.h"
#include "core/cluster/channel.h"
#include "core/cluster/inherit.h"
#include "core/cluster/logs.h"
#include "core/cluster/pulse.h"
#include "core/cluster/worker.h"
#include "core/http/server.h"
#include "core/shm/cells.h"
#include "core/shm/segment.h"

#define PERI_WORKER_FLUSH_MS 1000 /* what the log may take at the end */

typedef enum peri_worker_phase {
    PERI_WORKER_STAGING,
    PERI_WORKER_WAITING, /* staged; the others have yet to be */
    PERI_WORKER_SERVING,
    PERI_WORKER_DRAINING,
    PERI_WORKER_ENDING /* the application is being destroyed */
} peri_worker_phase;

typedef struct peri_worker peri_worker;

/* One call of the application's stage(): its answer may come after the vote
 * was lost, or never. */
typedef struct peri_stage_job {
    peri_list link; /* of peri_worker.old_jobs once it is over */
    peri_worker *worker;
    uint64_t generation;
    uint32_t attempt; /* the master's count: a refused generation's number is
                         used again */
    bool over;
} peri_stage_job;

struct peri_worker {
    const peri_worker_app *app;
    void *host; /* the application's own */
    uv_loop_t loop;
    peri_inherited inherited;
    peri_segment *segment;
    peri_slot *slot;
    peri_logs logs;
    peri_logs access;
    peri_logger logger;
    peri_logger access_logger; /* writes where logger does, or apart */
    peri_regions *regions;
    peri_cells *cells;              /* NULL: no room for metrics */
    peri_pulse *pulse;              /* NULL: metrics.enabled is false */
    peri_settings *settings;        /* of the generation that serves */
    peri_settings *staged_settings; /* of the one being voted on, or NULL */
    peri_channel *channel;
    peri_http_server *server;
    peri_tls_context *tls; /* NULL: without TLS */
    bool tls_expected;     /* the host serves with TLS */
    char **proxies;

    uv_prepare_t prepare;
    uv_timer_t beat;
    uv_signal_t term;
    uv_timer_t deadline;

    peri_worker_phase phase;
    peri_stage_job *job; /* being staged, or NULL */
    peri_list old_jobs;
    bool cut; /* requests had to be cut off */
    bool asked_recycle;
    uint32_t later_attempt;
    uint64_t later_generation; /* arrived while staging; 0: none */
    int later_fd;
    uint64_t past_requests; /* of the slot's earlier workers */
    uint64_t past_connections;
    uint64_t past_handshakes[3];
    uint64_t profile;      /* the number of the one under way */
    uint64_t requests_max; /* cluster.max_requests; 0: none */
    uint32_t hard_ms;
    int busy; /* while draining: what is waited for: requests, jobs */
    int exit_code;
};

/* To the master; text may be NULL. */
void peri_worker_tell(peri_worker *w, peri_channel_verb verb, uint32_t number,
                      uint64_t generation, const char *text);

/* Writes the counters of the server into the slot. */
void peri_worker_count(peri_worker *w);

/* The settings that travel in a bundle; NULL when it is none. Caller owns. */
peri_settings *peri_worker_settings(int bundle_fd);

void peri_worker_stage(peri_worker *w, uint32_t attempt, uint64_t generation,
                       int bundle_fd);
void peri_worker_on_stage(peri_worker *w, const peri_channel_message *message);
void peri_worker_on_abandon(peri_worker *w, uint64_t generation);
void peri_worker_on_commit(peri_worker *w, uint64_t generation);

void peri_worker_on_ask(peri_worker *w, const peri_channel_message *message);

/* limit_ms: then somebody kills this process. The last fifth of it, a second
 * at most, is for cancelling what still runs and for on_stop. */
void peri_worker_drain(peri_worker *w, uint64_t limit_ms);

/* The same, within shutdown.timeout. */
void peri_worker_drain_itself(peri_worker *w);

void peri_worker_on_profile(peri_worker *w,
                            const peri_channel_message *message);

/* Ends the application, then the loop. */
void peri_worker_end(peri_worker *w);

#endif
