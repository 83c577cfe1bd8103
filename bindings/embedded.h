/* Files compiled into the program: the Lua library and the templates. */
#ifndef PERILUA_EMBEDDED_H
#define PERILUA_EMBEDDED_H

#include <stddef.h>

typedef struct peri_embedded_file {
    const char *name; /* below bindings/lua, "perigee/app.lua" */
    const unsigned char *data;
    size_t size_bytes; /* a NUL follows that is not counted */
} peri_embedded_file;

/* Sorted by name, ended by a NULL name. */
extern const peri_embedded_file peri_embedded[];

/* NULL when there is none of that name. */
const peri_embedded_file *perilua_embedded_find(const char *name);

#endif
