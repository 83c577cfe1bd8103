/* File, sending: conditions, ranges, fields, then the bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/http/condition.h"
#include "core/http/file_serving.h"

/* A file changed less than this ago may change again within its time stamp. */
#define FRESH_SECONDS_NS ((int64_t)2 * 1000000000)
#define TICK_NS ((int64_t)20 * 1000000)
#define BOUNDARY_BYTES 16
#define PART_HEAD_BYTES 128

#define NOTHING ((peri_slice){NULL, 0})

/* ---- fields ---- */

/* Whether it may change once more without another time: a clock tick after its
 * last change; where the file system knows seconds only, that long. */
bool peri_file_is_fresh(const struct stat *st)
{
    struct timespec now;
    int64_t age_ns;

    clock_gettime(CLOCK_REALTIME, &now);
    age_ns = ((int64_t)now.tv_sec - st->st_mtim.tv_sec) * 1000000000 +
             (now.tv_nsec - st->st_mtim.tv_nsec);
    return age_ns < (st->st_mtim.tv_nsec == 0 ? FRESH_SECONDS_NS : TICK_NS);
}

/* A file that lay there coded has a tag of its own; one that is coded now is
 * the same entity in other bytes. */
static peri_slice tag_write(peri_serving *s)
{
    const struct stat *st = &s->sent_stat;
    bool weak = peri_file_is_fresh(st) ||
                (s->coding != PERI_CODING_IDENTITY && !s->coded_before);
    unsigned long long time =
        (unsigned long long)st->st_mtim.tv_sec * 1000000000u +
        (unsigned long long)st->st_mtim.tv_nsec;
    int length =
        snprintf(s->tag, sizeof s->tag, "%s\"%llx-%llx%s\"", weak ? "W/" : "",
                 time, (unsigned long long)st->st_size,
                 !s->coded_before                ? ""
                 : s->coding == PERI_CODING_GZIP ? "-gz"
                                                 : "-br");

    return peri_slice_of(s->tag, (size_t)length);
}

static peri_slice field_of(const peri_serving *s, peri_slice name)
{
    for (size_t i = 0; i < s->field_count; i++) {
        if (peri_slice_equal_nocase(s->fields[i].name, name)) {
            return s->fields[i].value;
        }
    }
    return NOTHING;
}

static void add(peri_serving *s, peri_slice name, peri_slice value)
{
    s->fields[s->field_count++] = (peri_field){name, value};
}

/* What the application gave stays. Returns the tag. */
static peri_slice add_validators(peri_serving *s)
{
    peri_slice tag = field_of(s, PERI_SLICE("etag"));

    if (tag.length == 0) {
        tag = tag_write(s);
        add(s, PERI_SLICE("ETag"), tag);
    }
    if (field_of(s, PERI_SLICE("last-modified")).length == 0) {
        peri_date_write(s->modified, s->stat.st_mtim.tv_sec);
        add(s, PERI_SLICE("Last-Modified"),
            peri_slice_of(s->modified, sizeof s->modified));
    }
    if (s->may_vary &&
        (s->coded_before || s->stat.st_size >= s->compression->min_bytes)) {
        add(s, PERI_SLICE("Vary"), PERI_SLICE("Accept-Encoding"));
    }
    return tag;
}

/* Of the file's last change, or as the application says. */
static int64_t modified_of(const peri_serving *s)
{
    int64_t seconds;

    return peri_date_parse(field_of(s, PERI_SLICE("last-modified")),
                           &seconds) == 0
               ? seconds
               : s->stat.st_mtim.tv_sec;
}

/* ---- the bytes ---- */

static void parts_send(peri_serving *s);

static void on_piece(peri_serving *s)
{
    if (s->piece_bytes <= 0) {
        /* Shorter than it was: the client must not take it for complete. */
        peri_exchange_abort(s->exchange);
        peri_file_finish(s, true);
        return;
    }
    s->parts[s->part].offset += s->piece_bytes;
    parts_send(s);
}

static void on_read(uv_fs_t *read)
{
    peri_serving *s = read->data;

    s->piece_bytes = read->result;
    uv_fs_req_cleanup(read);
    on_piece(s);
}

static unsigned piece_length(const peri_serving *s)
{
    int64_t left = s->parts[s->part].end - s->parts[s->part].offset;

    return left < PERI_FILE_PIECE_BYTES ? (unsigned)left
                                        : PERI_FILE_PIECE_BYTES;
}

static void code_work(uv_work_t *work)
{
    peri_serving *s = work->data;
    const peri_file_part *part = &s->parts[s->part];

    s->piece_bytes =
        pread(s->fd, s->piece, piece_length(s), (off_t)part->offset);
    peri_buf_clear(&s->coded);
    if (s->piece_bytes > 0) {
        peri_encoder_feed(
            s->encoder, peri_slice_of(s->piece, (size_t)s->piece_bytes),
            part->offset + s->piece_bytes == part->end ? PERI_ENCODER_END
                                                       : PERI_ENCODER_MORE,
            &s->coded);
    }
}

static void on_coded(uv_work_t *work, int status)
{
    peri_serving *s = work->data;

    s->piece_bytes = status < 0 ? status : s->piece_bytes;
    on_piece(s);
}

static void piece_read(peri_serving *s)
{
    uv_buf_t buf = uv_buf_init(s->piece, piece_length(s));
    uv_loop_t *loop = s->files->loop;
    int rc;

    if (s->encoder != NULL) {
        rc = uv_queue_work(loop, &s->work, code_work, on_coded);
    } else {
        rc = uv_fs_read(loop, &s->read, s->fd, &buf, 1,
                        s->parts[s->part].offset, on_read);
    }
    if (rc < 0) {
        peri_exchange_abort(s->exchange);
        peri_file_finish(s, true);
    }
}

static void on_drained(void *data, int rc)
{
    peri_serving *s = data;

    if (rc < 0) {
        peri_file_finish(s, true);
        return;
    }
    piece_read(s);
}

/* What was read; then the text before parts, up to one that is to be read. */
static int send_what_is_there(peri_serving *s)
{
    peri_exchange *ex = s->exchange;
    int rc = 0;

    if (s->piece_bytes > 0) {
        rc = peri_exchange_write(
            ex, s->encoder != NULL
                    ? peri_buf_slice(&s->coded)
                    : peri_slice_of(s->piece, (size_t)s->piece_bytes));
    }
    while (rc != PERI_EGONE && s->part < s->part_count &&
           s->parts[s->part].offset >= s->parts[s->part].end) {
        s->part++;
        if (s->part < s->part_count) {
            rc = peri_exchange_write(ex, s->parts[s->part].text);
        }
    }
    return rc;
}

static void parts_send(peri_serving *s)
{
    int rc = send_what_is_there(s);

    if (rc == PERI_EGONE) {
        peri_file_finish(s, true);
    } else if (s->part == s->part_count) {
        peri_exchange_end(s->exchange);
        peri_file_finish(s, true);
    } else if (rc == PERI_EAGAIN) {
        peri_exchange_on_drain(s->exchange, on_drained, s);
    } else {
        piece_read(s);
    }
}

static int64_t parts_length(const peri_serving *s)
{
    int64_t length = 0;

    for (size_t i = 0; i < s->part_count; i++) {
        length += (int64_t)s->parts[i].text.length + s->parts[i].end -
                  s->parts[i].offset;
    }
    return length;
}

static void parts_begin(peri_serving *s, int status)
{
    peri_exchange *ex = s->exchange;

    if (s->coding != PERI_CODING_IDENTITY && !s->coded_before &&
        !s->head_only) {
        s->encoder = peri_encoder_create(s->coding, s->compression->level,
                                         s->sent_stat.st_size);
    }
    peri_exchange_begin(ex, status, s->fields, s->field_count,
                        s->coding != PERI_CODING_IDENTITY && !s->coded_before
                            ? -1
                            : parts_length(s));
    if (s->head_only) {
        peri_exchange_end(ex);
        peri_file_finish(s, true);
        return;
    }
    if (s->piece == NULL) {
        s->piece = peri_alloc(PERI_FILE_PIECE_BYTES);
    }
    s->piece_bytes = 0;
    if (s->parts[0].text.length != 0) {
        peri_exchange_write(ex, s->parts[0].text);
    }
    parts_send(s);
}

static peri_file_part *parts_alloc(peri_serving *s, size_t count)
{
    s->parts = peri_arena_alloc(peri_exchange_arena(s->exchange),
                                count * sizeof *s->parts);
    s->part_count = count;
    return s->parts;
}

static void send_all(peri_serving *s)
{
    peri_exchange *ex = s->exchange;
    bool coded = s->coding != PERI_CODING_IDENTITY && !s->coded_before;

    if (s->status == 200 && !coded) {
        add(s, PERI_SLICE("Accept-Ranges"), PERI_SLICE("bytes"));
    }
    if (s->coding != PERI_CODING_IDENTITY) {
        add(s, PERI_SLICE("Content-Encoding"), peri_coding_name(s->coding));
    }
    if (!s->is_whole) {
        *parts_alloc(s, 1) = (peri_file_part){NOTHING, 0, s->sent_stat.st_size};
        parts_begin(s, s->status);
        return;
    }
    if (s->piece_bytes < 0) {
        peri_exchange_problem(ex, 500, PERI_SLICE(""), NULL, 0);
    } else {
        peri_exchange_answer(ex, s->status, NOTHING, s->fields, s->field_count,
                             s->body);
    }
    peri_file_finish(s, true);
}

/* ---- ranges ---- */

/* range NULL: there is none. */
static peri_slice content_range(peri_serving *s, const peri_range *range)
{
    char *out = peri_arena_alloc(peri_exchange_arena(s->exchange), 96);
    long long size = (long long)s->stat.st_size;
    int length = range == NULL ? snprintf(out, 96, "bytes */%lld", size)
                               : snprintf(out, 96, "bytes %lld-%lld/%lld",
                                          (long long)range->first,
                                          (long long)range->last, size);

    return peri_slice_of(out, (size_t)length);
}

static void boundary_make(char out[BOUNDARY_BYTES + 1])
{
    uint64_t random = 0;

    if (getrandom(&random, sizeof random, 0) < 0) {
        random = peri_clock_monotonic_ns();
    }
    snprintf(out, BOUNDARY_BYTES + 1, "%016llx", (unsigned long long)random);
}

static void send_one(peri_serving *s, const peri_range *range)
{
    add(s, PERI_SLICE("Content-Range"), content_range(s, range));
    *parts_alloc(s, 1) =
        (peri_file_part){NOTHING, range->first, range->last + 1};
    parts_begin(s, 206);
}

static peri_slice part_head(peri_serving *s, const char *boundary,
                            const peri_range *range, bool is_first)
{
    size_t room = PART_HEAD_BYTES + BOUNDARY_BYTES + s->content_type.length;
    char *out = peri_arena_alloc(peri_exchange_arena(s->exchange), room);
    int length =
        snprintf(out, room,
                 "%s--%s\r\nContent-Type: %.*s\r\n"
                 "Content-Range: bytes %lld-%lld/%lld\r\n\r\n",
                 is_first ? "" : "\r\n", boundary, (int)s->content_type.length,
                 s->content_type.data, (long long)range->first,
                 (long long)range->last, (long long)s->stat.st_size);

    return peri_slice_of(out, (size_t)length);
}

/* multipart/byteranges: RFC 9110, section 14.6. */
static void send_several(peri_serving *s, const peri_range *ranges,
                         size_t count)
{
    peri_arena *arena = peri_exchange_arena(s->exchange);
    peri_file_part *parts = parts_alloc(s, count + 1);
    char *text = peri_arena_alloc(arena, PART_HEAD_BYTES);
    char boundary[BOUNDARY_BYTES + 1];
    int length;

    boundary_make(boundary);
    for (size_t i = 0; i < count; i++) {
        parts[i] = (peri_file_part){part_head(s, boundary, &ranges[i], i == 0),
                                    ranges[i].first, ranges[i].last + 1};
    }
    length = snprintf(text, PART_HEAD_BYTES, "\r\n--%s--\r\n", boundary);
    parts[count] = (peri_file_part){peri_slice_of(text, (size_t)length), 0, 0};
    text = peri_arena_alloc(arena, PART_HEAD_BYTES);
    length = snprintf(text, PART_HEAD_BYTES,
                      "multipart/byteranges; boundary=%s", boundary);
    for (size_t i = 0; i < s->field_count; i++) {
        if (peri_slice_equal_nocase(s->fields[i].name,
                                    PERI_SLICE("content-type"))) {
            s->fields[i].value = peri_slice_of(text, (size_t)length);
        }
    }
    parts_begin(s, 206);
}

static void send_ranges(peri_serving *s, peri_slice tag)
{
    peri_range ranges[PERI_RANGES_MAX];
    int count = 0;

    if (peri_condition_range(s->exchange, tag, modified_of(s))) {
        count = peri_ranges_parse(s->range, s->stat.st_size, ranges);
    }
    if (count < 0) {
        peri_field field = {PERI_SLICE("Content-Range"),
                            content_range(s, NULL)};

        peri_exchange_problem(s->exchange, 416, NOTHING, &field, 1);
        peri_file_finish(s, true);
    } else if (count == 0) {
        send_all(s);
    } else if (count == 1) {
        send_one(s, &ranges[0]);
    } else {
        send_several(s, ranges, (size_t)count);
    }
}

/* ---- found ---- */

static void redirect(peri_serving *s)
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
    peri_exchange_answer(ex, 301, NOTHING, &field, 1, NOTHING);
    peri_buf_fini(&location);
    peri_file_finish(s, true);
}

void peri_file_found(peri_serving *s)
{
    peri_exchange *ex = s->exchange;
    peri_slice tag;
    int verdict = 200;

    if (s->is_folder) {
        redirect(s);
        return;
    }
    tag = add_validators(s);
    if (s->status == 200) {
        verdict = peri_condition_check(ex, tag, modified_of(s));
    }
    if (verdict == 200 && s->range.length != 0) {
        send_ranges(s, tag);
    } else if (verdict == 200) {
        send_all(s);
    } else if (verdict == 304) {
        peri_exchange_answer(ex, 304, NOTHING, s->fields, s->field_count,
                             NOTHING);
        peri_file_finish(s, true);
    } else {
        peri_exchange_problem(ex, verdict, NOTHING, NULL, 0);
        peri_file_finish(s, true);
    }
}
