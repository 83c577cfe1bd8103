/* perigee.core.file: writing a new file off the loop. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/bind.h"
#include "bindings/modules.h"
#include "core/base/alloc.h"

#define FILE_NAME "perigee.File"
#define FILE_MODE 0640

typedef struct file_op file_op;

typedef struct open_file {
    int fd;           /* -1: closed */
    file_op *writing; /* under way, though its task may have been cancelled */
} open_file;

struct file_op {
    perilua_wait wait;
    uv_fs_t request;
    perilua_vm *vm;
    open_file *file; /* NULL: collected; the descriptor is the op's */
    int fd;
    char *data; /* being written; owned */
    size_t length;
    size_t written;
    int rc;
};

static void op_free(file_op *op)
{
    perilua_vm *vm = op->vm;

    uv_fs_req_cleanup(&op->request);
    free(op->data);
    free(op);
    perilua_vm_unref(vm);
}

static file_op *op_create(lua_State *L, open_file *file,
                          void (*cancel)(perilua_wait *wait))
{
    file_op *op = peri_calloc(1, sizeof *op);

    op->vm = perilua_vm_of(L);
    perilua_vm_ref(op->vm); /* dropped by op_free */
    op->file = file;
    op->wait.cancel = cancel;
    op->request.data = op;
    return op;
}

/* What is under way ends by itself; only nobody waits for it any more. */
static void on_cancel(perilua_wait *wait)
{
    (void)wait;
}

static int push_result(lua_State *L, void *data)
{
    file_op *op = data;

    if (op->rc < 0) {
        return perilua_fail_rc(L, op->rc, "file");
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int push_opened(lua_State *L, void *data)
{
    file_op *op = data;
    open_file *file;

    if (op->rc < 0) {
        return perilua_fail_rc(L, op->rc, "file");
    }
    file = lua_newuserdata(L, sizeof *file);
    *file = (open_file){.fd = op->rc};
    luaL_getmetatable(L, FILE_NAME);
    lua_setmetatable(L, -2);
    return 1;
}

static void close_now(int fd)
{
    uv_fs_t request;

    uv_fs_close(NULL, &request, fd, NULL);
    uv_fs_req_cleanup(&request);
}

static void on_opened(uv_fs_t *request)
{
    file_op *op = request->data;

    op->rc = (int)request->result;
    if (op->wait.task == NULL && op->rc >= 0) {
        uv_fs_t removal; /* an empty file that nobody would fill */

        uv_fs_unlink(NULL, &removal, request->path, NULL);
        uv_fs_req_cleanup(&removal);
        close_now(op->rc);
    }
    perilua_task_wake(&op->wait, push_opened, op);
    op_free(op);
}

/* create(path) -> file; or nil and an error. The file must not exist. */
static int file_create(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    file_op *op = op_create(L, NULL, on_cancel);

    uv_fs_open(op->vm->env->loop, &op->request, path,
               O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE, on_opened);
    return perilua_task_park(L, &op->wait);
}

static void write_more(file_op *op);

static void on_written(uv_fs_t *request)
{
    file_op *op = request->data;

    op->rc = (int)request->result;
    if (op->rc >= 0) {
        op->written += (size_t)op->rc;
        if (op->written < op->length && op->wait.task != NULL) {
            uv_fs_req_cleanup(request);
            write_more(op);
            return;
        }
    }
    if (op->file != NULL) {
        op->file->writing = NULL;
    } else {
        close_now(op->fd);
    }
    perilua_task_wake(&op->wait, push_result, op);
    op_free(op);
}

static void write_more(file_op *op)
{
    uv_buf_t buf = uv_buf_init(op->data + op->written,
                               (unsigned)(op->length - op->written));

    uv_fs_write(op->vm->env->loop, &op->request, op->fd, &buf, 1, -1,
                on_written);
}

static open_file *check_open(lua_State *L)
{
    open_file *file = luaL_checkudata(L, 1, FILE_NAME);

    if (file->fd < 0) {
        luaL_error(L, "the file is closed");
    }
    if (file->writing != NULL) {
        luaL_error(L, "the file is being written to");
    }
    return file;
}

/* file:write(bytes) -> true; or nil and an error. */
static int file_write(lua_State *L)
{
    open_file *file = check_open(L);
    peri_slice bytes = perilua_check_slice(L, 2);
    file_op *op = op_create(L, file, on_cancel);

    op->data = peri_strndup(bytes.data, bytes.length);
    op->length = bytes.length;
    op->fd = file->fd;
    file->writing = op;
    write_more(op);
    return perilua_task_park(L, &op->wait);
}

static void on_closed(uv_fs_t *request)
{
    file_op *op = request->data;

    op->rc = (int)request->result;
    perilua_task_wake(&op->wait, push_result, op);
    op_free(op);
}

/* file:close() -> true; or nil and an error (a full disk may show only here).
 */
static int file_close(lua_State *L)
{
    open_file *file = check_open(L);
    file_op *op = op_create(L, file, on_cancel);
    int fd = file->fd;

    file->fd = -1;
    uv_fs_close(op->vm->env->loop, &op->request, fd, on_closed);
    return perilua_task_park(L, &op->wait);
}

static int file_gc(lua_State *L)
{
    open_file *file = luaL_checkudata(L, 1, FILE_NAME);

    if (file->writing != NULL) {
        file->writing->file = NULL; /* it closes when it is done */
    } else if (file->fd >= 0) {
        close_now(file->fd);
    }
    file->fd = -1;
    return 0;
}

int perilua_open_file(lua_State *L)
{
    luaL_newmetatable(L, FILE_NAME);
    lua_pushcfunction(L, file_gc);
    lua_setfield(L, -2, "__gc");
    perilua_set_waiting(L, "write", file_write);
    perilua_set_waiting(L, "close", file_close);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_newtable(L);
    perilua_set_waiting(L, "create", file_create);
    return 1;
}
