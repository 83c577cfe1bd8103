/* Fuzz: JSON. What is read can be written; what was written is read as the
 * same, to the byte. Nothing is left half-written, the stack is as before. */
#include <assert.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/json.h"

#define TEXT_MAX_BYTES ((size_t)1 << 24)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Appends the value at the top; it must be possible. */
static void encode_top(lua_State *L, peri_buf *out)
{
    int top = lua_gettop(L);

    if (perilua_json_encode(L, -1, out) != 0) {
        abort();
    }
    assert(lua_gettop(L) == top);
}

static void decode_again(lua_State *L, const peri_buf *text)
{
    if (perilua_json_decode(L, peri_buf_slice(text)) != 0) {
        abort();
    }
}

/* Text without NUL or bound behind it: reading beyond shows under ASan. */
static char *exact_copy(const uint8_t *data, size_t size)
{
    char *copy = malloc(size != 0 ? size : 1);

    memcpy(copy, data, size);
    return copy;
}

static void check_text(lua_State *L, const char *text, size_t size)
{
    peri_buf first;
    peri_buf second;
    peri_buf pretty;

    peri_buf_init(&first, TEXT_MAX_BYTES);
    peri_buf_init(&second, TEXT_MAX_BYTES);
    peri_buf_init(&pretty, TEXT_MAX_BYTES);
    if (perilua_json_decode(L, peri_slice_of(text, size)) == 0) {
        encode_top(L, &first);
        decode_again(L, &first);
        /* The order of fields is that of the tables, so compare in order. */
        if (perilua_json_encode_pretty(L, 1, &pretty) == 0 &&
            perilua_json_encode_pretty(L, 2, &second) == 0) {
            assert(peri_slice_equal(peri_buf_slice(&pretty),
                                    peri_buf_slice(&second)));
        }
    } else {
        assert(lua_type(L, -1) == LUA_TSTRING);
    }
    peri_buf_fini(&pretty);
    peri_buf_fini(&second);
    peri_buf_fini(&first);
}

/* Any bytes as a string: written or refused, nothing half-way. */
static void check_string(lua_State *L, const char *text, size_t size)
{
    peri_buf out;

    peri_buf_init(&out, TEXT_MAX_BYTES);
    peri_buf_append_str(&out, "x");
    lua_pushlstring(L, text, size);
    if (perilua_json_encode(L, -1, &out) == 0) {
        if (perilua_json_decode(
                L, peri_slice_of(out.data + 1, out.length - 1)) != 0) {
            abort();
        }
        assert(lua_rawequal(L, -1, -2));
    } else {
        assert(out.length == 1);
    }
    peri_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    char *text = exact_copy(data, size);

    if (L == NULL) {
        L = luaL_newstate();
        luaL_openlibs(L);
    }
    check_text(L, text, size);
    lua_settop(L, 0);
    check_string(L, text, size);
    lua_settop(L, 0);
    free(text);
    return 0;
}
