/* Running commands that are written in Lua. */
#ifndef PERILUA_CLI_LUA_H
#define PERILUA_CLI_LUA_H

#include "bindings/cli_args.h"
#include "core/base/slice.h"

/* Runs require(module)(args) in a bare VM, without an application; args =
 * {words, json, text}. Returns the exit code. text may be NULL-data. */
int perilua_cli_call(const char *module, const perilua_cli *cli,
                     peri_slice text);

/* Writes the embedded Lua library to folder/var/lua, for editors, unless it is
 * there in this version. 0 or -errno. */
int perilua_cli_write_library(const char *folder);

#endif
