/* Host call: running a module of the library, such as a command, as a task of
 * the live generation. */
#include <stdio.h>
#include <stdlib.h>

#include "bindings/gen.h"
#include "core/base/alloc.h"

typedef struct host_call {
    perilua_gen *gen;
    void (*done)(void *data, int exit_code);
    void *data;
} host_call;

static void print_failure(perilua_gen *gen, lua_State *co)
{
    lua_State *L = gen->vm->L;

    luaL_traceback(L, co, NULL, 0);
    lua_xmove(co, L, 1);
    lua_getglobal(L, "tostring");
    lua_insert(L, -2);
    if (lua_pcall(L, 1, 1, 0) == 0) {
        fprintf(stderr, "perigee: %s\n%s\n", lua_tostring(L, -1),
                lua_tostring(L, -2));
    }
    lua_pop(L, 2);
}

static void on_called(void *data, perilua_task *task, lua_State *co, int rc,
                      int nresults)
{
    host_call *call = data;
    int exit_code = 1;

    (void)task;
    if (rc < 0) {
        print_failure(call->gen, co);
    } else {
        exit_code =
            nresults > 0 && lua_isnumber(co, 1) ? (int)lua_tointeger(co, 1) : 0;
    }
    perilua_gen_unused(call->gen);
    call->done(call->data, exit_code);
    free(call);
}

static const char call_source[] = "local name = ...\n"
                                  "return require(name)(select(2, ...))\n";

void perilua_host_call(peri_host *host, const char *module, int argc,
                       const char *const *argv,
                       void (*done)(void *data, int exit_code), void *data)
{
    perilua_gen *gen = perilua_host_live(host);
    host_call *call = peri_calloc(1, sizeof *call);
    lua_State *L = gen->vm->L;

    call->gen = gen;
    call->done = done;
    call->data = data;
    gen->active++;
    if (luaL_loadbuffer(L, call_source, sizeof call_source - 1, "=perigee") !=
        0) {
        abort(); /* our own source */
    }
    lua_pushstring(L, module);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
    }
    perilua_task_start(gen->vm, L, argc + 1, 0, on_called, call);
}
