/* Embedded: the library inside the program, as bytecode and as text. */
#include "bindings/embedded.h"

#include <lauxlib.h>
#include <lualib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void every_module_is_compiled_by_the_luajit_that_runs_it(void **state)
{
    lua_State *L = luaL_newstate();
    int modules = 0;

    (void)state;
    for (const peri_embedded_file *f = peri_embedded; f->name != NULL; f++) {
        if (f->code != NULL) {
            modules++;
            assert_int_equal(
                luaL_loadbuffer(L, (const char *)f->code, f->code_bytes, "?"),
                0);
            lua_pop(L, 1);
        }
    }
    assert_true(modules > 100);
    assert_null(perilua_embedded_find("dashboard/app.css")->code);
    lua_close(L);
}

static void bytecode_of_another_luajit_gives_way_to_the_text(void **state)
{
    static const char text[] = "return debug.getinfo(1, 'S').source";
    static const unsigned char code[] = "\x1bLJ\x7f of tomorrow";
    const peri_embedded_file file = {"perigee/x.lua",
                                     (const unsigned char *)text,
                                     sizeof text - 1, code, sizeof code - 1};
    lua_State *L = luaL_newstate();

    (void)state;
    luaL_openlibs(L);
    assert_int_equal(perilua_embedded_load(L, &file), 0);
    lua_call(L, 0, 1);
    assert_string_equal(lua_tostring(L, -1), "@perigee/x.lua");
    assert_int_equal(lua_gettop(L), 1);
    lua_close(L);
}

static void a_module_has_the_name_and_lines_of_its_file(void **state)
{
    lua_State *L = luaL_newstate();
    lua_Debug ar;

    (void)state;
    assert_int_equal(
        perilua_embedded_load(L, perilua_embedded_find("perigee/units.lua")),
        0);
    lua_getinfo(L, ">SL", &ar);
    assert_string_equal(ar.source, "@perigee/units.lua");
    assert_true(lua_istable(L, -1)); /* the lines that hold code */
    lua_pushnil(L);
    assert_true(lua_next(L, -2) != 0);
    lua_close(L);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_module_is_compiled_by_the_luajit_that_runs_it),
        cmocka_unit_test(bytecode_of_another_luajit_gives_way_to_the_text),
        cmocka_unit_test(a_module_has_the_name_and_lines_of_its_file),
    };

    return cmocka_run_group_tests_name("embedded", tests, NULL, NULL);
}
