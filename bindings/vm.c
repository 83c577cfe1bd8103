/* VM: creation and end of one lua_State. */
#include "bindings/vm.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "bindings/embedded.h"
#include "bindings/modules.h"
#include "bindings/task.h"
#include "core/base/alloc.h"

/* Where the registry has the VM's pointer: the first number that luaL_ref would
 * give, taken before it is used. It is looked up at almost every call of C. */
#define VM_SLOT 1

perilua_vm *perilua_vm_of(lua_State *L)
{
    perilua_vm *vm;

    lua_rawgeti(L, LUA_REGISTRYINDEX, VM_SLOT);
    vm = lua_touserdata(L, -1);
    lua_pop(L, 1);
    assert(vm != NULL);
    return vm;
}

static perilua_vm *vm_or_null(lua_State *L)
{
    perilua_vm *vm;

    lua_rawgeti(L, LUA_REGISTRYINDEX, VM_SLOT);
    vm = lua_islightuserdata(L, -1) ? lua_touserdata(L, -1) : NULL;
    lua_pop(L, 1);
    return vm;
}

/* ---- require ---- */

/* bundled(name) -> text or nil. */
static int find_bundled(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    perilua_vm *vm = vm_or_null(L);
    peri_slice text = {NULL, 0};

    if (vm != NULL && vm->bundle != NULL) {
        text = peri_bundle_find(vm->bundle, name);
    }
    if (text.data == NULL) {
        return 0;
    }
    lua_pushlstring(L, text.data, text.length);
    return 1;
}

/* embedded(name) -> function or nil. */
static int load_embedded(lua_State *L)
{
    const peri_embedded_file *file =
        perilua_embedded_find(luaL_checkstring(L, 1));

    if (file == NULL || file->code == NULL) {
        return 0;
    }
    if (perilua_embedded_load(L, file) != 0) {
        return lua_error(L);
    }
    return 1;
}

static void preload_modules(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    for (const perilua_module *m = perilua_modules; m->name != NULL; m++) {
        lua_pushcfunction(L, m->open);
        lua_setfield(L, -2, m->name);
    }
    lua_pop(L, 2);
}

static void install_require(lua_State *L)
{
    const peri_embedded_file *file =
        perilua_embedded_find("perigee/require.lua");

    assert(file != NULL);
    if (perilua_embedded_load(L, file) != 0) {
        lua_error(L);
    }
    lua_pushcfunction(L, find_bundled);
    lua_pushcfunction(L, load_embedded);
    lua_call(L, 2, 0);
}

static int install_modules(lua_State *L)
{
    preload_modules(L);
    install_require(L);
    perilua_require(L, "perigee.error"); /* C makes errors too */
    return 0;
}

void perilua_open_libs(lua_State *L)
{
    luaL_openlibs(L);
    install_modules(L);
}

void perilua_require(lua_State *L, const char *name)
{
    lua_getglobal(L, "require");
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
}

/* ---- the limit of memory ---- */

/* Refusing raises "not enough memory" in the task that runs: its request fails,
 * the worker goes on (task.c collects). Outside of tasks nobody would catch it,
 * so nothing is refused there. */
static void *limited_allocate(void *data, void *memory, size_t old_bytes,
                              size_t new_bytes)
{
    perilua_vm *vm = data;
    void *result;

    if (vm->current != NULL && new_bytes > old_bytes &&
        vm->memory_bytes + (new_bytes - old_bytes) > vm->memory_max_bytes) {
        return NULL;
    }
    result = vm->allocate(vm->allocate_data, memory, old_bytes, new_bytes);
    if (result != NULL || new_bytes == 0) {
        vm->memory_bytes = vm->memory_bytes + new_bytes - old_bytes;
    }
    return result;
}

static void limit_memory(perilua_vm *vm)
{
    int64_t max =
        vm->settings == NULL
            ? 0
            : peri_settings_int(vm->settings, "limits.memory_per_vm", 0);

    if (max <= 0) {
        return;
    }
    vm->memory_max_bytes = (size_t)max;
    vm->memory_bytes = (size_t)lua_gc(vm->L, LUA_GCCOUNT, 0) * 1024;
    vm->allocate = lua_getallocf(vm->L, &vm->allocate_data);
    lua_setallocf(vm->L, limited_allocate, vm);
}

/* ---- life ---- */

/* LuaJIT's math.random begins the same everywhere: workers would draw the same
 * delays, and a worker's successor the same numbers again. */
static void seed_random(lua_State *L)
{
    uint64_t seed;

    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        seed = uv_hrtime() ^ (uint64_t)getpid();
    }
    lua_getglobal(L, "math");
    lua_getfield(L, -1, "randomseed");
    lua_pushnumber(L, (lua_Number)(seed >> 11)); /* exact in a double */
    lua_call(L, 1, 0);
    lua_pop(L, 1);
}

static void adopt(perilua_vm *vm)
{
    lua_pushlightuserdata(vm->L, vm);
    lua_rawseti(vm->L, LUA_REGISTRYINDEX, VM_SLOT);
    luaL_openlibs(vm->L);
    seed_random(vm->L);
}

perilua_vm *perilua_vm_create(const perilua_env *env, peri_bundle *bundle,
                              peri_settings *settings, uint64_t generation)
{
    perilua_vm *vm = peri_calloc(1, sizeof *vm);

    vm->L = luaL_newstate();
    if (vm->L == NULL) {
        abort();
    }
    vm->env = env;
    vm->bundle = bundle;
    vm->settings = settings;
    vm->generation = generation;
    vm->refs = 1;
    limit_memory(vm);
    adopt(vm);
    perilua_scheduler_create(vm); /* before modules: they register waits */
    if (lua_cpcall(vm->L, install_modules, NULL) != 0) {
        peri_log(env->logger, PERI_LOG_FATAL, "the Lua library: %s",
                 lua_tostring(vm->L, -1));
        abort(); /* our own embedded code is broken */
    }
    return vm;
}

static void on_scheduler_closed(void *data)
{
    perilua_vm *vm = data;
    void (*closed)(void *) = vm->closed;
    void *closed_data = vm->closed_data;

    free(vm);
    if (closed != NULL) {
        closed(closed_data);
    }
}

int perilua_vm_init_apart(perilua_vm *vm, lua_State *L)
{
    vm->L = L;
    adopt(vm);
    return lua_cpcall(L, install_modules, NULL);
}

void perilua_vm_ref(perilua_vm *vm)
{
    vm->refs++;
}

void perilua_vm_unref(perilua_vm *vm)
{
    assert(vm->refs > 0);
    if (--vm->refs > 0) {
        return;
    }
    assert(vm->closing);
    lua_close(vm->L); /* finalizers may release task handles */
    perilua_scheduler_close(vm, on_scheduler_closed, vm);
}

void perilua_vm_close(perilua_vm *vm, void (*closed)(void *data), void *data)
{
    vm->closed = closed;
    vm->closed_data = data;
    vm->closing = true;
    perilua_scheduler_cancel_all(vm, "cancelled", "the host is closing");
    perilua_vm_unref(vm);
}
