/* Worker: one process with one loop, driven by its master over the channel.
 *
 * The worker knows nothing of Lua: the room above fills in peri_worker_app. */
#ifndef PERI_CLUSTER_WORKER_H
#define PERI_CLUSTER_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/base/log.h"
#include "core/base/settings.h"
#include "core/http/exchange.h"

/* Handed to the application when it is created. */
typedef struct peri_worker_info {
    uv_loop_t *loop;
    peri_logger *logger;
    peri_logger *access_logger; /* for the access log */
    int slot;                   /* 0-based */
    int workers;                /* how many slots there were when it started */
    bool no_jobs;               /* its role is to answer */
    const char *dir;
    const char *env;
    /* The generation that all workers serve, in shared memory. The application
     * compares it at each dispatch: no request starts on old code after the
     * master's store. */
    const _Atomic uint64_t *generation;
    /* 1 once the host is to end: readiness fails while requests are served. */
    const _Atomic uint32_t *stopping;
    /* What this worker does now, for the watchdog's report when it is stuck:
     * NUL-ended, written over freely. */
    char *doing_route;              /* 128 bytes */
    char *doing_request;            /* 72 bytes: the request's id */
    void *shared;                   /* the area for peri_regions_attach() */
    struct peri_cells *cells;       /* this worker's metrics; NULL: none */
    struct peri_recorder *recorder; /* of its slow requests */
    /* Sends text (PERI_CHANNEL_TEXT_MAX at most) to every worker's `hear`, this
     * one's too. 0, PERI_ELIMIT: too long, or the master takes nothing. */
    int (*publish)(void *worker, peri_slice text);
    void *worker; /* for publish */
} peri_worker_info;

typedef enum peri_profile_kind {
    PERI_PROFILE_CPU, /* values of stacks: samples, nanoseconds */
    PERI_PROFILE_HEAP /* objects and bytes that were allocated, and of them what
                         is still there */
} peri_profile_kind;

typedef struct peri_profile_ask {
    peri_profile_kind kind;
    uint32_t duration_ms;
} peri_profile_ask;

/* What a worker asks of the application above it. error: NULL, or a text with
 * file:line, borrowed during the call. */
typedef struct peri_worker_app {
    /* NULL on failure. */
    void *(*create)(const peri_worker_info *info);
    /* Builds the generation whose bundle is in fd (taken), between loop turns,
     * and reports once: it is ready to serve, or why not. The old one serves
     * meanwhile. */
    void (*stage)(void *app, uint64_t generation, int bundle_fd,
                  void (*done)(void *data, const char *error), void *data);
    /* The vote failed: drops the staged generation, also one that is still
     * being built; its done is then of no interest. */
    void (*abandon)(void *app, uint64_t generation);
    /* The store was made; retires the old one even if no request comes. */
    void (*commit)(void *app, uint64_t generation);
    /* Where requests go; borrowed for the life of the application. */
    const peri_http_app *(*http)(void *app);
    /* The worker is to end: begins no more jobs. False: none is under way; else
     * ended comes once when they have ended. May be NULL. */
    bool (*stop_jobs)(void *app, void (*ended)(void *data), void *data);
    /* Requests have ended: cancels tasks that remain, runs on_stop, frees. */
    void (*destroy)(void *app, void (*done)(void *data), void *data);
    /* A reload was refused, for this reason (file:line); NULL: a later one was
     * committed. For the development error page. May be NULL. */
    void (*reload_failed)(void *app, const char *reason);
    /* What a worker published; borrowed. May be NULL. */
    void (*hear)(void *app, peri_slice text);
    /* Lines below the level are dropped from now until the next commit; of a
     * part of the application, or where module is empty of all. May be NULL. */
    void (*log_level)(void *app, peri_slice module, int level);
    /* A question of the master (the dashboard's): told is called once, from the
     * loop, with a status of HTTP and JSON (borrowed); never when the
     * application ends before. May be NULL. */
    void (*ask)(void *app, peri_slice question,
                void (*told)(void *data, int status, peri_slice json),
                void *data);
    /* The size of its heap in bytes, for the metrics. May be NULL. */
    double (*heap_bytes)(void *app);
    /* A moment between two events: collects garbage for limit_ns at most, if
     * there is enough of it and nobody waits. Returns the time taken. May be
     * NULL. */
    uint64_t (*collect)(void *app, uint64_t limit_ns);
    /* Sets the gauges of its pools of connections; ten times a second, with
     * metrics.enabled. May be NULL. */
    void (*show_pools)(void *app);
    /* shutdown.timeout is over: what still runs is cancelled, and answered as
     * unavailable. May be NULL. */
    void (*cut)(void *app);
    /* Profiles itself for a while, or until profile_end; done comes once, from
     * the loop or in profile_end, with stacks as text (core/base/stacks.h). 0;
     * -EBUSY: it does already; -ENOTSUP. May be NULL. */
    int (*profile)(void *app, const peri_profile_ask *ask,
                   void (*done)(void *data, peri_slice stacks), void *data);
    void (*profile_end)(void *app); /* if there is one */
} peri_worker_app;

/* The whole life of a worker process: descriptors and slot come from the
 * environment that the master made. Returns the exit code. */
int peri_worker_run(const peri_worker_app *app);

#endif
