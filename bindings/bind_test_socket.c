/* perigee.core.test: plain TCP connections, to talk to what a spec started. */
#include <stdlib.h>
#include <string.h>

#include "bindings/bind.h"
#include "bindings/bind_test.h"
#include "core/base/alloc.h"
#include "core/base/buf.h"
#include "core/base/err.h"

#define SOCKET_NAME "perigee.core.test.socket"
#define UNREAD_MAX_BYTES ((size_t)256 << 20)
#define CHUNK_BYTES 65536

typedef struct test_socket {
    uv_tcp_t tcp;
    uv_connect_t connecting;
    peri_buf unread;
    int error; /* why no more can be read; UV_EOF for a proper end */
    bool closing;
    bool closed;
    bool released;
    perilua_wait reader; /* also of the connect */
    char chunk[CHUNK_BYTES];
} test_socket;

typedef struct test_write {
    uv_write_t request;
    perilua_wait wait;
    uv_buf_t buf;
} test_write;

static void maybe_free(test_socket *s)
{
    if (s->closed && s->released) {
        peri_buf_fini(&s->unread);
        free(s);
    }
}

static void on_closed(uv_handle_t *handle)
{
    test_socket *s = handle->data;

    s->closed = true;
    maybe_free(s);
}

static void socket_shut(test_socket *s)
{
    if (!s->closing) {
        s->closing = true;
        uv_close((uv_handle_t *)&s->tcp, on_closed);
    }
}

static void on_cancel(perilua_wait *wait)
{
    (void)wait; /* it lies in the socket and is used again */
}

static test_socket *check_socket(lua_State *L)
{
    test_socket **box = luaL_checkudata(L, 1, SOCKET_NAME);

    return *box;
}

/* ---- reading ---- */

static int push_unread(lua_State *L, void *data)
{
    test_socket *s = data;

    if (s->unread.length > 0) {
        lua_pushlstring(L, s->unread.data, s->unread.length);
        peri_buf_clear(&s->unread);
        return 1;
    }
    if (s->error == UV_EOF) {
        lua_pushnil(L);
        return 1;
    }
    return perilua_fail_rc(L, s->error, "reading");
}

static void give_chunk(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    test_socket *s = handle->data;

    (void)suggested;
    *buf = uv_buf_init(s->chunk, sizeof s->chunk);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    test_socket *s = stream->data;

    if (count == 0) {
        return;
    }
    if (count < 0) {
        s->error = (int)count;
        uv_read_stop(stream);
    } else if (peri_buf_append(&s->unread, buf->base, (size_t)count) < 0) {
        s->error = PERI_ELIMIT;
        uv_read_stop(stream);
    }
    perilua_task_wake(&s->reader, push_unread, s);
}

/* read() -> bytes, nil at the end, or nil and an error. */
static int socket_read(lua_State *L)
{
    test_socket *s = check_socket(L);

    luaL_argcheck(L, s->reader.task == NULL, 1, "it is being read");
    if (s->unread.length > 0 || s->error != 0) {
        return push_unread(L, s);
    }
    s->reader.cancel = on_cancel;
    return perilua_task_park(L, &s->reader);
}

/* ---- writing ---- */

static int push_status(lua_State *L, void *data)
{
    const int *status = data;

    if (*status < 0) {
        return perilua_fail_rc(L, *status, "writing");
    }
    lua_pushboolean(L, 1);
    return 1;
}

static void on_written(uv_write_t *request, int status)
{
    test_write *w = request->data;

    perilua_task_wake(&w->wait, push_status, &status);
    free(w->buf.base);
    free(w);
}

/* write(bytes) -> true when the kernel has them, or nil and an error. */
static int socket_write(lua_State *L)
{
    test_socket *s = check_socket(L);
    peri_slice bytes = perilua_check_slice(L, 2);
    test_write *w;
    int rc;

    if (s->closing) {
        return perilua_fail_rc(L, UV_EPIPE, "writing");
    }
    w = peri_calloc(1, sizeof *w);
    w->request.data = w;
    w->wait.cancel = on_cancel;
    w->buf = uv_buf_init(peri_strndup(bytes.data, bytes.length),
                         (unsigned)bytes.length);
    rc = uv_write(&w->request, (uv_stream_t *)&s->tcp, &w->buf, 1, on_written);
    if (rc < 0) {
        free(w->buf.base);
        free(w);
        return perilua_fail_rc(L, rc, "writing");
    }
    return perilua_task_park(L, &w->wait);
}

/* close(): both ways, at once. */
static int socket_close(lua_State *L)
{
    socket_shut(check_socket(L));
    return 0;
}

static int socket_gc(lua_State *L)
{
    test_socket *s = check_socket(L);

    socket_shut(s);
    s->released = true;
    maybe_free(s);
    return 0;
}

/* ---- connecting ---- */

/* true; connect() in Lua gives the socket. */
static int push_connected(lua_State *L, void *data)
{
    const int *status = data;

    if (*status < 0) {
        return perilua_fail_rc(L, *status, "connecting");
    }
    lua_pushboolean(L, 1);
    return 1;
}

static void on_connected(uv_connect_t *request, int status)
{
    test_socket *s = request->data;

    if (status < 0) {
        s->error = status;
    } else if (!s->closing) {
        uv_read_start((uv_stream_t *)&s->tcp, give_chunk, on_read);
    }
    perilua_task_wake(&s->reader, push_connected, &status);
}

/* socket() -> a socket that is not connected yet. */
static int test_socket_new(lua_State *L)
{
    test_socket **box = lua_newuserdata(L, sizeof(test_socket *));
    test_socket *s = peri_calloc(1, sizeof *s);

    *box = s;
    peri_buf_init(&s->unread, UNREAD_MAX_BYTES);
    uv_tcp_init(perilua_vm_of(L)->env->loop, &s->tcp);
    s->tcp.data = s;
    s->connecting.data = s;
    luaL_getmetatable(L, SOCKET_NAME);
    lua_setmetatable(L, -2);
    return 1;
}

/* connect(address, port) -> true, or nil and an error. Once. */
static int socket_connect(lua_State *L)
{
    test_socket *s = check_socket(L);
    const char *address = luaL_checkstring(L, 2);
    int port = (int)luaL_checkinteger(L, 3);
    struct sockaddr_storage where;
    int rc = strchr(address, ':') != NULL
                 ? uv_ip6_addr(address, port, (struct sockaddr_in6 *)&where)
                 : uv_ip4_addr(address, port, (struct sockaddr_in *)&where);

    if (rc == 0) {
        rc = uv_tcp_connect(&s->connecting, &s->tcp,
                            (const struct sockaddr *)&where, on_connected);
    }
    if (rc < 0) {
        return perilua_fail_rc(L, rc, "connecting");
    }
    s->reader.cancel = on_cancel;
    return perilua_task_park(L, &s->reader);
}

void perilua_test_add_socket(lua_State *L)
{
    luaL_newmetatable(L, SOCKET_NAME);
    lua_pushcfunction(L, socket_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    perilua_set_waiting(L, "connect", socket_connect);
    perilua_set_waiting(L, "read", socket_read);
    perilua_set_waiting(L, "write", socket_write);
    lua_pushcfunction(L, socket_close);
    lua_setfield(L, -2, "close");
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, test_socket_new);
    lua_setfield(L, -2, "socket");
}
