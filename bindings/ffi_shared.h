/* What perigee.shared calls through LuaJIT's FFI: none of it raises, yields or
 * calls back. Lua gets the addresses from perigee.core.shared, so nothing has
 * to be exported by whoever links the library. */
#ifndef PERILUA_FFI_SHARED_H
#define PERILUA_FFI_SHARED_H

#include <lua.h>

#include "core/shm/dict.h"

/* Pushes a table: name -> address. */
void perilua_push_ffi_shared(lua_State *L);

int peri_ffi_dict_get(peri_dict *dict, const char *key, size_t key_length,
                      peri_dict_value *out);
int peri_ffi_dict_set_number(peri_dict *dict, const char *key,
                             size_t key_length, double number, uint32_t type,
                             double ttl_ms, int mode);
int peri_ffi_dict_set_bytes(peri_dict *dict, const char *key, size_t key_length,
                            const char *data, size_t length, uint32_t type,
                            double ttl_ms, int mode);
int peri_ffi_dict_incr(peri_dict *dict, const char *key, size_t key_length,
                       double by, double init, double ttl_ms, double *out);
/* ttl_ms below 0: as before. */
int peri_ffi_dict_cas(peri_dict *dict, const char *key, size_t key_length,
                      const peri_dict_value *old, const peri_dict_value *value,
                      double ttl_ms);
int peri_ffi_dict_delete(peri_dict *dict, const char *key, size_t key_length);
double peri_ffi_dict_ttl(peri_dict *dict, const char *key, size_t key_length);
double peri_ffi_dict_bucket(peri_dict *dict, const char *key, size_t key_length,
                            double interval_us, double burst, double count);
double peri_ffi_dict_window(peri_dict *dict, const char *key, size_t key_length,
                            double limit, double window_ms, double count);

/* The dictionary's clock, in ms. */
double peri_ffi_dict_now(peri_dict *dict);

/* A number below count for a key, the same in all processes. */
double peri_ffi_dict_stripe(peri_dict *dict, const char *key, size_t key_length,
                            double count);

/* Adds one to a number in shared memory; returns the new one. */
double peri_ffi_cell_next(void *cell);

#endif
