/* Stage: files in, bundle out; the configuration is evaluated on the way by
 * perigee.config.loader in a lua_State of its own. */
#include "bindings/stage.h"

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bindings/vm.h"
#include "core/base/alloc.h"
#include "core/base/bundle.h"
#include "core/base/settings.h"
#include "core/cluster/certs.h"

#define FAULT_BYTES 1024
#define DOTENV_MAX_BYTES ((size_t)1 << 20)

typedef struct stage {
    const perilua_stage_options *options;
    peri_bundle *files;           /* config/ and scripts/ as read */
    peri_bundle_builder *builder; /* of the result */
    lua_State *L;
    peri_buf *faults;
    peri_settings *settings; /* NULL: there are faults */
    char dir[4096];          /* absolute */
} stage;

static void add_fault(stage *s, const char *text)
{
    peri_buf_append_str(s->faults, text);
    peri_buf_append_byte(s->faults, '\n');
}

/* ---- files ---- */

static bool has_folder(const stage *s, const char *name)
{
    char path[sizeof s->dir + 16];
    struct stat info;

    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static int find_application(stage *s)
{
    char text[FAULT_BYTES + 64];
    const char *dir = s->options->dir;
    char *path = realpath(dir, NULL);
    size_t length = path != NULL ? strlen(path) : 0;

    if (path == NULL || length >= sizeof s->dir) {
        snprintf(text, sizeof text, "%.*s: %s", FAULT_BYTES, dir,
                 path == NULL ? strerror(errno) : "the path is too long");
        free(path);
        add_fault(s, text);
        return PERI_EFORMAT;
    }
    memcpy(s->dir, path, length + 1);
    free(path);
    if (!has_folder(s, "config") && !has_folder(s, "scripts") &&
        !has_folder(s, "public")) {
        snprintf(text, sizeof text,
                 "%.*s: no application here: neither config/ nor scripts/ nor "
                 "public/",
                 FAULT_BYTES, dir);
        add_fault(s, text);
        return PERI_EFORMAT;
    }
    return 0;
}

/* Both folders are read once; all that follows works on this copy. */
static int read_files(stage *s)
{
    static const char *const folders[] = {"config", "scripts"};
    char why[FAULT_BYTES];
    peri_bundle_builder *builder = peri_bundle_builder_create();
    int rc = 0;
    int fd;

    for (size_t i = 0; i < 2; i++) {
        if (peri_bundle_add_tree(builder, s->dir, folders[i], why, sizeof why) <
            0) {
            add_fault(s, why);
            rc = PERI_EFORMAT;
        }
    }
    if (rc == 0) {
        rc = peri_bundle_finish(builder, &fd);
        if (rc == 0) {
            rc = peri_bundle_open(fd, &s->files);
            close(fd);
        }
        if (rc < 0) {
            add_fault(s, peri_err_text(rc));
        }
    }
    peri_bundle_builder_destroy(builder);
    return rc;
}

/* ---- the loader's input ---- */

static void set_string(lua_State *L, const char *key, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, key);
}

static void push_environ(lua_State *L)
{
    lua_newtable(L);
    for (char **entry = environ; *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');

        if (equals != NULL) {
            lua_pushlstring(L, *entry, (size_t)(equals - *entry));
            lua_pushstring(L, equals + 1);
            lua_rawset(L, -3);
        }
    }
}

static void push_overrides(lua_State *L, const char *const *overrides)
{
    lua_newtable(L);
    for (int i = 0; overrides != NULL && overrides[i] != NULL; i++) {
        lua_pushstring(L, overrides[i]);
        lua_rawseti(L, -2, i + 1);
    }
}

/* files[name] = the text of dir/name, if there is such a file. */
static void push_dotenv(stage *s, const char *name)
{
    char path[sizeof s->dir + 32];
    char *text;
    size_t length;
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    text = peri_alloc(DOTENV_MAX_BYTES);
    length = fread(text, 1, DOTENV_MAX_BYTES, file);
    if (ferror(file) == 0) {
        lua_pushlstring(s->L, text, length);
        lua_setfield(s->L, -2, name);
    }
    free(text);
    fclose(file);
}

static void push_files(stage *s)
{
    static const char *const names[] = {".env", ".env.development",
                                        ".env.staging", ".env.test"};

    lua_newtable(s->L);
    for (size_t i = 0; i < peri_bundle_count(s->files); i++) {
        const char *name = peri_bundle_name(s->files, i);

        if (strncmp(name, "config/", 7) == 0) {
            peri_slice data = peri_bundle_data(s->files, i);

            lua_pushlstring(s->L, data.data, data.length);
            lua_setfield(s->L, -2, name);
        }
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        push_dotenv(s, names[i]);
    }
}

static void push_input(stage *s)
{
    lua_State *L = s->L;

    lua_newtable(L);
    set_string(L, "dir", s->dir);
    if (s->options->env != NULL) {
        set_string(L, "env", s->options->env);
    }
    lua_pushboolean(L, s->options->dev);
    lua_setfield(L, -2, "dev");
    lua_pushboolean(L, isatty(0) == 1 && isatty(1) == 1);
    lua_setfield(L, -2, "terminal");
    push_overrides(L, s->options->overrides);
    lua_setfield(L, -2, "overrides");
    push_environ(L);
    lua_setfield(L, -2, "environ");
    push_files(s);
    lua_setfield(L, -2, "files");
}

/* ---- the loader's output ---- */

static void add_entry(stage *s, const char *field, const char *name)
{
    size_t length;
    const char *text;

    lua_getfield(s->L, -1, field);
    text = lua_tolstring(s->L, -1, &length);
    if (text != NULL) {
        peri_bundle_add(s->builder, name, peri_slice_of(text, length));
    }
    lua_pop(s->L, 1);
}

static void take_faults(stage *s)
{
    lua_getfield(s->L, -1, "faults");
    for (int i = 1;; i++) {
        lua_rawgeti(s->L, -1, i);
        if (lua_isnil(s->L, -1)) {
            lua_pop(s->L, 2);
            return;
        }
        add_fault(s, lua_tostring(s->L, -1));
        lua_pop(s->L, 1);
    }
}

/* Protected: whatever goes wrong in here is our own fault. */
static int load_config(lua_State *L)
{
    stage *s = lua_touserdata(L, 1);

    perilua_open_libs(L);
    /* All of it runs once: compiling traces would take longer; and compiled
     * code has no hooks, by which files that never end are stopped. Not before:
     * opening the libraries turns the compiler on. */
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "perigee.config.loader");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "load");
    push_input(s);
    lua_call(L, 1, 1);
    take_faults(s);
    add_entry(s, "config", "@config");
    add_entry(s, "sources", "@sources");
    add_entry(s, "settings", "@settings");
    add_entry(s, "env", "@env");
    lua_getfield(L, -1, "settings");
    if (lua_isstring(L, -1)) {
        s->settings = peri_settings_create(peri_slice_str(lua_tostring(L, -1)));
    }
    return 0;
}

static bool ends_in(const char *text, const char *ending)
{
    size_t length = strlen(text);
    size_t n = strlen(ending);

    return length > n && strcmp(text + length - n, ending) == 0;
}

/* Copies each file; those of Lua must compile. */
static void take_files(stage *s)
{
    char chunk[FAULT_BYTES];

    for (size_t i = 0; i < peri_bundle_count(s->files); i++) {
        const char *name = peri_bundle_name(s->files, i);
        peri_slice data = peri_bundle_data(s->files, i);

        peri_bundle_add(s->builder, name, data);
        if (strncmp(name, "scripts/", 8) != 0 || !ends_in(name, ".lua")) {
            continue;
        }
        snprintf(chunk, sizeof chunk, "@%s", name);
        if (luaL_loadbuffer(s->L, data.data, data.length, chunk) != 0) {
            add_fault(s, lua_tostring(s->L, -1));
        }
        lua_settop(s->L, 0);
    }
}

static void check_certificates(stage *s)
{
    char why[FAULT_BYTES];
    int fd = -1;

    if (s->settings == NULL || !peri_certs_wanted(s->settings)) {
        return;
    }
    if (peri_certs_read(s->settings, s->dir, &fd, NULL, why, sizeof why) < 0) {
        add_fault(s, why);
    }
    if (fd >= 0) {
        close(fd);
    }
}

static int build(stage *s, int *out_fd)
{
    if (lua_cpcall(s->L, load_config, s) != 0) {
        const char *text = lua_tostring(s->L, -1);

        add_fault(s, text != NULL ? text : "the configuration's loader failed");
    }
    lua_settop(s->L, 0);
    take_files(s);
    if (s->options->certificates && s->faults->length == 0) {
        check_certificates(s);
    }
    if (s->faults->length != 0) {
        if (!s->options->tolerant || s->settings == NULL) {
            return PERI_EFORMAT;
        }
        peri_bundle_add(s->builder, "@faults", peri_buf_slice(s->faults));
        peri_buf_clear(s->faults);
    }
    return peri_bundle_finish(s->builder, out_fd);
}

int perilua_stage(const perilua_stage_options *options, int *out_fd,
                  peri_buf *faults)
{
    stage *s = peri_calloc(1, sizeof *s);
    int rc;

    *out_fd = -1;
    s->options = options;
    s->faults = faults;
    s->builder = peri_bundle_builder_create();
    s->L = luaL_newstate();
    if (s->L == NULL) {
        abort();
    }
    rc = find_application(s);
    if (rc == 0) {
        rc = read_files(s);
    }
    if (rc == 0) {
        rc = build(s, out_fd);
    }
    if (rc < 0 && faults->length == 0) {
        add_fault(s, peri_err_text(rc));
    }
    lua_close(s->L);
    peri_settings_destroy(s->settings);
    peri_bundle_close(s->files);
    peri_bundle_builder_destroy(s->builder);
    free(s);
    return rc;
}
