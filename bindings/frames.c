/* Frames: walks, names, and a table of those that were seen. */
#include "bindings/frames.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/embedded.h"
#include "bindings/task.h"
#include "core/base/alloc.h"
#include "core/base/arena.h"
#include "core/base/utf8.h"
#include "core/http/exchange.h"

#define DEPTH_MAX 100
#define NAMES_MAX 8192
#define SLOTS (2 * NAMES_MAX) /* a power of two */
#define BLOCK_BYTES 16384
#define TEXT_BYTES 256
#define NAME_BYTES 64

typedef struct seen {
    uint64_t hash; /* 0: free */
    const char *text;
} seen;

typedef struct frame {
    const char *text;
    int line; /* <= 0: none */
} frame;

struct perilua_frames {
    seen slots[SLOTS];
    size_t count;
    peri_arena *texts;
    frame walk[DEPTH_MAX];
};

perilua_frames *perilua_frames_create(void)
{
    perilua_frames *frames = peri_calloc(1, sizeof *frames);

    frames->texts = peri_arena_create(BLOCK_BYTES);
    return frames;
}

void perilua_frames_destroy(perilua_frames *frames)
{
    if (frames != NULL) {
        peri_arena_destroy(frames->texts);
        free(frames);
    }
}

/* ---- what a function is called where it is written ---- */

static bool is_word(char c)
{
    return isalnum((unsigned char)c) != 0 || c == '_';
}

/* The line of that number; empty: there is none. */
static peri_slice line_of(peri_slice text, int number)
{
    const char *end;

    for (int i = 1; i < number && text.length > 0; i++) {
        end = memchr(text.data, '\n', text.length);
        if (end == NULL) {
            return (peri_slice){NULL, 0};
        }
        text.length -= (size_t)(end + 1 - text.data);
        text.data = end + 1;
    }
    end = text.length != 0 ? memchr(text.data, '\n', text.length) : NULL;
    return (peri_slice){text.data,
                        end != NULL ? (size_t)(end - text.data) : text.length};
}

static peri_slice source_of(const perilua_vm *vm, const char *source)
{
    const peri_embedded_file *file;
    peri_slice text = {NULL, 0};

    if (source[0] != '@' && source[0] != '=') {
        return text;
    }
    if (vm->bundle != NULL) {
        text = peri_bundle_find(vm->bundle, source + 1);
    }
    if (text.data == NULL) {
        file = perilua_embedded_find(source + 1);
        if (file != NULL) {
            text = (peri_slice){(const char *)file->data, file->size_bytes};
        }
    }
    return text;
}

/* Where the one "function" of a line stands; NULL: there is none, or two. */
static const char *only_function(peri_slice line)
{
    static const char word[] = "function";
    const size_t length = sizeof word - 1;
    const char *found = NULL;

    for (size_t i = 0; i + length <= line.length; i++) {
        const char *at = line.data + i;
        bool begins = i == 0 || !is_word(at[-1]);
        bool ends = i + length == line.length || !is_word(at[length]);

        if (begins && ends && memcmp(at, word, length) == 0) {
            if (found != NULL) {
                return NULL;
            }
            found = at;
        }
    }
    return found;
}

static peri_slice word_before(const char *start, const char *end)
{
    const char *from;

    while (end > start && end[-1] == ' ') {
        end--;
    }
    for (from = end; from > start && is_word(from[-1]);) {
        from--;
    }
    return (peri_slice){from, (size_t)(end - from)};
}

/* "function M.cancel(", "M.cancel = function(" give cancel. Empty: it has no
 * name there. */
static peri_slice written_name(peri_slice line)
{
    const char *end = line.data + line.length;
    const char *word = only_function(line);
    const char *at;

    if (word == NULL) {
        return (peri_slice){NULL, 0};
    }
    at = memchr(word, '(', (size_t)(end - word));
    if (at != NULL && at > word + 9) {
        return word_before(word + 9, at);
    }
    for (at = word; at > line.data && at[-1] == ' ';) {
        at--;
    }
    if (at > line.data && at[-1] == '=') {
        return word_before(line.data, at - 1);
    }
    return (peri_slice){NULL, 0};
}

/* ---- texts ---- */

/* No byte that would end a frame or a line. */
static void make_sane(char *text)
{
    bool utf8 = peri_utf8_valid(text, strlen(text));

    for (char *c = text; *c != '\0'; c++) {
        unsigned char byte = (unsigned char)*c;

        if (byte < 32 || byte == 127 || byte == ';' || byte == '@' ||
            (byte > 127 && !utf8)) {
            *c = '?';
        }
    }
}

static void describe(const perilua_vm *vm, const lua_Debug *ar, char *out)
{
    const char *file = ar->source + 1;
    peri_slice name;

    if (ar->what[0] == 'C') {
        snprintf(out, TEXT_BYTES, "[C]:%s", ar->name != NULL ? ar->name : "?");
        return;
    }
    if (ar->source[0] != '@' && ar->source[0] != '=') {
        file = ar->short_src;
    }
    if (strncmp(file, "scripts/", 8) == 0) {
        file += 8;
    }
    if (ar->what[0] == 'm') {
        snprintf(out, TEXT_BYTES, "%.120s:(main):0", file);
        return;
    }
    name = written_name(line_of(source_of(vm, ar->source), ar->linedefined));
    if (name.length == 0) {
        name = peri_slice_str(ar->name != NULL ? ar->name : "(anonymous)");
    }
    snprintf(out, TEXT_BYTES, "%.120s:%.*s:%d", file,
             name.length < NAME_BYTES ? (int)name.length : NAME_BYTES,
             name.data, ar->linedefined);
}

static uint64_t mix(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    }
    return hash;
}

static const char *text_of(perilua_frames *frames, const perilua_vm *vm,
                           const lua_Debug *ar)
{
    uint64_t hash = (14695981039346656037u ^ vm->generation) * 31 +
                    (uint64_t)(ar->linedefined + 1);
    char text[TEXT_BYTES];
    size_t at;

    hash = mix(hash, ar->short_src);
    hash = mix(hash, ar->name != NULL ? ar->name : "");
    hash |= 1;
    at = (hash >> 20) & (SLOTS - 1);
    while (frames->slots[at].hash != 0) {
        if (frames->slots[at].hash == hash) {
            return frames->slots[at].text;
        }
        at = (at + 1) & (SLOTS - 1);
    }
    if (frames->count >= NAMES_MAX) {
        return "[more functions]";
    }
    describe(vm, ar, text);
    make_sane(text);
    frames->count++;
    frames->slots[at] =
        (seen){hash, peri_arena_copy(frames->texts, text, strlen(text))};
    return frames->slots[at].text;
}

/* ---- the walk ---- */

/* The innermost first; returns how many there are then. */
static int walk(perilua_frames *frames, const perilua_vm *vm, lua_State *L,
                int depth)
{
    lua_Debug ar;

    for (int level = 0; depth < DEPTH_MAX && lua_getstack(L, level, &ar) != 0;
         level++) {
        if (lua_getinfo(L, "Sln", &ar) == 0) {
            break;
        }
        frames->walk[depth++] =
            (frame){text_of(frames, vm, &ar), ar.currentline};
    }
    return depth;
}

void perilua_frames_append(perilua_frames *frames, const perilua_vm *vm,
                           lua_State *L, peri_buf *out)
{
    const perilua_task *task = vm->current;
    int depth = walk(frames, vm, L, 0);

    /* A coroutine of the handler's own: who resumed it. */
    if (task != NULL && task->co != L) {
        depth = walk(frames, vm, task->co, depth);
    }
    if (depth == DEPTH_MAX) {
        peri_buf_append_str(out, ";[...]");
    }
    while (depth > 0) {
        const frame *f = &frames->walk[--depth];

        peri_buf_append_byte(out, ';');
        peri_buf_append_str(out, f->text);
        if (f->line > 0) {
            peri_buf_append_byte(out, '@');
            peri_buf_append_u64(out, (uint64_t)f->line);
        }
    }
}

void perilua_frames_root(const perilua_task *task, peri_buf *out)
{
    const peri_exchange *ex = task->context;
    char text[TEXT_BYTES];

    if (ex == NULL) {
        peri_buf_append_str(out, ";[task]");
        return;
    }
    snprintf(text, sizeof text, "%s %s",
             peri_method_name((peri_method)ex->method),
             ex->route != NULL ? ex->route->pattern : "(no route)");
    make_sane(text);
    peri_buf_append_byte(out, ';');
    peri_buf_append_str(out, text);
}
