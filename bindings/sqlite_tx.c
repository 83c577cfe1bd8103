/* SQLite transactions and the savepoints inside of them, for Lua. */
#include <stdio.h>

#include "bindings/sqlite_bind.h"

static void end_tx(perilua_sqlite_tx *tx)
{
    tx->ended = true;
    peri_list_remove(&tx->link);
}

perilua_sqlite_tx *perilua_sqlite_check_tx(lua_State *L, int index)
{
    perilua_sqlite_tx *tx = luaL_checkudata(L, index, PERILUA_SQLITE_TX);

    if (tx->ended) {
        perilua_sqlite_misuse(L, "the transaction has ended");
    }
    return tx;
}

void perilua_sqlite_check_not_inside(lua_State *L, const perilua_vm *vm,
                                     const perilua_sqlite_db *db)
{
    const peri_list *head = &db->transactions;

    for (const peri_list *at = head->next; at != head; at = at->next) {
        if (PERI_CONTAINER(at, perilua_sqlite_tx, link)->owner == vm->current) {
            perilua_sqlite_misuse(
                L, "inside of a transaction of this database: use what the "
                   "function was given (tx:exec, tx:transaction)");
        }
    }
}

/* new_tx(db) -> tx, not begun. */
static int sqlite_new_tx(lua_State *L)
{
    perilua_sqlite_db *db = perilua_sqlite_check_db(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    perilua_sqlite_tx *tx;

    perilua_sqlite_check_task(L, vm);
    perilua_sqlite_check_not_inside(L, vm, db);
    tx = lua_newuserdata(L, sizeof *tx);
    tx->db = db;
    tx->id = peri_sqlite_tx_new(db->pool);
    tx->owner = vm->current;
    tx->ended = false;
    peri_list_init(&tx->link);
    luaL_getmetatable(L, PERILUA_SQLITE_TX);
    lua_setmetatable(L, -2);
    lua_createtable(L, 1, 0); /* keeps the perilua_sqlite_db */
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    return 1;
}

/* begin(tx) -> true | nil, err. Waits. */
static int sqlite_begin(lua_State *L)
{
    perilua_sqlite_tx *tx = perilua_sqlite_check_tx(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    perilua_sqlite_call *c;

    perilua_sqlite_check_task(L, vm);
    c = perilua_sqlite_call_create(vm, tx->db->pool, PERI_SQLITE_BEGIN, tx->id);
    return perilua_sqlite_call_start(L, c, PERILUA_SQLITE_BEGIN);
}

/* enter(tx): begin has succeeded. */
static int sqlite_enter(lua_State *L)
{
    perilua_sqlite_tx *tx = perilua_sqlite_check_tx(L, 1);

    peri_list_remove(&tx->link);
    peri_list_append(&tx->db->transactions, &tx->link);
    return 0;
}

/* commit(tx) -> true | nil, err. Waits. */
static int sqlite_commit(lua_State *L)
{
    perilua_sqlite_tx *tx = perilua_sqlite_check_tx(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    perilua_sqlite_call *c;

    perilua_sqlite_check_task(L, vm);
    end_tx(tx);
    c = perilua_sqlite_call_create(vm, tx->db->pool, PERI_SQLITE_COMMIT,
                                   tx->id);
    return perilua_sqlite_call_start(L, c, PERILUA_SQLITE_END);
}

/* rollback(tx). Does not wait: it works in a cancelled task too. */
static int sqlite_rollback(lua_State *L)
{
    perilua_sqlite_tx *tx = luaL_checkudata(L, 1, PERILUA_SQLITE_TX);

    if (!tx->ended) {
        end_tx(tx);
        perilua_sqlite_post_rollback(perilua_vm_of(L), tx->db->pool, tx->id);
    }
    return 0;
}

int perilua_sqlite_tx_gc(lua_State *L)
{
    perilua_sqlite_tx *tx = luaL_checkudata(L, 1, PERILUA_SQLITE_TX);

    peri_list_remove(&tx->link);
    return 0;
}

/* ---- savepoints ---- */

static void add_statement(perilua_sqlite_call *c, const char *verb, int depth)
{
    char sql[48];

    snprintf(sql, sizeof sql, "%s perigee_%d", verb, depth);
    peri_sqlite_pack_bytes(&c->op.input, PERI_SQLITE_TEXT, peri_slice_str(sql));
    peri_sqlite_pack_int(&c->op.input, 0);
    peri_sqlite_pack_int(&c->op.input, 0);
    c->op.statements++;
    c->op.control = true;
}

static int savepoint(lua_State *L, const char *verb)
{
    perilua_sqlite_tx *tx = perilua_sqlite_check_tx(L, 1);
    int depth = (int)luaL_checkinteger(L, 2);
    perilua_vm *vm = perilua_vm_of(L);
    perilua_sqlite_call *c;

    perilua_sqlite_check_task(L, vm);
    c = perilua_sqlite_call_create(vm, tx->db->pool, PERI_SQLITE_STEP, tx->id);
    add_statement(c, verb, depth);
    return perilua_sqlite_call_start(L, c, PERILUA_SQLITE_TRUE);
}

/* save(tx, depth), release(tx, depth) -> true | nil, err. Wait. */
static int sqlite_save(lua_State *L)
{
    return savepoint(L, "SAVEPOINT");
}

static int sqlite_release(lua_State *L)
{
    return savepoint(L, "RELEASE");
}

/* undo(tx, depth). Does not wait. */
static int sqlite_undo(lua_State *L)
{
    perilua_sqlite_tx *tx = luaL_checkudata(L, 1, PERILUA_SQLITE_TX);
    int depth = (int)luaL_checkinteger(L, 2);
    perilua_sqlite_call *c;

    if (tx->ended) {
        return 0;
    }
    c = perilua_sqlite_call_create(perilua_vm_of(L), tx->db->pool,
                                   PERI_SQLITE_STEP, tx->id);
    add_statement(c, "ROLLBACK TO", depth);
    add_statement(c, "RELEASE", depth);
    perilua_sqlite_call_post(c);
    return 0;
}

const luaL_Reg perilua_sqlite_tx_waiting[] = {{"begin", sqlite_begin},
                                              {"commit", sqlite_commit},
                                              {"save", sqlite_save},
                                              {"release", sqlite_release},
                                              {NULL, NULL}};

const luaL_Reg perilua_sqlite_tx_functions[] = {{"new_tx", sqlite_new_tx},
                                                {"enter", sqlite_enter},
                                                {"rollback", sqlite_rollback},
                                                {"undo", sqlite_undo},
                                                {NULL, NULL}};
