/* Scan: request line, then fields, then what they mean together.
 *
 * Every loop stops at the 0 behind the data, so none checks for the end; who
 * stops there asks for more. */
#include "core/http/scan.h"

#include <string.h>

#include "core/http/router.h"
#include "core/http/scan_field.h"
#include "core/http/scan_text.h"

#define METHOD_MAX_BYTES 64

/* What a step of the scan returns; a status of 400 and up is a refusal. */
enum { OK = 0, MORE = 1 };

typedef struct cursor {
    const char *start;
    const char *at;
    const char *end;
    const peri_scan_limits *limits;
    peri_refusal *refusal;
    peri_slice authority; /* of the target; NULL when it has none */
    bool secure;          /* ... and its scheme is https */
} cursor;

static int refuse(cursor *c, int status, const char *detail)
{
    *c->refusal = (peri_refusal){status, detail};
    return status;
}

/* For a byte that does not fit: the end of the data, or a fault. */
static int unexpected(cursor *c, const char *at, const char *detail)
{
    c->at = at;
    return at >= c->end ? MORE : refuse(c, 400, detail);
}

static peri_span span(const cursor *c, const char *from, const char *to)
{
    return (peri_span){(uint32_t)(from - c->start), (uint32_t)(to - from)};
}

/* ---- the request line ---- */

/* RFC 9112 section 2.2: one empty line before a request is overlooked. */
static int scan_leading(cursor *c)
{
    if (*c->at != '\r') {
        return OK;
    }
    if (c->at[1] != '\n') {
        return unexpected(c, c->at + 1, "malformed request line");
    }
    c->at += 2;
    return OK;
}

static int scan_method(cursor *c, peri_head *head)
{
    const char *from = c->at;
    const char *p = from;

    while (peri_char_is(*p, PERI_CHAR_TOKEN)) {
        p++;
    }
    c->at = p;
    if (p - from > METHOD_MAX_BYTES) {
        return refuse(c, 501, "the method is not known");
    }
    if (*p != ' ' || p == from) {
        return unexpected(c, p, "malformed request line");
    }
    head->method_text = span(c, from, p);
    head->method =
        (uint8_t)peri_method_parse(peri_slice_of(from, (size_t)(p - from)));
    c->at = p + 1;
    return OK;
}

/* To the first byte that is not of a path (or of a query). */
static const char *skip_target(const char *p, bool query)
{
    for (;;) {
        while (peri_char_is(*p, PERI_CHAR_TARGET)) {
            p++;
        }
        if (*p == '%' && peri_char_is(p[1], PERI_CHAR_HEX) &&
            peri_char_is(p[2], PERI_CHAR_HEX)) {
            p += 3;
        } else if (*p == '?' && query) {
            p++;
        } else {
            return p;
        }
    }
}

/* A '%' whose digits have not come yet is no fault. */
static bool escape_cut(const cursor *c, const char *p)
{
    return *p == '%' &&
           (p + 1 == c->end ||
            (p + 2 == c->end && peri_char_is(p[1], PERI_CHAR_HEX)));
}

static int scan_target_end(cursor *c, peri_head *head, const char *from,
                           const char *p)
{
    c->at = p;
    if (escape_cut(c, p)) {
        return MORE;
    }
    if (*p != ' ' || p == from) {
        return unexpected(c, p, "malformed request target");
    }
    head->target = span(c, from, p);
    c->at = p + 1;
    return OK;
}

static int scan_path(cursor *c, peri_head *head, const char *from)
{
    const char *path = c->at;
    const char *p = *path == '/' ? skip_target(path, false) : path;

    if (p != path) {
        head->path = span(c, path, p);
    }
    if (*p == '?' && head->path.length != 0) {
        const char *query = p + 1;

        p = skip_target(query, true);
        head->query = span(c, query, p);
    }
    return scan_target_end(c, head, from, p);
}

static const char *skip_authority(const char *p)
{
    while (peri_char_is(*p, PERI_CHAR_HOST) || *p == ':' || *p == '[' ||
           *p == ']' || *p == '%') {
        p++;
    }
    return p;
}

/* "http://host:port"; the path follows, or an empty one that means "/". */
static int scan_absolute(cursor *c, peri_head *head)
{
    static const char scheme[] = "http";
    const char *from = c->at;
    const char *p = from;

    for (unsigned i = 0; i < 4; i++, p++) {
        if ((*p | 0x20) != scheme[i]) {
            return unexpected(c, p, "malformed request target");
        }
    }
    c->secure = (*p | 0x20) == 's';
    p += c->secure ? 1 : 0;
    for (unsigned i = 0; i < 3; i++, p++) {
        if (*p != "://"[i]) {
            return unexpected(c, p, "malformed request target");
        }
    }
    head->path = span(c, p - 1, p);
    from = p;
    p = skip_authority(p);
    c->at = p;
    c->authority = peri_slice_of(from, (size_t)(p - from));
    if (p == c->end) {
        return MORE;
    }
    return OK;
}

static int scan_target(cursor *c, peri_head *head)
{
    const char *from = c->at;
    const char *p = from;
    int rc;

    if (*p == '/') {
        return scan_path(c, head, from);
    }
    if (*p == '*') {
        head->path = span(c, p, p + 1);
        return scan_target_end(c, head, from, p + 1);
    }
    if (head->method == PERI_METHOD_CONNECT) {
        p = skip_authority(p);
        c->authority = peri_slice_of(from, (size_t)(p - from));
        return scan_target_end(c, head, from, p);
    }
    rc = scan_absolute(c, head);
    return rc != OK ? rc : scan_path(c, head, from);
}

static int scan_version(cursor *c, peri_head *head)
{
    static const char form[] = "HTTP/";
    const char *p = c->at;

    for (unsigned i = 0; i < sizeof form - 1; i++, p++) {
        if (*p != form[i]) {
            return unexpected(c, p, "malformed request line");
        }
    }
    if (!peri_char_is(p[0], PERI_CHAR_DIGIT)) {
        return unexpected(c, p, "malformed request line");
    }
    if (p[1] != '.') {
        return unexpected(c, p + 1, "malformed request line");
    }
    if (!peri_char_is(p[2], PERI_CHAR_DIGIT)) {
        return unexpected(c, p + 2, "malformed request line");
    }
    if (p[3] != '\r') {
        return unexpected(c, p + 3, "malformed request line");
    }
    if (p[4] != '\n') {
        return unexpected(c, p + 4, "malformed request line");
    }
    c->at = p + 5;
    head->version_minor = p[2] != '0';
    return p[0] == '1'
               ? OK
               : refuse(c, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
}

/* Whether target, method and version go together. */
static int judge_request_line(cursor *c, const peri_head *head)
{
    bool star = c->start[head->target.offset] == '*';

    if (c->authority.data != NULL && !peri_host_valid(c->authority)) {
        return refuse(c, 400, "malformed authority in the request target");
    }
    if ((star && head->method != PERI_METHOD_OPTIONS &&
         head->method != PERI_METHOD_OTHER) ||
        (head->method == PERI_METHOD_CONNECT && c->authority.data == NULL)) {
        return refuse(c, 400, "the method has no such request target");
    }
    if (head->method == PERI_METHOD_OTHER ||
        head->method == PERI_METHOD_CONNECT) {
        return refuse(c, 501, "the method is not known");
    }
    if (c->authority.data != NULL && c->secure != c->limits->tls) {
        return refuse(c, 421,
                      c->secure ? "this connection does not serve https"
                                : "this connection serves https");
    }
    return OK;
}

static int scan_request_line(cursor *c, peri_head *head)
{
    const char *from;
    int rc = scan_leading(c);

    if (rc == OK) {
        rc = scan_method(c, head);
    }
    if (rc != OK) {
        return rc;
    }
    from = c->at;
    rc = scan_target(c, head);
    if (c->at - from > (ptrdiff_t)c->limits->url_max_bytes + (rc == OK)) {
        return refuse(c, 414, "the request target is too long");
    }
    if (rc == OK) {
        rc = scan_version(c, head);
    }
    return rc == OK ? judge_request_line(c, head) : rc;
}

/* ---- fields ---- */

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Whether any of 8 bytes is a control character or DEL. */
static bool any_control(uint64_t bytes)
{
    uint64_t del = bytes ^ EACH(0x7f);

    return (((bytes - EACH(0x20)) & ~bytes) | ((del - EACH(0x01)) & ~del)) &
           EACH(0x80);
}

static const char *skip_value(const char *p)
{
    for (;;) {
        uint64_t bytes;

        memcpy(&bytes, p, sizeof bytes);
        if (!any_control(bytes)) {
            p += sizeof bytes;
            continue;
        }
        while ((unsigned char)*p >= 0x20 && *p != 0x7f) {
            p++;
        }
        if (*p != '\t') {
            return p;
        }
        p++;
    }
}

/* One line at c->at, its end included. value: trimmed. */
static int scan_field(cursor *c, peri_slice *name, peri_slice *value)
{
    const char *from = c->at;
    const char *p = from;
    const char *stop;

    while (peri_char_is(*p, PERI_CHAR_TOKEN)) {
        p++;
    }
    if (*p != ':' || p == from) {
        return unexpected(c, p, "malformed field name");
    }
    *name = peri_slice_of(from, (size_t)(p - from));
    p++;
    while (*p == ' ' || *p == '\t') {
        p++;
    }
    from = p;
    p = skip_value(p);
    if (*p != '\r') {
        return unexpected(c, p, "malformed field value");
    }
    if (p[1] != '\n') {
        return unexpected(c, p + 1, "malformed line end");
    }
    stop = p;
    while (stop > from && (stop[-1] == ' ' || stop[-1] == '\t')) {
        stop--;
    }
    *value = peri_slice_of(from, (size_t)(stop - from));
    c->at = p + 2;
    return OK;
}

static int scan_fields(cursor *c, peri_head *head, peri_framing *framing)
{
    while (*c->at != '\r') {
        peri_slice name;
        peri_slice value;
        int rc;

        if (head->field_count == c->limits->field_count_max && c->at < c->end) {
            return refuse(c, 431, "too many fields");
        }
        rc = scan_field(c, &name, &value);
        if (rc != OK) {
            return rc;
        }
        peri_framing_note(framing, name, value, head->field_count, head);
        head->fields[head->field_count++] = (peri_head_field){
            span(c, name.data, name.data + name.length),
            span(c, value.data, value.data + value.length),
        };
    }
    if (c->at[1] != '\n') {
        return unexpected(c, c->at + 1, "malformed line end");
    }
    c->at += 2;
    return OK;
}

static void head_reset(peri_head *head)
{
    peri_head_field *fields = head->fields;

    *head = (peri_head){
        .fields = fields,
        .method = PERI_METHOD_OTHER,
        .content_length = -1,
        .request_id = PERI_SCAN_NONE,
    };
}

int peri_scan_head(const char *data, size_t length,
                   const peri_scan_limits *limits, peri_head *out)
{
    peri_framing framing = {.hosts = 0};
    cursor c = {
        .start = data,
        .at = data,
        .end = data + length,
        .limits = limits,
        .refusal = &out->refusal,
    };
    int rc;

    head_reset(out);
    rc = scan_request_line(&c, out);
    if (rc == OK) {
        rc = scan_fields(&c, out, &framing);
    }
    if (rc != 414 && c.at - data > (ptrdiff_t)limits->head_max_bytes) {
        rc = refuse(&c, 431, "the fields are too large");
    }
    if (rc == OK) {
        rc = peri_framing_judge(&framing, c.authority, c.secure, out,
                                &out->refusal);
    }
    if (rc == MORE) {
        return 0;
    }
    return rc == OK ? (int)(c.at - data) : -1;
}

int peri_scan_trailers(const char *data, size_t length, peri_refusal *refusal)
{
    cursor c = {
        .start = data,
        .at = data,
        .end = data + length,
        .refusal = refusal,
    };
    peri_slice name;
    peri_slice value;
    int rc = OK;

    while (rc == OK && *c.at != '\r') {
        rc = scan_field(&c, &name, &value);
    }
    if (rc == OK) {
        c.at++;
        rc = *c.at == '\n' ? OK : unexpected(&c, c.at, "malformed line end");
        c.at++;
    }
    if (c.at - data > PERI_SCAN_TRAILERS_MAX_BYTES) {
        rc = refuse(&c, 431, "the trailers are too large");
    }
    if (rc == MORE) {
        return 0;
    }
    return rc == OK ? (int)(c.at - data) : -1;
}
