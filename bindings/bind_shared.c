/* perigee.core.shared: opening dictionaries, and what of them is not for FFI.
 *
 * A handle is a userdata; Lua keeps it beside the address that it gives to the
 * FFI functions. */
#include "bindings/bind.h"
#include "bindings/ffi_shared.h"
#include "bindings/json_marks.h"
#include "bindings/modules.h"
#include "bindings/pack.h"
#include "core/shm/lock.h"

#define HANDLE "perigee.dict"
#define PACK_MAX_BYTES ((size_t)64 << 20)
#define KEYS_BYTES ((size_t)16 << 10)

typedef struct handle {
    peri_dict *dict;
} handle;

static uint64_t frozen_ms(void *data)
{
    const peri_timers *timers = perilua_timers(data);

    return peri_timers_frozen(timers) ? peri_timers_now_ns(timers) / 1000000u
                                      : 0;
}

static int handle_gc(lua_State *L)
{
    handle *h = luaL_checkudata(L, 1, HANDLE);

    peri_dict_close(h->dict);
    h->dict = NULL;
    return 0;
}

static handle *new_handle(lua_State *L)
{
    handle *h = lua_newuserdata(L, sizeof *h);

    h->dict = NULL;
    if (luaL_newmetatable(L, HANDLE)) {
        lua_pushcfunction(L, handle_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return h;
}

/* open(name, bytes) -> handle, address, size | nil, err. */
static int shared_open(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    size_t bytes = (size_t)luaL_checknumber(L, 2);
    perilua_vm *vm = perilua_vm_of(L);
    peri_dict_stats stats;
    handle *h;
    int rc;

    if (vm->env->regions == NULL) {
        return perilua_fail(L, "unavailable", NULL,
                            "there is no shared memory here");
    }
    h = new_handle(L);
    rc = peri_dict_open(vm->env->regions, name, bytes, &h->dict);
    if (rc < 0) {
        return perilua_fail(L, "too_large", "shared_full",
                            "the shared memory has no room for \"%s\"", name);
    }
    peri_dict_set_clock(h->dict, frozen_ms, vm);
    peri_dict_stat(h->dict, &stats);
    lua_pushlightuserdata(L, h->dict);
    lua_pushnumber(L, (lua_Number)stats.size_bytes);
    return 3;
}

/* cells(name, bytes) -> address | nil, err. A region of plain memory. */
static int shared_cells(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    size_t bytes = (size_t)luaL_checknumber(L, 2);
    perilua_vm *vm = perilua_vm_of(L);
    void *memory;
    size_t size;

    if (vm->env->regions == NULL) {
        return perilua_fail(L, "unavailable", NULL,
                            "there is no shared memory here");
    }
    if (peri_regions_get(vm->env->regions, name, bytes, NULL, &memory, &size) <
            0 ||
        size < bytes) {
        return perilua_fail(L, "too_large", "shared_full",
                            "the shared memory has no room for \"%s\"", name);
    }
    lua_pushlightuserdata(L, memory);
    return 1;
}

static peri_dict *check_dict(lua_State *L)
{
    handle *h = luaL_checkudata(L, 1, HANDLE);

    luaL_argcheck(L, h->dict != NULL, 1, "closed");
    return h->dict;
}

static int shared_flush(lua_State *L)
{
    peri_dict_flush(check_dict(L));
    return 0;
}

static void set_count(lua_State *L, const char *name, uint64_t count)
{
    lua_pushnumber(L, (lua_Number)count);
    lua_setfield(L, -2, name);
}

static int shared_stats(lua_State *L)
{
    peri_dict_stats stats;

    peri_dict_stat(check_dict(L), &stats);
    lua_createtable(L, 0, 8);
    set_count(L, "size", stats.size_bytes);
    set_count(L, "room", stats.room_bytes);
    set_count(L, "used", stats.used_bytes);
    set_count(L, "items", stats.items);
    set_count(L, "evicted", stats.evicted_total);
    set_count(L, "expired", stats.expired_total);
    set_count(L, "repaired", stats.repaired_total);
    set_count(L, "item_max", stats.item_max_bytes);
    return 1;
}

/* keys(handle, max) -> list. */
static int shared_keys(lua_State *L)
{
    peri_dict *dict = check_dict(L);
    lua_Number max = luaL_checknumber(L, 2);
    uint64_t cursor = 0;
    int count = 0;
    size_t bytes;
    char *room;

    lua_newtable(L);
    room = lua_newuserdata(L, KEYS_BYTES); /* freed also by a raise */
    while (count < max &&
           (bytes = peri_dict_keys(dict, &cursor, room, KEYS_BYTES)) > 0) {
        for (size_t at = 0; at < bytes && count < max;) {
            uint32_t length;

            memcpy(&length, room + at, sizeof length);
            lua_pushlstring(L, room + at + sizeof length, length);
            lua_rawseti(L, -3, ++count);
            at += sizeof length + length;
        }
    }
    lua_pop(L, 1);
    perilua_json_push_array_mark(L); /* no keys are [] */
    lua_setmetatable(L, -2);
    return 1;
}

/* pack(table) -> string | nil, err. */
static int shared_pack(lua_State *L)
{
    const char *why = NULL;
    peri_buf bytes;
    int rc;

    luaL_checkany(L, 1);
    peri_buf_init(&bytes, PACK_MAX_BYTES);
    rc = perilua_pack(L, 1, &bytes, &why);
    if (rc == 0) {
        lua_pushlstring(L, bytes.data, bytes.length);
    }
    peri_buf_fini(&bytes);
    if (rc == PERI_EFORMAT) {
        return perilua_fail(L, "invalid", NULL, "%s cannot be kept", why);
    }
    return rc < 0 ? perilua_fail(L, "too_large", NULL, "the table is too big")
                  : 1;
}

static int no_value(lua_State *L)
{
    return perilua_fail(L, "internal", NULL, "these bytes are no value");
}

/* unpack(string) -> value | nil, err. */
static int shared_unpack(lua_State *L)
{
    return perilua_unpack(L, perilua_check_slice(L, 1)) < 0 ? no_value(L) : 1;
}

static peri_slice found_bytes(lua_State *L)
{
    const peri_dict_value *found = lua_touserdata(L, lua_upvalueindex(1));

    return peri_slice_of(found->data, found->length);
}

/* found_table() -> the table that get has left in `found` | nil, err. */
static int shared_found_table(lua_State *L)
{
    return perilua_unpack(L, found_bytes(L)) < 0 ? no_value(L) : 1;
}

/* found_values() -> each value of the list there | nil, err. */
static int shared_found_values(lua_State *L)
{
    int count = perilua_unpack_list(L, found_bytes(L));

    return count < 0 ? no_value(L) : count;
}

/* What FFI's get writes to, and what reads from there without a copy. */
static void push_found(lua_State *L)
{
    peri_dict_value *found = lua_newuserdata(L, sizeof *found);

    *found = (peri_dict_value){.type = PERI_DICT_NONE};
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, shared_found_table, 1);
    lua_setfield(L, -3, "found_table");
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, shared_found_values, 1);
    lua_setfield(L, -3, "found_values");
    lua_setfield(L, -2, "found");
}

/* clock() -> where the frozen time lies (ns, 0: it is not), and the loop's own
 * (ms, as of its present turn): for who looks at them all the time. */
static int shared_clock(lua_State *L)
{
    const perilua_vm *vm = perilua_vm_of(L);
    union {
        const uint64_t *in;
        void *out;
    } frozen = {peri_timers_frozen_ns(perilua_timers(vm))};

    lua_pushlightuserdata(L, frozen.out);
    lua_pushlightuserdata(L, &vm->env->loop->time);
    return 2;
}

/* alive(mark) -> whether the process that wrote the mark lives. */
static int shared_alive(lua_State *L)
{
    peri_slice text = perilua_check_slice(L, 1);
    uint64_t mark;

    if (text.length != sizeof mark) {
        return luaL_argerror(L, 1, "a mark expected");
    }
    memcpy(&mark, text.data, sizeof mark);
    lua_pushboolean(L, peri_lock_alive(mark));
    return 1;
}

int perilua_open_shared(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"open", shared_open},     {"cells", shared_cells},
        {"flush", shared_flush},   {"stats", shared_stats},
        {"keys", shared_keys},     {"pack", shared_pack},
        {"unpack", shared_unpack}, {"alive", shared_alive},
        {"clock", shared_clock},   {NULL, NULL},
    };
    uint64_t mark = peri_lock_self();

    lua_newtable(L);
    luaL_register(L, NULL, functions);
    push_found(L);
    perilua_push_ffi_shared(L);
    lua_setfield(L, -2, "ffi");
    lua_pushlstring(L, (const char *)&mark, sizeof mark);
    lua_setfield(L, -2, "mark");
    return 1;
}
