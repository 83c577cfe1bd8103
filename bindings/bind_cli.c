/* perigee.core.cli: what commands written in Lua need of the system. */
#include <dirent.h>
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bindings/cli_lua.h"
#include "bindings/embedded.h"
#include "bindings/modules.h"

#define PATH_BYTES 4096

/* isatty(fd) -> boolean */
static int cli_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)) == 1);
    return 1;
}

/* embedded(prefix) -> names */
static int cli_embedded(lua_State *L)
{
    size_t length;
    const char *prefix = luaL_checklstring(L, 1, &length);
    int count = 0;

    lua_newtable(L);
    for (const peri_embedded_file *f = peri_embedded; f->name != NULL; f++) {
        if (strncmp(f->name, prefix, length) == 0) {
            lua_pushstring(L, f->name);
            lua_rawseti(L, -2, ++count);
        }
    }
    return 1;
}

/* embedded_text(name) -> text or nil */
static int cli_embedded_text(lua_State *L)
{
    const peri_embedded_file *file =
        perilua_embedded_find(luaL_checkstring(L, 1));

    if (file == NULL) {
        return 0;
    }
    lua_pushlstring(L, (const char *)file->data, file->size_bytes);
    return 1;
}

static int make_folders(const char *path)
{
    char text[PATH_BYTES];

    if (strlen(path) >= sizeof text) {
        return -ENAMETOOLONG;
    }
    memcpy(text, path, strlen(path) + 1);
    for (char *slash = strchr(text + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(text, 0755) < 0 && errno != EEXIST) {
            return -errno;
        }
        *slash = '/';
    }
    return 0;
}

/* make_folders(path): all that lead to the file; raises. */
static int cli_make_folders(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    int rc = make_folders(path);

    if (rc < 0) {
        lua_pushfstring(L, "%s: %s", path, strerror(-rc));
        return lua_error(L);
    }
    return 0;
}

/* folder_state(path) -> "absent", "empty" or "occupied" */
static int cli_folder_state(lua_State *L)
{
    DIR *folder = opendir(luaL_checkstring(L, 1));
    const struct dirent *entry;
    const char *state = "empty";

    if (folder == NULL) {
        lua_pushstring(L, errno == ENOENT ? "absent" : "occupied");
        return 1;
    }
    while ((entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 &&
            strcmp(entry->d_name, "..") != 0) {
            state = "occupied";
            break;
        }
    }
    closedir(folder);
    lua_pushstring(L, state);
    return 1;
}

/* ---- the library, for editors ---- */

static int write_file(const char *path, const void *data, size_t length)
{
    FILE *file = fopen(path, "we");
    bool written;

    if (file == NULL) {
        return -errno;
    }
    written = fwrite(data, 1, length, file) == length;
    return fclose(file) == 0 && written ? 0 : -EIO;
}

/* What the stamp of this version holds: any change of a file changes it. */
static void library_stamp(char *out, size_t out_bytes)
{
    unsigned long long sum = 1469598103934665603u;

    for (const peri_embedded_file *f = peri_embedded; f->name != NULL; f++) {
        if (strncmp(f->name, "perigee/", 8) == 0) {
            sum = (sum ^ f->size_bytes) * 1099511628211u;
            sum = (sum ^ f->data[f->size_bytes / 2]) * 1099511628211u;
        }
    }
    snprintf(out, out_bytes, PERI_VERSION " %llx\n", sum);
}

static bool has_stamp(const char *path, const char *stamp)
{
    char text[64] = "";
    FILE *file = fopen(path, "re");
    bool same;

    if (file == NULL) {
        return false;
    }
    same = fgets(text, sizeof text, file) != NULL && strcmp(text, stamp) == 0;
    fclose(file);
    return same;
}

int perilua_cli_write_library(const char *folder)
{
    char path[PATH_BYTES];
    char stamp_path[PATH_BYTES];
    char stamp[64];
    int rc = 0;

    library_stamp(stamp, sizeof stamp);
    snprintf(stamp_path, sizeof stamp_path, "%s/var/lua/version", folder);
    if (has_stamp(stamp_path, stamp)) {
        return 0;
    }
    for (const peri_embedded_file *f = peri_embedded;
         rc == 0 && f->name != NULL; f++) {
        if (strncmp(f->name, "perigee/", 8) != 0) {
            continue;
        }
        snprintf(path, sizeof path, "%s/var/lua/%s", folder, f->name);
        rc = make_folders(path);
        if (rc == 0) {
            rc = write_file(path, f->data, f->size_bytes);
        }
    }
    return rc == 0 ? write_file(stamp_path, stamp, strlen(stamp)) : rc;
}

/* write_library(folder); raises */
static int cli_write_library(lua_State *L)
{
    int rc = perilua_cli_write_library(luaL_checkstring(L, 1));

    return rc < 0 ? luaL_error(L, "var/lua: %s", strerror(-rc)) : 0;
}

int perilua_open_cli(lua_State *L);

int perilua_open_cli(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"isatty", cli_isatty},
        {"embedded", cli_embedded},
        {"embedded_text", cli_embedded_text},
        {"make_folders", cli_make_folders},
        {"folder_state", cli_folder_state},
        {"write_library", cli_write_library},
        {NULL, NULL},
    };

    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name != NULL; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    return 1;
}
