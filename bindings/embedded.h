/* Files that the program holds: the Lua library and the templates. */
#ifndef PERILUA_EMBEDDED_H
#define PERILUA_EMBEDDED_H

#include <lua.h>
#include <stddef.h>

typedef struct peri_embedded_file {
    const char *name; /* below bindings/lua, "perigee/app.lua" */
    const unsigned char *data;
    size_t size_bytes;         /* a NUL follows that is not counted */
    const unsigned char *code; /* a module's, compiled; NULL: no module */
    size_t code_bytes;
} peri_embedded_file;

/* Sorted by name, ended by a NULL name. */
extern const peri_embedded_file peri_embedded[];

/* NULL when there is none of that name. */
const peri_embedded_file *perilua_embedded_find(const char *name);

/* Pushes a module's main function and returns 0, or an error message and what
 * luaL_loadbuffer returned. Its chunk's name is "@" and the file's. */
int perilua_embedded_load(lua_State *L, const peri_embedded_file *file);

#endif
