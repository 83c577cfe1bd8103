/* perigee.core.request, continued: files and streamed answers. */
#include <stdlib.h>

#include "bindings/bind.h"
#include "bindings/gen.h"
#include "bindings/modules.h"
#include "core/base/alloc.h"
#include "core/http/file.h"

#define STREAM_FIELDS_MAX 100

/* ---- files ---- */

typedef struct file_wait {
    perilua_wait wait;
    bool starting; /* peri_file_serve may answer at once */
    bool over;
    bool served;
} file_wait;

static int push_served(lua_State *L, void *data)
{
    file_wait *file = data;

    lua_pushboolean(L, file->served);
    return 1;
}

static void file_over(file_wait *file, bool served)
{
    file->served = served;
    file->over = true;
    if (file->starting) {
        return; /* request_file goes on with it */
    }
    perilua_task_wake(&file->wait, push_served, file);
    free(file);
}

static void on_file_served(void *data, peri_exchange *ex)
{
    (void)ex;
    file_over(data, true);
}

static void on_file_absent(void *data, peri_exchange *ex)
{
    (void)ex;
    file_over(data, false);
}

/* The file goes on by itself, or stops when the client has gone. */
static void on_file_cancel(perilua_wait *wait)
{
    (void)wait;
}

/* Fills at most max fields from the list {name, value, name, value, ...}. */
static size_t check_fields(lua_State *L, int index, peri_field *fields,
                           size_t max)
{
    size_t count = 0;

    luaL_checktype(L, index, LUA_TTABLE);
    luaL_checkstack(L, 2 * (int)max + 4, "too many fields");
    for (int i = 1; count < max; i += 2) {
        lua_rawgeti(L, index, i);
        if (lua_isnil(L, -1)) {
            break;
        }
        lua_rawgeti(L, index, i + 1);
        fields[count].name = perilua_check_slice(L, -2);
        fields[count].value = perilua_check_slice(L, -1);
        count++;
    }
    return count;
}

/* file(req, path, fields) -> whether it was there, after it has been sent. path
 * is relative to public/. */
static int request_file(lua_State *L)
{
    perilua_request *request = perilua_check_request(L, 1);
    peri_slice path = perilua_check_slice(L, 2);
    peri_field fields[STREAM_FIELDS_MAX];
    peri_file_extra extra = {
        .fields = fields,
        .field_count = check_fields(L, 3, fields, STREAM_FIELDS_MAX),
        .status = (int)luaL_optinteger(L, 4, 200),
    };
    file_wait *file = peri_calloc(1, sizeof *file);

    file->wait.cancel = on_file_cancel;
    file->starting = true;
    peri_file_serve(request->gen->host->files, request->exchange, path, &extra,
                    on_file_served, on_file_absent, file);
    file->starting = false;
    if (file->over) {
        int n = push_served(L, file);

        free(file);
        return n;
    }
    return perilua_task_park(L, &file->wait);
}

/* ---- streamed answers ---- */

typedef struct drain_wait {
    perilua_wait wait;
    peri_list link; /* in request->writers */
    perilua_request *request;
} drain_wait;

static int push_written(lua_State *L, void *data)
{
    const int *rc = data;

    if (*rc < 0) {
        return perilua_fail(L, "cancelled", peri_err_name(*rc),
                            "the client has gone away");
    }
    lua_pushboolean(L, 1);
    return 1;
}

void perilua_wake_writers(perilua_request *request, int rc)
{
    peri_list woken; /* one that writes on may come to wait anew */

    peri_list_init(&woken);
    while (!peri_list_empty(&request->writers)) {
        peri_list *first = request->writers.next;

        peri_list_remove(first);
        peri_list_append(&woken, first);
    }
    while (!peri_list_empty(&woken)) {
        drain_wait *drain = PERI_CONTAINER(woken.next, drain_wait, link);

        peri_list_remove(&drain->link);
        perilua_task_wake(&drain->wait, push_written, &rc);
        free(drain);
    }
}

static void on_drained(void *data, int rc)
{
    perilua_wake_writers(data, rc);
}

static void on_drain_cancel(perilua_wait *wait)
{
    drain_wait *drain = PERI_CONTAINER(wait, drain_wait, wait);
    perilua_request *request = drain->request;

    peri_list_remove(&drain->link);
    free(drain);
    if (peri_list_empty(&request->writers) && request->exchange != NULL) {
        peri_exchange_drain_cancel(request->exchange);
    }
}

/* write(req, chunk) -> true; or nil and an error of kind "cancelled". Waits
 * while the client is slow; several tasks may write to one answer. */
static int request_write(lua_State *L)
{
    perilua_request *request = perilua_check_request(L, 1);
    int rc = peri_exchange_write(request->exchange, perilua_check_slice(L, 2));
    drain_wait *drain;

    if (rc != PERI_EAGAIN) {
        return push_written(L, &rc);
    }
    drain = peri_calloc(1, sizeof *drain);
    drain->request = request;
    drain->wait.cancel = on_drain_cancel;
    peri_list_append(&request->writers, &drain->link);
    peri_exchange_on_drain(request->exchange, on_drained, request);
    return perilua_task_park(L, &drain->wait);
}

/* begin(req, status, {name, value, name, value, ...}[, length]) -> whether
 * there is more to send. Names and values are strings; checked by
 * perigee.response. */
static int request_begin(lua_State *L)
{
    peri_exchange *ex = perilua_check_exchange(L, 1);
    int status = (int)luaL_checkinteger(L, 2);
    int64_t length = (int64_t)luaL_optnumber(L, 4, -1);
    peri_field fields[STREAM_FIELDS_MAX];
    size_t count = check_fields(L, 3, fields, STREAM_FIELDS_MAX);

    if (!ex->gone && !ex->begun) {
        peri_exchange_begin(ex, status, fields, count, length);
        if (ex->method == PERI_METHOD_HEAD) {
            peri_exchange_end(ex); /* or the stream might never */
        }
    }
    lua_pushboolean(L, !ex->ended);
    return 1;
}

static int request_end(lua_State *L)
{
    peri_exchange *ex = perilua_check_exchange(L, 1);

    if (ex->begun && !ex->ended && !ex->gone) {
        peri_exchange_end(ex);
    }
    return 0;
}

static int request_abort(lua_State *L)
{
    peri_exchange *ex = perilua_check_exchange(L, 1);

    if (!ex->ended && !ex->gone) {
        peri_exchange_abort(ex);
    }
    return 0;
}

/* take_back(req) -> whether nothing of the answer has left: another may be
 * given. */
static int request_take_back(lua_State *L)
{
    lua_pushboolean(L, peri_exchange_take_back(perilua_check_exchange(L, 1)));
    return 1;
}

/* no_deadline(req): a stream may last; each write has its own time-out. */
static int request_no_deadline(lua_State *L)
{
    perilua_request *request = perilua_check_request(L, 1);

    perilua_task_clear_deadline(request->task);
    return 0;
}

void perilua_add_stream(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"begin", request_begin},
        {"finish", request_end},
        {"abort", request_abort},
        {"take_back", request_take_back},
        {"no_deadline", request_no_deadline},
        {NULL, NULL},
    };

    luaL_register(L, NULL, functions);
    perilua_set_waiting(L, "write", request_write);
    perilua_set_waiting(L, "file", request_file);
}
