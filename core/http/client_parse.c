/* Client parse: the head line by line, then the body. */
#include "core/http/client_parse.h"

#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/http/chunked.h"
#include "core/http/scan_text.h"

#define LENGTH_DIGITS_MAX 18
#define FIELDS_FIRST 16

void peri_reply_init(peri_reply *reply)
{
    memset(reply, 0, sizeof *reply);
    peri_buf_init(&reply->head, PERI_REPLY_HEAD_MAX_BYTES);
    peri_buf_init(&reply->rest, PERI_SCAN_TRAILERS_MAX_BYTES * 2);
    peri_reply_reset(reply, false);
}

void peri_reply_fini(peri_reply *reply)
{
    peri_buf_fini(&reply->head);
    peri_buf_fini(&reply->rest);
    free(reply->fields);
    free(reply->chunks);
    reply->fields = NULL;
    reply->chunks = NULL;
}

/* For the next head, be it after a 1xx. */
static void reset_head(peri_reply *r)
{
    peri_buf_clear(&r->head);
    r->field_count = 0;
    r->line_start = 0;
    r->has_status = false;
    r->close = false;
    r->stays = false;
    r->codings = 0;
    r->chunked = false;
    r->content_length = -1;
}

void peri_reply_reset(peri_reply *reply, bool bodiless)
{
    reset_head(reply);
    peri_buf_clear(&reply->rest);
    reply->state = PERI_REPLY_HEAD;
    reply->bodiless = bodiless;
    reply->got_head = false;
    reply->keep_alive = false;
    reply->interim_count = 0;
    reply->status = 0;
    reply->detail = NULL;
}

static int refuse(peri_reply *r, const char *detail)
{
    r->state = PERI_REPLY_FAILED;
    r->detail = detail;
    return PERI_EFORMAT;
}

/* ---- lines ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool text_is_clean(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

/* "HTTP/1.1 200 OK"; the blank before an empty reason may be missing. */
static int take_status(peri_reply *r, const char *line, size_t length)
{
    static const char form[] = "HTTP/1.";
    const char *code = line + 9;

    if (length < 12 || memcmp(line, form, sizeof form - 1) != 0 ||
        !is_digit(line[7]) || line[8] != ' ' || !is_digit(code[0]) ||
        !is_digit(code[1]) || !is_digit(code[2]) ||
        (length > 12 && line[12] != ' ')) {
        return refuse(r, "malformed status line");
    }
    if (code[0] == '0') {
        return refuse(r, "a status below 100");
    }
    if (!text_is_clean(line, length)) {
        return refuse(r, "a control character in the status line");
    }
    r->status = (code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0');
    r->minor_zero = line[7] == '0';
    r->has_status = true;
    return 0;
}

static int take_length(peri_reply *r, peri_slice value)
{
    int64_t length = 0;

    if (r->content_length >= 0) {
        return refuse(r, "Content-Length is repeated");
    }
    if (value.length == 0 || value.length > LENGTH_DIGITS_MAX) {
        return refuse(r, "malformed Content-Length");
    }
    for (size_t i = 0; i < value.length; i++) {
        if (!is_digit(value.data[i])) {
            return refuse(r, "malformed Content-Length");
        }
        length = length * 10 + (value.data[i] - '0');
    }
    r->content_length = length;
    return 0;
}

static peri_slice trimmed(const char *from, const char *to)
{
    while (from < to && (*from == ' ' || *from == '\t')) {
        from++;
    }
    while (to > from && (to[-1] == ' ' || to[-1] == '\t')) {
        to--;
    }
    return peri_slice_of(from, (size_t)(to - from));
}

static void take_connection(peri_reply *r, peri_slice value)
{
    const char *at = value.data;
    const char *end = value.data + value.length;

    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *to = comma != NULL ? comma : end;
        peri_slice token = trimmed(at, to);

        if (peri_slice_equal_nocase(token, PERI_SLICE("close"))) {
            r->close = true;
        } else if (peri_slice_equal_nocase(token, PERI_SLICE("keep-alive"))) {
            r->stays = true;
        }
        at = to + 1;
    }
}

/* What a field says about the framing. */
static int take_meaning(peri_reply *r, peri_slice name, peri_slice value)
{
    if (peri_slice_equal_nocase(name, PERI_SLICE("content-length"))) {
        return take_length(r, value);
    }
    if (peri_slice_equal_nocase(name, PERI_SLICE("transfer-encoding"))) {
        r->codings++;
        r->chunked = peri_slice_equal_nocase(value, PERI_SLICE("chunked"));
        if (r->codings > 1 || !r->chunked) {
            return refuse(r, "a transfer coding other than chunked");
        }
    }
    if (peri_slice_equal_nocase(name, PERI_SLICE("connection"))) {
        take_connection(r, value);
    }
    return 0;
}

static int keep_field(peri_reply *r, peri_slice name, peri_slice value)
{
    const char *base = r->head.data;

    if (r->field_count == PERI_REPLY_FIELDS_MAX) {
        return refuse(r, "too many fields");
    }
    if (r->field_count == r->field_capacity) {
        r->field_capacity =
            (uint16_t)(r->field_capacity == 0 ? FIELDS_FIRST
                                              : r->field_capacity * 2);
        r->fields =
            peri_realloc(r->fields, r->field_capacity * sizeof *r->fields);
    }
    r->fields[r->field_count++] = (peri_head_field){
        .name = {(uint32_t)(name.data - base), (uint32_t)name.length},
        .value = {(uint32_t)(value.data - base), (uint32_t)value.length},
    };
    return 0;
}

static int take_field(peri_reply *r, const char *line, size_t length)
{
    const char *colon = line;
    const char *end = line + length;
    peri_slice name;
    peri_slice value;
    int rc;

    if (*line == ' ' || *line == '\t') {
        return refuse(r, "a folded field");
    }
    while (colon < end && peri_char_is(*colon, PERI_CHAR_TOKEN)) {
        colon++;
    }
    if (colon == line || colon == end || *colon != ':') {
        return refuse(r, "malformed field name");
    }
    name = peri_slice_of(line, (size_t)(colon - line));
    value = trimmed(colon + 1, end);
    if (!text_is_clean(value.data, value.length)) {
        return refuse(r, "a control character in a field");
    }
    rc = take_meaning(r, name, value);
    return rc < 0 ? rc : keep_field(r, name, value);
}

/* ---- the head's end ---- */

static int judge_interim(peri_reply *r)
{
    if (r->status == 101) {
        return refuse(r, "101, which was not asked for");
    }
    if (++r->interim_count > PERI_REPLY_INTERIM_MAX) {
        return refuse(r, "too many interim answers");
    }
    if (r->codings > 0 || r->content_length > 0) {
        return refuse(r, "a body in an interim answer");
    }
    reset_head(r);
    return 0;
}

static int judge_head(peri_reply *r)
{
    bool none;

    if (r->status < 200) {
        return judge_interim(r);
    }
    if (r->codings > 0 && r->content_length >= 0) {
        return refuse(r, "both Content-Length and Transfer-Encoding");
    }
    if (r->codings > 0 && r->minor_zero) {
        return refuse(r, "Transfer-Encoding in HTTP/1.0");
    }
    none = r->bodiless || r->status == 204 || r->status == 304;
    r->keep_alive = !r->close && (!r->minor_zero || r->stays);
    if (r->status == 204 && (r->codings > 0 || r->content_length > 0)) {
        r->keep_alive = false; /* it may send a body all the same */
    }
    r->got_head = true;
    if (none || r->content_length == 0) {
        r->state = PERI_REPLY_DONE;
    } else if (r->codings > 0) {
        r->state = PERI_REPLY_CHUNKED;
        if (r->chunks == NULL) {
            r->chunks = peri_alloc(sizeof *r->chunks);
        }
        peri_chunked_init(r->chunks, INT64_MAX);
    } else if (r->content_length > 0) {
        r->state = PERI_REPLY_LENGTH;
        r->body_left = (uint64_t)r->content_length;
    } else {
        r->state = PERI_REPLY_TO_END;
        r->keep_alive = false;
    }
    return 0;
}

static int take_line(peri_reply *r, const char *line, size_t length)
{
    const char *cr = memchr(line, '\r', length);

    if (cr == NULL || cr != line + length - 1) {
        return refuse(r, "a bare line feed or carriage return in the head");
    }
    length--;
    if (!r->has_status) {
        return take_status(r, line, length);
    }
    return length == 0 ? judge_head(r) : take_field(r, line, length);
}

/* Soon told from what is no HTTP at all. */
static int check_start(peri_reply *r)
{
    static const char form[] = "HTTP/1.";
    size_t length = r->head.length < 7 ? r->head.length : 7;

    return memcmp(r->head.data, form, length) == 0
               ? 0
               : refuse(r, "malformed status line");
}

static ptrdiff_t feed_head(peri_reply *r, const char *data, size_t length)
{
    size_t used = 0;

    while (used < length && r->state == PERI_REPLY_HEAD) {
        const char *lf = memchr(data + used, '\n', length - used);
        size_t part =
            lf != NULL ? (size_t)(lf - data) + 1 - used : length - used;
        int rc;

        if (peri_buf_append(&r->head, data + used, part) < 0) {
            return refuse(r, "the head is too large");
        }
        used += part;
        rc = r->has_status ? 0 : check_start(r);
        if (rc == 0 && lf != NULL) {
            size_t start = r->line_start;

            r->line_start = r->head.length;
            rc = take_line(r, r->head.data + start, r->head.length - 1 - start);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return (ptrdiff_t)used;
}

/* ---- the body ---- */

static ptrdiff_t feed_length(peri_reply *r, const char *data, size_t length,
                             peri_buf *out)
{
    if (length > r->body_left) {
        length = (size_t)r->body_left;
    }
    if (peri_buf_append(out, data, length) < 0) {
        return PERI_ELIMIT;
    }
    r->body_left -= length;
    if (r->body_left == 0) {
        r->state = PERI_REPLY_DONE;
    }
    return (ptrdiff_t)length;
}

static ptrdiff_t feed_decoded(peri_reply *r, const char *data, size_t length,
                              peri_buf *out)
{
    ptrdiff_t used = peri_chunked_feed(r->chunks, data, length, out);

    if (used < 0) {
        return refuse(r, "malformed chunks");
    }
    if (r->chunks->ended) {
        r->state = PERI_REPLY_DONE;
    }
    return used;
}

/* A cut trailer section is gone through again once more of it has come. */
static ptrdiff_t feed_chunked(peri_reply *r, const char *data, size_t length,
                              peri_buf *out)
{
    size_t before = r->rest.length;
    ptrdiff_t used;

    if (before == 0) {
        used = feed_decoded(r, data, length, out);
        if (used < 0 || r->state == PERI_REPLY_DONE || (size_t)used == length) {
            return used;
        }
        if (peri_buf_append(&r->rest, data + used, length - (size_t)used) < 0) {
            return refuse(r, "the trailers are too large");
        }
        return (ptrdiff_t)length;
    }
    if (length > PERI_SCAN_TRAILERS_MAX_BYTES) {
        length = PERI_SCAN_TRAILERS_MAX_BYTES;
    }
    if (peri_buf_append(&r->rest, data, length) < 0 ||
        peri_buf_append(&r->rest, "\0\0\0\0\0\0\0\0", PERI_SCAN_PADDING) < 0) {
        return refuse(r, "the trailers are too large");
    }
    r->rest.length -= PERI_SCAN_PADDING;
    used = feed_decoded(r, r->rest.data, r->rest.length, out);
    if (used < 0) {
        return used;
    }
    if (r->state == PERI_REPLY_DONE) {
        return used - (ptrdiff_t)before;
    }
    peri_buf_consume(&r->rest, (size_t)used);
    return (ptrdiff_t)length;
}

ptrdiff_t peri_reply_feed(peri_reply *reply, const char *data, size_t length,
                          peri_buf *out)
{
    switch (reply->state) {
    case PERI_REPLY_HEAD:
        return feed_head(reply, data, length);
    case PERI_REPLY_LENGTH:
        return feed_length(reply, data, length, out);
    case PERI_REPLY_CHUNKED:
        return feed_chunked(reply, data, length, out);
    case PERI_REPLY_TO_END:
        return peri_buf_append(out, data, length) < 0 ? PERI_ELIMIT
                                                      : (ptrdiff_t)length;
    case PERI_REPLY_FAILED:
        return PERI_EFORMAT;
    case PERI_REPLY_DONE:
    default:
        return 0;
    }
}

int peri_reply_end(peri_reply *reply)
{
    if (reply->state == PERI_REPLY_TO_END) {
        reply->state = PERI_REPLY_DONE;
    }
    return reply->state == PERI_REPLY_DONE ? 0 : PERI_EGONE;
}

peri_slice peri_reply_field(const peri_reply *reply, peri_slice name)
{
    for (unsigned i = 0; i < reply->field_count; i++) {
        const peri_head_field *field = &reply->fields[i];

        if (peri_slice_equal_nocase(peri_reply_text(reply, field->name),
                                    name)) {
            return peri_reply_text(reply, field->value);
        }
    }
    return (peri_slice){NULL, 0};
}
