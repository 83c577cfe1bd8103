/* FFI of dictionaries: numbers as Lua has them, to core and back. */
#include "bindings/ffi_shared.h"

#include <stdatomic.h>

int peri_ffi_dict_get(peri_dict *dict, const char *key, size_t key_length,
                      peri_dict_value *out)
{
    return peri_dict_get(dict, peri_slice_of(key, key_length), out);
}

int peri_ffi_dict_set_number(peri_dict *dict, const char *key,
                             size_t key_length, double number, uint32_t type,
                             double ttl_ms, int mode)
{
    peri_dict_value value = {.type = type, .number = number};

    return peri_dict_set(dict, peri_slice_of(key, key_length), &value,
                         (uint64_t)ttl_ms, (peri_dict_mode)mode);
}

/* What is only read is not const in a value that reads fill in. */
static char *plain(const char *data)
{
    union {
        const char *in;
        char *out;
    } pointer = {data};

    return pointer.out;
}

int peri_ffi_dict_set_bytes(peri_dict *dict, const char *key, size_t key_length,
                            const char *data, size_t length, uint32_t type,
                            double ttl_ms, int mode)
{
    peri_dict_value value = {
        .type = type, .data = plain(data), .length = length};

    return peri_dict_set(dict, peri_slice_of(key, key_length), &value,
                         (uint64_t)ttl_ms, (peri_dict_mode)mode);
}

int peri_ffi_dict_incr(peri_dict *dict, const char *key, size_t key_length,
                       double by, double init, double ttl_ms, double *out)
{
    return peri_dict_incr(dict, peri_slice_of(key, key_length), by, init,
                          (uint64_t)ttl_ms, out);
}

int peri_ffi_dict_cas(peri_dict *dict, const char *key, size_t key_length,
                      const peri_dict_value *old, const peri_dict_value *value,
                      double ttl_ms)
{
    return peri_dict_cas(dict, peri_slice_of(key, key_length), old, value,
                         ttl_ms < 0 ? PERI_DICT_KEEP_TTL : (uint64_t)ttl_ms);
}

int peri_ffi_dict_delete(peri_dict *dict, const char *key, size_t key_length)
{
    return peri_dict_delete(dict, peri_slice_of(key, key_length));
}

double peri_ffi_dict_ttl(peri_dict *dict, const char *key, size_t key_length)
{
    return (double)peri_dict_ttl(dict, peri_slice_of(key, key_length));
}

double peri_ffi_dict_bucket(peri_dict *dict, const char *key, size_t key_length,
                            double interval_us, double burst, double count)
{
    return (double)peri_dict_take_bucket(dict, peri_slice_of(key, key_length),
                                         interval_us, burst, count);
}

double peri_ffi_dict_window(peri_dict *dict, const char *key, size_t key_length,
                            double limit, double window_ms, double count)
{
    return (double)peri_dict_take_window(dict, peri_slice_of(key, key_length),
                                         limit, (uint64_t)window_ms, count);
}

double peri_ffi_dict_now(peri_dict *dict)
{
    return (double)peri_dict_now(dict);
}

double peri_ffi_dict_stripe(peri_dict *dict, const char *key, size_t key_length,
                            double count)
{
    return (double)(peri_dict_hash(dict, peri_slice_of(key, key_length)) %
                    (uint64_t)count);
}

double peri_ffi_cell_next(void *cell)
{
    _Atomic uint32_t *number = cell;

    return (double)(uint32_t)(atomic_fetch_add(number, 1) + 1);
}

typedef void (*any_function)(void);

static void set_address(lua_State *L, const char *name, any_function fn)
{
    union {
        any_function in;
        void *out;
    } address = {fn};

    lua_pushlightuserdata(L, address.out);
    lua_setfield(L, -2, name);
}

void perilua_push_ffi_shared(lua_State *L)
{
    lua_createtable(L, 0, 10);
    set_address(L, "get", (any_function)peri_ffi_dict_get);
    set_address(L, "set_number", (any_function)peri_ffi_dict_set_number);
    set_address(L, "set_bytes", (any_function)peri_ffi_dict_set_bytes);
    set_address(L, "incr", (any_function)peri_ffi_dict_incr);
    set_address(L, "cas", (any_function)peri_ffi_dict_cas);
    set_address(L, "delete", (any_function)peri_ffi_dict_delete);
    set_address(L, "ttl", (any_function)peri_ffi_dict_ttl);
    set_address(L, "bucket", (any_function)peri_ffi_dict_bucket);
    set_address(L, "window", (any_function)peri_ffi_dict_window);
    set_address(L, "now", (any_function)peri_ffi_dict_now);
    set_address(L, "stripe", (any_function)peri_ffi_dict_stripe);
    set_address(L, "next", (any_function)peri_ffi_cell_next);
}
