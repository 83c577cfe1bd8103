/* Batches: many statements with their parameters as one op, all or none. */
#include "bindings/sqlite_bind.h"
#include "bindings/sqlite_value.h"

/* Takes {sql, value, ..., n = how many values} at the top of the stack. */
static int pack_statement(lua_State *L, peri_buf *out, const char **before)
{
    int at = lua_gettop(L);
    peri_slice sql;
    int count;
    int rc = 0;

    lua_getfield(L, at, "n");
    count = (int)lua_tointeger(L, -1);
    lua_rawgeti(L, at, 1);
    sql = perilua_check_slice(L, -1);
    if (sql.data == *before) {
        sql.length = 0; /* strings are the same when their addresses are */
    }
    *before = sql.data;
    rc |= peri_sqlite_pack_bytes(out, PERI_SQLITE_TEXT, sql);
    rc |= peri_sqlite_pack_int(out, 0);
    rc |= peri_sqlite_pack_int(out, count);
    lua_settop(L, at);
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, at, i + 2);
        rc |= perilua_sqlite_pack_value(L, at + 1, out);
        lua_settop(L, at);
    }
    return rc;
}

static bool check_statements(lua_State *L, int count)
{
    bool good = true;

    for (int i = 1; good && i <= count; i++) {
        lua_rawgeti(L, 2, i);
        good = lua_istable(L, -1);
        if (good) {
            lua_rawgeti(L, -1, 1);
            good = lua_type(L, -1) == LUA_TSTRING;
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    return good;
}

/* batch(db, list of {sql, values..., n}) -> outcomes, ids: for each statement
 * the values of its rows in one list, or how many it changed; and the last
 * rowid. For the library's own use: the statements are trusted. */
int perilua_sqlite_batch(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    perilua_sqlite_db *db = perilua_sqlite_check_db(L, 1);
    perilua_sqlite_call *c;
    const char *before = NULL;
    int count;
    int rc = 0;

    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    count = (int)lua_objlen(L, 2);
    luaL_argcheck(L, check_statements(L, count), 2, "not a list of statements");
    perilua_sqlite_check_task(L, vm);
    c = perilua_sqlite_call_create(vm, db->pool, PERI_SQLITE_WRITE, 0);
    c->op.statements = (uint32_t)count;
    c->op.guard = true;
    c->op.control = true; /* they are trusted: their kind is not looked at */
    for (int i = 1; rc == 0 && i <= count; i++) {
        lua_rawgeti(L, 2, i);
        rc = pack_statement(L, &c->op.input, &before);
        lua_pop(L, 1);
    }
    if (rc != 0) {
        perilua_sqlite_call_free(c);
        return perilua_fail(L, "too_large", "SQLITE_TOOBIG",
                            "the statements and their parameters are too "
                            "large");
    }
    return perilua_sqlite_call_start(L, c, PERILUA_SQLITE_BATCH);
}

int perilua_sqlite_push_batch(lua_State *L, lua_State *vm_L, peri_slice packed,
                              uint32_t count)
{
    peri_sqlite_result result;

    lua_createtable(L, (int)count, 0);
    lua_createtable(L, (int)count, 0);
    for (int i = 1; peri_sqlite_unpack_result(&packed, &result); i++) {
        if (result.columns != 0) {
            perilua_sqlite_push_values(L, vm_L, &packed, &result);
        } else {
            lua_pushnumber(L, (lua_Number)result.changes);
        }
        lua_rawseti(L, -3, i);
        lua_pushnumber(L, (lua_Number)result.last_id);
        lua_rawseti(L, -2, i);
    }
    return 2;
}
