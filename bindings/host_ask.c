/* Host ask: questions of the dashboard's, answered by perigee.dashboard in a
 * task of the live generation. */
#include <stdlib.h>

#include "bindings/bind.h"
#include "bindings/gen.h"
#include "core/base/alloc.h"
#include "core/base/clock.h"

#define ANSWER_MAX ((size_t)512 << 10)
#define LIMIT_NS ((uint64_t)8 * 1000000000u)

typedef struct host_ask {
    perilua_gen *gen;
    void (*told)(void *data, int status, peri_slice json);
    void *data;
} host_ask;

static void on_answered(void *data, perilua_task *task, lua_State *co, int rc,
                        int nresults)
{
    host_ask *ask = data;
    peri_slice json = PERI_SLICE("{\"detail\":\"it failed: see the log\"}");
    int status = 500;

    (void)task;
    if (rc < 0) {
        const char *why = lua_tostring(co, -1);

        peri_log(ask->gen->host->env.logger, PERI_LOG_ERROR,
                 "answering the dashboard failed: %s",
                 why != NULL ? why : "no reason was given");
    } else if (nresults == 2 && lua_isnumber(co, -2) && lua_isstring(co, -1)) {
        status = (int)lua_tointeger(co, -2);
        json.data = lua_tolstring(co, -1, &json.length);
    }
    if (json.length > ANSWER_MAX) {
        status = 500;
        json = PERI_SLICE("{\"detail\":\"the answer is too large\"}");
    }
    ask->told(ask->data, status, json);
    perilua_gen_unused(ask->gen);
    free(ask);
}

void perilua_host_ask(peri_host *host, peri_slice question,
                      void (*told)(void *data, int status, peri_slice json),
                      void *data)
{
    perilua_gen *gen = perilua_host_live(host);
    host_ask *ask = peri_calloc(1, sizeof *ask);
    lua_State *L = gen->vm->L;

    ask->gen = gen;
    ask->told = told;
    ask->data = data;
    gen->active++;
    perilua_require(L, "perigee.dashboard");
    lua_getfield(L, -1, "answer");
    lua_remove(L, -2);
    lua_pushlstring(L, question.data, question.length);
    perilua_task_start(gen->vm, L, 1, peri_clock_monotonic_ns() + LIMIT_NS,
                       on_answered, ask);
}
