/* perigee.core.redis, continued: subscriptions. */
#include <stdlib.h>

#include "bindings/redis_bind.h"
#include "core/base/alloc.h"
#include "core/redis/sub.h"

typedef struct sub_wait {
    perilua_wait wait;
    struct perilua_sub *sub;
} sub_wait;

/* Userdata: a subscription. */
typedef struct perilua_sub {
    peri_redis_set *set;
    peri_redis_client *client;
    peri_redis_sub *sub; /* NULL: closed */
    sub_wait *waiter;
    perilua_owned owned; /* by whoever loops over it */
} perilua_sub;

static perilua_sub *check_sub(lua_State *L)
{
    return luaL_checkudata(L, 1, PERILUA_REDIS_SUB);
}

/* -> channel, payload, pattern or nil; true; or nil and an error. None of
 * them: false. */
static int push_event(lua_State *L, void *data)
{
    peri_redis_sub *sub = data;
    peri_redis_message *message = peri_redis_sub_take(sub);

    if (message != NULL) {
        perilua_push_slice(L, message->channel);
        perilua_push_slice(L, message->payload);
        if (message->has_pattern) {
            perilua_push_slice(L, message->pattern);
        } else {
            lua_pushnil(L);
        }
        free(message);
        return 3;
    }
    if (peri_redis_sub_state_of(sub) == PERI_REDIS_SUB_ENDED) {
        return perilua_redis_push_fault(L, peri_redis_sub_fault(sub));
    }
    lua_pushboolean(L, peri_redis_sub_state_of(sub) == PERI_REDIS_SUB_LIVE);
    return 1;
}

static void on_changed(void *data)
{
    perilua_sub *s = data;
    sub_wait *waiter = s->waiter;

    if (waiter != NULL) {
        s->waiter = NULL;
        perilua_task_wake(&waiter->wait, push_event, s->sub);
        free(waiter);
    }
}

static void on_cancel(perilua_wait *wait)
{
    sub_wait *waiter = PERI_CONTAINER(wait, sub_wait, wait);

    waiter->sub->waiter = NULL;
    free(waiter);
}

static int park(lua_State *L, perilua_sub *s)
{
    sub_wait *waiter = peri_calloc(1, sizeof *waiter);

    waiter->sub = s;
    waiter->wait.cancel = on_cancel;
    s->waiter = waiter;
    return perilua_task_park(L, &waiter->wait);
}

static int push_nothing(lua_State *L, void *data)
{
    (void)L;
    (void)data;
    return 0;
}

static void close_sub(perilua_sub *s)
{
    perilua_task_disown(&s->owned);
    if (s->sub != NULL) {
        peri_redis_sub_close(s->sub);
        s->sub = NULL;
    }
}

/* Whoever waits for it gets nothing. */
static void end(perilua_sub *s)
{
    sub_wait *waiter = s->waiter;

    close_sub(s);
    if (waiter != NULL) {
        s->waiter = NULL;
        perilua_task_wake(&waiter->wait, push_nothing, NULL);
        free(waiter);
    }
}

static void on_owner_ended(perilua_owned *owned)
{
    end(PERI_CONTAINER(owned, perilua_sub, owned));
}

/* subscribe(client, count, command[, before, after]) -> sub. event() waits
 * until it is live. With before and after it watches: see
 * peri_redis_sub_watch(); before false: it does not come back. */
static int redis_subscribe(lua_State *L)
{
    perilua_redis *redis = perilua_redis_check(L, 1);
    uint32_t count = (uint32_t)luaL_checkint(L, 2);
    peri_slice command = perilua_check_slice(L, 3);
    bool once = lua_isboolean(L, 4);
    bool watches = !once && !lua_isnoneornil(L, 4);
    perilua_sub *s;

    if (redis->client == NULL) {
        return perilua_redis_push_closed(L);
    }
    s = lua_newuserdata(L, sizeof *s);
    s->set = redis->set;
    s->client = redis->client;
    s->waiter = NULL;
    perilua_owned_init(&s->owned, on_owner_ended);
    s->sub = peri_redis_sub_open(s->client, command, count, on_changed, s);
    if (once) {
        peri_redis_sub_once(s->sub);
    }
    if (watches) {
        peri_redis_sub_watch(s->sub, perilua_check_slice(L, 4),
                             perilua_check_slice(L, 5));
    }
    peri_redis_set_keep(s->set, s->client);
    luaL_getmetatable(L, PERILUA_REDIS_SUB);
    lua_setmetatable(L, -2);
    return 1;
}

/* event(sub) -> true when it has become live; channel, payload, pattern; nil,
 * err; nothing when it was closed. */
static int redis_event(lua_State *L)
{
    perilua_sub *s = check_sub(L);

    perilua_task_check(L);
    if (s->sub == NULL) {
        return 0;
    }
    if (s->waiter != NULL) {
        return luaL_error(L, "redis: another task waits for this subscription");
    }
    if (peri_redis_sub_state_of(s->sub) == PERI_REDIS_SUB_ENDED) {
        return push_event(L, s->sub);
    }
    if (peri_redis_sub_has(s->sub)) {
        return push_event(L, s->sub);
    }
    return park(L, s);
}

/* unsubscribe(sub): whoever waits for it gets nothing. */
static int redis_unsubscribe(lua_State *L)
{
    end(check_sub(L));
    return 0;
}

/* own(sub): it ends with the outermost of the caller's tasks, unless somebody
 * else loops over it afterwards. */
static int redis_own(lua_State *L)
{
    perilua_sub *s = check_sub(L);
    perilua_task *task = perilua_vm_of(L)->current;

    if (s->sub != NULL && task != NULL) {
        perilua_task_disown(&s->owned);
        perilua_task_own(task, &s->owned);
    }
    return 0;
}

static int sub_gc(lua_State *L)
{
    perilua_sub *s = check_sub(L);

    close_sub(s);
    peri_redis_set_unref(s->set, s->client);
    return 0;
}

void perilua_redis_add_sub(lua_State *L)
{
    luaL_newmetatable(L, PERILUA_REDIS_SUB);
    lua_pushcfunction(L, sub_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_pushcfunction(L, redis_subscribe);
    lua_setfield(L, -2, "subscribe");
    lua_pushcfunction(L, redis_unsubscribe);
    lua_setfield(L, -2, "unsubscribe");
    lua_pushcfunction(L, redis_own);
    lua_setfield(L, -2, "own");
    perilua_set_waiting(L, "event", redis_event);
}
