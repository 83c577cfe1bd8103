/* Embedded: looking files of the program up by name. */
#include "bindings/embedded.h"

#include <lauxlib.h>
#include <string.h>

static size_t count_files(void)
{
    size_t count = 0;

    while (peri_embedded[count].name != NULL) {
        count++;
    }
    return count;
}

const peri_embedded_file *perilua_embedded_find(const char *name)
{
    size_t low = 0;
    size_t high = count_files();

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(peri_embedded[middle].name, name);

        if (order == 0) {
            return &peri_embedded[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

int perilua_embedded_load(lua_State *L, const peri_embedded_file *file)
{
    int rc;

    lua_pushfstring(L, "@%s", file->name);
    /* Bytecode is the linked LuaJIT's own; another one may refuse it. */
    rc = luaL_loadbuffer(L, (const char *)file->code, file->code_bytes,
                         lua_tostring(L, -1));
    if (rc == LUA_ERRSYNTAX) {
        lua_pop(L, 1);
        rc = luaL_loadbuffer(L, (const char *)file->data, file->size_bytes,
                             lua_tostring(L, -1));
    }
    lua_remove(L, -2);
    return rc;
}
