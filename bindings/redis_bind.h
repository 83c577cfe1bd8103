/* Redis bindings, inside: what bind_redis.c and redis_*.c share. */
#ifndef PERILUA_REDIS_BIND_H
#define PERILUA_REDIS_BIND_H

#include "bindings/bind.h"
#include "bindings/db_watch.h"
#include "core/redis/set.h"

#define PERILUA_REDIS "perigee.redis.Core"
#define PERILUA_REDIS_LEASE "perigee.redis.Lease"
#define PERILUA_REDIS_SUB "perigee.redis.Sub"

/* Userdata: a client, for one generation. */
typedef struct perilua_redis {
    peri_redis_set *set;
    peri_redis_client *client; /* NULL: closed */
} perilua_redis;

/* Userdata: a connection of its own. */
typedef struct perilua_lease {
    peri_redis_set *set;
    peri_redis_client *client;
    peri_redis_conn *conn;  /* NULL: given back, or it has ended */
    peri_redis_fault fault; /* then */
} perilua_lease;

/* What a call gives in Lua. */
typedef enum perilua_redis_shape {
    PERILUA_REDIS_VALUE,
    PERILUA_REDIS_MAP,  /* a list of names and values, as a table */
    PERILUA_REDIS_LIST, /* all replies as a list, errors as values */
    PERILUA_REDIS_EXEC  /* the last reply: EXEC's */
} perilua_redis_shape;

perilua_redis *perilua_redis_check(lua_State *L, int index);

/* Pushes nil and an error: the client has been closed. */
int perilua_redis_push_closed(lua_State *L);

/* ---- redis_value.c ---- */

/* The arguments from index on as a command; raises for what cannot be one.
 * Lists and maps are flattened. The caller releases out. */
void perilua_redis_encode(lua_State *L, int index, peri_buf *out);

/* Pushes nil and an error. */
int perilua_redis_push_fault(lua_State *L, const peri_redis_fault *fault);

/* Pushes what the replies are in Lua; how many values. */
int perilua_redis_push_reply(lua_State *L, const peri_redis_reply *reply,
                             perilua_redis_shape shape, uint32_t replies);

/* NULL when it is no lease. */
perilua_lease *perilua_redis_to_lease(lua_State *L, int index);

/* ---- redis_open.c: adds to the module's table, on top ---- */
void perilua_redis_add_open(lua_State *L);

/* ---- redis_sub.c: adds to the module's table, on top ---- */
void perilua_redis_add_sub(lua_State *L);

#endif
