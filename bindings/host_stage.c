/* Host, staging: a generation is built beside the live one, and given up. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bindings/budget.h"
#include "bindings/gen.h"
#include "bindings/hot.h"
#include "core/base/alloc.h"

#define FAULT_MAX_BYTES 8192
#define STAGING_CPU_MS 2000 /* requests wait while scripts load */

/* One staging under way: who asked, and what went wrong. */
typedef struct staging {
    perilua_gen *gen;
    void (*done)(void *data, const char *error);
    void *data;
} staging;

void perilua_gen_bound_loading(perilua_gen *gen)
{
    if (gen->host->budget != NULL) {
        perilua_budget_stage(gen->host->budget, gen->vm, STAGING_CPU_MS);
    }
}

bool perilua_gen_overran(const perilua_gen *gen, char *text, size_t text_bytes)
{
    if (gen->vm->overrun[0] == '\0') {
        return false;
    }
    snprintf(text, text_bytes, "%s: loading takes over %d ms of CPU time",
             gen->vm->overrun, STAGING_CPU_MS);
    return true;
}

static void staging_end(staging *s, const char *error)
{
    perilua_gen *gen = s->gen;
    peri_host *host = gen->host;

    if (error != NULL) {
        if (host->staged == gen) {
            host->staged = NULL;
        }
        s->done(s->data, error);
        perilua_gen_stop(gen);
    } else {
        gen->staged = true;
        s->done(s->data, NULL);
    }
    free(s);
}

static void on_loaded(void *data, perilua_task *task, lua_State *co, int rc,
                      int nresults)
{
    staging *s = data;
    char text[FAULT_MAX_BYTES];

    (void)task;
    (void)nresults;
    s->gen->loaded = true; /* on_start may have run, even if load failed */
    perilua_budget_forget(s->gen->host->budget, s->gen->vm);
    if (s->gen->host->staged != s->gen) {
        staging_end(s, "the generation was abandoned");
        return;
    }
    if (rc == 0 && lua_toboolean(co, 1)) {
        staging_end(s, NULL);
        return;
    }
    if (perilua_gen_overran(s->gen, text, sizeof text)) {
        staging_end(s, text);
        return;
    }
    /* load() catches what the application raises and returns nil, text. */
    snprintf(text, sizeof text, "%s",
             lua_tostring(co, -1) != NULL ? lua_tostring(co, -1)
                                          : "loading was cancelled");
    staging_end(s, text);
}

/* Pushes perigee.hot's data table of a generation. */
static void push_hot_data(perilua_gen *gen)
{
    perilua_require(gen->vm->L, "perigee.hot");
    lua_getfield(gen->vm->L, -1, "data");
    lua_remove(gen->vm->L, -2);
}

/* Gives a copy of from's data to a function of to's perigee.hot: "given" before
 * its scripts load, "merge" when it takes over. */
int perilua_gen_hand_over(perilua_gen *from, perilua_gen *to,
                          const char *function, char *why, size_t why_bytes)
{
    lua_State *L = to->vm->L;
    int top = lua_gettop(L);
    int rc;

    perilua_require(L, "perigee.hot");
    lua_getfield(L, -1, function);
    lua_newtable(L);
    push_hot_data(from);
    rc = perilua_hot_copy(from->vm->L, -1, L, why, why_bytes);
    lua_pop(from->vm->L, 1);
    if (rc == 0 && lua_pcall(L, 1, 0, 0) != 0) {
        snprintf(why, why_bytes, "hot.data: %s", lua_tostring(L, -1));
        rc = PERI_EFORMAT;
    }
    lua_settop(L, top);
    return rc;
}

static int run_staging(lua_State *L)
{
    staging *s = lua_touserdata(L, 1);
    perilua_gen *gen = s->gen;
    char why[512];

    if (gen->host->live != NULL && gen->host->live->loaded &&
        perilua_gen_hand_over(gen->host->live, gen, "given", why, sizeof why) <
            0) {
        return luaL_error(L, "%s cannot be handed over", why);
    }
    perilua_gen_start(gen, "load", 0, on_loaded, s);
    return 0;
}

/* What was to be reported in the call that asked for it comes one turn later.
 */
typedef struct late_report {
    uv_timer_t timer;
    void (*done)(void *data, const char *error);
    void *data;
    char *error;
} late_report;

static void on_report_closed(uv_handle_t *handle)
{
    late_report *report = handle->data;

    free(report->error);
    free(report);
}

static void on_report(uv_timer_t *timer)
{
    late_report *report = timer->data;

    report->done(report->data, report->error);
    uv_close((uv_handle_t *)timer, on_report_closed);
}

static void report_late(peri_host *host,
                        void (*done)(void *data, const char *error), void *data,
                        const char *error)
{
    late_report *report = peri_calloc(1, sizeof *report);

    report->done = done;
    report->data = data;
    report->error = error != NULL ? peri_strdup(error) : NULL;
    uv_timer_init(host->env.loop, &report->timer);
    report->timer.data = report;
    uv_timer_start(&report->timer, on_report, 0, 0);
}

/* The environment that the first bundle was made for. */
static void take_environment(peri_host *host, const peri_bundle *bundle)
{
    peri_slice name = peri_bundle_find(bundle, "@env");

    host->env_name = name.data != NULL ? peri_strndup(name.data, name.length)
                                       : peri_strdup("production");
    host->env.name = host->env_name;
}

void perilua_host_stage(peri_host *host, uint64_t number, int bundle_fd,
                        bool load, void (*done)(void *data, const char *error),
                        void *data)
{
    peri_bundle *bundle;
    perilua_gen *gen;
    staging *s;
    int rc = peri_bundle_open(bundle_fd, &bundle);

    close(bundle_fd);
    if (rc < 0) {
        report_late(host, done, data, "the bundle cannot be read");
        return;
    }
    if (host->staged != NULL) {
        perilua_host_abandon(host, host->staged->number);
    }
    if (host->env_name == NULL) {
        take_environment(host, bundle);
    }
    gen = perilua_gen_create(host, number, bundle);
    host->staged = gen;
    if (!load) {
        gen->staged = true;
        report_late(host, done, data, NULL);
        return;
    }
    perilua_host_budget(host);
    perilua_gen_bound_loading(gen);
    s = peri_calloc(1, sizeof *s);
    s->gen = gen;
    s->done = done;
    s->data = data;
    if (lua_cpcall(gen->vm->L, run_staging, s) != 0) {
        char text[FAULT_MAX_BYTES];

        snprintf(text, sizeof text, "%s", lua_tostring(gen->vm->L, -1));
        lua_pop(gen->vm->L, 1);
        host->staged = NULL;
        report_late(host, done, data, text);
        free(s);
        perilua_gen_stop(gen);
    }
}

void perilua_host_abandon(peri_host *host, uint64_t number)
{
    perilua_gen *gen = host->staged;

    if (gen == NULL || gen->number != number) {
        return;
    }
    host->staged = NULL;
    gen->retiring = true;
    perilua_scheduler_cancel_all(gen->vm, "cancelled",
                                 "the generation was abandoned");
    if (gen->loaded) {
        perilua_gen_stop(gen); /* else staging_end does it */
    }
}
