/* SQLite calls: submitting ops for tasks, and what they give. */
#include <stdarg.h>
#include <stdlib.h>

#include "bindings/sqlite_bind.h"
#include "bindings/sqlite_value.h"
#include "core/base/alloc.h"
#include "core/sqlite/code.h"

__attribute__((format(printf, 2, 3))) void
perilua_sqlite_misuse(lua_State *L, const char *format, ...)
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

void perilua_sqlite_call_free(perilua_sqlite_call *c)
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
    perilua_sqlite_call *c = data;
    peri_slice packed = peri_buf_slice(&c->op.output);
    peri_sqlite_result result = {0};

    if (c->op.fault.code != 0) {
        return push_fault(L, &c->op.fault);
    }
    switch (c->shape) {
    case PERILUA_SQLITE_ROWS:
    case PERILUA_SQLITE_FIRST:
        peri_sqlite_unpack_result(&packed, &result);
        perilua_sqlite_push_rows(L, c->vm->L, &packed, &result,
                                 c->shape == PERILUA_SQLITE_FIRST);
        return 1;
    case PERILUA_SQLITE_EXEC:
        peri_sqlite_unpack_result(&packed, &result);
        push_exec(L, c->vm->L, &result);
        return 1;
    case PERILUA_SQLITE_PATHS:
        push_paths(L, packed);
        return 1;
    case PERILUA_SQLITE_BATCH:
        return perilua_sqlite_push_batch(L, c->vm->L, packed, c->op.statements);
    case PERILUA_SQLITE_TRUE:
    case PERILUA_SQLITE_BEGIN:
    case PERILUA_SQLITE_END:
    default:
        lua_pushboolean(L, 1);
        return 1;
    }
}

static void on_posted(peri_sqlite_op *op)
{
    perilua_sqlite_call_free(PERI_CONTAINER(op, perilua_sqlite_call, op));
}

perilua_sqlite_call *perilua_sqlite_call_create(perilua_vm *vm,
                                                peri_sqlite_pool *pool,
                                                peri_sqlite_kind kind,
                                                uint64_t tx)
{
    perilua_sqlite_call *c = peri_calloc(1, sizeof *c);

    peri_sqlite_op_init(&c->op);
    c->op.kind = kind;
    c->op.tx = tx;
    c->op.done = on_posted;
    c->vm = vm;
    c->pool = pool;
    perilua_vm_ref(vm);
    return c;
}

void perilua_sqlite_call_post(perilua_sqlite_call *c)
{
    if (peri_sqlite_submit(c->pool, &c->op) < 0) {
        perilua_sqlite_call_free(c); /* closing: all is rolled back anyway */
    }
}

/* Ends a transaction whose task cannot. */
void perilua_sqlite_post_rollback(perilua_vm *vm, peri_sqlite_pool *pool,
                                  uint64_t tx)
{
    perilua_sqlite_call *c =
        perilua_sqlite_call_create(vm, pool, PERI_SQLITE_ROLLBACK, tx);

    perilua_sqlite_call_post(c);
}

static void watch_begin(perilua_sqlite_call *c)
{
    peri_slice input = peri_buf_slice(&c->op.input);
    peri_sqlite_value sql = {.bytes = PERI_SLICE("")};
    peri_slice operation = PERI_SLICE("");

    switch (c->op.kind) {
    case PERI_SQLITE_BEGIN:
        operation = PERI_SLICE("BEGIN");
        break;
    case PERI_SQLITE_COMMIT:
        operation = PERI_SLICE("COMMIT");
        break;
    case PERI_SQLITE_ROLLBACK:
        operation = PERI_SLICE("ROLLBACK");
        break;
    case PERI_SQLITE_MIGRATE:
        operation = PERI_SLICE("MIGRATE");
        break;
    case PERI_SQLITE_READ:
    case PERI_SQLITE_WRITE:
    case PERI_SQLITE_ALONE:
    case PERI_SQLITE_STEP:
    default:
        if (peri_sqlite_unpack(&input, &sql)) {
            operation = c->op.statements > 1 ? PERI_SLICE("BATCH") : sql.bytes;
        }
        break;
    }
    perilua_db_begin(c->vm, &c->watch, "sqlite",
                     peri_sqlite_pool_config(c->pool)->name, operation,
                     sql.bytes);
    c->watched = true;
}

static void watch_end(perilua_sqlite_call *c, const char *error)
{
    if (c->watched) {
        c->watched = false;
        perilua_db_end(c->vm, &c->watch, error);
    }
}

static void on_done(peri_sqlite_op *op)
{
    perilua_sqlite_call *c = PERI_CONTAINER(op, perilua_sqlite_call, op);

    watch_end(c,
              op->fault.code != 0 ? peri_sqlite_code_name(op->fault.code) : "");
    if (c->wait.task == NULL && c->shape == PERILUA_SQLITE_BEGIN &&
        op->fault.code == 0) {
        perilua_sqlite_post_rollback(c->vm, c->pool,
                                     op->tx); /* begun for nobody */
    }
    perilua_task_wake(&c->wait, push_outcome, c);
    perilua_sqlite_call_free(c);
}

static void on_cancel(perilua_wait *wait)
{
    perilua_sqlite_call *c = PERI_CONTAINER(wait, perilua_sqlite_call, wait);

    if (!peri_sqlite_cancel(c->pool, &c->op)) {
        return; /* on_done will come */
    }
    watch_end(c, "cancelled");
    if (c->shape == PERILUA_SQLITE_END) {
        perilua_sqlite_post_rollback(c->vm, c->pool, c->op.tx);
    }
    perilua_sqlite_call_free(c);
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
int perilua_sqlite_call_start(lua_State *L, perilua_sqlite_call *c,
                              perilua_sqlite_shape shape)
{
    int rc;

    c->shape = shape;
    watch_begin(c);
    c->op.done = on_done;
    c->wait.cancel = on_cancel;
    c->op.keep_rows = shape == PERILUA_SQLITE_ROWS ||
                      shape == PERILUA_SQLITE_FIRST ||
                      shape == PERILUA_SQLITE_BATCH;
    c->op.first_only = shape == PERILUA_SQLITE_FIRST;
    rc = peri_sqlite_submit(c->pool, &c->op);
    if (rc < 0) {
        int n = fail_submit(L, c->pool, rc);

        watch_end(c, rc == PERI_ELIMIT ? "queue_full" : peri_err_name(rc));
        perilua_sqlite_call_free(c);
        return n;
    }
    return perilua_task_park(L, &c->wait);
}

/* A task that is overdue does not begin anything more. */
void perilua_sqlite_check_task(lua_State *L, const perilua_vm *vm)
{
    if (vm->current == NULL) {
        perilua_sqlite_misuse(L, "cannot wait here: no task is running");
    }
    if (vm->current->deadline_ns != 0 &&
        perilua_now_ns(vm) >= vm->current->deadline_ns) {
        perilua_task_cancel(vm->current, "timeout", "the deadline has passed");
    }
    perilua_task_check(L);
}
