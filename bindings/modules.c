/* Modules written in C: the list. */
#include "bindings/modules.h"

#include <stddef.h>

int perilua_open_app(lua_State *L);
int perilua_open_breaker(lua_State *L);
int perilua_open_cli(lua_State *L);
int perilua_open_client(lua_State *L);
int perilua_open_config(lua_State *L);
int perilua_open_crypto(lua_State *L);
int perilua_open_json(lua_State *L);
int perilua_open_log(lua_State *L);
int perilua_open_log_check(lua_State *L);
int perilua_open_metrics(lua_State *L);
int perilua_open_regex(lua_State *L);
int perilua_open_events(lua_State *L);
int perilua_open_health(lua_State *L);
int perilua_open_file(lua_State *L);
int perilua_open_queue(lua_State *L);
int perilua_open_leases(lua_State *L);
int perilua_open_offload(lua_State *L);
int perilua_open_redis(lua_State *L);
int perilua_open_redis_check(lua_State *L);
int perilua_open_request(lua_State *L);
int perilua_open_shared(lua_State *L);
int perilua_open_sqlite(lua_State *L);
int perilua_open_line(lua_State *L);
int perilua_open_task(lua_State *L);
int perilua_open_test(lua_State *L);
int perilua_open_time(lua_State *L);
int perilua_open_trace(lua_State *L);

const perilua_module perilua_modules[] = {
    {"perigee.core.app", perilua_open_app},
    {"perigee.core.breaker", perilua_open_breaker},
    {"perigee.core.cli", perilua_open_cli},
    {"perigee.core.client", perilua_open_client},
    {"perigee.core.config", perilua_open_config},
    {"perigee.core.crypto", perilua_open_crypto},
    {"perigee.core.health", perilua_open_health},
    {"perigee.core.json", perilua_open_json},
    {"perigee.core.log", perilua_open_log},
    {"perigee.core.log_check", perilua_open_log_check},
    {"perigee.core.metrics", perilua_open_metrics},
    {"perigee.core.regex", perilua_open_regex},
    {"perigee.core.events", perilua_open_events},
    {"perigee.core.file", perilua_open_file},
    {"perigee.core.queue", perilua_open_queue},
    {"perigee.core.offload", perilua_open_offload},
    {"perigee.core.leases", perilua_open_leases},
    {"perigee.core.redis", perilua_open_redis},
    {"perigee.core.redis_check", perilua_open_redis_check},
    {"perigee.core.request", perilua_open_request},
    {"perigee.core.shared", perilua_open_shared},
    {"perigee.core.sqlite", perilua_open_sqlite},
    {"perigee.core.line", perilua_open_line},
    {"perigee.core.task", perilua_open_task},
    {"perigee.core.test", perilua_open_test},
    {"perigee.core.time", perilua_open_time},
    {"perigee.core.trace", perilua_open_trace},
    {NULL, NULL},
};
