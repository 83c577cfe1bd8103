/* File: found and, when small, read in one go by a thread of libuv's pool; a
 * larger one is read a piece at a time, the next when the client took the last.
 */
#include "core/http/file.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/http/condition.h"
#include "core/http/date.h"
#include "core/http/file_open.h"
#include "core/http/file_type.h"

#define PIECE_BYTES 65536
/* A file changed less than this ago may change again within its time stamp. */
#define FRESH_SECONDS_NS ((int64_t)2 * 1000000000)
#define TICK_NS ((int64_t)20 * 1000000)
#define INDEX_SUFFIX "/index.html"
/* Content-Type, ETag, Last-Modified. */
#define OWN_FIELDS 3

struct peri_files {
    uv_loop_t *loop;
    char *root;
};

typedef struct serving {
    peri_files *files;
    peri_exchange *exchange;
    void (*served)(void *data, peri_exchange *exchange);
    void (*absent)(void *data, peri_exchange *exchange);
    void *data;
    int status;
    peri_field *fields; /* OWN_FIELDS are free at the end */
    size_t field_count;
    char *path; /* with room for INDEX_SUFFIX */
    bool head_only;
    uv_work_t work;
    uv_fs_t read;
    int fd; /* or -errno */
    bool is_folder;
    struct stat stat;
    char *piece;
    ssize_t piece_bytes; /* read already, when it is all; or -errno */
    int64_t offset;
    char tag[48];
    char modified[PERI_DATE_BYTES];
} serving;

peri_files *peri_files_create(uv_loop_t *loop, const char *root)
{
    peri_files *files = peri_calloc(1, sizeof *files);

    files->loop = loop;
    files->root = peri_strdup(root);
    return files;
}

void peri_files_destroy(peri_files *files)
{
    if (files != NULL) {
        free(files->root);
        free(files);
    }
}

static void finish(serving *s, bool found)
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
    free(s->piece);
    free(s);
    peri_exchange_unref(ex);
}

/* ---- in a thread ---- */

/* A folder without a slash behind it is worth a redirect if it has an index. */
static void look_for_index(serving *s)
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

static void read_small(serving *s)
{
    size_t want = (size_t)s->stat.st_size;
    size_t got = 0;

    s->piece = peri_alloc(PIECE_BYTES);
    while (got < want) {
        ssize_t n = pread(s->fd, s->piece + got, want - got, (off_t)got);

        if (n <= 0) {
            s->piece_bytes = n < 0 ? -errno : -EIO;
            return;
        }
        got += (size_t)n;
    }
    s->piece_bytes = (ssize_t)got;
}

static void on_work(uv_work_t *work)
{
    serving *s = work->data;

    s->fd = peri_file_open(s->files->root, s->path, &s->stat);
    if (s->fd < 0) {
        return;
    }
    if (S_ISDIR(s->stat.st_mode)) {
        look_for_index(s);
    } else if (s->stat.st_size <= PIECE_BYTES && !s->head_only) {
        read_small(s);
    }
}

/* ---- back on the loop ---- */

static char *hex_write(char *out, uint64_t value)
{
    unsigned shift = 60;

    while (shift != 0 && value >> shift == 0) {
        shift -= 4;
    }
    for (;;) {
        *out++ = "0123456789abcdef"[value >> shift & 15];
        if (shift == 0) {
            return out;
        }
        shift -= 4;
    }
}

/* Whether it may change once more without another time: a clock tick after its
 * last change; where the file system knows seconds only, that long. */
static bool is_fresh(const struct stat *st)
{
    struct timespec now;
    int64_t age_ns;

    clock_gettime(CLOCK_REALTIME, &now);
    age_ns = ((int64_t)now.tv_sec - st->st_mtim.tv_sec) * 1000000000 +
             (now.tv_nsec - st->st_mtim.tv_nsec);
    return age_ns < (st->st_mtim.tv_nsec == 0 ? FRESH_SECONDS_NS : TICK_NS);
}

static peri_slice tag_write(serving *s)
{
    char *at = s->tag;

    if (is_fresh(&s->stat)) {
        *at++ = 'W';
        *at++ = '/';
    }
    *at++ = '"';
    at = hex_write(at, (uint64_t)s->stat.st_mtim.tv_sec * 1000000000u +
                           (uint64_t)s->stat.st_mtim.tv_nsec);
    *at++ = '-';
    at = hex_write(at, (uint64_t)s->stat.st_size);
    *at++ = '"';
    return peri_slice_of(s->tag, (size_t)(at - s->tag));
}

static bool has_type(const serving *s)
{
    for (size_t i = 0; i < s->field_count; i++) {
        if (peri_slice_equal_nocase(s->fields[i].name,
                                    PERI_SLICE("content-type"))) {
            return true;
        }
    }
    return false;
}

static void redirect(serving *s)
{
    peri_exchange *ex = s->exchange;
    peri_slice path = peri_exchange_text(ex, ex->path);
    peri_slice query = peri_exchange_text(ex, ex->query);
    peri_buf location;
    peri_field field = {.name = PERI_SLICE("Location")};

    peri_buf_init(&location, SIZE_MAX);
    peri_buf_append_slice(&location, path);
    peri_buf_append_byte(&location, '/');
    if (query.length != 0) {
        peri_buf_append_byte(&location, '?');
        peri_buf_append_slice(&location, query);
    }
    field.value = peri_buf_slice(&location);
    peri_exchange_answer(ex, 301, (peri_slice){NULL, 0}, &field, 1,
                         (peri_slice){NULL, 0});
    peri_buf_fini(&location);
    finish(s, true);
}

static void piece_send(serving *s);

static void on_piece(uv_fs_t *read)
{
    serving *s = read->data;

    s->piece_bytes = read->result;
    uv_fs_req_cleanup(read);
    if (s->piece_bytes <= 0) {
        /* Shorter than it was: the client must not take it for complete. */
        peri_exchange_abort(s->exchange);
        finish(s, true);
        return;
    }
    s->offset += s->piece_bytes;
    piece_send(s);
}

static void piece_read(serving *s)
{
    int64_t left = s->stat.st_size - s->offset;
    uv_buf_t buf = uv_buf_init(s->piece, left < PIECE_BYTES ? (unsigned)left
                                                            : PIECE_BYTES);
    int rc = uv_fs_read(s->files->loop, &s->read, s->fd, &buf, 1, s->offset,
                        on_piece);

    if (rc < 0) {
        peri_exchange_abort(s->exchange);
        finish(s, true);
    }
}

static void on_drained(void *data, int rc)
{
    serving *s = data;

    if (rc < 0) {
        finish(s, true);
        return;
    }
    piece_read(s);
}

static void piece_send(serving *s)
{
    int rc = peri_exchange_write(
        s->exchange, peri_slice_of(s->piece, (size_t)s->piece_bytes));

    if (rc == PERI_EGONE) {
        finish(s, true);
    } else if (s->offset >= s->stat.st_size) {
        peri_exchange_end(s->exchange);
        finish(s, true);
    } else if (rc == PERI_EAGAIN) {
        peri_exchange_on_drain(s->exchange, on_drained, s);
    } else {
        piece_read(s);
    }
}

static void send_found(serving *s)
{
    peri_exchange *ex = s->exchange;

    if (s->piece != NULL) {
        if (s->piece_bytes < 0) {
            peri_exchange_problem(ex, 500, PERI_SLICE(""), NULL, 0);
        } else {
            peri_exchange_answer(
                ex, s->status, (peri_slice){NULL, 0}, s->fields, s->field_count,
                peri_slice_of(s->piece, (size_t)s->piece_bytes));
        }
        finish(s, true);
        return;
    }
    peri_exchange_begin(ex, s->status, s->fields, s->field_count,
                        s->stat.st_size);
    if (s->head_only) {
        peri_exchange_end(ex);
        finish(s, true);
        return;
    }
    s->piece = peri_alloc(PIECE_BYTES);
    s->read.data = s;
    piece_read(s);
}

static void on_found(uv_work_t *work, int status)
{
    serving *s = work->data;
    peri_exchange *ex = s->exchange;
    peri_slice tag;
    int verdict;

    if (ex->gone || status < 0) {
        finish(s, true);
        return;
    }
    if (s->is_folder) {
        redirect(s);
        return;
    }
    if (s->fd < 0) {
        finish(s, false);
        return;
    }
    if (!has_type(s)) {
        s->fields[s->field_count++] =
            (peri_field){PERI_SLICE("Content-Type"),
                         peri_file_type(peri_slice_str(s->path))};
    }
    tag = tag_write(s);
    s->fields[s->field_count++] = (peri_field){PERI_SLICE("ETag"), tag};
    peri_date_write(s->modified, s->stat.st_mtim.tv_sec);
    s->fields[s->field_count++] =
        (peri_field){PERI_SLICE("Last-Modified"),
                     peri_slice_of(s->modified, sizeof s->modified)};
    verdict = s->status == 200
                  ? peri_condition_check(ex, tag, s->stat.st_mtim.tv_sec)
                  : 200;
    if (verdict == 200) {
        send_found(s);
        return;
    }
    if (verdict == 304) {
        peri_exchange_answer(ex, 304, (peri_slice){NULL, 0}, s->fields,
                             s->field_count, (peri_slice){NULL, 0});
    } else {
        peri_exchange_problem(ex, verdict, PERI_SLICE(""), NULL, 0);
    }
    finish(s, true);
}

/* ---- public ---- */

static void fields_copy(serving *s, const peri_field *fields, size_t count)
{
    peri_arena *arena = peri_exchange_arena(s->exchange);

    s->fields =
        peri_arena_alloc(arena, (count + OWN_FIELDS) * sizeof *s->fields);
    s->field_count = count;
    for (size_t i = 0; i < count; i++) {
        peri_slice name = fields[i].name;
        peri_slice value = fields[i].value;

        s->fields[i].name = peri_slice_of(
            peri_arena_copy(arena, name.data, name.length), name.length);
        s->fields[i].value = peri_slice_of(
            peri_arena_copy(arena, value.data, value.length), value.length);
    }
}

void peri_file_serve(peri_files *files, peri_exchange *exchange,
                     peri_slice path, const peri_file_extra *extra,
                     void (*served)(void *data, peri_exchange *exchange),
                     void (*absent)(void *data, peri_exchange *exchange),
                     void *data)
{
    serving *s = peri_calloc(1, sizeof *s);

    s->files = files;
    s->exchange = exchange;
    s->served = served;
    s->absent = absent;
    s->data = data;
    s->status = extra != NULL ? extra->status : 200;
    s->fd = -ENOENT;
    s->head_only = exchange->method == PERI_METHOD_HEAD;
    s->work.data = s;
    peri_exchange_ref(exchange);
    fields_copy(s, extra != NULL ? extra->fields : NULL,
                extra != NULL ? extra->field_count : 0);
    s->path = peri_arena_alloc(peri_exchange_arena(exchange),
                               path.length + sizeof INDEX_SUFFIX + 16);
    if (peri_file_path(path, s->path) < 0 ||
        uv_queue_work(files->loop, &s->work, on_work, on_found) < 0) {
        finish(s, false);
    }
}
