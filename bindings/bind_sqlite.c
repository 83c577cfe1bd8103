/* perigee.core.sqlite: databases for Lua. See perigee/sqlite.lua. */
#include <stdio.h>

#include "bindings/sqlite_bind.h"
#include "bindings/sqlite_value.h"
#include "core/sqlite/sql.h"

#define NAME_MAX_BYTES 64

int perilua_open_sqlite(lua_State *L);

perilua_sqlite_db *perilua_sqlite_check_db(lua_State *L, int index)
{
    return luaL_checkudata(L, index, PERILUA_SQLITE_DB);
}

static uint32_t setting(perilua_vm *vm, const char *name, const char *key,
                        int64_t fallback)
{
    char full[NAME_MAX_BYTES * 2];

    snprintf(full, sizeof full, "sqlite.%s.%s", name, key);
    return (uint32_t)peri_settings_int(vm->settings, full, fallback);
}

static const char *setting_str(perilua_vm *vm, const char *name,
                               const char *key, const char *fallback)
{
    char full[NAME_MAX_BYTES * 2];

    snprintf(full, sizeof full, "sqlite.%s.%s", name, key);
    return peri_settings_str(vm->settings, full, fallback);
}

/* Below the application's directory, wherever the process works. Pushes what it
 * returns. */
static const char *full_path(lua_State *L, const perilua_vm *vm,
                             const char *path)
{
    if (path[0] == '/' || path[0] == '\0' || strcmp(path, ":memory:") == 0) {
        lua_pushstring(L, path);
        return path;
    }
    return lua_pushfstring(L, "%s/%s", vm->env->dir, path);
}

/* open(name[, path, synchronous]) -> db, or nil when the configuration has none
 * of that name (and no path is given). */
static int sqlite_open(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    const char *path = NULL;
    peri_sqlite_config config = {.name = name};
    perilua_sqlite_db *db;

    if (lua_isstring(L, 2)) {
        path = lua_tostring(L, 2);
    } else if (vm->settings != NULL && strlen(name) < NAME_MAX_BYTES) {
        path = setting_str(vm, name, "path", NULL);
    }
    if (path == NULL || vm->env->sqlite == NULL) {
        return 0;
    }
    config.path = full_path(L, vm, path);
    config.synchronous =
        luaL_optstring(L, 3, setting_str(vm, name, "synchronous", "full"));
    config.busy_timeout_ms = setting(vm, name, "busy_timeout", 5000);
    config.wait_timeout_ms = setting(vm, name, "wait_timeout", 10000);
    config.readers = setting(vm, name, "readers", 2);
    config.queue_max = setting(vm, name, "queue_max", 10000);
    config.rows_max = setting(vm, name, "rows_max", 100000);
    config.result_max_bytes = setting(vm, name, "result_max", 64 << 20);
    db = lua_newuserdata(L, sizeof *db);
    db->set = vm->env->sqlite;
    db->pool = peri_sqlite_set_ref(db->set, &config);
    peri_list_init(&db->transactions);
    luaL_getmetatable(L, PERILUA_SQLITE_DB);
    lua_setmetatable(L, -2);
    return 1;
}

static int db_gc(lua_State *L)
{
    perilua_sqlite_db *db = perilua_sqlite_check_db(L, 1);

    peri_sqlite_set_unref(db->set, db->pool);
    return 0;
}

static int db_tostring(lua_State *L)
{
    const perilua_sqlite_db *db = perilua_sqlite_check_db(L, 1);
    const peri_sqlite_config *config = peri_sqlite_pool_config(db->pool);

    lua_pushfstring(L, "sqlite %s (%s)", config->name, config->path);
    return 1;
}

/* ---- statements ---- */

static peri_sqlite_class check_sql(lua_State *L, int index)
{
    peri_sqlite_class class;

    if (lua_type(L, index) != LUA_TSTRING) {
        perilua_sqlite_misuse(L, "the statement is a %s, not a string",
                              luaL_typename(L, index));
    }
    class = peri_sqlite_classify(perilua_check_slice(L, index));
    switch (class) {
    case PERI_SQL_EMPTY:
        perilua_sqlite_misuse(L, "an empty statement");
        break;
    case PERI_SQL_CONTROL:
        perilua_sqlite_misuse(
            L, "BEGIN, COMMIT and their kin are db:transaction's");
        break;
    case PERI_SQL_ATTACH:
        perilua_sqlite_misuse(
            L, "ATTACH holds for one of several connections: configure a "
               "second database");
        break;
    default:
        break;
    }
    return class;
}

static peri_sqlite_kind kind_of(peri_sqlite_class class)
{
    if (class == PERI_SQL_READ) {
        return PERI_SQLITE_READ;
    }
    return class == PERI_SQL_ALONE ? PERI_SQLITE_ALONE : PERI_SQLITE_WRITE;
}

static int fill(lua_State *L, perilua_sqlite_call *c)
{
    peri_slice sql = perilua_check_slice(L, 2);

    c->op.statements = 1;
    if (peri_sqlite_pack_bytes(&c->op.input, PERI_SQLITE_TEXT, sql) < 0) {
        return PERI_ELIMIT;
    }
    return perilua_sqlite_pack_params(L, 3, &c->op.input);
}

/* Whether a failure half-way has to be undone by a savepoint. */
static bool needs_guard(lua_State *L, const perilua_sqlite_call *c,
                        perilua_sqlite_shape shape)
{
    if (c->op.kind != PERI_SQLITE_WRITE && c->op.kind != PERI_SQLITE_STEP) {
        return false;
    }
    return peri_sqlite_may_be_several(perilua_check_slice(L, 2)) ||
           (shape != PERILUA_SQLITE_EXEC && c->op.kind == PERI_SQLITE_WRITE);
}

static bool is_a(lua_State *L, int index, const char *class_name)
{
    bool equal;

    if (!lua_getmetatable(L, index)) {
        return false;
    }
    luaL_getmetatable(L, class_name);
    equal = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return equal;
}

/* (db or tx, sql, params...). */
static int run(lua_State *L, perilua_sqlite_shape shape)
{
    perilua_vm *vm = perilua_vm_of(L);
    bool in_tx = is_a(L, 1, PERILUA_SQLITE_TX);
    perilua_sqlite_tx *tx = in_tx ? perilua_sqlite_check_tx(L, 1) : NULL;
    perilua_sqlite_db *db;
    peri_sqlite_class class;
    const char *why;
    perilua_sqlite_call *c;

    if (!in_tx && !is_a(L, 1, PERILUA_SQLITE_DB)) {
        perilua_sqlite_misuse(L, "called with a dot instead of a colon");
    }
    db = in_tx ? tx->db : perilua_sqlite_check_db(L, 1);
    class = check_sql(L, 2);
    why = perilua_sqlite_refuse_params(L, 3);
    if (why != NULL) {
        perilua_sqlite_misuse(L, "%s", why);
    }
    perilua_sqlite_check_task(L, vm);
    if (!in_tx &&
        (class != PERI_SQL_READ || !peri_sqlite_pool_has_readers(db->pool))) {
        perilua_sqlite_check_not_inside(L, vm, db);
    }
    c = perilua_sqlite_call_create(vm, db->pool,
                                   in_tx ? PERI_SQLITE_STEP : kind_of(class),
                                   in_tx ? tx->id : 0);
    if (fill(L, c) < 0) {
        perilua_sqlite_call_free(c);
        return perilua_fail(L, "too_large", "SQLITE_TOOBIG",
                            "the statement and its parameters are too large");
    }
    c->op.guard = needs_guard(L, c, shape);
    return perilua_sqlite_call_start(L, c, shape);
}

static int sqlite_query(lua_State *L)
{
    return run(L, PERILUA_SQLITE_ROWS);
}

static int sqlite_one(lua_State *L)
{
    return run(L, PERILUA_SQLITE_FIRST);
}

static int sqlite_exec(lua_State *L)
{
    return run(L, PERILUA_SQLITE_EXEC);
}

/* blob(s): bound as a BLOB, not as TEXT. */
static int sqlite_blob(lua_State *L)
{
    luaL_checkstring(L, 1);
    lua_createtable(L, 1, 0);
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 1);
    luaL_getmetatable(L, PERILUA_SQLITE_BLOB);
    lua_setmetatable(L, -2);
    return 1;
}

/* stats(db) -> {reads, writes, commits}. */
static int sqlite_stats(lua_State *L)
{
    perilua_sqlite_db *db = perilua_sqlite_check_db(L, 1);
    peri_sqlite_stats stats;

    peri_sqlite_pool_get_stats(db->pool, &stats);
    lua_createtable(L, 0, 3);
    lua_pushnumber(L, (lua_Number)stats.reads);
    lua_setfield(L, -2, "reads");
    lua_pushnumber(L, (lua_Number)stats.writes);
    lua_setfield(L, -2, "writes");
    lua_pushnumber(L, (lua_Number)stats.commits);
    lua_setfield(L, -2, "commits");
    return 1;
}

static const luaL_Reg functions[] = {{"open", sqlite_open},
                                     {"blob", sqlite_blob},
                                     {"folder", perilua_sqlite_folder},
                                     {"stats", sqlite_stats},
                                     {NULL, NULL}};

/* The first three are methods too. */
static const luaL_Reg waiting[] = {
    {"query", sqlite_query},         {"one", sqlite_one},
    {"exec", sqlite_exec},           {"migrate", perilua_sqlite_migrate},
    {"batch", perilua_sqlite_batch}, {NULL, NULL}};

static void set_waiting(lua_State *L, const luaL_Reg *list)
{
    for (; list->name != NULL; list++) {
        perilua_set_waiting(L, list->name, list->func);
    }
}

/* The module gets the metatable's __index too, for Lua's methods. */
static void make_class(lua_State *L, const char *name, const char *field_name,
                       lua_CFunction gc)
{
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    if (gc == db_gc) {
        lua_pushcfunction(L, db_tostring);
        lua_setfield(L, -2, "__tostring");
    }
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__index");
    for (int i = 0; i < 3; i++) { /* query, one, exec */
        lua_getfield(L, -3, waiting[i].name);
        lua_setfield(L, -2, waiting[i].name);
    }
    lua_remove(L, -2);
    lua_setfield(L, -2, field_name);
}

int perilua_open_sqlite(lua_State *L)
{
    perilua_sqlite_values_open(L);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    luaL_setfuncs(L, perilua_sqlite_tx_functions, 0);
    set_waiting(L, waiting);
    set_waiting(L, perilua_sqlite_tx_waiting);
    make_class(L, PERILUA_SQLITE_DB, "db", db_gc);
    make_class(L, PERILUA_SQLITE_TX, "tx", perilua_sqlite_tx_gc);
    return 1;
}
