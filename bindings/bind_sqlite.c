/* perigee.core.sqlite: databases for Lua. What waits is a call: an op of the
 * pool with the task that waits for it. See perigee/sqlite.lua. */
#include <assert.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "bindings/bind.h"
#include "bindings/sqlite_value.h"
#include "core/base/alloc.h"
#include "core/sqlite/code.h"
#include "core/sqlite/set.h"
#include "core/sqlite/sql.h"

#define DB_NAME "perigee.sqlite.Db"
#define TX_NAME "perigee.sqlite.Tx"
#define CHECKSUM_BYTES (2 * SHA256_DIGEST_LENGTH)
#define NAME_MAX_BYTES 64

int perilua_open_sqlite(lua_State *L);

typedef struct database {
    peri_sqlite_set *set;
    peri_sqlite_pool *pool;
    peri_list transactions; /* open ones of this generation */
} database;

typedef struct transaction {
    database *db; /* kept alive by the userdata's environment */
    uint64_t id;
    perilua_task *owner;
    bool ended;
    peri_list link;
} transaction;

typedef enum call_shape {
    SHAPE_NOTHING,
    SHAPE_ROWS,
    SHAPE_FIRST,
    SHAPE_EXEC,
    SHAPE_BEGIN,
    SHAPE_END,
    SHAPE_PATHS
} call_shape;

typedef struct call {
    peri_sqlite_op op;
    perilua_wait wait;
    perilua_vm *vm;
    peri_sqlite_pool *pool;
    call_shape shape;
} call;

/* Raises, with the place of the Lua code that made the call: between it and us
 * is the wrapper of waiting functions. */
__attribute__((noreturn, format(printf, 2, 3))) static void
misuse(lua_State *L, const char *format, ...)
{
    va_list args;

    luaL_where(L, 2);
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    lua_concat(L, 2);
    lua_error(L);
    abort(); /* it does not return */
}

/* ---- calls ---- */

static void call_free(call *c)
{
    perilua_vm *vm = c->vm;

    peri_sqlite_op_fini(&c->op);
    free(c);
    perilua_vm_unref(vm);
}

static int push_fault(lua_State *L, const peri_sqlite_fault *fault)
{
    return perilua_fail(L, peri_sqlite_code_kind(fault->code),
                        peri_sqlite_code_name(fault->code), "%s",
                        fault->message);
}

static void push_exec(lua_State *L, lua_State *vm_L,
                      const peri_sqlite_result *result)
{
    lua_createtable(L, 0, 2);
    perilua_sqlite_push_int(L, vm_L, result->changes);
    lua_setfield(L, -2, "changes");
    perilua_sqlite_push_int(L, vm_L, result->last_id);
    lua_setfield(L, -2, "last_id");
}

static void push_paths(lua_State *L, peri_slice packed)
{
    peri_sqlite_value path;
    int count = 0;

    lua_newtable(L);
    while (peri_sqlite_unpack(&packed, &path)) {
        perilua_push_slice(L, path.bytes);
        lua_rawseti(L, -2, ++count);
    }
}

static int push_outcome(lua_State *L, void *data)
{
    call *c = data;
    peri_slice packed = peri_buf_slice(&c->op.output);
    peri_sqlite_result result = {0};

    if (c->op.fault.code != 0) {
        return push_fault(L, &c->op.fault);
    }
    switch (c->shape) {
    case SHAPE_ROWS:
    case SHAPE_FIRST:
        peri_sqlite_unpack_result(&packed, &result);
        perilua_sqlite_push_rows(L, c->vm->L, &packed, &result,
                                 c->shape == SHAPE_FIRST);
        return 1;
    case SHAPE_EXEC:
        peri_sqlite_unpack_result(&packed, &result);
        push_exec(L, c->vm->L, &result);
        return 1;
    case SHAPE_PATHS:
        push_paths(L, packed);
        return 1;
    case SHAPE_NOTHING:
    case SHAPE_BEGIN:
    case SHAPE_END:
    default:
        lua_pushboolean(L, 1);
        return 1;
    }
}

static void on_posted(peri_sqlite_op *op)
{
    call_free(PERI_CONTAINER(op, call, op));
}

static call *call_create(perilua_vm *vm, peri_sqlite_pool *pool,
                         peri_sqlite_kind kind, uint64_t tx)
{
    call *c = peri_calloc(1, sizeof *c);

    peri_sqlite_op_init(&c->op);
    c->op.kind = kind;
    c->op.tx = tx;
    c->op.done = on_posted;
    c->vm = vm;
    c->pool = pool;
    perilua_vm_ref(vm);
    return c;
}

/* Without anyone to wait for it: ends a transaction whose task cannot. */
static void post_rollback(perilua_vm *vm, peri_sqlite_pool *pool, uint64_t tx)
{
    call *c = call_create(vm, pool, PERI_SQLITE_ROLLBACK, tx);

    if (peri_sqlite_submit(pool, &c->op) < 0) {
        call_free(c); /* closing: it is rolled back anyway */
    }
}

static void on_done(peri_sqlite_op *op)
{
    call *c = PERI_CONTAINER(op, call, op);

    if (c->wait.task == NULL && c->shape == SHAPE_BEGIN &&
        op->fault.code == 0) {
        post_rollback(c->vm, c->pool, op->tx); /* begun for nobody */
    }
    perilua_task_wake(&c->wait, push_outcome, c);
    call_free(c);
}

static void on_cancel(perilua_wait *wait)
{
    call *c = PERI_CONTAINER(wait, call, wait);

    if (!peri_sqlite_cancel(c->pool, &c->op)) {
        return; /* on_done will come */
    }
    if (c->shape == SHAPE_END) {
        post_rollback(c->vm, c->pool, c->op.tx);
    }
    call_free(c);
}

static int fail_submit(lua_State *L, peri_sqlite_pool *pool, int rc)
{
    const peri_sqlite_config *config = peri_sqlite_pool_config(pool);

    if (rc == PERI_ELIMIT) {
        return perilua_fail(L, "unavailable", "queue_full",
                            "sqlite %s: %d statements wait already "
                            "(sqlite.%s.queue_max)",
                            config->name, (int)config->queue_max, config->name);
    }
    return perilua_fail(L, "unavailable", peri_err_name(rc),
                        "sqlite %s: the database is closed", config->name);
}

/* Submits and waits. */
static int call_start(lua_State *L, call *c, call_shape shape)
{
    int rc;

    c->shape = shape;
    c->op.done = on_done;
    c->wait.cancel = on_cancel;
    c->op.keep_rows = shape == SHAPE_ROWS || shape == SHAPE_FIRST;
    c->op.first_only = shape == SHAPE_FIRST;
    rc = peri_sqlite_submit(c->pool, &c->op);
    if (rc < 0) {
        int n = fail_submit(L, c->pool, rc);

        call_free(c);
        return n;
    }
    return perilua_task_park(L, &c->wait);
}

/* A task that is overdue does not begin anything more. */
static void check_task(lua_State *L, const perilua_vm *vm)
{
    if (vm->current == NULL) {
        misuse(L, "cannot wait here: no task is running");
    }
    if (vm->current->deadline_ns != 0 &&
        perilua_now_ns(vm) >= vm->current->deadline_ns) {
        perilua_task_cancel(vm->current, "timeout", "the deadline has passed");
    }
    perilua_task_check(L);
}

/* ---- databases ---- */

static database *check_db(lua_State *L, int index)
{
    return luaL_checkudata(L, index, DB_NAME);
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

/* open(name) -> db, or nil when the configuration has none of that name. */
static int sqlite_open(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    const char *path = NULL;
    peri_sqlite_config config = {.name = name};
    database *db;

    if (vm->settings != NULL && strlen(name) < NAME_MAX_BYTES) {
        path = setting_str(vm, name, "path", NULL);
    }
    if (path == NULL || vm->env->sqlite == NULL) {
        return 0;
    }
    config.path = full_path(L, vm, path);
    config.synchronous = setting_str(vm, name, "synchronous", "full");
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
    luaL_getmetatable(L, DB_NAME);
    lua_setmetatable(L, -2);
    return 1;
}

static int db_gc(lua_State *L)
{
    database *db = check_db(L, 1);

    peri_sqlite_set_unref(db->set, db->pool);
    return 0;
}

static int db_tostring(lua_State *L)
{
    const database *db = check_db(L, 1);
    const peri_sqlite_config *config = peri_sqlite_pool_config(db->pool);

    lua_pushfstring(L, "sqlite %s (%s)", config->name, config->path);
    return 1;
}

/* ---- transactions ---- */

static void end_tx(transaction *tx)
{
    tx->ended = true;
    peri_list_remove(&tx->link);
}

static transaction *check_tx(lua_State *L, int index)
{
    transaction *tx = luaL_checkudata(L, index, TX_NAME);

    if (tx->ended) {
        misuse(L, "the transaction has ended");
    }
    return tx;
}

/* Raises where the task holds the writer that it would wait for. */
static void check_not_inside(lua_State *L, const perilua_vm *vm,
                             const database *db)
{
    const peri_list *head = &db->transactions;

    for (const peri_list *at = head->next; at != head; at = at->next) {
        if (PERI_CONTAINER(at, transaction, link)->owner == vm->current) {
            misuse(L, "inside of a transaction of this database: use what the "
                      "function was given (tx:exec, tx:transaction)");
        }
    }
}

/* new_tx(db) -> tx, not begun. */
static int sqlite_new_tx(lua_State *L)
{
    database *db = check_db(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    transaction *tx;

    check_task(L, vm);
    check_not_inside(L, vm, db);
    tx = lua_newuserdata(L, sizeof *tx);
    tx->db = db;
    tx->id = peri_sqlite_tx_new(db->pool);
    tx->owner = vm->current;
    tx->ended = false;
    peri_list_init(&tx->link);
    luaL_getmetatable(L, TX_NAME);
    lua_setmetatable(L, -2);
    lua_createtable(L, 1, 0); /* keeps the database */
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    return 1;
}

/* begin(tx) -> true | nil, err. Waits. */
static int sqlite_begin(lua_State *L)
{
    transaction *tx = check_tx(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    call *c;

    check_task(L, vm);
    c = call_create(vm, tx->db->pool, PERI_SQLITE_BEGIN, tx->id);
    return call_start(L, c, SHAPE_BEGIN);
}

/* enter(tx): begin has succeeded. */
static int sqlite_enter(lua_State *L)
{
    transaction *tx = check_tx(L, 1);

    peri_list_remove(&tx->link);
    peri_list_append(&tx->db->transactions, &tx->link);
    return 0;
}

/* commit(tx) -> true | nil, err. Waits. */
static int sqlite_commit(lua_State *L)
{
    transaction *tx = check_tx(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    call *c;

    check_task(L, vm);
    end_tx(tx);
    c = call_create(vm, tx->db->pool, PERI_SQLITE_COMMIT, tx->id);
    return call_start(L, c, SHAPE_END);
}

/* rollback(tx). Does not wait: it works in a cancelled task too. */
static int sqlite_rollback(lua_State *L)
{
    transaction *tx = luaL_checkudata(L, 1, TX_NAME);

    if (!tx->ended) {
        end_tx(tx);
        post_rollback(perilua_vm_of(L), tx->db->pool, tx->id);
    }
    return 0;
}

static int tx_gc(lua_State *L)
{
    transaction *tx = luaL_checkudata(L, 1, TX_NAME);

    peri_list_remove(&tx->link);
    return 0;
}

/* ---- statements ---- */

static peri_sqlite_class check_sql(lua_State *L, int index)
{
    peri_sqlite_class class;

    if (lua_type(L, index) != LUA_TSTRING) {
        misuse(L, "the statement is a %s, not a string",
               luaL_typename(L, index));
    }
    class = peri_sqlite_classify(perilua_check_slice(L, index));
    switch (class) {
    case PERI_SQL_EMPTY:
        misuse(L, "an empty statement");
        break;
    case PERI_SQL_CONTROL:
        misuse(L, "BEGIN, COMMIT and their kin are db:transaction's");
        break;
    case PERI_SQL_ATTACH:
        misuse(L, "ATTACH holds for one of several connections: configure a "
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

static int fill(lua_State *L, call *c)
{
    peri_slice sql = perilua_check_slice(L, 2);

    c->op.statements = 1;
    if (peri_sqlite_pack_bytes(&c->op.input, PERI_SQLITE_TEXT, sql) < 0) {
        return PERI_ELIMIT;
    }
    return perilua_sqlite_pack_params(L, 3, &c->op.input);
}

/* Whether a failure half-way has to be undone by a savepoint. */
static bool needs_guard(lua_State *L, const call *c, call_shape shape)
{
    if (c->op.kind != PERI_SQLITE_WRITE && c->op.kind != PERI_SQLITE_STEP) {
        return false;
    }
    return peri_sqlite_may_be_several(perilua_check_slice(L, 2)) ||
           (shape != SHAPE_EXEC && c->op.kind == PERI_SQLITE_WRITE);
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
static int run(lua_State *L, call_shape shape)
{
    perilua_vm *vm = perilua_vm_of(L);
    bool in_tx = is_a(L, 1, TX_NAME);
    transaction *tx = in_tx ? check_tx(L, 1) : NULL;
    database *db;
    peri_sqlite_class class;
    const char *why;
    call *c;

    if (!in_tx && !is_a(L, 1, DB_NAME)) {
        misuse(L, "called with a dot instead of a colon");
    }
    db = in_tx ? tx->db : check_db(L, 1);
    class = check_sql(L, 2);
    why = perilua_sqlite_refuse_params(L, 3);
    if (why != NULL) {
        misuse(L, "%s", why);
    }
    check_task(L, vm);
    if (!in_tx &&
        (class != PERI_SQL_READ || !peri_sqlite_pool_has_readers(db->pool))) {
        check_not_inside(L, vm, db);
    }
    c = call_create(vm, db->pool, in_tx ? PERI_SQLITE_STEP : kind_of(class),
                    in_tx ? tx->id : 0);
    if (fill(L, c) < 0) {
        call_free(c);
        return perilua_fail(L, "too_large", "SQLITE_TOOBIG",
                            "the statement and its parameters are too large");
    }
    c->op.guard = needs_guard(L, c, shape);
    return call_start(L, c, shape);
}

static int sqlite_query(lua_State *L)
{
    return run(L, SHAPE_ROWS);
}

static int sqlite_one(lua_State *L)
{
    return run(L, SHAPE_FIRST);
}

static int sqlite_exec(lua_State *L)
{
    return run(L, SHAPE_EXEC);
}

/* ---- savepoints ---- */

static void add_statement(call *c, const char *verb, int depth)
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
    transaction *tx = check_tx(L, 1);
    int depth = (int)luaL_checkinteger(L, 2);
    perilua_vm *vm = perilua_vm_of(L);
    call *c;

    check_task(L, vm);
    c = call_create(vm, tx->db->pool, PERI_SQLITE_STEP, tx->id);
    add_statement(c, verb, depth);
    return call_start(L, c, SHAPE_NOTHING);
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
    transaction *tx = luaL_checkudata(L, 1, TX_NAME);
    int depth = (int)luaL_checkinteger(L, 2);
    call *c;

    if (tx->ended) {
        return 0;
    }
    c = call_create(perilua_vm_of(L), tx->db->pool, PERI_SQLITE_STEP, tx->id);
    add_statement(c, "ROLLBACK TO", depth);
    add_statement(c, "RELEASE", depth);
    if (peri_sqlite_submit(c->pool, &c->op) < 0) {
        call_free(c);
    }
    return 0;
}

/* ---- migrations ---- */

static void checksum(peri_slice text, char *out)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];

    SHA256((const unsigned char *)text.data, text.length, digest);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        snprintf(out + (size_t)i * 2, 3, "%02x", digest[i]);
    }
}

static peri_slice field(lua_State *L, int index, const char *name)
{
    peri_slice value;

    lua_getfield(L, index, name);
    value = perilua_check_slice(L, -1);
    lua_pop(L, 1); /* the table keeps it */
    return value;
}

static void add_migration(lua_State *L, call *c)
{
    char sum[CHECKSUM_BYTES + 1];
    int at = lua_gettop(L);
    peri_slice sql = field(L, at, "sql");

    checksum(sql, sum);
    lua_getfield(L, at, "version");
    peri_sqlite_pack_int(&c->op.input, (int64_t)lua_tonumber(L, -1));
    lua_pop(L, 1);
    peri_sqlite_pack_bytes(&c->op.input, PERI_SQLITE_TEXT,
                           field(L, at, "path"));
    peri_sqlite_pack_bytes(&c->op.input, PERI_SQLITE_TEXT, peri_slice_str(sum));
    peri_sqlite_pack_bytes(&c->op.input, PERI_SQLITE_TEXT, sql);
    c->op.statements++;
}

/* migrate(db, list of {version, path, sql}) -> list of paths applied now | nil,
 * err. Waits. The caller (sqlite.lua) made the list. */
static int sqlite_migrate(lua_State *L)
{
    database *db = check_db(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    int count;
    call *c;

    luaL_checktype(L, 2, LUA_TTABLE);
    check_task(L, vm);
    count = (int)lua_objlen(L, 2);
    c = call_create(vm, db->pool, PERI_SQLITE_MIGRATE, 0);
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, 2, i);
        add_migration(L, c);
        lua_pop(L, 1);
    }
    return call_start(L, c, SHAPE_PATHS);
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
    database *db = check_db(L, 1);
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

static const luaL_Reg functions[] = {
    {"open", sqlite_open},         {"new_tx", sqlite_new_tx},
    {"rollback", sqlite_rollback}, {"enter", sqlite_enter},
    {"undo", sqlite_undo},         {"blob", sqlite_blob},
    {"stats", sqlite_stats},       {NULL, NULL}};

static const luaL_Reg waiting[] = {{"query", sqlite_query},
                                   {"one", sqlite_one},
                                   {"exec", sqlite_exec},
                                   {"begin", sqlite_begin},
                                   {"commit", sqlite_commit},
                                   {"save", sqlite_save},
                                   {"release", sqlite_release},
                                   {"migrate", sqlite_migrate},
                                   {NULL, NULL}};

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
    for (const luaL_Reg *f = waiting; f->name != NULL; f++) {
        perilua_set_waiting(L, f->name, f->func);
    }
    make_class(L, DB_NAME, "db", db_gc);
    make_class(L, TX_NAME, "tx", tx_gc);
    return 1;
}
