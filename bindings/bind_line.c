/* perigee.core.line: lines of standard input, awaited while the loop runs.
 *
 * A thread of libuv's pool reads: standard input may be a file, which no loop
 * can poll. */
#include <stdio.h>
#include <stdlib.h>

#include "bindings/bind.h"
#include "core/base/alloc.h"

typedef struct line_read {
    uv_work_t work;
    perilua_wait wait;
    perilua_vm *vm;
    char *line;
    size_t capacity;
    ssize_t length; /* negative: the end */
} line_read;

static void read_line(uv_work_t *work)
{
    line_read *op = work->data;

    op->length = getline(&op->line, &op->capacity, stdin);
}

static int push_line(lua_State *L, void *data)
{
    const line_read *op = data;
    size_t length = op->length > 0 ? (size_t)op->length : 0;

    if (op->length < 0) {
        return 0;
    }
    if (length > 0 && op->line[length - 1] == '\n') {
        length--;
    }
    lua_pushlstring(L, op->line, length);
    return 1;
}

static void on_read(uv_work_t *work, int status)
{
    line_read *op = work->data;

    if (status < 0) {
        op->length = -1;
    }
    perilua_task_wake(&op->wait, push_line, op);
    perilua_vm_unref(op->vm);
    free(op->line);
    free(op);
}

/* A thread that reads cannot be called back; what it reads is lost. */
static void on_cancel(perilua_wait *wait)
{
    (void)wait;
}

/* read([prompt]) -> the line without its end, or nothing at the end of input */
static int line_read_start(lua_State *L)
{
    const char *prompt = luaL_optstring(L, 1, NULL);
    line_read *op;

    if (prompt != NULL) {
        fputs(prompt, stdout);
        fflush(stdout);
    }
    op = peri_calloc(1, sizeof *op);
    op->work.data = op;
    op->vm = perilua_vm_of(L);
    op->wait.cancel = on_cancel;
    perilua_vm_ref(op->vm);
    uv_queue_work(op->vm->env->loop, &op->work, read_line, on_read);
    return perilua_task_park(L, &op->wait);
}

int perilua_open_line(lua_State *L);

int perilua_open_line(lua_State *L)
{
    lua_newtable(L);
    perilua_set_waiting(L, "read", line_read_start);
    return 1;
}
