/* perigee.core.client: what has come of a call, as values of Lua. */
#include <assert.h>

#include "bindings/bind.h"
#include "bindings/client_bind.h"
#include "core/base/err.h"
#include "core/http/scan_text.h"

void perilua_client_close(perilua_client_call *box)
{
    perilua_task_disown(&box->owned);
    peri_call_destroy(box->call);
    box->call = NULL;
}

static const char *code_of(int rc)
{
    if (rc == UV_EAI_NONAME || rc == UV_EAI_NODATA) {
        return "ENOTFOUND";
    }
    return rc <= UV_EAI_ADDRFAMILY && rc > UV_EOF ? uv_err_name(rc)
                                                  : peri_err_name(rc);
}

static int push_cut(lua_State *L, const perilua_client_call *box,
                    peri_call_stage stage)
{
    return perilua_fail(L, "unavailable", "ECONNRESET",
                        "%s: the server closed the connection %s", box->what,
                        stage == PERI_CALL_SENT   ? "without an answer"
                        : stage == PERI_CALL_HEAD ? "within the head"
                                                  : "within the body");
}

static int push_fault(lua_State *L, const perilua_client_call *box,
                      peri_call_fault fault)
{
    switch (fault.rc) {
    case PERI_ETIMEOUT:
        return perilua_fail(L, "timeout", fault.detail, "%s: %s", box->what,
                            fault.stage <= PERI_CALL_CONNECTING
                                ? "no connection in time"
                            : fault.stage == PERI_CALL_SENT
                                ? "no answer in time"
                                : "the answer was not complete in time");
    case PERI_EFORMAT:
        return perilua_fail(L, "unavailable", "bad_response",
                            "%s: malformed answer: %s", box->what,
                            fault.detail != NULL ? fault.detail : "");
    case PERI_ELIMIT:
        if (fault.stage == PERI_CALL_QUEUED) {
            return perilua_fail(L, "unavailable", "queue_full",
                                "%s: too many requests wait already",
                                box->what);
        }
        return perilua_fail(L, "too_large", "body_max",
                            "%s: the answer's body is larger than body_max",
                            box->what);
    case PERI_EGONE:
        return push_cut(L, box, fault.stage);
    case PERI_ESTATE:
        return perilua_fail(L, "forbidden", "private_address",
                            "%s: the address is not public", box->what);
    default:
        return perilua_fail(L, "unavailable", code_of(fault.rc), "%s: %s",
                            box->what,
                            fault.rc <= UV_EAI_ADDRFAMILY && fault.rc > UV_EOF
                                ? uv_strerror(fault.rc)
                                : peri_err_text(fault.rc));
    }
}

static void push_lower(lua_State *L, peri_slice name)
{
    char small[64];
    luaL_Buffer large;

    assert(name.data != NULL); /* a field's name has a byte at least */
    if (name.length <= sizeof small) {
        for (size_t i = 0; i < name.length; i++) {
            char c = name.data[i];

            small[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
        }
        lua_pushlstring(L, small, name.length);
        return;
    }
    luaL_buffinit(L, &large);
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];

        luaL_addchar(&large, (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c));
    }
    luaL_pushresult(&large);
}

/* headers[name] = value, or a list of values; name and value are on top. */
static void add_header(lua_State *L, int headers)
{
    lua_pushvalue(L, -2);
    lua_rawget(L, headers);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_rawset(L, headers);
        return;
    }
    if (!lua_istable(L, -1)) {
        lua_createtable(L, 2, 0);
        lua_insert(L, -2);
        lua_rawseti(L, -2, 1);
    }
    lua_insert(L, -2); /* name, list, value */
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    lua_rawset(L, headers);
}

static bool is_stale(peri_slice name)
{
    assert(name.data != NULL); /* no field is without a name */
    return peri_slice_equal_nocase(name, PERI_SLICE("content-encoding")) ||
           peri_slice_equal_nocase(name, PERI_SLICE("content-length"));
}

void perilua_client_push_headers(lua_State *L, const peri_reply *reply,
                                 bool decoded)
{
    int headers;

    lua_createtable(L, 0, reply->field_count);
    headers = lua_gettop(L);
    for (unsigned i = 0; i < reply->field_count; i++) {
        peri_slice name = peri_reply_text(reply, reply->fields[i].name);

        if (decoded && is_stale(name)) {
            continue;
        }
        push_lower(L, name);
        perilua_push_slice(L, peri_reply_text(reply, reply->fields[i].value));
        add_header(L, headers);
    }
}

bool perilua_client_is_ready(const perilua_client_call *box)
{
    if (box->call == NULL || peri_call_get_fault(box->call).rc != 0) {
        return true;
    }
    switch (box->want) {
    case PERILUA_WANT_HEAD:
        return peri_call_reply(box->call) != NULL;
    case PERILUA_WANT_WHOLE:
    case PERILUA_WANT_RAW:
        return peri_call_complete(box->call);
    case PERILUA_WANT_CHUNK:
        return peri_call_body(box->call).length > 0 ||
               peri_call_complete(box->call);
    case PERILUA_WANT_DRAIN:
    default:
        return peri_call_writable(box->call);
    }
}

static int push_chunk(lua_State *L, perilua_client_call *box)
{
    peri_slice body = peri_call_body(box->call);

    if (body.length > 0) {
        perilua_push_slice(L, body);
        peri_call_set_timeout(box->call, 0);
        peri_call_consume(box->call, body.length);
        return 1;
    }
    return 0;
}

int perilua_client_push_result(lua_State *L, void *data)
{
    perilua_client_call *box = data;
    peri_call_fault fault;

    if (box->call == NULL) {
        return perilua_fail(L, "cancelled", "closed",
                            "%s: the answer was closed", box->what);
    }
    fault = peri_call_get_fault(box->call);
    if (box->want == PERILUA_WANT_DRAIN) {
        lua_pushboolean(L, fault.rc == 0);
        return 1;
    }
    if (box->want == PERILUA_WANT_CHUNK &&
        peri_call_body(box->call).length > 0) {
        return push_chunk(L, box);
    }
    if (fault.rc != 0) {
        return push_fault(L, box, fault);
    }
    if (box->want == PERILUA_WANT_CHUNK) {
        return 0;
    }
    lua_pushinteger(L, peri_call_reply(box->call)->status);
    if (box->want == PERILUA_WANT_RAW) {
        perilua_push_slice(L,
                           peri_buf_slice(&peri_call_reply(box->call)->head));
        perilua_push_slice(L, peri_call_body(box->call));
        lua_pushboolean(L, peri_call_decoded(box->call));
        perilua_client_close(box);
        return 4;
    }
    perilua_client_push_headers(L, peri_call_reply(box->call),
                                peri_call_decoded(box->call));
    if (box->want == PERILUA_WANT_HEAD) {
        return 2;
    }
    perilua_push_slice(L, peri_call_body(box->call));
    perilua_client_close(box);
    return 3;
}
