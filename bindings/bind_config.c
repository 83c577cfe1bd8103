/* perigee.core.config: the generation's configuration, as text. */
#include "bindings/bind.h"

/* entry(L, name) -> text or nothing, of the VM's bundle. */
static int push_entry(lua_State *L, const char *name)
{
    const perilua_vm *vm = perilua_vm_of(L);
    peri_slice text = {NULL, 0};

    if (vm->bundle != NULL) {
        text = peri_bundle_find(vm->bundle, name);
    }
    if (text.data == NULL) {
        return 0;
    }
    perilua_push_slice(L, text);
    return 1;
}

/* text() -> JSON, or nothing where there is no configuration */
static int config_text(lua_State *L)
{
    return push_entry(L, "@config");
}

int perilua_open_config(lua_State *L);

int perilua_open_config(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, config_text);
    lua_setfield(L, -2, "text");
    return 1;
}
