/* Generation: config, scripts, routes and jobs of one version, in one VM.
 *
 * Internal to the host (host.c), the dispatcher (dispatch.c) and the functions
 * by which Lua builds it (bind_app.c). */
#ifndef PERILUA_GEN_H
#define PERILUA_GEN_H

#include "bindings/host.h"
#include "bindings/task.h"
#include "core/base/list.h"
#include "core/http/meter.h"
#include "core/http/router.h"

/* One request under way in Lua. Recycled by the host. */
typedef struct perilua_request {
    peri_exchange *exchange;
    struct perilua_gen *gen;
    perilua_task *task;
    struct perilua_request *next_free;
    uint64_t serial;  /* counts its uses */
    uint32_t allowed; /* methods of its path, as in peri_route_match */
    bool *finished; /* set when it ends while dispatch is still on the stack */
    bool shaping;   /* the second run: perigee.response has the word */
    peri_list writers; /* tasks that wait until the client has taken more */
    peri_timer leave;  /* a stream whose client has gone may still tidy up */
} perilua_request;

typedef struct perilua_gen {
    peri_host *host;
    uint64_t number;
    perilua_vm *vm;
    peri_bundle *bundle;
    peri_settings *settings;
    peri_router *router;
    peri_list link;   /* of the retired */
    peri_timer drain; /* on the host's timers */
    uint32_t active;  /* requests under way */
    uint32_t request_timeout_ms;
    uint64_t body_max_bytes;
    bool health_paths;
    bool serves_files;
    bool listens;   /* somebody waits for events */
    bool runs_jobs; /* jobs.retired is to be told when it retires */
    bool loaded;    /* on_start has run: on_stop is due */
    bool staged;    /* staging has ended well: it may be committed */
    bool retiring;
    bool stopping; /* on_unload and on_stop run, or have run */
    /* references into the registry */
    int request_metatable;
    int answer_metatable;
    int not_found; /* handler for 404 and 405 with the app's middleware, or
                      LUA_NOREF: answered in C */
    int shape;     /* perigee.response.shape */
    int refused;   /* development: the page for a refused reload; LUA_NOREF */
    int fail;      /* perigee.response.fail */
} perilua_gen;

struct peri_host {
    perilua_env env;
    char *dir;
    char *env_name;
    const _Atomic uint64_t *generation;
    _Atomic uint64_t own_generation;
    perilua_gen *live;
    perilua_gen *staged;
    peri_list retired;
    peri_timers *timers;
    peri_http_app http;
    perilua_request *free_requests;
    peri_buf scratch;                /* answers are encoded here */
    struct peri_files *files;        /* of public/ */
    struct perilua_budget *budget;   /* NULL: nobody has needed one */
    struct perilua_profile *profile; /* NULL: none is being taken */
    struct perilua_stalls *stalls;   /* NULL: nobody watches */
    volatile bool collects; /* garbage, in a quiet moment; for the profile */
    unsigned hidden;        /* in lines of requests: PERI_ACCESS_HIDES_... */
    bool logs_requests;
    peri_logger *access_logger;
    struct peri_access *access; /* the form of its lines; NULL: JSON */
    bool observes;              /* requests are logged, counted or traced */
    bool traced;                /* requests are traced, or were */
    bool attentive;    /* there is a fault to show, or requests are traced */
    peri_cells *cells; /* its metrics; NULL: there is no memory for them */
    bool owns_cells;
    struct peri_recorder *recorder; /* of slow requests; NULL: nobody looks */
    peri_meter *meter; /* of requests; NULL: metrics.enabled is false */
    struct perilua_pools *pools; /* NULL: it is no worker */
    char *fault;
    uint32_t jobs;                  /* under way, in all generations */
    void (*jobs_ended)(void *data); /* NULL: nobody waits for it */
    void *jobs_ended_data;
    int open; /* generations whose memory is still there, and timers */
    bool closing;
    bool collecting;                  /* a cycle was begun in a quiet moment */
    double collected_bytes;           /* the heap after the last one */
    const _Atomic uint32_t *stopping; /* NULL: only `closing` tells */
    char *doing_route;                /* for the watchdog's report; NULL */
    char *doing_request;
    int (*publish)(void *publisher, peri_slice text); /* NULL: to itself */
    void *publisher;
    void (*closed)(void *data);
    void *closed_data;
};

/* dispatch.c: what the host's peri_http_app points to. */
void perilua_on_request(void *data, peri_exchange *exchange);
void perilua_on_gone(void *data, peri_exchange *exchange);
void perilua_on_done(void *data, peri_exchange *exchange);

/* A bit of a route's id, which else is the registry slot of its entry: the
 * handler takes no req. */
#define PERILUA_ROUTE_BARE 0x80000000u

/* dispatch.c: starts the entry (perigee.router) that id names. */
void perilua_dispatch(perilua_gen *gen, peri_exchange *exchange, uint32_t id,
                      uint32_t timeout_ms, const peri_route_match *match);

/* bind_stream.c: rc is what their writes have come to. */
void perilua_wake_writers(perilua_request *request, int rc);

/* host.c: access log and request metrics. */
void perilua_host_observe(peri_host *host, peri_exchange *exchange);

/* host.c: NULL: there is none outside of workers, where signals are not ours.
 */
struct perilua_budget *perilua_host_budget(peri_host *host);

/* host_settings.c: the host follows the settings of the generation that has
 * become live. */
void perilua_host_apply(peri_host *host, perilua_gen *gen);

/* host_stage.c: a task of gen that loads scripts is stopped when it takes long,
 * until perilua_budget_forget(). Needs host->budget; without, nothing is
 * bounded. */
void perilua_gen_bound_loading(perilua_gen *gen);

/* host_stage.c: "file:line: ..." when a task was stopped by that. */
bool perilua_gen_overran(const perilua_gen *gen, char *text, size_t text_bytes);

/* host_stage.c: gives a copy of from's hot.data to a function of to's
 * perigee.hot: "given" before its scripts load, "merge" when it takes over.
 * Else why not. */
int perilua_gen_hand_over(perilua_gen *from, perilua_gen *to,
                          const char *function, char *why, size_t why_bytes);

/* host.c: the generation to serve now. */
perilua_gen *perilua_host_live(peri_host *host);

/* gen.c: an empty generation around a bundle (taken). */
perilua_gen *perilua_gen_create(peri_host *host, uint64_t number,
                                peri_bundle *bundle);

/* gen.c: starts require("perigee.app")[name]() as a task, from the loop. */
void perilua_gen_start(perilua_gen *gen, const char *name, uint64_t deadline_ns,
                       perilua_task_done done, void *data);

/* gen.c: logs what a task of it ended with, the error on top of co; not that it
 * was cancelled. */
void perilua_gen_tell_failure(const perilua_gen *gen, const perilua_task *task,
                              lua_State *co, const char *what);

/* A job begins, has ended. */
void perilua_gen_hold_job(perilua_gen *gen);
void perilua_gen_release_job(perilua_gen *gen);

/* It begins no more jobs; told once. */
void perilua_gen_stop_jobs(perilua_gen *gen);

/* gen.c: a request of gen has ended. */
void perilua_gen_unused(perilua_gen *gen);

/* gen.c: another one is live: ends when its last request has, or is cancelled
 * after reload.drain. */
void perilua_gen_retire(perilua_gen *gen);

/* gen.c: cancels what runs, as unavailable. */
void perilua_gen_cancel(perilua_gen *gen, const char *message);

/* gen.c: nothing of it runs: on_unload, on_stop, the end. Repeatable. */
void perilua_gen_stop(perilua_gen *gen);

/* gen.c: frees a closing host when nothing of it is left. */
void perilua_host_release(peri_host *host);

/* answer.c: sends the n values from index base of co as the answer. 0, or
 * negative when they are none of the plain forms: nothing was sent then. */
int perilua_answer(perilua_request *request, lua_State *co, int base, int n);

/* ready.c: whether path is one of the health paths, and its answer. */
bool perilua_is_health(const perilua_gen *gen, peri_slice path);
void perilua_answer_health(const perilua_gen *gen, peri_exchange *ex,
                           peri_slice path);

/* bind_request.c: pushes text with %XX decoded, and + as a space where plus
 * says so. Bad escapes stay as they are. */
void perilua_push_decoded(lua_State *L, peri_slice text, bool plus);

/* bind_request.c: the request that a req table stands for; raises when it has
 * ended. */
perilua_request *perilua_check_request(lua_State *L, int index);
peri_exchange *perilua_check_exchange(lua_State *L, int index);

/* bind_body.c, bind_stream.c: add to the module's table, on top. */
void perilua_add_body(lua_State *L);
void perilua_add_stream(lua_State *L);

#endif
