/* Crypto sign: signatures with keys in PEM text. Lua functions. */
#ifndef PERILUA_CRYPTO_SIGN_H
#define PERILUA_CRYPTO_SIGN_H

#include <lua.h>

/* (algorithm, private key, data) -> signature | nil, err */
int perilua_crypto_sign(lua_State *L);

/* (algorithm, public key, data, signature) -> boolean | nil, err. The key may
 * be a private one or a certificate too. */
int perilua_crypto_verify(lua_State *L);

#endif
