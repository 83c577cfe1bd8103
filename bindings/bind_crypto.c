/* perigee.core.crypto: digests, random bytes, text codes; OpenSSL's EVP.
 *
 * What is costly to fetch is fetched once for each state and kept in a
 * userdata that every function has as its first upvalue. Random bytes come
 * from OpenSSL's generator, which seeds itself anew after a fork. */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "bindings/bind.h"
#include "bindings/crypto_sign.h"
#include "core/base/clock.h"
#include "core/base/text_code.h"

#define RANDOM_MAX_BYTES (16 * 1024 * 1024)
#define SMALL_BYTES 1024
#define UUID_BYTES 16
#define UUID_TEXT 36
#define UUID_COUNT_MAX 0xfff /* the 12 bits behind v7's time */

static const char *const hmac_names[] = {"sha1",   "sha224", "sha256",
                                         "sha384", "sha512", NULL};
#define HMAC_NAMES 5

typedef struct crypto_state {
    EVP_MD *sha256;
    EVP_MD_CTX *digest;
    EVP_MAC *hmac;
    EVP_MAC_CTX *hmacs[HMAC_NAMES]; /* made when first asked for */
    uint64_t uuid_ms;               /* of the last v7 */
    unsigned uuid_count;
} crypto_state;

static int state_gc(lua_State *L)
{
    crypto_state *state = lua_touserdata(L, 1);

    for (int i = 0; i < HMAC_NAMES; i++) {
        EVP_MAC_CTX_free(state->hmacs[i]);
    }
    EVP_MAC_free(state->hmac);
    EVP_MD_CTX_free(state->digest);
    EVP_MD_free(state->sha256);
    *state = (crypto_state){0};
    return 0;
}

static crypto_state *state_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static void push_digest(lua_State *L, const unsigned char *digest,
                        size_t length, bool hex)
{
    char text[2 * EVP_MAX_MD_SIZE];

    if (!hex) {
        lua_pushlstring(L, (const char *)digest, length);
        return;
    }
    peri_hex_encode(digest, length, text);
    lua_pushlstring(L, text, 2 * length);
}

static int sha256(lua_State *L, bool hex)
{
    crypto_state *state = state_of(L);
    peri_slice data = perilua_check_slice(L, 1);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length;

    if (EVP_DigestInit_ex2(state->digest, state->sha256, NULL) != 1 ||
        EVP_DigestUpdate(state->digest, data.data, data.length) != 1 ||
        EVP_DigestFinal_ex(state->digest, digest, &length) != 1) {
        return luaL_error(L, "sha256 failed");
    }
    push_digest(L, digest, length, hex);
    return 1;
}

static int crypto_sha256(lua_State *L)
{
    return sha256(L, false);
}

static int crypto_sha256_hex(lua_State *L)
{
    return sha256(L, true);
}

static EVP_MAC_CTX *hmac_context(crypto_state *state, int which)
{
    OSSL_PARAM params[2];

    if (state->hmacs[which] != NULL) {
        return state->hmacs[which];
    }
    state->hmacs[which] = EVP_MAC_CTX_new(state->hmac);
    params[0] = OSSL_PARAM_construct_utf8_string(
        OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)hmac_names[which], 0);
    params[1] = OSSL_PARAM_construct_end();
    if (state->hmacs[which] != NULL &&
        EVP_MAC_CTX_set_params(state->hmacs[which], params) != 1) {
        EVP_MAC_CTX_free(state->hmacs[which]);
        state->hmacs[which] = NULL;
    }
    return state->hmacs[which];
}

static int hmac(lua_State *L, bool hex)
{
    static const unsigned char no_key = 0;
    int which = luaL_checkoption(L, 1, NULL, hmac_names);
    peri_slice key = perilua_check_slice(L, 2);
    peri_slice data = perilua_check_slice(L, 3);
    EVP_MAC_CTX *context = hmac_context(state_of(L), which);
    unsigned char digest[EVP_MAX_MD_SIZE];
    size_t length;

    /* A key of NULL would be the last call's. */
    if (context == NULL ||
        EVP_MAC_init(context,
                     key.length != 0 ? (const unsigned char *)key.data
                                     : &no_key,
                     key.length, NULL) != 1 ||
        EVP_MAC_update(context, (const unsigned char *)data.data,
                       data.length) != 1 ||
        EVP_MAC_final(context, digest, &length, sizeof digest) != 1) {
        return luaL_error(L, "hmac failed");
    }
    push_digest(L, digest, length, hex);
    return 1;
}

static int crypto_hmac(lua_State *L)
{
    return hmac(L, false);
}

static int crypto_hmac_hex(lua_State *L)
{
    return hmac(L, true);
}

static void random_bytes(lua_State *L, void *out, size_t length)
{
    if (RAND_bytes(out, (int)length) != 1) {
        luaL_error(L, "no random bytes to be had");
    }
}

static int crypto_random(lua_State *L)
{
    lua_Number count = luaL_checknumber(L, 1);
    char small[SMALL_BYTES];
    char *bytes = small;

    luaL_argcheck(L, count >= 0 && count <= RANDOM_MAX_BYTES, 1,
                  "between 0 and 16777216 bytes");
    if (count > SMALL_BYTES) {
        bytes = lua_newuserdata(L, (size_t)count);
    }
    random_bytes(L, bytes, (size_t)count);
    lua_pushlstring(L, bytes, (size_t)count);
    return 1;
}

static int crypto_equal(lua_State *L)
{
    peri_slice a = perilua_check_slice(L, 1);
    peri_slice b = perilua_check_slice(L, 2);

    lua_pushboolean(L, a.length == b.length &&
                           CRYPTO_memcmp(a.data, b.data, a.length) == 0);
    return 1;
}

static int push_uuid(lua_State *L, unsigned char *bytes, int version)
{
    char hex[2 * UUID_BYTES];
    char text[UUID_TEXT];
    size_t at = 0;

    bytes[6] = (unsigned char)((bytes[6] & 0x0f) | version << 4);
    bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80);
    peri_hex_encode(bytes, UUID_BYTES, hex);
    for (size_t i = 0; i < sizeof hex; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20) {
            text[at++] = '-';
        }
        text[at++] = hex[i];
    }
    lua_pushlstring(L, text, sizeof text);
    return 1;
}

static int uuid_v4(lua_State *L)
{
    unsigned char bytes[UUID_BYTES];

    random_bytes(L, bytes, sizeof bytes);
    return push_uuid(L, bytes, 4);
}

/* RFC 9562, 6.2, method 1: within a millisecond, and when the clock steps
 * back, a counter goes on from a random start; when it is used up, the time
 * of the next millisecond is taken. */
static int uuid_v7(lua_State *L)
{
    crypto_state *state = state_of(L);
    uint64_t now_ms = peri_clock_wall_ms();
    unsigned char bytes[UUID_BYTES];

    random_bytes(L, bytes, sizeof bytes);
    if (now_ms > state->uuid_ms) {
        state->uuid_ms = now_ms;
        state->uuid_count = ((unsigned)bytes[6] << 8 | bytes[7]) & 0x7ff;
    } else if (state->uuid_count < UUID_COUNT_MAX) {
        state->uuid_count++;
    } else {
        state->uuid_ms++;
        state->uuid_count = ((unsigned)bytes[6] << 8 | bytes[7]) & 0x7ff;
    }
    for (int i = 0; i < 6; i++) {
        bytes[i] = (unsigned char)(state->uuid_ms >> (40 - 8 * i));
    }
    bytes[6] = (unsigned char)(state->uuid_count >> 8);
    bytes[7] = (unsigned char)state->uuid_count;
    return push_uuid(L, bytes, 7);
}

/* Room for the result: on the C stack when it is small, else Lua's. */
static char *result_room(lua_State *L, char *small, size_t length)
{
    return length <= SMALL_BYTES ? small : lua_newuserdata(L, length);
}

static int base64_encode(lua_State *L, peri_base64 kind)
{
    peri_slice data = perilua_check_slice(L, 1);
    char small[SMALL_BYTES];
    char *out = result_room(L, small, peri_base64_room(data.length));

    lua_pushlstring(L, out,
                    peri_base64_encode(kind, data.data, data.length, out));
    return 1;
}

static int base64_decode(lua_State *L, peri_base64 kind)
{
    peri_slice text = perilua_check_slice(L, 1);
    char small[SMALL_BYTES];
    char *out = result_room(L, small, text.length / 4 * 3 + 2);
    size_t length;

    if (!peri_base64_decode(kind, text.data, text.length, out, &length)) {
        return perilua_fail(L, "invalid", NULL, "malformed %s",
                            kind == PERI_BASE64 ? "base64" : "base64url");
    }
    lua_pushlstring(L, out, length);
    return 1;
}

static int crypto_base64_encode(lua_State *L)
{
    return base64_encode(L, PERI_BASE64);
}

static int crypto_base64_decode(lua_State *L)
{
    return base64_decode(L, PERI_BASE64);
}

static int crypto_base64url_encode(lua_State *L)
{
    return base64_encode(L, PERI_BASE64_URL);
}

static int crypto_base64url_decode(lua_State *L)
{
    return base64_decode(L, PERI_BASE64_URL);
}

static int crypto_hex_encode(lua_State *L)
{
    peri_slice data = perilua_check_slice(L, 1);
    char small[SMALL_BYTES];
    char *out = result_room(L, small, 2 * data.length);

    peri_hex_encode(data.data, data.length, out);
    lua_pushlstring(L, out, 2 * data.length);
    return 1;
}

static int crypto_hex_decode(lua_State *L)
{
    peri_slice text = perilua_check_slice(L, 1);
    char small[SMALL_BYTES];
    char *out = result_room(L, small, text.length / 2);

    if (!peri_hex_decode(text.data, text.length, out)) {
        return perilua_fail(L, "invalid", NULL, "malformed hexadecimal text");
    }
    lua_pushlstring(L, out, text.length / 2);
    return 1;
}

static const luaL_Reg functions[] = {
    {"sha256", crypto_sha256},
    {"sha256_hex", crypto_sha256_hex},
    {"hmac", crypto_hmac},
    {"hmac_hex", crypto_hmac_hex},
    {"random", crypto_random},
    {"equal", crypto_equal},
    {"uuid_v4", uuid_v4},
    {"uuid_v7", uuid_v7},
    {"base64_encode", crypto_base64_encode},
    {"base64_decode", crypto_base64_decode},
    {"base64url_encode", crypto_base64url_encode},
    {"base64url_decode", crypto_base64url_decode},
    {"hex_encode", crypto_hex_encode},
    {"hex_decode", crypto_hex_decode},
    {"sign", perilua_crypto_sign},
    {"verify", perilua_crypto_verify},
    {NULL, NULL},
};

int perilua_open_crypto(lua_State *L)
{
    crypto_state *state;

    lua_createtable(L, 0, 16);
    state = lua_newuserdata(L, sizeof *state);
    *state = (crypto_state){0};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, state_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    state->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    state->digest = EVP_MD_CTX_new();
    state->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    if (state->sha256 == NULL || state->digest == NULL || state->hmac == NULL) {
        return luaL_error(L, "OpenSSL has no SHA-256 or no HMAC");
    }
    for (const luaL_Reg *f = functions; f->name != NULL; f++) {
        lua_pushvalue(L, -1);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -3, f->name);
    }
    lua_pop(L, 1);
    return 1;
}
