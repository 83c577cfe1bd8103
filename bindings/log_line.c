/* Log line: fields and an error as members of the line. */
#include "bindings/log_line.h"

#include "bindings/log_walk.h"
#include "core/base/json_text.h"

/* The line's own keys, which a field must not repeat. */
static const char *suffix_of(const perilua_log_walk *w, peri_slice key)
{
    static const struct {
        const char *key;
        unsigned has; /* where the line has got it; 0: always */
    } own[] = {
        {"level", 0},
        {"time", 0},
        {"pid", 0},
        {"hostname", 0},
        {"msg", 0},
        {"reqId", PERILUA_LOG_HAS_REQUEST},
        {"trace_id", PERILUA_LOG_HAS_TRACE},
        {"span_id", PERILUA_LOG_HAS_TRACE},
    };

    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        if ((own[i].has & w->has) == own[i].has &&
            peri_slice_equal(key, peri_slice_str(own[i].key))) {
            return "_";
        }
    }
    return "";
}

static int put_key(perilua_log_walk *w, peri_slice key)
{
    int rc = perilua_log_put(w, ",") | peri_json_append_string(w->out, key);
    const char *suffix = suffix_of(w, key);

    if (rc == 0 && suffix[0] != '\0') {
        w->out->length--;
        rc = perilua_log_put(w, suffix) | perilua_log_put(w, "\"");
    }
    return rc | perilua_log_put(w, ":");
}

static int put_field(perilua_log_walk *w, peri_slice key, int index)
{
    bool error = peri_slice_equal(key, PERI_SLICE("err"));
    int rc;

    if (put_key(w, key) != 0) {
        return PERI_ELIMIT;
    }
    if (perilua_log_enter(w, key)) {
        return perilua_log_put(w, "\"[Redacted]\"");
    }
    w->depth++;
    rc = error && !perilua_log_is_null(w->L, index)
             ? perilua_log_put_error(w, index)
             : perilua_log_put_value(w, index);
    w->depth--;
    return rc;
}

/* A field that does not fit leaves a note, if that does. */
static void put_field_or_note(perilua_log_walk *w, peri_slice key, int index)
{
    size_t before = w->out->length;
    int top = lua_gettop(w->L);

    if (put_field(w, key, index) == 0) {
        return;
    }
    lua_settop(w->L, top);
    w->out->length = before;
    if ((put_key(w, key) | perilua_log_put(w, "\"[too large]\"")) != 0) {
        w->out->length = before;
    }
}

void perilua_log_fields(lua_State *L, int index, const perilua_redact *redact,
                        unsigned has, peri_buf *out)
{
    char storage[32];
    perilua_log_walk w;

    perilua_log_start(&w, L, redact, out);
    w.has = has;
    if (!lua_checkstack(L, 24)) {
        return;
    }
    w.above[0] = lua_topointer(L, index);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        int top = lua_gettop(L);

        put_field_or_note(
            &w, perilua_log_key(&w, top - 1, storage, sizeof storage), top);
        lua_settop(L, top - 1);
    }
}

void perilua_log_error(lua_State *L, int index, const perilua_redact *redact,
                       peri_buf *out)
{
    perilua_log_walk w;

    perilua_log_start(&w, L, redact, out);
    if (lua_checkstack(L, 24)) {
        put_field_or_note(&w, PERI_SLICE("err"), index);
    }
}
