/* SQLite bindings, inside: what bind_sqlite.c, sqlite_call.c, sqlite_tx.c and
 * sqlite_migrate.c share. */
#ifndef PERILUA_SQLITE_BIND_H
#define PERILUA_SQLITE_BIND_H

#include "bindings/bind.h"
#include "bindings/db_watch.h"
#include "core/sqlite/set.h"

#define PERILUA_SQLITE_DB "perigee.sqlite.Db"
#define PERILUA_SQLITE_TX "perigee.sqlite.Tx"

/* Userdata: a database, for one generation. */
typedef struct perilua_sqlite_db {
    peri_sqlite_set *set;
    peri_sqlite_pool *pool;
    peri_list transactions; /* open ones of this generation */
} perilua_sqlite_db;

/* Userdata: a transaction. */
typedef struct perilua_sqlite_tx {
    perilua_sqlite_db *db; /* kept alive by the userdata's environment */
    uint64_t id;
    perilua_task *owner;
    bool ended;
    peri_list link;
} perilua_sqlite_tx;

/* What a call gives in Lua when it has gone well. */
typedef enum perilua_sqlite_shape {
    PERILUA_SQLITE_TRUE,
    PERILUA_SQLITE_ROWS,
    PERILUA_SQLITE_FIRST,
    PERILUA_SQLITE_EXEC,
    PERILUA_SQLITE_BEGIN, /* true; what began for nobody is rolled back */
    PERILUA_SQLITE_END,   /* true; what was not committed is rolled back */
    PERILUA_SQLITE_PATHS,
    PERILUA_SQLITE_BATCH
} perilua_sqlite_shape;

/* An op of the pool with the task that waits for it. */
typedef struct perilua_sqlite_call {
    peri_sqlite_op op;
    perilua_wait wait;
    perilua_vm *vm;
    peri_sqlite_pool *pool;
    perilua_sqlite_shape shape;
    perilua_db_watch watch;
    bool watched; /* begun, and not ended */
} perilua_sqlite_call;

/* ---- sqlite_call.c ---- */

/* Raises, with the place of the Lua code that made the call: between it and us
 * is the wrapper of waiting functions. */
__attribute__((noreturn, format(printf, 2, 3))) void
perilua_sqlite_misuse(lua_State *L, const char *format, ...);

/* Raises the task's error: one that is overdue begins nothing more. */
void perilua_sqlite_check_task(lua_State *L, const perilua_vm *vm);

/* Ends by start, post or free. */
perilua_sqlite_call *perilua_sqlite_call_create(perilua_vm *vm,
                                                peri_sqlite_pool *pool,
                                                peri_sqlite_kind kind,
                                                uint64_t tx);
void perilua_sqlite_call_free(perilua_sqlite_call *call);

/* `return start(...)`: submits, parks the task. */
int perilua_sqlite_call_start(lua_State *L, perilua_sqlite_call *call,
                              perilua_sqlite_shape shape);

/* Submits without anyone to wait for it. */
void perilua_sqlite_call_post(perilua_sqlite_call *call);

void perilua_sqlite_post_rollback(perilua_vm *vm, peri_sqlite_pool *pool,
                                  uint64_t tx);

/* ---- bind_sqlite.c ---- */

perilua_sqlite_db *perilua_sqlite_check_db(lua_State *L, int index);

/* ---- sqlite_batch.c ---- */

/* batch(db, list). Waits. */
int perilua_sqlite_batch(lua_State *L);

/* Pushes what batch gives; the number of values. */
int perilua_sqlite_push_batch(lua_State *L, lua_State *vm_L, peri_slice packed,
                              uint32_t count);

/* ---- sqlite_tx.c ---- */

/* Raises for one that has ended. */
perilua_sqlite_tx *perilua_sqlite_check_tx(lua_State *L, int index);

/* Raises where the task holds the writer that it would wait for. */
void perilua_sqlite_check_not_inside(lua_State *L, const perilua_vm *vm,
                                     const perilua_sqlite_db *db);

/* Functions of the module: those that wait, and those that do not. */
extern const luaL_Reg perilua_sqlite_tx_waiting[];
extern const luaL_Reg perilua_sqlite_tx_functions[];
int perilua_sqlite_tx_gc(lua_State *L);

/* ---- sqlite_migrate.c ---- */

/* migrate(db, list of {version, path, sql}) -> list of paths applied now | nil,
 * err. Waits. */
int perilua_sqlite_migrate(lua_State *L);

/* folder(path) -> list of {path, text} of its *.sql files, from the disk. */
int perilua_sqlite_folder(lua_State *L);

#endif
