/* Commands that need no application running. */
#include <luajit.h>
#include <openssl/crypto.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "bindings/cli_commands.h"
#include "bindings/cli_lua.h"
#include "bindings/vm.h"
#include "core/http/server.h"

/* ---- commands in Lua ---- */

typedef struct call {
    const char *module;
    const perilua_cli *cli;
    peri_slice text;
    int code;
} call;

static void push_args(lua_State *L, const call *c)
{
    lua_newtable(L);
    lua_newtable(L);
    for (size_t i = 0; i < c->cli->word_count; i++) {
        lua_pushstring(L, c->cli->words[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "words");
    lua_pushboolean(L, c->cli->json);
    lua_setfield(L, -2, "json");
    if (c->text.data != NULL) {
        lua_pushlstring(L, c->text.data, c->text.length);
        lua_setfield(L, -2, "text");
    }
}

static int call_module(lua_State *L)
{
    call *c = lua_touserdata(L, 1);

    perilua_open_libs(L);
    perilua_require(L, c->module);
    push_args(L, c);
    lua_call(L, 1, 1);
    c->code = (int)lua_tointeger(L, -1);
    return 0;
}

int perilua_cli_call(const char *module, const perilua_cli *cli,
                     peri_slice text)
{
    call c = {module, cli, text, PERILUA_CLI_INTERNAL};
    lua_State *L = luaL_newstate();

    if (L == NULL) {
        abort();
    }
    if (lua_cpcall(L, call_module, &c) != 0) {
        const char *why = lua_tostring(L, -1);

        fprintf(stderr, "perigee: %s\n", why != NULL ? why : "no message");
    }
    lua_close(L);
    return c.code;
}

int perilua_cli_plain(perilua_cli *cli)
{
    return perilua_cli_call(cli->command->module, cli, (peri_slice){NULL, 0});
}

int perilua_cli_config(perilua_cli *cli)
{
    peri_bundle *bundle;
    int fd;
    int code = perilua_cli_make_bundle(cli, NULL, false, &fd);

    if (code != 0) {
        return code;
    }
    code = PERILUA_CLI_INTERNAL;
    if (peri_bundle_open(fd, &bundle) == 0) {
        code = perilua_cli_call(cli->command->module, cli,
                                peri_bundle_find(bundle, "@sources"));
        peri_bundle_close(bundle);
    }
    close(fd);
    return code;
}

/* ---- version ---- */

static bool has_gc64(lua_State *L)
{
    return luaL_dostring(L, "return require('ffi').abi('gc64')") == 0 &&
           lua_toboolean(L, -1) != 0;
}

static void luajit_version(lua_State *L, char *out, size_t out_bytes)
{
    const char *text = LUAJIT_VERSION;

    if (luaL_dostring(L, "return jit.version") == 0 && lua_isstring(L, -1)) {
        text = lua_tostring(L, -1);
    }
    if (strncmp(text, "LuaJIT ", 7) == 0) {
        text += 7;
    }
    snprintf(out, out_bytes, "%s", text);
}

int perilua_cli_version(perilua_cli *cli)
{
    lua_State *L = luaL_newstate();
    char luajit[128];
    bool gc64;

    if (L == NULL) {
        abort();
    }
    luaL_openlibs(L);
    gc64 = has_gc64(L);
    luajit_version(L, luajit, sizeof luajit);
    lua_close(L);
    printf(cli->json ? "{\"version\":\"%s\",\"luajit\":\"%s\",\"gc64\":%s,"
                       "\"libraries\":{\"libuv\":\"%s\",\"llhttp\":\"%s\","
                       "\"sqlite\":\"%s\","
                       "\"openssl\":\"%s\"},"
                       "\"drivers\":[\"embedded\",\"redis\"]}\n"
                     : "perigee %s\nluajit  %s\ngc64    %s\nlibuv   %s\n"
                       "llhttp  %s\n"
                       "sqlite  %s\nopenssl %s\ndrivers embedded redis\n",
           PERI_VERSION, luajit,
           cli->json ? (gc64 ? "true" : "false") : (gc64 ? "yes" : "no"),
           uv_version_string(), peri_http_parser_version(),
           sqlite3_libversion(), OpenSSL_version(OPENSSL_VERSION_STRING));
    return PERILUA_CLI_OK;
}
