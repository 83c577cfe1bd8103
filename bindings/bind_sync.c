/* perigee.core.task, continued: events and semaphores, and what stands in
 * line for them. */
#include "bindings/bind_sync.h"

#include <stdlib.h>

#include "bindings/bind.h"
#include "core/base/alloc.h"

#define EVENT_NAME "perigee.Event"
#define SEMAPHORE_NAME "perigee.Semaphore"

/* ---- waits that stand in a list ---- */

typedef struct queued_wait {
    perilua_wait wait;
    peri_list link;
} queued_wait;

static void on_queued_cancel(perilua_wait *wait)
{
    queued_wait *q = PERI_CONTAINER(wait, queued_wait, wait);

    peri_list_remove(&q->link);
    free(q);
}

int perilua_park_in(lua_State *L, peri_list *list)
{
    queued_wait *q = peri_calloc(1, sizeof *q);

    q->wait.cancel = on_queued_cancel;
    peri_list_append(list, &q->link);
    return perilua_task_park(L, &q->wait);
}

bool perilua_wake_first(peri_list *list, int (*push)(lua_State *, void *),
                        void *data)
{
    queued_wait *q;

    if (peri_list_empty(list)) {
        return false;
    }
    q = PERI_CONTAINER(list->next, queued_wait, link);
    peri_list_remove(&q->link);
    perilua_task_wake(&q->wait, push, data);
    free(q);
    return true;
}

int perilua_push_true(lua_State *L, void *data)
{
    (void)data;
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- events: set once, wait any number of times ---- */

typedef struct event {
    bool set;
    peri_list waiters;
} event;

static int event_new(lua_State *L)
{
    event *e = lua_newuserdata(L, sizeof *e);

    e->set = false;
    peri_list_init(&e->waiters);
    luaL_getmetatable(L, EVENT_NAME);
    lua_setmetatable(L, -2);
    return 1;
}

static int event_wait(lua_State *L)
{
    event *e = luaL_checkudata(L, 1, EVENT_NAME);

    if (e->set) {
        lua_pushboolean(L, 1);
        return 1;
    }
    return perilua_park_in(L, &e->waiters);
}

static int event_set(lua_State *L)
{
    event *e = luaL_checkudata(L, 1, EVENT_NAME);

    e->set = true;
    while (perilua_wake_first(&e->waiters, perilua_push_true, NULL)) {
    }
    return 0;
}

/* ---- semaphores ---- */

typedef struct semaphore {
    lua_Integer permits;
    lua_Integer all;
    peri_list waiters;
} semaphore;

static int semaphore_new(lua_State *L)
{
    lua_Integer permits = luaL_checkinteger(L, 1);
    semaphore *s;

    luaL_argcheck(L, permits > 0, 1, "a positive number expected");
    s = lua_newuserdata(L, sizeof *s);
    s->permits = permits;
    s->all = permits;
    peri_list_init(&s->waiters);
    luaL_getmetatable(L, SEMAPHORE_NAME);
    lua_setmetatable(L, -2);
    return 1;
}

static int semaphore_acquire(lua_State *L)
{
    semaphore *s = luaL_checkudata(L, 1, SEMAPHORE_NAME);

    if (s->permits > 0) {
        s->permits--;
        lua_pushboolean(L, 1);
        return 1;
    }
    return perilua_park_in(L, &s->waiters);
}

static int semaphore_release(lua_State *L)
{
    semaphore *s = luaL_checkudata(L, 1, SEMAPHORE_NAME);

    if (s->permits == s->all) {
        return luaL_error(L, "the semaphore was released more often than "
                             "acquired");
    }
    if (!perilua_wake_first(&s->waiters, perilua_push_true, NULL)) {
        s->permits++;
    }
    return 0;
}

void perilua_open_class(lua_State *L, const char *name,
                        const luaL_Reg *functions)
{
    luaL_newmetatable(L, name);
    luaL_register(L, NULL, functions);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
}

void perilua_add_sync(lua_State *L)
{
    static const luaL_Reg event_functions[] = {
        {"set", event_set},
        {NULL, NULL},
    };
    static const luaL_Reg semaphore_functions[] = {
        {"release", semaphore_release},
        {NULL, NULL},
    };
    static const luaL_Reg functions[] = {
        {"event", event_new},
        {"semaphore", semaphore_new},
        {NULL, NULL},
    };

    perilua_open_class(L, EVENT_NAME, event_functions);
    perilua_set_waiting(L, "wait", event_wait);
    perilua_open_class(L, SEMAPHORE_NAME, semaphore_functions);
    perilua_set_waiting(L, "acquire", semaphore_acquire);
    lua_pop(L, 2);
    luaL_register(L, NULL, functions);
}
