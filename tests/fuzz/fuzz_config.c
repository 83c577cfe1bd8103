/* Fuzz: whatever configuration is read from: .env files, variables, flags, the
 * lines of a file's keys, the settings that C reads, log lines made pretty.
 *
 * The first byte says which. The Lua parts may refuse anything, but not
 * raise. */
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/cli_args.h"
#include "bindings/vm.h"
#include "core/base/pretty.h"
#include "core/base/settings.h"

#define WORDS_MAX 16

static const char source[] =
    "local dotenv = require 'perigee.config.dotenv'\n"
    "local lines = require 'perigee.config.lines'\n"
    "local loader = require 'perigee.config.loader'\n"
    "local M = {}\n"
    "function M.dotenv(text)\n"
    "  for _, entry in ipairs(dotenv.parse(text, function(line, what)\n"
    "    assert(line >= 1 and what)\n"
    "  end)) do\n"
    "    assert(entry.name ~= '' and entry.value and entry.line >= 1)\n"
    "  end\n"
    "end\n"
    "function M.lines(text)\n"
    "  for path, line in pairs(lines.of(text)) do\n"
    "    assert(path and line >= 1)\n"
    "  end\n"
    "end\n"
    "local function load(environ, overrides, files)\n"
    "  local result = loader.load { dir = '/nowhere', dev = false,\n"
    "    terminal = false, overrides = overrides, environ = environ,\n"
    "    files = files }\n"
    "  assert(#result.faults > 0 or (result.config and result.settings\n"
    "    and result.sources))\n"
    "end\n"
    "function M.variables(text)\n"
    "  local environ = {}\n"
    "  for name, value in text:gmatch '([^=\\n]+)=([^\\n]*)' do\n"
    "    environ[name] = value\n"
    "  end\n"
    "  load(environ, {}, {})\n"
    "end\n"
    "function M.flags(text)\n"
    "  local overrides = {}\n"
    "  for line in text:gmatch '[^\\n]+' do\n"
    "    overrides[#overrides + 1] = line\n"
    "  end\n"
    "  load({}, overrides, {})\n"
    "end\n"
    "function M.env_file(text)\n"
    "  load({ NODE_ENV = 'development' }, {}, { ['.env'] = text })\n"
    "end\n"
    "return M\n";

static int setup(lua_State *state)
{
    luaJIT_setmode(state, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    perilua_open_libs(state);
    if (luaL_loadbuffer(state, source, sizeof source - 1, "=fuzz") != 0) {
        lua_error(state);
    }
    lua_call(state, 0, 1);
    lua_setfield(state, LUA_REGISTRYINDEX, "fuzz");
    return 0;
}

static lua_State *create_state(void)
{
    lua_State *state = luaL_newstate();

    if (state == NULL || lua_cpcall(state, setup, NULL) != 0) {
        fprintf(stderr, "%s\n",
                state != NULL ? lua_tostring(state, -1) : "no memory");
        abort();
    }
    return state;
}

static lua_State *L; /* a fuzzer has but one life */

/* What only Lua's memory refers to looks like a leak. */
static void close_state(void)
{
    lua_close(L);
}

static void fuzz_lua(const char *name, const char *text, size_t length)
{
    static unsigned runs;

    if (L == NULL) {
        L = create_state();
        atexit(close_state);
    }
    lua_getfield(L, LUA_REGISTRYINDEX, "fuzz");
    lua_getfield(L, -1, name);
    lua_pushlstring(L, text, length);
    if (lua_pcall(L, 1, 0, 0) != 0) {
        fprintf(stdout, "%s: %s\n", name, lua_tostring(L, -1));
        fflush(stdout);
        abort();
    }
    lua_settop(L, 0);
    if (++runs % 1000 == 0) {
        lua_gc(L, LUA_GCCOLLECT, 0);
    }
}

static void fuzz_settings(const char *text, size_t length)
{
    peri_settings *settings = peri_settings_create(peri_slice_of(text, length));
    char key[64];

    snprintf(key, sizeof key, "%.*s", (int)(length < 60 ? length : 60), text);
    key[strcspn(key, "\t\n")] = '\0';
    peri_settings_int(settings, key, 1);
    peri_settings_bool(settings, key, true);
    peri_settings_str(settings, key, "");
    peri_settings_destroy(settings);
}

static void fuzz_pretty(const char *text, size_t length)
{
    peri_buf out;

    peri_buf_init(&out, 1 << 20);
    peri_pretty_line(&out, peri_slice_of(text, length), length % 2 == 0);
    peri_buf_fini(&out);
}

static FILE *silence(void)
{
    static FILE *nowhere;

    if (nowhere == NULL) {
        nowhere = fopen("/dev/null", "we");
    }
    return nowhere;
}

/* Words are separated by line feeds; the first names the command. */
static void fuzz_words(const char *text, size_t length)
{
    char *copy = strndup(text, length);
    char *rest = copy;
    char *words[WORDS_MAX];
    int count = 0;
    perilua_cli cli = {.dir = "."};

    while (count < WORDS_MAX && (words[count] = strsep(&rest, "\n")) != NULL) {
        count++;
    }
    cli.command = perilua_command_find(words[0]);
    if (cli.command != NULL) {
        FILE *console = stderr;

        stderr = silence(); /* usage errors are what it is for */
        perilua_cli_parse(&cli, count - 1, words + 1);
        stderr = console;
        perilua_cli_fini(&cli);
    }
    free(copy);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    setenv("TZ", "UTC", 1);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"dotenv", "lines", "variables", "flags",
                                        "env_file"};
    const char *text = (const char *)data + 1;

    if (size < 2) {
        return 0;
    }
    switch (data[0] % 8) {
    case 5:
        fuzz_settings(text, size - 1);
        break;
    case 6:
        fuzz_pretty(text, size - 1);
        break;
    case 7:
        fuzz_words(text, size - 1);
        break;
    default:
        fuzz_lua(names[data[0] % 8], text, size - 1);
    }
    return 0;
}
