/* Host: one application, its live generation and those before and after it.
 *
 * Knows nothing of sockets: requests come in through its peri_http_app. Belongs
 * to the loop thread. */
#ifndef PERILUA_HOST_H
#define PERILUA_HOST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bindings/vm.h"
#include "core/cluster/worker.h"
#include "core/http/exchange.h"

typedef struct peri_host peri_host;

typedef struct peri_host_options {
    uv_loop_t *loop;
    peri_logger *logger;        /* borrowed for the life of the host */
    peri_logger *access_logger; /* the same; NULL: logger */
    const char *dir;            /* copied */
    const char *env;            /* copied; NULL: as the first bundle says */
    int worker;                 /* slot; -1: not a worker */
    int workers;
    bool no_jobs; /* others of the host run them */
    /* The generation to serve; NULL: whichever was committed last. */
    const _Atomic uint64_t *generation;
    /* Memory that the host's other workers share: PERI_REGIONS_BYTES; NULL: the
     * host makes its own. */
    void *shared;
    /* As in peri_worker_info; all may be NULL. */
    struct peri_cells *cells; /* NULL: the host makes its own */
    struct peri_recorder *recorder;
    const _Atomic uint32_t *stopping;
    char *doing_route;
    char *doing_request;
    int (*publish)(void *worker, peri_slice text);
    void *publisher;
} peri_host_options;

peri_host *perilua_host_create(const peri_host_options *options);

/* Where requests go. Borrowed. */
const peri_http_app *perilua_host_http(peri_host *host);

/* Builds a generation from a bundle (the descriptor is taken) while the live
 * one serves. load: also the routes and jobs, on_start and selfcheck; without,
 * an empty VM for tools. done comes once, from the loop. */
void perilua_host_stage(peri_host *host, uint64_t number, int bundle_fd,
                        bool load, void (*done)(void *data, const char *error),
                        void *data);

/* Makes the staged generation live, at once. */
void perilua_host_commit(peri_host *host, uint64_t number);

/* As in peri_worker_app. */
void perilua_host_log_level(peri_host *host, peri_slice module, int level);

/* Drops the staged generation. */
void perilua_host_abandon(peri_host *host, uint64_t number);

/* Why the last reload was refused, for the development error page; NULL: the
 * last one went well. Copied. */
void perilua_host_set_fault(peri_host *host, const char *reason);

/* Of all VMs that are live, in Lua's own count. */
double perilua_host_heap_bytes(const peri_host *host);

/* As in peri_worker_app. */
void perilua_host_show_pools(peri_host *host);

/* Collects garbage for limit_ns at most, where enough has come together and no
 * request is under way. Returns the time taken. */
uint64_t perilua_host_collect(peri_host *host, uint64_t limit_ns);

/* Cancels what runs, as unavailable. */
void perilua_host_cut(peri_host *host);

/* What a worker published (perigee.events): to the live generation. */
void perilua_host_hear(peri_host *host, peri_slice text);

/* Runs `require(module)(args...)` as a task of the live generation. done gets
 * its exit code: an integer that it returned, 0 for none, 1 for an error (which
 * has been written to standard error). */
void perilua_host_call(peri_host *host, const char *module, int argc,
                       const char *const *argv,
                       void (*done)(void *data, int exit_code), void *data);

/* As peri_worker_app.ask: perigee.dashboard answers. */
void perilua_host_ask(peri_host *host, peri_slice question,
                      void (*told)(void *data, int status, peri_slice json),
                      void *data);

/* Begins no more jobs. False: none is under way; else ended comes once when the
 * last one has ended. */
bool perilua_host_stop_jobs(peri_host *host, void (*ended)(void *data),
                            void *data);

/* Cancels what runs, runs on_stop, frees. done may be NULL. */
void perilua_host_close(peri_host *host, void (*done)(void *data), void *data);

/* The host of an application that perigee.h opened, for perigee.test. */
struct perigee_host;
peri_host *perilua_host_inside(struct perigee_host *host);

/* The worker's application: a host. */
extern const peri_worker_app perilua_worker_app;

#endif
