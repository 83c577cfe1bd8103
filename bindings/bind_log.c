/* perigee.core.log: lines of the application's own. See perigee/log.lua. */
#include <stdio.h>

#include "bindings/bind.h"
#include "bindings/bind_log.h"
#include "bindings/bind_trace.h"
#include "bindings/json.h"
#include "bindings/log_line.h"
#include "core/base/clock.h"
#include "core/base/json_text.h"
#include "core/base/number.h"
#include "core/base/text_code.h"
#include "core/http/exchange.h"
#include "core/http/observe.h"

#define STATE_NAME "perigee.log.State"
/* What the end of a line takes, message included: kept free by the fields. */
#define TAIL_BYTES (PERILUA_LOG_STRING_MAX * 6 + 64)

int perilua_open_log(lua_State *L);

typedef struct log_state {
    peri_buf line;
    perilua_redact redact;
    int level; /* this generation's */
} log_state;

static log_state *state_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static void put_number(peri_buf *line, uint64_t number)
{
    char text[PERI_NUMBER_TEXT_BYTES];

    peri_buf_append(line, text, peri_number_write_u64(number, text));
}

static void put_head(peri_buf *line, const peri_logger *logger, int level)
{
    peri_buf_append_str(line, "{\"level\":");
    put_number(line, (uint64_t)level);
    peri_buf_append_str(line, ",\"time\":");
    put_number(line, peri_clock_wall_ms());
    peri_buf_append(line, logger->identity, logger->identity_length);
}

/* What the running task works for. PERILUA_LOG_HAS_... */
static unsigned put_request(peri_buf *line, const perilua_vm *vm)
{
    if (vm->current == NULL || vm->current->context == NULL) {
        return 0;
    }
    peri_buf_append_str(line, ",\"reqId\":");
    peri_json_append_string(line, peri_exchange_id(vm->current->context));
    return PERILUA_LOG_HAS_REQUEST;
}

static void put_id(peri_buf *line, const char *key, const unsigned char *id,
                   size_t bytes)
{
    char hex[2 * PERI_TRACE_ID_BYTES];

    peri_hex_encode(id, bytes, hex);
    peri_buf_append_str(line, key);
    peri_buf_append(line, hex, 2 * bytes);
    peri_buf_append_byte(line, '"');
}

static unsigned put_trace(peri_buf *line, const perilua_vm *vm)
{
    const peri_trace_span *span = perilua_trace_current(vm);

    if (span == NULL) {
        return 0;
    }
    put_id(line, ",\"trace_id\":\"", span->context.trace_id,
           PERI_TRACE_ID_BYTES);
    put_id(line, ",\"span_id\":\"", span->context.span_id, PERI_SPAN_ID_BYTES);
    return PERILUA_LOG_HAS_TRACE;
}

static void put_fields(lua_State *L, log_state *state, int index, unsigned has)
{
    if (lua_istable(L, index)) {
        perilua_log_fields(L, index, &state->redact, has, &state->line);
    } else if (!lua_isnoneornil(L, index)) {
        lua_createtable(L, 0, 1);
        lua_pushvalue(L, index);
        lua_setfield(L, -2, "fields");
        perilua_log_fields(L, lua_gettop(L), &state->redact, has, &state->line);
    }
}

static void put_message(lua_State *L, peri_buf *line, int index)
{
    size_t before = line->length;
    peri_slice text;
    int rc;

    if (lua_isnil(L, index)) {
        return;
    }
    if (lua_type(L, index) == LUA_TSTRING ||
        lua_type(L, index) == LUA_TNUMBER) {
        lua_pushvalue(L, index); /* tolstring changes a number in place */
    } else if (lua_isboolean(L, index)) {
        lua_pushstring(L, lua_toboolean(L, index) ? "true" : "false");
    } else {
        lua_pushfstring(L, "[%s]", luaL_typename(L, index));
    }
    text.data = lua_tolstring(L, -1, &text.length);
    rc = peri_buf_append_str(line, ",\"msg\":");
    if (rc < 0 || perilua_log_string(line, text) < 0) {
        line->length = before;
    }
    lua_pop(L, 1);
}

/* Builds the line of write()'s arguments. */
static void build(lua_State *L, log_state *state, int level)
{
    perilua_vm *vm = perilua_vm_of(L);
    peri_buf *line = &state->line;
    unsigned has;

    peri_buf_clear(line);
    line->max_bytes = PERILUA_LOG_LINE_MAX;
    put_head(line, vm->env->logger, level);
    has = put_request(line, vm) | put_trace(line, vm);
    if (lua_isstring(L, 2)) {
        peri_buf_append_slice(line, perilua_check_slice(L, 2));
    }
    if (!lua_isnil(L, 5)) {
        perilua_log_error(L, 5, &state->redact, line);
    }
    put_fields(L, state, 4, has);
    line->max_bytes = PERILUA_LOG_LINE_MAX + TAIL_BYTES;
    put_message(L, line, 3);
    peri_buf_append(line, "}\n", 2);
}

/* write(level, bindings, msg, fields, err), whatever the level: bindings as
 * encode() made them, or nil; err: an error that is not one of the fields, or
 * nil. */
static int log_write(lua_State *L)
{
    log_state *state = state_of(L);
    const peri_logger *logger = perilua_vm_of(L)->env->logger;
    int level = (int)luaL_checkinteger(L, 1);

    lua_settop(L, 5);
    if (logger != NULL) {
        build(L, state, level);
        logger->write(logger->data, peri_buf_slice(&state->line));
    }
    return 0;
}

/* format(as write) -> the line. */
static int log_format(lua_State *L)
{
    log_state *state = state_of(L);
    int level = (int)luaL_checkinteger(L, 1);

    lua_settop(L, 5);
    build(L, state, level);
    perilua_push_slice(L, peri_buf_slice(&state->line));
    return 1;
}

/* encode(bindings, fields) -> bindings: with more of them at its end. */
static int log_encode(lua_State *L)
{
    log_state *state = state_of(L);

    lua_settop(L, 2);
    peri_buf_clear(&state->line);
    state->line.max_bytes = PERILUA_LOG_LINE_MAX / 2;
    if (lua_isstring(L, 1)) {
        peri_buf_append_slice(&state->line, perilua_check_slice(L, 1));
    }
    put_fields(L, state, 2, 0);
    perilua_push_slice(L, peri_buf_slice(&state->line));
    return 1;
}

/* level() -> the least level that is written. */
static int log_level(lua_State *L)
{
    lua_pushinteger(L, state_of(L)->level);
    return 1;
}

static int state_gc(lua_State *L)
{
    log_state *state = luaL_checkudata(L, 1, STATE_NAME);

    peri_buf_fini(&state->line);
    perilua_redact_fini(&state->redact);
    return 0;
}

/* Adds the paths of the list at index; raises for a bad one. */
static void read_redact(lua_State *L, int index, log_state *state)
{
    int count = (int)lua_objlen(L, index);

    for (int i = 1; i <= count; i++) {
        size_t length;
        const char *path;

        lua_rawgeti(L, index, i);
        path = lua_tolstring(L, -1, &length);
        if (path == NULL ||
            perilua_redact_add(&state->redact, peri_slice_of(path, length)) <
                0) {
            luaL_error(L,
                       "log.redact: %s: not a dotted path of up to %d names "
                       "(at most %d paths)",
                       path != NULL ? path : "?", PERILUA_LOG_SEGMENTS_MAX,
                       PERILUA_LOG_REDACT_MAX);
        }
        lua_pop(L, 1);
    }
}

static int log_new(lua_State *L);

static const luaL_Reg functions[] = {
    {"write", log_write}, {"format", log_format}, {"encode", log_encode},
    {"level", log_level}, {"new", log_new},       {NULL, NULL}};

/* Pushes the module with a state of its own; paths: index of a list. */
static int push_module(lua_State *L, int level, int paths)
{
    log_state *state;
    int at;

    lua_newtable(L);
    state = lua_newuserdata(L, sizeof *state);
    at = lua_gettop(L);
    peri_buf_init(&state->line, PERILUA_LOG_LINE_MAX);
    state->redact.count = 0;
    state->level = level;
    luaL_newmetatable(L, STATE_NAME);
    lua_pushcfunction(L, state_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, at);
    if (lua_istable(L, paths)) {
        read_redact(L, paths, state);
    }
    luaL_setfuncs(L, functions, 1);
    return 1;
}

/* new(level, paths) -> the same functions with another level and redaction. */
static int log_new(lua_State *L)
{
    int level = (int)luaL_checkinteger(L, 1);

    lua_settop(L, 2);
    return push_module(L, level, 2);
}

/* Pushes the list of log.redact, or nil. */
static void push_paths(lua_State *L)
{
    const peri_settings *settings = perilua_vm_of(L)->settings;
    const char *paths = settings != NULL
                            ? peri_settings_str(settings, "log.redact", NULL)
                            : NULL;

    if (paths == NULL || perilua_json_decode(L, peri_slice_str(paths)) < 0) {
        lua_pushnil(L);
    }
}

unsigned perilua_log_hidden(lua_State *L)
{
    static const struct {
        const char *names[3];
        peri_access_hides hides;
    } values[] = {
        {{"req", NULL}, PERI_ACCESS_HIDES_REQ},
        {{"req", "id", NULL}, PERI_ACCESS_HIDES_ID},
        {{"req", "method", NULL}, PERI_ACCESS_HIDES_METHOD},
        {{"req", "url", NULL}, PERI_ACCESS_HIDES_URL},
        {{"req", "remoteAddress", NULL}, PERI_ACCESS_HIDES_REMOTE},
        {{"res", NULL}, PERI_ACCESS_HIDES_RES},
        {{"res", "statusCode", NULL}, PERI_ACCESS_HIDES_STATUS},
        {{"responseTime", NULL}, PERI_ACCESS_HIDES_TIME},
    };
    perilua_redact redact = {.count = 0};
    int count;
    unsigned hidden = 0;

    push_paths(L);
    count = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
    for (int i = 1; i <= count; i++) {
        peri_slice path = {NULL, 0};

        lua_rawgeti(L, -1, i);
        path.data = lua_tolstring(L, -1, &path.length);
        perilua_redact_add(&redact, path);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        hidden |= perilua_redact_covers(&redact, values[i].names)
                      ? (unsigned)values[i].hides
                      : 0;
    }
    perilua_redact_fini(&redact);
    return hidden;
}

int perilua_open_log(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    const char *level = vm->settings != NULL
                            ? peri_settings_str(vm->settings, "log.level", NULL)
                            : NULL;

    push_paths(L);
    return push_module(L,
                       level != NULL             ? peri_log_level_parse(level)
                       : vm->env->logger != NULL ? vm->env->logger->level
                                                 : PERI_LOG_SILENT,
                       lua_gettop(L));
}
