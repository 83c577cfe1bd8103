/* Log pretty: a scan over one flat object; values are shown as they stand. */
#include "core/base/log_pretty.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MEMBERS_MAX 64
#define DEPTH_MAX 1000

typedef struct member {
    peri_slice key;   /* without quotes, escapes as they are */
    peri_slice value; /* raw JSON */
    bool shown;
} member;

typedef struct object {
    member members[MEMBERS_MAX];
    int count;
} object;

typedef struct scanner {
    const char *at;
    const char *end;
} scanner;

static void skip_space(scanner *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' ||
                              *s->at == '\r' || *s->at == '\n')) {
        s->at++;
    }
}

static bool skip_string(scanner *s)
{
    if (s->at == s->end || *s->at != '"') {
        return false;
    }
    for (s->at++; s->at < s->end; s->at++) {
        if (*s->at == '"') {
            s->at++;
            return true;
        }
        if (*s->at == '\\') {
            s->at++;
        }
    }
    return false;
}

static bool skip_nested(scanner *s)
{
    int depth = 0;

    while (s->at < s->end) {
        if (*s->at == '"') {
            if (!skip_string(s)) {
                return false;
            }
            continue;
        }
        if (*s->at == '{' || *s->at == '[') {
            depth++;
        } else if (*s->at == '}' || *s->at == ']') {
            depth--;
        }
        s->at++;
        if (depth == 0) {
            return true;
        }
        if (depth > DEPTH_MAX) {
            return false;
        }
    }
    return false;
}

static bool skip_value(scanner *s)
{
    const char *start = s->at;

    if (s->at == s->end) {
        return false;
    }
    if (*s->at == '"') {
        return skip_string(s);
    }
    if (*s->at == '{' || *s->at == '[') {
        return skip_nested(s);
    }
    while (s->at < s->end && *s->at != ',' && *s->at != '}' && *s->at != ']' &&
           *s->at != ' ' && *s->at != '\n') {
        s->at++;
    }
    return s->at > start;
}

static bool expect(scanner *s, char c)
{
    skip_space(s);
    if (s->at == s->end || *s->at != c) {
        return false;
    }
    s->at++;
    skip_space(s);
    return true;
}

static bool scan_member(scanner *s, object *out)
{
    const char *start = s->at;
    member m = {0};

    if (!skip_string(s)) {
        return false;
    }
    m.key = peri_slice_of(start + 1, (size_t)(s->at - start) - 2);
    if (!expect(s, ':')) {
        return false;
    }
    start = s->at;
    if (!skip_value(s)) {
        return false;
    }
    m.value = peri_slice_of(start, (size_t)(s->at - start));
    skip_space(s);
    if (out->count < MEMBERS_MAX) {
        out->members[out->count++] = m;
    }
    return true;
}

/* False for anything but one object. */
static bool scan_object(peri_slice text, object *out)
{
    scanner s = {text.data, text.data + text.length};

    out->count = 0;
    if (!expect(&s, '{')) {
        return false;
    }
    if (s.at < s.end && *s.at == '}') {
        return expect(&s, '}') && s.at == s.end;
    }
    do {
        skip_space(&s);
        if (!scan_member(&s, out)) {
            return false;
        }
    } while (expect(&s, ','));
    return expect(&s, '}') && s.at == s.end;
}

/* The member's value, and it counts as shown; NULL data when there is none. */
static peri_slice take(object *o, const char *key)
{
    for (int i = 0; i < o->count; i++) {
        if (peri_slice_equal(o->members[i].key, peri_slice_str(key))) {
            o->members[i].shown = true;
            return o->members[i].value;
        }
    }
    return peri_slice_of(NULL, 0);
}

static bool has(const object *o, const char *key)
{
    for (int i = 0; i < o->count; i++) {
        if (peri_slice_equal(o->members[i].key, peri_slice_str(key))) {
            return true;
        }
    }
    return false;
}

static long long number_of(peri_slice value)
{
    char text[32];

    snprintf(text, sizeof text, "%.*s",
             (int)(value.length < 31 ? value.length : 31),
             value.data != NULL ? value.data : "");
    return strtoll(text, NULL, 10);
}

static void append_utf8(peri_buf *out, unsigned code)
{
    if (code < 0x80) {
        peri_buf_append_byte(out, (char)code);
    } else if (code < 0x800) {
        peri_buf_append_byte(out, (char)(0xc0 | code >> 6));
        peri_buf_append_byte(out, (char)(0x80 | (code & 0x3f)));
    } else {
        peri_buf_append_byte(out, (char)(0xe0 | code >> 12));
        peri_buf_append_byte(out, (char)(0x80 | (code >> 6 & 0x3f)));
        peri_buf_append_byte(out, (char)(0x80 | (code & 0x3f)));
    }
}

/* One escape, at the byte behind the backslash. Returns what it takes. What
 * would steer the terminal is shown, not done. */
static size_t append_unescaped(peri_buf *out, const char *at, size_t left)
{
    char hex[5] = "";
    unsigned code;

    if (*at == 'n' || *at == 't') {
        peri_buf_append_byte(out, *at == 'n' ? '\n' : '\t');
        return 1;
    }
    if (*at == 'u' && left >= 5) {
        memcpy(hex, at + 1, 4);
        code = (unsigned)strtoul(hex, NULL, 16);
        if (code < 0x20 || code == 0x7f || (code >= 0xd800 && code < 0xe000)) {
            peri_buf_append_byte(out, '\\');
            peri_buf_append(out, at, 5);
        } else {
            append_utf8(out, code);
        }
        return 5;
    }
    if (*at == 'b' || *at == 'f' || *at == 'r') {
        peri_buf_append_byte(out, '\\');
    }
    peri_buf_append_byte(out, *at);
    return 1;
}

/* The text of a JSON string; anything else as it stands. */
static void append_text(peri_buf *out, peri_slice value, const char *indent)
{
    size_t end = value.length;
    size_t at = 0;

    if (value.length >= 2 && value.data[0] == '"') {
        at = 1;
        end--;
    }
    while (at < end) {
        char c = value.data[at++];
        size_t before = out->length;

        if (c == '\\' && at < end) {
            at += append_unescaped(out, value.data + at, end - at);
        } else {
            peri_buf_append_byte(out, c);
        }
        if (out->length == before + 1 && out->data[before] == '\n') {
            peri_buf_append_str(out, indent);
        }
    }
}

typedef struct look {
    const char *name;
    const char *colour;
} look;

static look look_of(long long level)
{
    static const look looks[] = {{"TRACE", "\x1b[90m"}, {"DEBUG", "\x1b[34m"},
                                 {"INFO", "\x1b[32m"},  {"WARN", "\x1b[33m"},
                                 {"ERROR", "\x1b[31m"}, {"FATAL", "\x1b[41m"}};

    if (level >= 10 && level <= 60 && level % 10 == 0) {
        return looks[level / 10 - 1];
    }
    return (look){"USERLVL", "\x1b[37m"};
}

static void append_paint(peri_buf *out, bool colour, const char *code)
{
    if (colour) {
        peri_buf_append_str(out, code);
    }
}

static void append_head(peri_buf *out, object *o, bool colour)
{
    long long time_ms = number_of(take(o, "time"));
    look l = look_of(number_of(take(o, "level")));
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm local;
    char text[16];

    localtime_r(&seconds, &local);
    strftime(text, sizeof text, "%H:%M:%S", &local);
    append_paint(out, colour, "\x1b[90m");
    peri_buf_printf(out, "[%s.%03d]", text, (int)(time_ms % 1000));
    append_paint(out, colour, "\x1b[0m");
    peri_buf_append_byte(out, ' ');
    append_paint(out, colour, l.colour);
    peri_buf_append_str(out, l.name);
    append_paint(out, colour, "\x1b[0m");
    peri_buf_append_byte(out, ':');
    take(o, "pid");
    take(o, "hostname");
}

/* GET /orders/7 200 1.2 ms */
static void append_request(peri_buf *out, object *o)
{
    object req;
    object res;
    peri_slice took;

    peri_buf_append_byte(out, ' ');
    if (scan_object(take(o, "req"), &req)) {
        append_text(out, take(&req, "method"), "");
        peri_buf_append_byte(out, ' ');
        append_text(out, take(&req, "url"), "");
    }
    if (scan_object(take(o, "res"), &res)) {
        peri_buf_append_byte(out, ' ');
        append_text(out, take(&res, "statusCode"), "");
    }
    took = take(o, "responseTime");
    if (took.data != NULL) {
        peri_buf_append_byte(out, ' ');
        append_text(out, took, "");
        peri_buf_append_str(out, " ms");
    }
}

static void append_error(peri_buf *out, peri_slice value)
{
    object err;
    peri_slice stack;

    peri_buf_append_str(out, "\n    ");
    if (!scan_object(value, &err)) {
        append_text(out, value, "    ");
        return;
    }
    stack = take(&err, "stack");
    if (stack.length <= 2) {
        stack = take(&err, "message");
    } else {
        take(&err, "message");
    }
    append_text(out, take(&err, "type"), "    ");
    peri_buf_append_str(out, ": ");
    append_text(out, stack, "    ");
    for (int i = 0; i < err.count; i++) {
        if (!err.members[i].shown) {
            peri_buf_append_str(out, "\n    ");
            append_text(out, err.members[i].key, "");
            peri_buf_append_str(out, ": ");
            append_text(out, err.members[i].value, "      ");
        }
    }
}

static bool has_break(peri_slice value)
{
    return value.length > 2 && value.data[0] == '"' &&
           memmem(value.data, value.length, "\\n", 2) != NULL;
}

static void append_fields(peri_buf *out, object *o, bool colour)
{
    for (int i = 0; i < o->count; i++) {
        member *m = &o->members[i];

        if (m->shown) {
            continue;
        }
        if (has_break(m->value)) {
            continue; /* below, on lines of its own */
        }
        m->shown = true;
        peri_buf_append_byte(out, ' ');
        append_paint(out, colour, "\x1b[35m");
        append_text(out, m->key, "");
        append_paint(out, colour, "\x1b[0m");
        peri_buf_append_byte(out, '=');
        peri_buf_append_slice(out, m->value);
    }
    for (int i = 0; i < o->count; i++) {
        member *m = &o->members[i];

        if (!m->shown) {
            peri_buf_append_str(out, "\n    ");
            append_text(out, m->key, "");
            peri_buf_append_str(out, ": ");
            append_text(out, m->value, "      ");
        }
    }
}

static void append_object(peri_buf *out, object *o, bool colour)
{
    peri_slice message = take(o, "msg");
    peri_slice error = take(o, "err");

    append_head(out, o, colour);
    if (message.data != NULL) {
        peri_buf_append_byte(out, ' ');
        append_paint(out, colour, "\x1b[36m");
        append_text(out, message, "    ");
        append_paint(out, colour, "\x1b[0m");
    }
    if (peri_slice_equal(message, PERI_SLICE("\"request completed\"")) ||
        peri_slice_equal(message, PERI_SLICE("\"request aborted\""))) {
        append_request(out, o);
    }
    append_fields(out, o, colour);
    if (error.data != NULL) {
        append_error(out, error);
    }
}

int peri_log_pretty(peri_buf *out, peri_slice line, bool colour)
{
    object o;

    while (line.length != 0 && (line.data[line.length - 1] == '\n' ||
                                line.data[line.length - 1] == '\r')) {
        line.length--;
    }
    /* Room for the worst case at once: nothing below can fail then. */
    if (peri_buf_reserve(out, line.length * 8 + 4096) < 0) {
        return PERI_ELIMIT;
    }
    if (scan_object(line, &o) && has(&o, "level")) {
        append_object(out, &o, colour);
    } else {
        peri_buf_append_slice(out, line);
    }
    return peri_buf_append_byte(out, '\n');
}
