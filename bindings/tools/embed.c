/* Build tool: turns the files of a folder into C arrays.
 *
 * embed DIR LIST OUT DUMP: LIST names one file of DIR a line; OUT gets an array
 * peri_embedded[] of files, ended by a NULL name, in LIST's order (sorted by
 * the build), so that a lookup may bisect. Modules of the library come as text
 * and as bytecode, since a start spends most of its time on compiling them.
 * DUMP is dump.lua, which makes the bytecode. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 1024
#define PATH_BYTES 1024

typedef struct bytes {
    unsigned char *data;
    size_t count;
} bytes;

static void append(bytes *b, const void *data, size_t count)
{
    b->data = realloc(b->data, b->count + count);
    if (b->data == NULL) {
        abort();
    }
    memcpy(b->data + b->count, data, count);
    b->count += count;
}

static bytes read_file(const char *path)
{
    FILE *in = fopen(path, "rb");
    bytes text = {malloc(1), 0};
    char part[4096];
    size_t count;

    if (in == NULL) {
        perror(path);
        exit(1);
    }
    while ((count = fread(part, 1, sizeof part, in)) > 0) {
        append(&text, part, count);
    }
    fclose(in);
    return text;
}

static void must(lua_State *L, int rc)
{
    if (rc != 0) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        exit(1);
    }
}

/* The function at the top of the stack is dump.lua's. */
static bytes compile(lua_State *L, const char *name, bytes text)
{
    bytes code = {NULL, 0};
    size_t count;
    const char *data;

    lua_pushvalue(L, -1);
    lua_pushfstring(L, "@%s", name);
    must(L, luaL_loadbuffer(L, (const char *)text.data, text.count,
                            lua_tostring(L, -1)));
    lua_remove(L, -2);
    must(L, lua_pcall(L, 1, 1, 0));
    data = lua_tolstring(L, -1, &count);
    append(&code, data, count);
    lua_pop(L, 1);
    return code;
}

static void emit(FILE *out, const char *kind, int index, bytes b)
{
    fprintf(out, "static const unsigned char %s_%d[] = {", kind, index);
    for (size_t i = 0; i < b.count; i++) {
        fprintf(out, "%s%d,", i % 24 == 0 ? "\n" : "", b.data[i]);
    }
    fprintf(out, "0};\n"); /* the closing NUL is not counted in size */
}

static bool is_module(const char *name)
{
    size_t length = strlen(name);

    return strncmp(name, "perigee/", 8) == 0 &&
           strcmp(name + length - 4, ".lua") == 0;
}

static void emit_file(FILE *out, lua_State *L, const char *path,
                      const char *name, int index)
{
    bytes text = read_file(path);

    emit(out, "file", index, text);
    if (is_module(name)) {
        bytes code = compile(L, name, text);

        emit(out, "code", index, code);
        free(code.data);
    }
    free(text.data);
}

int main(int argc, char **argv)
{
    static char names[FILES_MAX][PATH_BYTES];
    lua_State *L = luaL_newstate();
    char path[2 * PATH_BYTES];
    FILE *list;
    FILE *out;
    int count = 0;

    if (L == NULL || argc != 5 || (list = fopen(argv[2], "r")) == NULL ||
        (out = fopen(argv[3], "w")) == NULL) {
        fprintf(stderr, "usage: embed DIR LIST OUT DUMP\n");
        return 1;
    }
    luaL_openlibs(L);
    must(L, luaL_loadfile(L, argv[4]));
    must(L, lua_pcall(L, 0, 1, 0));
    fprintf(out, "#include \"bindings/embedded.h\"\n");
    while (count < FILES_MAX && fgets(names[count], PATH_BYTES, list)) {
        names[count][strcspn(names[count], "\n")] = '\0';
        if (names[count][0] == '\0') {
            continue;
        }
        if ((size_t)snprintf(path, sizeof path, "%s/%s", argv[1],
                             names[count]) >= sizeof path) {
            fprintf(stderr, "%s: the path is too long\n", names[count]);
            return 1;
        }
        emit_file(out, L, path, names[count], count);
        count++;
    }
    fprintf(out, "const peri_embedded_file peri_embedded[] = {\n");
    for (int i = 0; i < count; i++) {
        fprintf(out, "{\"%s\", file_%d, sizeof file_%d - 1, ", names[i], i, i);
        if (is_module(names[i])) {
            fprintf(out, "code_%d, sizeof code_%d - 1},\n", i, i);
        } else {
            fprintf(out, "0, 0},\n");
        }
    }
    fprintf(out, "{0, 0, 0, 0, 0}};\n");
    lua_close(L);
    fclose(list);
    return fclose(out) == 0 ? 0 : 1;
}
