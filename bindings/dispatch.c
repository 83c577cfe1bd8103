/* Dispatch: from an exchange to a handler and back. The hot path.
 *
 * Two crossings into Lua a request: the start of the handler, and, for answers
 * that are not plain values, perigee.response. Nothing is allocated here but
 * the req table. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/bind.h"
#include "bindings/gen.h"
#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/http/file.h"
#include "core/http/tracer.h"

#define ARGUMENTS_MAX 1000 /* in a query */
#define LEAVE_NS ((uint64_t)1000000000)
/* What files and the health paths have. */
#define READING                                                                \
    (1u << PERI_METHOD_GET | 1u << PERI_METHOD_HEAD | 1u << PERI_METHOD_OPTIONS)

/* ---- requests under way ---- */

static perilua_request *request_take(peri_host *host)
{
    perilua_request *request = host->free_requests;

    if (request != NULL) {
        host->free_requests = request->next_free;
        return request;
    }
    request = peri_calloc(1, sizeof *request);
    peri_list_init(&request->writers);
    return request;
}

static void request_finish(perilua_request *request)
{
    perilua_gen *gen = request->gen;
    peri_exchange *ex = request->exchange;

    peri_timer_stop(perilua_timers(gen->vm), &request->leave);
    peri_exchange_drain_cancel(ex);
    perilua_wake_writers(request, PERI_EGONE);
    request->serial++; /* req tables that are still about are void now */
    if (request->finished != NULL) {
        *request->finished = true;
    }
    ex->user = NULL;
    request->exchange = NULL;
    request->next_free = gen->host->free_requests;
    gen->host->free_requests = request;
    peri_exchange_unref(ex);
    perilua_gen_unused(gen);
}

/* Pushes a req table, {request, serial}, for perigee.response; handlers' are
 * made by their entry. Requests are never freed before their host is, so the
 * serial tells a late use from a good one. */
static void push_req(lua_State *co, perilua_request *request)
{
    lua_createtable(co, 2, 0);
    lua_pushlightuserdata(co, request);
    lua_rawseti(co, -2, 1);
    lua_pushnumber(co, (lua_Number)request->serial);
    lua_rawseti(co, -2, 2);
    lua_rawgeti(co, LUA_REGISTRYINDEX, request->gen->request_metatable);
    lua_setmetatable(co, -2);
}

/* Pushes an entry's arguments; returns how many. */
static int push_arguments(lua_State *co, perilua_request *request,
                          const peri_route_match *match)
{
    lua_pushlightuserdata(co, request);
    lua_pushnumber(co, (lua_Number)request->serial);
    for (uint16_t i = 0; i < match->param_count; i++) {
        perilua_push_decoded(co, match->params[i], false);
    }
    return 2 + match->param_count;
}

/* ---- the end of the handler ---- */

/* Hands the values on top of the task's stack to a function of
 * perigee.response: shape(req, ...) or fail(req, err, traceback). */
static void shape(perilua_request *request, lua_State *co, int function,
                  int nresults)
{
    request->shaping = true;
    lua_rawgeti(co, LUA_REGISTRYINDEX, function);
    lua_insert(co, -nresults - 1);
    push_req(co, request);
    lua_insert(co, -nresults - 1);
    perilua_task_continue(request->task, nresults + 1);
}

static void shape_failure(perilua_request *request, lua_State *co)
{
    lua_State *L = request->gen->vm->L;
    lua_State *fresh;

    luaL_traceback(L, co, NULL, 0);
    lua_xmove(co, L, 1);
    lua_insert(L, -2);
    fresh = perilua_task_renew(request->task);
    lua_xmove(L, fresh, 2);
    shape(request, fresh, request->gen->fail, 2);
}

/* perigee.response itself failed, or there is nothing sensible left to do. */
static void answer_bare_failure(perilua_request *request, lua_State *co, int rc)
{
    peri_exchange *ex = request->exchange;
    const char *why = rc < 0 ? lua_tostring(co, -1) : NULL;

    if (why != NULL) {
        peri_log(request->gen->host->env.logger, PERI_LOG_ERROR,
                 "answering failed: %s", why);
    }
    if (ex->begun && !ex->ended) {
        peri_exchange_abort(ex);
    } else if (!ex->begun) {
        peri_exchange_problem(ex, 500, PERI_SLICE(""), NULL, 0);
    }
}

static void on_handler_done(void *data, perilua_task *task, lua_State *co,
                            int rc, int nresults)
{
    perilua_request *request = data;
    peri_exchange *ex = request->exchange;

    (void)task;
    if (ex->gone || ex->ended) {
        request_finish(request);
        return;
    }
    if (rc == 0 && !ex->begun &&
        perilua_answer(request, co, 1, nresults) == 0) {
        request_finish(request);
        return;
    }
    if (request->shaping) {
        answer_bare_failure(request, co, rc);
        request_finish(request);
    } else if (rc == 0) {
        shape(request, co, request->gen->shape, nresults);
    } else {
        shape_failure(request, co);
    }
}

/* ---- the start of the handler ---- */

void perilua_dispatch(perilua_gen *gen, peri_exchange *ex, uint32_t id,
                      uint32_t timeout_ms, const peri_route_match *match)
{
    perilua_request *request = request_take(gen->host);
    perilua_task *task = perilua_task_create(gen->vm, NULL);
    bool finished = false;
    lua_State *co = task->co;
    int nargs = 0;

    request->exchange = ex;
    request->gen = gen;
    request->task = task;
    request->allowed = match->allowed;
    request->shaping = false;
    request->finished = &finished;
    ex->user = request;
    peri_exchange_ref(ex); /* dropped by request_finish */
    gen->active++;
    task->context = ex;
    lua_rawgeti(co, LUA_REGISTRYINDEX, (int)(id & ~PERILUA_ROUTE_BARE));
    if ((id & PERILUA_ROUTE_BARE) == 0) {
        nargs = push_arguments(co, request, match);
    }
    perilua_task_run(
        task, nargs,
        timeout_ms == 0 ? 0 : ex->started_ns + (uint64_t)timeout_ms * 1000000u,
        on_handler_done, request);
    if (!finished) {
        request->finished = NULL;
        peri_exchange_keep(ex);
    }
}

/* Empty ones ("a=1&&b=2&") do not count, as they are not read either. */
static bool too_many_arguments(peri_slice query)
{
    const char *at = query.data;
    const char *end = query.data + query.length;
    int count = 0;

    if (query.length <= ARGUMENTS_MAX) {
        return false;
    }
    while (at < end) {
        const char *next = memchr(at, '&', (size_t)(end - at));

        if (next == NULL) {
            next = end;
        }
        count += next > at;
        at = next + 1;
    }
    return count > ARGUMENTS_MAX;
}

/* What is refused before any Lua: true when it has been answered. */
static bool refuse(peri_exchange *ex, uint64_t body_max_bytes)
{
    if (ex->query.length != 0 &&
        too_many_arguments(peri_exchange_text(ex, ex->query))) {
        peri_exchange_problem(
            ex, 400, PERI_SLICE("more than 1000 query arguments"), NULL, 0);
        return true;
    }
    if (!ex->has_body) {
        return false;
    }
    if (peri_exchange_body_limit(ex, body_max_bytes) < 0) {
        peri_exchange_problem(ex, 413, PERI_SLICE("the body is too large"),
                              NULL, 0);
        return true;
    }
    peri_slice coding = peri_exchange_field(ex, PERI_SLICE("content-encoding"));
    if (coding.length != 0 &&
        !peri_slice_equal_nocase(coding, PERI_SLICE("identity"))) {
        peri_exchange_problem(
            ex, 415, PERI_SLICE("the Content-Encoding is not supported"),
            &(peri_field){PERI_SLICE("Accept-Encoding"),
                          PERI_SLICE("identity")},
            1);
        return true;
    }
    return false;
}

/* ---- what no route answers ---- */

/* What a path has: 204 for OPTIONS, 405 for what is not among it. */
static void answer_allowed(peri_exchange *ex, uint32_t allowed)
{
    char allow[128];
    peri_field field = {PERI_SLICE("Allow"), {allow, 0}};

    field.value.length = peri_methods_format(allowed, allow, sizeof allow);
    if (ex->method == PERI_METHOD_OPTIONS) {
        peri_exchange_answer(ex, 204, PERI_SLICE(""), &field, 1,
                             PERI_SLICE(""));
    } else {
        peri_exchange_problem(ex, 405, PERI_SLICE(""), &field, 1);
    }
}

/* The application's word for it, or ours. */
static void answer_absent(perilua_gen *gen, peri_exchange *ex,
                          const peri_route_match *match)
{
    if (gen->not_found != LUA_NOREF) {
        if (!refuse(ex, gen->body_max_bytes)) {
            perilua_dispatch(gen, ex, (uint32_t)gen->not_found,
                             gen->request_timeout_ms, match);
        }
        return;
    }
    if (match->allowed == 0) {
        peri_exchange_problem(ex, 404, PERI_SLICE(""), NULL, 0);
    } else {
        answer_allowed(ex, match->allowed);
    }
}

static void answer_looked_up(perilua_gen *gen, peri_exchange *ex,
                             uint32_t allowed)
{
    peri_route_match match = {.allowed = allowed};

    if (!ex->gone) {
        answer_absent(gen, ex, &match);
        peri_exchange_keep(ex);
    }
    perilua_gen_unused(gen);
}

static void on_no_file(void *data, peri_exchange *ex)
{
    answer_looked_up(data, ex, 0);
}

static void on_file_there(void *data, peri_exchange *ex)
{
    answer_looked_up(data, ex, READING);
}

static void on_file_served(void *data, peri_exchange *ex)
{
    (void)ex;
    perilua_gen_unused(data);
}

static void dispatch_to_files(perilua_gen *gen, peri_exchange *ex, bool reads)
{
    peri_slice path = peri_exchange_text(ex, ex->path);

    gen->active++;
    if (reads) {
        peri_file_serve(gen->host->files, ex, path, NULL, on_file_served,
                        on_no_file, gen);
    } else {
        peri_file_find(gen->host->files, ex, path, on_file_there, on_no_file,
                       gen);
    }
    if (!ex->ended) {
        peri_exchange_keep(ex);
    }
}

static void dispatch_unrouted(perilua_gen *gen, peri_exchange *ex,
                              peri_route_match *match)
{
    peri_slice path = peri_exchange_text(ex, ex->path);
    bool reads =
        ex->method == PERI_METHOD_GET || ex->method == PERI_METHOD_HEAD;

    if (ex->method == PERI_METHOD_OTHER) {
        peri_exchange_problem(ex, 501, PERI_SLICE(""), NULL, 0);
        return;
    }
    if (ex->method == PERI_METHOD_OPTIONS &&
        peri_slice_equal(path, PERI_SLICE("*"))) {
        answer_allowed(ex, (1u << PERI_METHOD_CONNECT) - 1);
        return;
    }
    if (match->allowed == 0 && perilua_is_health(gen, path)) {
        if (reads) {
            perilua_answer_health(gen, ex, path);
            return;
        }
        match->allowed = READING;
    }
    if (match->allowed == 0 && gen->serves_files) {
        dispatch_to_files(gen, ex, reads);
        return;
    }
    answer_absent(gen, ex, match);
}

/* Development: while the last change is refused, a browser is told so. */
static bool show_fault(perilua_gen *gen, peri_exchange *ex)
{
    peri_route_match none = {.allowed = 0};
    peri_slice accept;

    if (gen->host->fault == NULL || gen->refused == LUA_NOREF ||
        ex->method != PERI_METHOD_GET) {
        return false;
    }
    accept = peri_exchange_field(ex, PERI_SLICE("accept"));
    if (accept.length == 0 ||
        memmem(accept.data, accept.length, "text/html", 9) == NULL) {
        return false;
    }
    perilua_dispatch(gen, ex, (uint32_t)gen->refused, gen->request_timeout_ms,
                     &none);
    return true;
}

/* What most hosts have not. True: it has been answered. */
static bool attend(perilua_gen *gen, peri_exchange *ex)
{
    peri_host *host = gen->host;

    if (peri_tracer_is_on(host->env.tracer)) {
        peri_tracer_request(host->env.tracer, ex);
    }
    return host->fault != NULL && show_fault(gen, ex);
}

/* What is matched; it lives as long as the exchange, since parameters are of
 * it. */
static peri_slice path_of(peri_exchange *ex)
{
    peri_slice path = peri_exchange_text(ex, ex->path);
    char *normal;

    if (memchr(path.data, '%', path.length) == NULL) {
        return path;
    }
    normal = peri_arena_alloc(peri_exchange_arena(ex), path.length);
    return peri_slice_of(normal, peri_path_normalize(path, normal));
}

/* ---- the host's peri_http_app ---- */

void perilua_on_request(void *data, peri_exchange *ex)
{
    perilua_gen *gen = perilua_host_live(data);
    peri_route_match match;
    const peri_route *route;

    if (gen == NULL) {
        peri_exchange_problem(ex, 503, PERI_SLICE(""), NULL, 0);
        return;
    }
    if (gen->host->attentive && attend(gen, ex)) {
        return;
    }
    if (!peri_router_match(gen->router, (peri_method)ex->method, path_of(ex),
                           &match)) {
        dispatch_unrouted(gen, ex, &match);
        return;
    }
    route = match.route;
    ex->route = route;
    if (!refuse(ex, route->body_max_bytes != UINT64_MAX
                        ? route->body_max_bytes
                        : gen->body_max_bytes)) {
        perilua_dispatch(gen, ex, route->id,
                         route->timeout_ms != PERI_ROUTE_TIMEOUT_UNSET
                             ? route->timeout_ms
                             : gen->request_timeout_ms,
                         &match);
    }
}

static void request_cancel(perilua_request *request)
{
    perilua_task_cancel(request->task, "cancelled", "the client has gone away");
}

static void on_leave(peri_timer *timer)
{
    request_cancel(PERI_CONTAINER(timer, perilua_request, leave));
}

/* A stream learns of it from its next write, which gives nil and an error; only
 * when it does not write is its task cancelled. */
void perilua_on_gone(void *data, peri_exchange *ex)
{
    perilua_request *request = ex->user;

    (void)data;
    if (request == NULL) {
        return;
    }
    if (ex->begun) {
        perilua_vm *vm = request->gen->vm;

        peri_timer_start(perilua_timers(vm), &request->leave,
                         perilua_now_ns(vm) + LEAVE_NS, on_leave);
    } else {
        request_cancel(request);
    }
}

void perilua_on_done(void *data, peri_exchange *ex)
{
    peri_host *host = data;

    if (host->observes) {
        perilua_host_observe(host, ex);
    }
}
