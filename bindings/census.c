/* Census: a walk in depth whose path lies in a Lua table, and a set of those
 * seen. */
#include "bindings/census.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"

#define SEEN_LEAST ((size_t)1 << 14)
#define SEEN_MOST ((size_t)1 << 23)
#define OBJECTS_A_KB 40   /* more than there are: strings of a byte */
#define ENTRIES_A_LOOK 64 /* between two looks at the clock */
#define LUA_TCDATA 10     /* LuaJIT's own type, which lua.h does not name */
#define LEVELS_MAX 200
#define LOCALS_MAX 250

/* Sizes of LuaJIT's headers with GC64. */
enum {
    TABLE_BYTES = 64,
    ARRAY_ENTRY_BYTES = 8,
    HASH_ENTRY_BYTES = 24,
    STRING_BYTES = 25,
    FUNCTION_BYTES = 40,
    UPVALUE_BYTES = 48,
    THREAD_BYTES = 600, /* with the stack that it begins with */
    USERDATA_BYTES = 48,
    CDATA_BYTES = 16
};

enum {
    OF_TABLE,
    OF_STRING,
    OF_FUNCTION,
    OF_UPVALUE,
    OF_THREAD,
    OF_USERDATA,
    OF_CDATA,
    KINDS
};

static const char *const kind_keys[KINDS] = {
    "T;table",  "T;string",   "T;function", "T;upvalue",
    "T;thread", "T;userdata", "T;cdata"};

struct perilua_census {
    perilua_vm *vm;
    size_t heap_bytes; /* when it began, as Lua counts */
    const void **seen; /* a set; NULL: free */
    size_t seen_size;
    size_t seen_count;
    uint64_t objects[KINDS];
    uint64_t bytes[KINDS];
    /* A table: what is being looked into, and of tables the key before the
     * next, in turns; and how many entries each of them had so far. */
    int path_ref;
    int depth;
    int *entries; /* -1: not begun */
    int entries_size;
    uint64_t end_ns;
    bool done;
};

/* ---- seen ---- */

static size_t place(const perilua_census *c, const void *object)
{
    size_t at =
        (size_t)(((uint64_t)(uintptr_t)object * 0x9e3779b97f4a7c15u) >> 24) &
        (c->seen_size - 1);

    while (c->seen[at] != NULL && c->seen[at] != object) {
        at = (at + 1) & (c->seen_size - 1);
    }
    return at;
}

/* Whether it is new; too many are not. */
static bool see(perilua_census *c, const void *object)
{
    size_t at;

    if (object == NULL || 4 * c->seen_count >= 3 * c->seen_size) {
        return false;
    }
    at = place(c, object);
    if (c->seen[at] != NULL) {
        return false;
    }
    c->seen[at] = object;
    c->seen_count++;
    return true;
}

static void count(perilua_census *c, int kind, size_t bytes)
{
    c->objects[kind]++;
    c->bytes[kind] += bytes;
}

/* ---- one value ---- */

static size_t cdata_bytes(lua_State *L, int index)
{
    size_t bytes = 0;

    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, "ffi");
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "sizeof");
        lua_pushvalue(L, index);
        if (lua_pcall(L, 1, 1, 0) == 0) {
            bytes = (size_t)lua_tonumber(L, -1);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
    return bytes;
}

/* The object on top of the stack is looked into next. */
static void push_object(perilua_census *c, lua_State *L)
{
    if (c->depth == c->entries_size) {
        c->entries_size = c->entries_size != 0 ? 2 * c->entries_size : 256;
        c->entries = peri_realloc(c->entries,
                                  (size_t)c->entries_size * sizeof *c->entries);
    }
    c->entries[c->depth++] = -1;
    lua_rawseti(L, 1, 2 * c->depth - 1);
}

static void pop_object(perilua_census *c, lua_State *L)
{
    lua_pushnil(L);
    lua_rawseti(L, 1, 2 * c->depth - 1);
    lua_pushnil(L);
    lua_rawseti(L, 1, 2 * c->depth);
    c->depth--;
}

/* Counts the value on top of the stack, once; pops it. What refers to others
 * is put on the path (which lies at index 1). */
static void meet(perilua_census *c, lua_State *L)
{
    int type = lua_type(L, -1);
    int top = lua_gettop(L);
    bool fresh = false;

    if (type == LUA_TSTRING) {
        if (see(c, lua_tostring(L, -1))) {
            count(c, OF_STRING, lua_objlen(L, -1) + STRING_BYTES);
        }
    } else if (type == LUA_TTABLE || type == LUA_TFUNCTION ||
               type == LUA_TTHREAD || type == LUA_TUSERDATA) {
        fresh = see(c, lua_topointer(L, -1));
    } else if (type == LUA_TCDATA && see(c, lua_topointer(L, -1))) {
        count(c, OF_CDATA, CDATA_BYTES + cdata_bytes(L, top));
    }
    if (fresh) {
        push_object(c, L);
    } else {
        lua_pop(L, 1);
    }
}

/* ---- what an object refers to ---- */

static void look_into_function(perilua_census *c, lua_State *L, int index)
{
    int n = 0;

    while (lua_getupvalue(L, index, n + 1) != NULL) {
        n++;
        meet(c, L);
        if (!lua_iscfunction(L, index) && see(c, lua_upvalueid(L, index, n))) {
            count(c, OF_UPVALUE, UPVALUE_BYTES);
        }
    }
    count(c, OF_FUNCTION, FUNCTION_BYTES + (size_t)n * 8);
    lua_getfenv(L, index);
    meet(c, L);
}

/* The functions that are active in a coroutine, and their variables. */
static void look_into_thread(perilua_census *c, lua_State *L, int index)
{
    lua_State *co = lua_tothread(L, index);
    lua_Debug ar;

    count(c, OF_THREAD, THREAD_BYTES);
    if (co == L || lua_checkstack(co, 4) == 0) {
        return;
    }
    for (int level = 0; level < LEVELS_MAX && lua_getstack(co, level, &ar) != 0;
         level++) {
        if (lua_getinfo(co, "f", &ar) != 0) {
            lua_xmove(co, L, 1);
            meet(c, L);
        }
        for (int i = 1; i < LOCALS_MAX && lua_getlocal(co, &ar, i) != NULL;
             i++) {
            lua_xmove(co, L, 1);
            meet(c, L);
        }
    }
}

static size_t rounded_up(size_t entries)
{
    size_t size = entries == 0 ? 0 : 1;

    while (size < entries) {
        size *= 2;
    }
    return size;
}

static void count_table(perilua_census *c, size_t array, size_t entries)
{
    size_t hash = entries > array ? entries - array : 0;

    count(c, OF_TABLE,
          TABLE_BYTES + (array != 0 ? array + 1 : 0) * ARRAY_ENTRY_BYTES +
              rounded_up(hash) * HASH_ENTRY_BYTES);
}

/* The table is at index 2, and last on the path. Goes on until it meets what
 * is to be looked into first, or until the end. */
static void look_into_table(perilua_census *c, lua_State *L)
{
    int depth = c->depth;
    int *entries = &c->entries[depth - 1];

    if (*entries < 0) {
        *entries = 0;
        if (lua_getmetatable(L, 2) != 0) {
            meet(c, L);
        }
        return;
    }
    lua_rawgeti(L, 1, 2 * depth);
    for (int i = 0; i < ENTRIES_A_LOOK && c->depth == depth; i++) {
        /* A key that has gone meanwhile raises: the rest is not counted. */
        if (lua_next(L, 2) == 0) {
            count_table(c, lua_objlen(L, 2), (size_t)*entries);
            pop_object(c, L);
            return;
        }
        ++*entries;
        lua_pushvalue(L, -2);
        lua_rawseti(L, 1, 2 * depth); /* before what follows may move on */
        meet(c, L);
        lua_pushvalue(L, -1);
        meet(c, L);
        entries = &c->entries[depth - 1]; /* it may have been moved */
    }
}

static void look_into_userdata(perilua_census *c, lua_State *L, int index)
{
    count(c, OF_USERDATA, USERDATA_BYTES + lua_objlen(L, index));
    if (lua_getmetatable(L, index) != 0) {
        meet(c, L);
    }
    lua_getfenv(L, index);
    meet(c, L);
}

/* ---- slices ---- */

static bool is_late(const perilua_census *c)
{
    return peri_clock_monotonic_ns() >= c->end_ns;
}

/* What is last on the path, at index 2. */
static void look(perilua_census *c, lua_State *L)
{
    int type = lua_type(L, 2);

    if (type == LUA_TTABLE) {
        look_into_table(c, L);
        return;
    }
    pop_object(c, L);
    if (type == LUA_TFUNCTION) {
        look_into_function(c, L, 2);
    } else if (type == LUA_TTHREAD) {
        look_into_thread(c, L, 2);
    } else {
        look_into_userdata(c, L, 2);
    }
}

static int slice(lua_State *L)
{
    perilua_census *c = lua_touserdata(L, 1);

    lua_settop(L, 0);
    luaL_checkstack(L, 20, NULL);
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->path_ref);
    while (c->depth > 0 && !is_late(c)) {
        lua_settop(L, 1);
        lua_rawgeti(L, 1, 2 * c->depth - 1);
        look(c, L);
    }
    c->done = c->depth == 0;
    return 0;
}

/* After an error, which a table has raised that has changed meanwhile. */
static int skip(lua_State *L)
{
    perilua_census *c = lua_touserdata(L, 1);

    lua_settop(L, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->path_ref);
    if (c->depth > 0) {
        count_table(c, 0, (size_t)c->entries[c->depth - 1] + 1);
        pop_object(c, L);
    }
    return 0;
}

bool perilua_census_step(perilua_census *census, uint64_t limit_ns)
{
    lua_State *L = census->vm->L;

    census->end_ns = peri_clock_monotonic_ns() + limit_ns;
    if (lua_cpcall(L, slice, census) != 0) {
        lua_pop(L, 1);
        if (lua_cpcall(L, skip, census) != 0) {
            lua_pop(L, 1);
            census->done = true; /* no memory at all */
        }
    }
    return !census->done;
}

static int begin(lua_State *L)
{
    perilua_census *c = lua_touserdata(L, 1);

    lua_settop(L, 0);
    lua_newtable(L);
    see(c, lua_topointer(L, 1)); /* ours */
    lua_pushliteral(L, "");
    if (lua_getmetatable(L, -1) != 0) {
        meet(c, L);
    }
    lua_pop(L, 1);
    lua_pushvalue(L, LUA_REGISTRYINDEX);
    meet(c, L);
    c->path_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

perilua_census *perilua_census_create(perilua_vm *vm)
{
    perilua_census *c = peri_calloc(1, sizeof *c);
    size_t heap_kb = (size_t)lua_gc(vm->L, LUA_GCCOUNT, 0);

    c->vm = vm;
    c->heap_bytes = heap_kb * 1024;
    c->path_ref = LUA_NOREF;
    c->seen_size = SEEN_LEAST;
    while (c->seen_size < SEEN_MOST && c->seen_size < heap_kb * OBJECTS_A_KB) {
        c->seen_size *= 2; /* once and for all: to grow takes long */
    }
    c->seen = peri_calloc(c->seen_size, sizeof *c->seen);
    if (lua_cpcall(vm->L, begin, c) != 0) {
        lua_pop(vm->L, 1);
        c->done = true;
    }
    return c;
}

void perilua_census_add(const perilua_census *census, peri_stacks *out)
{
    const uint64_t heap[PERI_STACK_VALUES] = {census->heap_bytes};

    peri_stacks_add(out, PERI_SLICE("M;heap_bytes"), heap);
    for (int i = 0; i < KINDS; i++) {
        const uint64_t values[PERI_STACK_VALUES] = {census->objects[i],
                                                    census->bytes[i]};

        if (values[0] != 0) {
            peri_stacks_add(out, peri_slice_str(kind_keys[i]), values);
        }
    }
}

void perilua_census_destroy(perilua_census *census, bool vm_gone)
{
    if (census == NULL) {
        return;
    }
    if (!vm_gone) {
        luaL_unref(census->vm->L, LUA_REGISTRYINDEX, census->path_ref);
    }
    free((void *)census->seen);
    free(census->entries);
    free(census);
}
