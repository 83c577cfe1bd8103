/* File: found and, when small, read in one go by a thread of libuv's pool; a
 * larger one is read a piece at a time, the next when the client took the last.
 * What can be compressed is: by a file of that name and ".br" or ".gz" beside
 * it, else by the thread. */
#include "core/http/file.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/http/condition.h"
#include "core/http/exchange_ops.h"
#include "core/http/file_open.h"
#include "core/http/file_serving.h"
#include "core/http/file_type.h"

#define INDEX_SUFFIX "/index.html"
/* A coded file this much older than the file itself is of another version. */
#define CODED_AGE_MAX_SECONDS 60

peri_files *peri_files_create(uv_loop_t *loop, const char *root)
{
    peri_files *files = peri_calloc(1, sizeof *files);

    files->loop = loop;
    files->root = peri_strdup(root);
    files->cache = peri_file_cache_create();
    return files;
}

void peri_files_destroy(peri_files *files)
{
    if (files != NULL) {
        peri_file_cache_destroy(files->cache);
        free(files->root);
        free(files);
    }
}

void peri_file_finish(peri_serving *s, bool found)
{
    peri_exchange *ex = s->exchange;

    if (s->fd >= 0) {
        close(s->fd);
    }
    if (found) {
        s->served(s->data, ex);
    } else {
        s->absent(s->data, ex);
    }
    peri_encoder_destroy(s->encoder);
    peri_buf_fini(&s->coded);
    free(s->piece);
    free(s);
    peri_exchange_unref(ex);
}

/* ---- in a thread ---- */

/* A folder without a slash behind it is worth a redirect if it has an index. */
static void look_for_index(peri_serving *s)
{
    struct stat stat;
    int fd;

    close(s->fd);
    s->fd = -ENOENT;
    memcpy(s->path + strlen(s->path), INDEX_SUFFIX, sizeof INDEX_SUFFIX);
    fd = peri_file_open(s->files->root, s->path, &stat);
    if (fd >= 0) {
        close(fd);
        s->is_folder = S_ISREG(stat.st_mode);
    }
}

static bool take_coded(peri_serving *s, peri_coding coding)
{
    size_t length = strlen(s->path);
    struct stat stat;
    int fd;

    memcpy(s->path + length, coding == PERI_CODING_BR ? ".br" : ".gz",
           sizeof ".br");
    fd = peri_file_open(s->files->root, s->path, &stat);
    s->path[length] = '\0';
    if (fd < 0) {
        return false;
    }
    if (!S_ISREG(stat.st_mode) ||
        stat.st_mtim.tv_sec + CODED_AGE_MAX_SECONDS < s->stat.st_mtim.tv_sec) {
        close(fd);
        return false;
    }
    close(s->fd);
    s->fd = fd;
    s->sent_stat = stat;
    s->coding = coding;
    s->coded_before = true;
    return true;
}

static void choose_coding(peri_serving *s)
{
    for (size_t i = 0; i < s->accepted_count; i++) {
        if (take_coded(s, s->accepted[i])) {
            return;
        }
    }
    if (s->accepted_count != 0 && !s->own_tag &&
        s->stat.st_size >= s->compression->min_bytes) {
        s->coding = s->accepted[0];
    }
}

static void read_small(peri_serving *s)
{
    size_t want = (size_t)s->sent_stat.st_size;
    size_t got = 0;

    s->piece = peri_alloc(PERI_FILE_PIECE_BYTES);
    s->is_whole = true;
    while (got < want) {
        ssize_t n = pread(s->fd, s->piece + got, want - got, (off_t)got);

        if (n <= 0) {
            s->piece_bytes = n < 0 ? -errno : -EIO;
            return;
        }
        got += (size_t)n;
    }
    s->piece_bytes = (ssize_t)got;
    s->body = peri_slice_of(s->piece, got);
}

/* Coded while it is read, unless that makes it no shorter. */
static void code_small(peri_serving *s)
{
    s->coded.max_bytes = (size_t)s->piece_bytes;
    if (peri_encode(s->coding, s->compression->level,
                    peri_slice_of(s->piece, (size_t)s->piece_bytes),
                    &s->coded) < 0) {
        s->coding = PERI_CODING_IDENTITY;
    } else {
        s->body = peri_buf_slice(&s->coded);
    }
}

static void on_work(uv_work_t *work)
{
    peri_serving *s = work->data;
    bool codes;

    s->fd = peri_file_open(s->files->root, s->path, &s->stat);
    if (s->fd < 0) {
        return;
    }
    if (S_ISDIR(s->stat.st_mode)) {
        look_for_index(s);
        return;
    }
    if (s->only_looks) {
        return;
    }
    s->sent_stat = s->stat;
    choose_coding(s);
    codes = s->coding != PERI_CODING_IDENTITY && !s->coded_before;
    if (s->sent_stat.st_size <= PERI_FILE_PIECE_BYTES && s->range.length == 0 &&
        (!s->head_only || codes)) {
        read_small(s);
        if (codes && s->piece_bytes > 0) {
            code_small(s);
        }
    }
}

/* ---- in the loop ---- */

/* What decides which bytes are sent for a path. */
static unsigned variant_of(const peri_serving *s)
{
    unsigned variant = s->own_tag ? 1 : 0;

    for (size_t i = 0; i < s->accepted_count; i++) {
        variant = variant * 4 + (unsigned)s->accepted[i] + 1;
    }
    return variant;
}

static bool found_in_cache(peri_serving *s)
{
    const peri_file_copy *copy = NULL;

    if (s->range.length == 0) {
        copy = peri_file_cache_get(s->files->cache, s->files->root, s->path,
                                   variant_of(s), uv_now(s->files->loop));
    }
    if (copy == NULL) {
        return false;
    }
    s->stat = copy->stat;
    s->sent_stat = copy->sent_stat;
    s->coding = copy->coding;
    s->coded_before = copy->coded_before;
    s->body = copy->body;
    s->is_whole = true;
    peri_file_found(s);
    return true;
}

/* One that may change without another time stamp is not kept. */
static void keep_in_cache(peri_serving *s)
{
    peri_file_copy copy = {
        .stat = s->stat,
        .sent_stat = s->sent_stat,
        .coding = s->coding,
        .coded_before = s->coded_before,
        .body = s->body,
    };

    if (s->is_whole && s->piece_bytes >= 0 && s->fd >= 0 &&
        !peri_file_is_fresh(&s->stat) && !peri_file_is_fresh(&s->sent_stat)) {
        peri_file_cache_put(s->files->cache, s->path, variant_of(s), &copy,
                            uv_now(s->files->loop));
    }
}

static void on_found(uv_work_t *work, int status)
{
    peri_serving *s = work->data;

    if (s->exchange->gone || status < 0) {
        peri_file_finish(s, true);
    } else if (s->fd < 0 && !s->is_folder) {
        peri_file_finish(s, false);
    } else if (s->only_looks) {
        peri_file_finish(s, true);
    } else {
        keep_in_cache(s);
        peri_file_found(s);
    }
}

static void fields_copy(peri_serving *s, const peri_field *fields, size_t count)
{
    peri_arena *arena = peri_exchange_arena(s->exchange);

    s->fields = peri_arena_alloc(arena, (count + PERI_FILE_OWN_FIELDS) *
                                            sizeof *s->fields);
    s->field_count = count;
    for (size_t i = 0; i < count; i++) {
        peri_slice name = fields[i].name;
        peri_slice value = fields[i].value;

        name.data = peri_arena_copy(arena, name.data, name.length);
        value.data = peri_arena_copy(arena, value.data, value.length);
        s->fields[i] = (peri_field){name, value};
        if (peri_slice_equal_nocase(name, PERI_SLICE("content-type"))) {
            s->content_type = value;
        } else if (peri_slice_equal_nocase(name, PERI_SLICE("etag"))) {
            s->own_tag = true;
        }
    }
}

static bool any_field(const peri_serving *s, peri_slice name)
{
    for (size_t i = 0; i < s->field_count; i++) {
        if (peri_slice_equal_nocase(s->fields[i].name, name)) {
            return true;
        }
    }
    return false;
}

/* What may be done with it, as far as the path and the request tell. */
static void look_ahead(peri_serving *s)
{
    peri_exchange *ex = s->exchange;
    peri_slice range = peri_exchange_field(ex, PERI_SLICE("range"));

    if (s->content_type.length == 0) {
        s->content_type = peri_file_type(peri_slice_str(s->path));
        s->fields[s->field_count++] =
            (peri_field){PERI_SLICE("Content-Type"), s->content_type};
    }
    if (range.length != 0 && s->status == 200 &&
        ex->method == PERI_METHOD_GET) {
        s->range = peri_slice_of(
            peri_arena_copy(peri_exchange_arena(ex), range.data, range.length),
            range.length);
    }
    s->compression = ex->ops->compression(ex, NULL);
    s->may_vary = s->compression != NULL && s->compression->count != 0 &&
                  peri_coding_helps(s->content_type) &&
                  !any_field(s, PERI_SLICE("content-encoding"));
    if (s->may_vary && s->range.length == 0) {
        s->accepted_count =
            peri_coding_accepted(s->compression, ex, s->accepted);
    }
}

static peri_serving *serving_create(peri_files *files, peri_exchange *exchange,
                                    void (*served)(void *, peri_exchange *),
                                    void (*absent)(void *, peri_exchange *),
                                    void *data)
{
    peri_serving *s = peri_calloc(1, sizeof *s);

    s->files = files;
    s->exchange = exchange;
    s->served = served;
    s->absent = absent;
    s->data = data;
    s->fd = -ENOENT;
    s->work.data = s;
    s->read.data = s;
    peri_buf_init(&s->coded, SIZE_MAX);
    peri_exchange_ref(exchange);
    return s;
}

static int path_set(peri_serving *s, peri_slice path)
{
    s->path = peri_arena_alloc(peri_exchange_arena(s->exchange),
                               path.length + sizeof INDEX_SUFFIX + 16);
    return peri_file_path(path, s->path);
}

static void look(peri_serving *s)
{
    if (uv_queue_work(s->files->loop, &s->work, on_work, on_found) < 0) {
        peri_file_finish(s, false);
    }
}

void peri_file_serve(peri_files *files, peri_exchange *exchange,
                     peri_slice path, const peri_file_extra *extra,
                     void (*served)(void *data, peri_exchange *exchange),
                     void (*absent)(void *data, peri_exchange *exchange),
                     void *data)
{
    peri_serving *s = serving_create(files, exchange, served, absent, data);

    s->status = extra != NULL ? extra->status : 200;
    s->head_only = exchange->method == PERI_METHOD_HEAD;
    fields_copy(s, extra != NULL ? extra->fields : NULL,
                extra != NULL ? extra->field_count : 0);
    if (path_set(s, path) < 0) {
        peri_file_finish(s, false);
        return;
    }
    look_ahead(s);
    if (!found_in_cache(s)) {
        look(s);
    }
}

void peri_file_find(peri_files *files, peri_exchange *exchange, peri_slice path,
                    void (*there)(void *data, peri_exchange *exchange),
                    void (*absent)(void *data, peri_exchange *exchange),
                    void *data)
{
    peri_serving *s = serving_create(files, exchange, there, absent, data);

    s->only_looks = true;
    if (path_set(s, path) < 0) {
        peri_file_finish(s, false);
    } else {
        look(s);
    }
}
