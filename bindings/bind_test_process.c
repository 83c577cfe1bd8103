/* perigee.core.test: processes that a spec starts. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "bindings/bind.h"
#include "bindings/bind_test.h"
#include "core/base/alloc.h"
#include "core/base/buf.h"

#define PROCESS_NAME "perigee.core.test.process"
#define WORDS_MAX 1024
#define OUTPUT_MAX_BYTES ((size_t)64 << 20)
#define CHUNK_BYTES 65536

/* Lives until its handles are closed and Lua has let go of it. */
typedef struct process {
    uv_process_t handle;
    uv_pipe_t output; /* both streams of the child, as they come */
    peri_buf unread;
    int64_t exit_status;
    int exit_signal;
    bool running;
    bool ended; /* of output */
    bool released;
    int open_handles;
    perilua_wait joiner;
    char chunk[CHUNK_BYTES];
} process;

static void maybe_free(process *p)
{
    if (p->open_handles == 0 && p->released) {
        peri_buf_fini(&p->unread);
        free(p);
    }
}

static void on_closed(uv_handle_t *handle)
{
    process *p = handle->data;

    p->open_handles--;
    maybe_free(p);
}

/* ---- output ---- */

static void give_chunk(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    process *p = handle->data;

    (void)suggested;
    *buf = uv_buf_init(p->chunk, sizeof p->chunk);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    process *p = stream->data;

    if (count > 0) {
        peri_buf_append(&p->unread, buf->base, (size_t)count);
    } else if (count < 0) {
        p->ended = true;
        uv_close((uv_handle_t *)stream, on_closed);
    }
}

static process *check_process(lua_State *L)
{
    process **box = luaL_checkudata(L, 1, PROCESS_NAME);

    return *box;
}

/* output() -> what came since the last call, whether there may be more */
static int process_output(lua_State *L)
{
    process *p = check_process(L);

    lua_pushlstring(L, p->unread.length > 0 ? p->unread.data : "",
                    p->unread.length);
    peri_buf_clear(&p->unread);
    lua_pushboolean(L, !p->ended);
    return 2;
}

/* ---- end ---- */

static void on_cancel(perilua_wait *wait)
{
    (void)wait; /* it lies in the process and is used again */
}

static int push_exit(lua_State *L, void *data)
{
    const process *p = data;

    lua_pushnumber(L, (lua_Number)p->exit_status);
    lua_pushinteger(L, p->exit_signal);
    return 2;
}

static void on_process_end(uv_process_t *handle, int64_t status, int signal)
{
    process *p = handle->data;

    p->running = false;
    p->exit_status = status;
    p->exit_signal = signal;
    uv_close((uv_handle_t *)handle, on_closed);
    perilua_task_wake(&p->joiner, push_exit, p);
}

/* wait() -> exit code, signal */
static int process_wait(lua_State *L)
{
    process *p = check_process(L);

    luaL_argcheck(L, p->joiner.task == NULL, 1, "it is being waited for");
    if (!p->running) {
        return push_exit(L, p);
    }
    p->joiner.cancel = on_cancel;
    return perilua_task_park(L, &p->joiner);
}

/* kill(signal[, whole_group]) */
static int process_kill(lua_State *L)
{
    process *p = check_process(L);
    int signal = (int)luaL_checkinteger(L, 2);

    if (p->running) {
        kill(lua_toboolean(L, 3) ? -p->handle.pid : p->handle.pid, signal);
    }
    return 0;
}

static int process_pid(lua_State *L)
{
    lua_pushinteger(L, check_process(L)->handle.pid);
    return 1;
}

static int process_gc(lua_State *L)
{
    process *p = check_process(L);

    if (p->running) {
        kill(-p->handle.pid, SIGKILL);
    }
    if (!p->ended) {
        p->ended = true;
        uv_close((uv_handle_t *)&p->output, on_closed);
    }
    p->released = true;
    maybe_free(p);
    return 0;
}

/* ---- start ---- */

/* A NULL-ended array of the strings of a list; freed by the caller, the
 * strings are Lua's. nil gives NULL. */
static char **check_strings(lua_State *L, int index)
{
    size_t count;
    char **list;

    if (lua_isnoneornil(L, index)) {
        return NULL;
    }
    luaL_checktype(L, index, LUA_TTABLE);
    count = lua_objlen(L, index);
    luaL_argcheck(L, count < WORDS_MAX, index, "too many");
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, index, (int)i);
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, index,
                      "a list of strings expected");
        lua_pop(L, 1);
    }
    list = peri_calloc(count + 1, sizeof *list);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, index, (int)i + 1);
        list[i] = (char *)(uintptr_t)lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    return list;
}

static int start(process *p, uv_loop_t *loop, char **argv, char **env,
                 const char *dir)
{
    int ends[2];
    int rc;
    uv_process_options_t options = {.exit_cb = on_process_end,
                                    .file = argv[0],
                                    .args = argv,
                                    .env = env,
                                    .cwd = dir,
                                    .flags = UV_PROCESS_DETACHED,
                                    .stdio_count = 3};
    uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE}};

    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    for (int i = 1; i < 3; i++) {
        stdio[i].flags = UV_INHERIT_FD;
        stdio[i].data.fd = ends[1];
    }
    options.stdio = stdio;
    uv_pipe_init(loop, &p->output, 0);
    uv_pipe_open(&p->output, ends[0]);
    p->open_handles = 2; /* uv_spawn initialises its handle in any case */
    p->output.data = p;
    p->handle.data = p;
    rc = uv_spawn(loop, &p->handle, &options);
    close(ends[1]);
    if (rc < 0) {
        p->ended = true;
        uv_close((uv_handle_t *)&p->handle, on_closed);
        uv_close((uv_handle_t *)&p->output, on_closed);
        return rc;
    }
    p->running = true;
    return uv_read_start((uv_stream_t *)&p->output, give_chunk, on_read);
}

/* spawn(argv[, env[, dir]]) -> process, or nil and an error. env is a list of
 * "NAME=value"; without it, that of this process. */
static int test_spawn(lua_State *L)
{
    char **argv = check_strings(L, 1);
    char **env = check_strings(L, 2); /* leaks argv when wrong: a test's bug */
    const char *dir = luaL_optstring(L, 3, NULL);
    process **box;
    process *p;
    int rc;

    if (argv == NULL || argv[0] == NULL) {
        free(argv);
        free(env);
        return luaL_argerror(L, 1, "a command expected");
    }
    box = lua_newuserdata(L, sizeof(process *));
    p = peri_calloc(1, sizeof *p);
    peri_buf_init(&p->unread, OUTPUT_MAX_BYTES);
    *box = p;
    luaL_getmetatable(L, PROCESS_NAME);
    lua_setmetatable(L, -2);
    rc = start(p, perilua_vm_of(L)->env->loop, argv, env, dir);
    free(env);
    if (rc < 0) {
        lua_pushstring(L, argv[0]);
        free(argv);
        return perilua_fail_rc(L, rc, lua_tostring(L, -1));
    }
    free(argv);
    return 1;
}

void perilua_test_add_process(lua_State *L)
{
    luaL_newmetatable(L, PROCESS_NAME);
    lua_pushcfunction(L, process_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    perilua_set_waiting(L, "wait", process_wait);
    lua_pushcfunction(L, process_output);
    lua_setfield(L, -2, "output");
    lua_pushcfunction(L, process_kill);
    lua_setfield(L, -2, "kill");
    lua_pushcfunction(L, process_pid);
    lua_setfield(L, -2, "pid");
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, test_spawn);
    lua_setfield(L, -2, "spawn");
}
