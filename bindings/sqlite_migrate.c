/* SQLite migrations: from files to an op. perigee/sqlite.lua made the list. */
#include <dirent.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "bindings/sqlite_bind.h"

#define CHECKSUM_BYTES (2 * SHA256_DIGEST_LENGTH)

static void checksum(peri_slice text, char *out)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];

    SHA256((const unsigned char *)text.data, text.length, digest);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        snprintf(out + (size_t)i * 2, 3, "%02x", digest[i]);
    }
}

static peri_slice field(lua_State *L, int index, const char *name)
{
    peri_slice value;

    lua_getfield(L, index, name);
    value = perilua_check_slice(L, -1);
    lua_pop(L, 1); /* the table keeps it */
    return value;
}

static void add_migration(lua_State *L, perilua_sqlite_call *c)
{
    char sum[CHECKSUM_BYTES + 1];
    int at = lua_gettop(L);
    peri_slice sql = field(L, at, "sql");

    checksum(sql, sum);
    lua_getfield(L, at, "version");
    peri_sqlite_pack_int(&c->op.input, (int64_t)lua_tonumber(L, -1));
    lua_pop(L, 1);
    peri_sqlite_pack_bytes(&c->op.input, PERI_SQLITE_TEXT,
                           field(L, at, "path"));
    peri_sqlite_pack_bytes(&c->op.input, PERI_SQLITE_TEXT, peri_slice_str(sum));
    peri_sqlite_pack_bytes(&c->op.input, PERI_SQLITE_TEXT, sql);
    c->op.statements++;
}

int perilua_sqlite_migrate(lua_State *L)
{
    perilua_sqlite_db *db = perilua_sqlite_check_db(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    int count;
    perilua_sqlite_call *c;

    luaL_checktype(L, 2, LUA_TTABLE);
    perilua_sqlite_check_task(L, vm);
    count = (int)lua_objlen(L, 2);
    c = perilua_sqlite_call_create(vm, db->pool, PERI_SQLITE_MIGRATE, 0);
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, 2, i);
        add_migration(L, c);
        lua_pop(L, 1);
    }
    return perilua_sqlite_call_start(L, c, PERILUA_SQLITE_PATHS);
}

/* ---- a folder outside of the bundle ---- */

static int is_sql(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return entry->d_name[0] != '.' && length > 4 &&
           strcmp(entry->d_name + length - 4, ".sql") == 0;
}

/* Pushes a file's text; false: it cannot be read. */
static bool push_file(lua_State *L, const char *path)
{
    FILE *file = fopen(path, "rbe");
    luaL_Buffer text;
    size_t count;

    if (file == NULL) {
        return false;
    }
    luaL_buffinit(L, &text);
    do {
        char *room = luaL_prepbuffer(&text);

        count = fread(room, 1, LUAL_BUFFERSIZE, file);
        luaL_addsize(&text, count);
    } while (count != 0);
    fclose(file);
    luaL_pushresult(&text);
    return true;
}

int perilua_sqlite_folder(lua_State *L)
{
    const char *folder = luaL_checkstring(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    struct dirent **entries;
    int listed = 0;
    int count;

    lua_newtable(L);
    lua_pushfstring(L, folder[0] == '/' ? "%s" : "%s/%s",
                    folder[0] == '/' ? folder : vm->env->dir, folder);
    count = scandir(lua_tostring(L, -1), &entries, is_sql, alphasort);
    for (int i = 0; i < count; i++) {
        lua_createtable(L, 2, 0);
        lua_pushfstring(L, "%s/%s", folder, entries[i]->d_name);
        lua_rawseti(L, -2, 1);
        lua_pushfstring(L, "%s/%s", lua_tostring(L, 3), entries[i]->d_name);
        if (push_file(L, lua_tostring(L, -1))) {
            lua_rawseti(L, -3, 2);
            lua_pop(L, 1);
            lua_rawseti(L, 2, ++listed);
        } else {
            lua_pop(L, 2);
        }
        free(entries[i]);
    }
    if (count >= 0) {
        free(entries);
    }
    lua_settop(L, 2);
    return 1;
}
