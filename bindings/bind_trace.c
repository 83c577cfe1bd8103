/* perigee.core.trace: spans for Lua. See perigee/trace.lua. */
#include <math.h>

#include "bindings/bind.h"
#include "bindings/bind_trace.h"
#include "core/base/clock.h"
#include "core/base/text_code.h"
#include "core/base/url.h"
#include "core/http/query_mask.h"

#define SPAN "perigee.trace.Span"
#define INTEGER_MAX 9007199254740992.0 /* 2^53 */

int perilua_open_trace(lua_State *L);

/* Userdata: a span that Lua began. */
typedef struct span_box {
    peri_trace_span *span;     /* NULL: ended */
    perilua_task *task;        /* whose current span it is; NULL: of none */
    peri_trace_span *previous; /* what that task was at before */
} span_box;

static span_box *check_box(lua_State *L, int index)
{
    return luaL_checkudata(L, index, SPAN);
}

static peri_tracer *tracer_of(lua_State *L)
{
    peri_tracer *tracer = perilua_vm_of(L)->env->tracer;

    return tracer != NULL && peri_tracer_is_on(tracer) ? tracer : NULL;
}

/* ---- contexts as tables ---- */

static peri_slice field(lua_State *L, int table, const char *name)
{
    peri_slice text = {NULL, 0};

    lua_getfield(L, table, name);
    if (lua_type(L, -1) == LUA_TSTRING) {
        text.data = lua_tolstring(L, -1, &text.length);
    }
    lua_pop(L, 1); /* the table keeps it */
    return text;
}

static bool read_context(lua_State *L, int table, peri_trace_remote *out)
{
    *out = (peri_trace_remote){.is_there = false};
    if (!lua_istable(L, table)) {
        return false;
    }
    out->is_there =
        peri_trace_id_read(field(L, table, "trace_id"), out->context.trace_id,
                           PERI_TRACE_ID_BYTES) == 0 &&
        peri_trace_id_read(field(L, table, "span_id"), out->context.span_id,
                           PERI_SPAN_ID_BYTES) == 0;
    lua_getfield(L, table, "sampled");
    out->context.sampled = lua_toboolean(L, -1);
    lua_pop(L, 1);
    lua_getfield(L, table, "random");
    out->context.random = lua_toboolean(L, -1);
    lua_pop(L, 1);
    lua_getfield(L, table, "debug");
    out->context.debug = lua_toboolean(L, -1);
    lua_pop(L, 1);
    out->state = field(L, table, "tracestate");
    if (!peri_tracestate_is_sane(out->state)) {
        out->state = PERI_SLICE("");
    }
    out->baggage = field(L, table, "baggage");
    if (!peri_baggage_is_sane(out->baggage)) {
        out->baggage = PERI_SLICE("");
    }
    return out->is_there;
}

static void set_hex(lua_State *L, const char *name, const unsigned char *bytes,
                    size_t count)
{
    char hex[2 * PERI_TRACE_ID_BYTES];

    peri_hex_encode(bytes, count, hex);
    lua_pushlstring(L, hex, 2 * count);
    lua_setfield(L, -2, name);
}

static void push_context(lua_State *L, const peri_trace_context *context,
                         peri_slice state, peri_slice baggage)
{
    lua_createtable(L, 0, 7);
    set_hex(L, "trace_id", context->trace_id, PERI_TRACE_ID_BYTES);
    set_hex(L, "span_id", context->span_id, PERI_SPAN_ID_BYTES);
    lua_pushboolean(L, context->sampled);
    lua_setfield(L, -2, "sampled");
    if (context->random) {
        lua_pushboolean(L, true);
        lua_setfield(L, -2, "random");
    }
    if (context->debug) {
        lua_pushboolean(L, true);
        lua_setfield(L, -2, "debug");
    }
    if (state.length != 0) {
        perilua_push_slice(L, state);
        lua_setfield(L, -2, "tracestate");
    }
    if (baggage.length != 0) {
        perilua_push_slice(L, baggage);
        lua_setfield(L, -2, "baggage");
    }
}

/* ---- values ---- */

/* key and value are at the indices. Lists and maps were made text by Lua. */
static void set_value(lua_State *L, peri_attributes *to, int key, int value)
{
    peri_attribute one = {.type = PERI_ATTRIBUTE_STRING};
    double number;

    one.key = perilua_check_slice(L, key);
    switch (lua_type(L, value)) {
    case LUA_TBOOLEAN:
        one.type = PERI_ATTRIBUTE_BOOL;
        one.value.truth = lua_toboolean(L, value);
        break;
    case LUA_TNUMBER:
        number = lua_tonumber(L, value);
        if (number == floor(number) && fabs(number) <= INTEGER_MAX) {
            one.type = PERI_ATTRIBUTE_INT;
            one.value.integer = (int64_t)number;
        } else {
            one.type = PERI_ATTRIBUTE_DOUBLE;
            one.value.real = number;
        }
        break;
    case LUA_TSTRING:
        one.text = perilua_check_slice(L, value);
        break;
    default:
        one.text = peri_slice_str(luaL_typename(L, value));
        break;
    }
    peri_attributes_set(to, &one);
}

/* ---- spans ---- */

static void enter(perilua_vm *vm, span_box *box)
{
    perilua_task *task = vm->current;

    if (task != NULL) {
        box->task = task;
        box->previous = task->span; /* its reference moves to the box */
        task->span = box->span;
        peri_trace_ref(box->span);
    }
}

static void leave(span_box *box)
{
    perilua_task *task = box->task;

    box->task = NULL;
    if (task != NULL && task->span == box->span) {
        peri_trace_unref(task->span);
        task->span = box->previous;
    } else {
        peri_trace_unref(box->previous);
    }
    box->previous = NULL;
}

static span_box *new_box(lua_State *L)
{
    span_box *box = lua_newuserdata(L, sizeof *box);

    memset(box, 0, sizeof *box);
    luaL_getmetatable(L, SPAN);
    lua_setmetatable(L, -2);
    return box;
}

/* start(name, kind[, parent]) -> span; nil when nobody records it. It is the
 * task's current one until finish. parent: a context as a table. */
static int trace_start(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    peri_tracer *tracer = tracer_of(L);
    peri_slice name = perilua_check_slice(L, 1);
    peri_span_kind kind = (peri_span_kind)luaL_checkint(L, 2);
    peri_trace_span *current = perilua_trace_current(vm);
    peri_trace_remote remote;
    bool has_parent;
    span_box *box;

    lua_settop(L, 3);
    has_parent = read_context(L, 3, &remote);
    if (tracer == NULL ||
        (!has_parent && current != NULL && !current->recording)) {
        return 0;
    }
    box = new_box(L);
    box->span = has_parent || current == NULL
                    ? peri_trace_begin(tracer, name, kind, &remote, 0)
                    : peri_trace_child(current, name, kind);
    enter(vm, box);
    return 1;
}

/* child(name, kind) -> span, below the current one; nil: it is not recorded. */
static int trace_child(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    peri_slice name = perilua_check_slice(L, 1);
    peri_span_kind kind = (peri_span_kind)luaL_checkint(L, 2);
    peri_trace_span *current = perilua_trace_current(vm);
    span_box *box;

    if (current == NULL || !current->recording) {
        return 0;
    }
    box = new_box(L);
    box->span = peri_trace_child(current, name, kind);
    enter(vm, box);
    return 1;
}

/* hold() -> the current span, for adopt(); nil: there is none. */
static int trace_hold(lua_State *L)
{
    peri_trace_span *current = perilua_trace_current(perilua_vm_of(L));

    if (current == NULL) {
        return 0;
    }
    new_box(L)->span = current;
    peri_trace_ref(current);
    return 1;
}

/* adopt(held): the running task, which is at nothing yet, is at that span. */
static int trace_adopt(lua_State *L)
{
    perilua_task *task = perilua_vm_of(L)->current;
    span_box *box = check_box(L, 1);

    if (task != NULL && task->span == NULL && box->span != NULL) {
        task->span = box->span; /* the box's reference moves */
        box->span = NULL;
    }
    return 0;
}

/* finish(span). */
static int trace_finish(lua_State *L)
{
    span_box *box = check_box(L, 1);

    if (box->span != NULL) {
        peri_trace_end(box->span, peri_clock_monotonic_ns());
        leave(box);
        peri_trace_unref(box->span);
        box->span = NULL;
    }
    return 0;
}

/* What was never finished: its task has ended in a way that nobody caught. */
static int span_gc(lua_State *L)
{
    span_box *box = check_box(L, 1);

    if (box->span != NULL) {
        peri_trace_unref(box->previous);
        peri_trace_unref(box->span);
        box->span = NULL;
    }
    return 0;
}

static peri_trace_span *span_at(lua_State *L, int index)
{
    return lua_isnoneornil(L, index) ? perilua_trace_current(perilua_vm_of(L))
                                     : check_box(L, index)->span;
}

/* set(span, key, value); span nil: the current one. */
static int trace_set(lua_State *L)
{
    peri_trace_span *span = span_at(L, 1);

    if (span != NULL && span->recording && !span->ended) {
        set_value(L, &span->attributes, 2, 3);
    }
    return 0;
}

/* event(span, name, flat list of keys and values or nil). */
static int trace_event(lua_State *L)
{
    peri_trace_span *span = span_at(L, 1);
    peri_slice name = perilua_check_slice(L, 2);
    peri_attributes *to = span != NULL ? peri_trace_event(span, name) : NULL;
    int count = lua_istable(L, 3) ? (int)lua_objlen(L, 3) : 0;

    for (int i = 1; to != NULL && i < count; i += 2) {
        lua_rawgeti(L, 3, i);
        lua_rawgeti(L, 3, i + 1);
        set_value(L, to, lua_gettop(L) - 1, lua_gettop(L));
        lua_pop(L, 2);
    }
    return 0;
}

/* status(span, 0 unset | 1 ok | 2 error[, message]). */
static int trace_status(lua_State *L)
{
    peri_trace_span *span = span_at(L, 1);
    int status = luaL_checkint(L, 2);
    peri_slice message =
        lua_isstring(L, 3) ? perilua_check_slice(L, 3) : PERI_SLICE("");

    if (span != NULL && status >= PERI_SPAN_UNSET &&
        status <= PERI_SPAN_ERROR) {
        peri_trace_set_status(span, (peri_span_status)status, message);
    }
    return 0;
}

static int trace_rename(lua_State *L)
{
    peri_trace_span *span = span_at(L, 1);

    if (span != NULL) {
        peri_trace_rename(span, perilua_check_slice(L, 2));
    }
    return 0;
}

/* link(span, context). */
static int trace_link(lua_State *L)
{
    peri_trace_span *span = span_at(L, 1);
    peri_trace_remote to;

    if (span != NULL && read_context(L, 2, &to)) {
        peri_trace_link(span, &to.context);
    }
    return 0;
}

/* current([span]) -> context as a table; nil: nothing is traced. */
static int trace_current(lua_State *L)
{
    peri_trace_span *span = span_at(L, 1);

    if (span == NULL) {
        return 0;
    }
    push_context(L, &span->context, peri_buf_slice(&span->root->state),
                 peri_buf_slice(&span->root->baggage));
    return 1;
}

typedef struct sink {
    lua_State *L;
    int count;
} sink;

static void add_header(void *data, peri_slice name, peri_slice value)
{
    sink *s = data;

    perilua_push_slice(s->L, name);
    lua_rawseti(s->L, -2, ++s->count);
    perilua_push_slice(s->L, value);
    lua_rawseti(s->L, -2, ++s->count);
}

/* headers([span]) -> {name, value, ...}; nil: nothing is traced. */
static int trace_headers(lua_State *L)
{
    peri_trace_span *span = span_at(L, 1);
    sink s = {.L = L};

    if (span == NULL) {
        return 0;
    }
    lua_createtable(L, 4, 0);
    peri_trace_inject(span, add_header, &s);
    return 1;
}

static peri_slice get_header(void *data, peri_slice name)
{
    lua_State *L = data;
    char key[32];

    memcpy(key, name.data, name.length);
    key[name.length] = '\0';
    return field(L, 1, key);
}

/* extract(headers, lower case) -> context as a table, or nil. */
static int trace_extract(lua_State *L)
{
    peri_tracer *tracer = tracer_of(L);
    peri_trace_remote remote;

    luaL_checktype(L, 1, LUA_TTABLE);
    if (tracer == NULL || !peri_trace_extract(tracer, get_header, L, &remote)) {
        return 0;
    }
    push_context(L, &remote.context, remote.state, remote.baggage);
    return 1;
}

/* masked(target) -> it, with the credentials in its query masked. */
static int trace_masked(lua_State *L)
{
    peri_slice target = perilua_check_slice(L, 1);
    const char *mark =
        target.length != 0 ? memchr(target.data, '?', target.length) : NULL;
    peri_buf out;
    size_t before;

    lua_settop(L, 1);
    if (mark == NULL) {
        return 1;
    }
    before = (size_t)(mark + 1 - target.data);
    peri_buf_init(&out, PERI_QUERY_MASKED_MAX(target.length));
    peri_buf_append(&out, target.data, before);
    if (peri_query_mask(peri_slice_of(mark + 1, target.length - before),
                        &out)) {
        lua_pushlstring(L, out.data, out.length);
    }
    peri_buf_fini(&out);
    return 1;
}

/* decoded(text) -> the value of a member of baggage: percent-decoded, and, as
 * W3C wants it, U+FFFD for what is no UTF-8 then. */
static int trace_decoded(lua_State *L)
{
    peri_slice text = perilua_check_slice(L, 1);
    char bytes[PERI_BAGGAGE_MAX];
    peri_buf out;

    luaL_argcheck(L, text.length <= sizeof bytes, 1, "too long");
    peri_buf_init(&out, 3 * sizeof bytes);
    peri_utf8_append(&out,
                     peri_slice_of(bytes, peri_url_decode(text, false, bytes)),
                     3 * sizeof bytes);
    perilua_push_slice(L, peri_buf_slice(&out));
    peri_buf_fini(&out);
    return 1;
}

/* Whether this generation's configuration asks for traces. */
static int trace_wanted(lua_State *L)
{
    const perilua_vm *vm = perilua_vm_of(L);

    lua_pushboolean(L, vm->settings != NULL && vm->env->tracer != NULL &&
                           peri_tracer_is_wanted(vm->settings));
    return 1;
}

int perilua_open_trace(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"start", trace_start},
        {"finish", trace_finish},
        {"set", trace_set},
        {"event", trace_event},
        {"status", trace_status},
        {"rename", trace_rename},
        {"link", trace_link},
        {"current", trace_current},
        {"headers", trace_headers},
        {"extract", trace_extract},
        {"masked", trace_masked},
        {"wanted", trace_wanted},
        {"child", trace_child},
        {"hold", trace_hold},
        {"adopt", trace_adopt},
        {"decoded", trace_decoded},
        {NULL, NULL},
    };

    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    luaL_newmetatable(L, SPAN);
    lua_pushcfunction(L, span_gc);
    lua_setfield(L, -2, "__gc");
    lua_setfield(L, -2, "span_metatable");
    return 1;
}
