/* Pretty: a shallow look at the line's JSON, then its fields as text. */
#include "core/base/pretty.h"

#include <stdlib.h>
#include <time.h>

#include "core/base/log_head.h"
#include "core/base/log_member.h"

#define FIELDS_MAX 64
#define DEPTH_MAX 32
#define INDENT 4

typedef struct pretty_field {
    peri_slice key;   /* between the quotes, as escaped */
    peri_slice value; /* as in the line */
    bool shown;
} pretty_field;

typedef struct pretty_line {
    pretty_field fields[FIELDS_MAX];
    int count;
} pretty_line;

typedef struct printer {
    peri_buf *out;
    bool colors;
} printer;

/* The members of the object that begins at text's first byte. False when it is
 * none, or has too many. */
static bool read_object(peri_slice text, pretty_line *line)
{
    pretty_field field = {.shown = false};
    size_t at = 0;
    int rc;

    line->count = 0;
    while ((rc = peri_log_next(text, &at, &field.key, &field.value)) > 0) {
        if (line->count == FIELDS_MAX) {
            return false;
        }
        line->fields[line->count++] = field;
    }
    return rc == 0;
}

/* Marks the field as shown. A NULL slice when there is none. */
static peri_slice take(pretty_line *line, const char *key)
{
    for (int i = 0; i < line->count; i++) {
        if (peri_slice_equal(line->fields[i].key, peri_slice_str(key))) {
            line->fields[i].shown = true;
            return line->fields[i].value;
        }
    }
    return (peri_slice){NULL, 0};
}

/* ---- text ---- */

static void text_of(printer *p, const char *text)
{
    peri_buf_append_str(p->out, text);
}

static void color(printer *p, const char *code)
{
    if (p->colors) {
        peri_buf_printf(p->out, "\x1b[%sm", code);
    }
}

/* Text as it is. Control characters of a terminal's that JSON does not escape
 * (C1, in UTF-8) stay visible. */
static void append(printer *p, peri_slice text)
{
    size_t from = 0;

    for (size_t at = 0; at + 1 < text.length; at++) {
        unsigned char low = (unsigned char)text.data[at + 1];

        if ((unsigned char)text.data[at] == 0xc2 && low >= 0x80 && low < 0xa0) {
            peri_buf_append(p->out, text.data + from, at - from);
            peri_buf_printf(p->out, "\\u%04x", low);
            from = ++at + 1;
        }
    }
    if (from < text.length) {
        peri_buf_append(p->out, text.data + from, text.length - from);
    }
}

static void indent(printer *p, int columns)
{
    for (int i = 0; i < columns; i++) {
        peri_buf_append_byte(p->out, ' ');
    }
}

static int hex4(const char *at)
{
    char digits[5] = {at[0], at[1], at[2], at[3], '\0'};
    char *end;
    long value = strtol(digits, &end, 16);

    return *end == '\0' ? (int)value : 0xfffd;
}

static void append_code_point(peri_buf *out, unsigned code)
{
    if (code < 0x80) {
        peri_buf_append_byte(out, (char)code);
    } else if (code < 0x800) {
        peri_buf_append_byte(out, (char)(0xc0 | (code >> 6)));
        peri_buf_append_byte(out, (char)(0x80 | (code & 0x3f)));
    } else if (code < 0x10000) {
        peri_buf_append_byte(out, (char)(0xe0 | (code >> 12)));
        peri_buf_append_byte(out, (char)(0x80 | ((code >> 6) & 0x3f)));
        peri_buf_append_byte(out, (char)(0x80 | (code & 0x3f)));
    } else {
        peri_buf_append_byte(out, (char)(0xf0 | (code >> 18)));
        peri_buf_append_byte(out, (char)(0x80 | ((code >> 12) & 0x3f)));
        peri_buf_append_byte(out, (char)(0x80 | ((code >> 6) & 0x3f)));
        peri_buf_append_byte(out, (char)(0x80 | (code & 0x3f)));
    }
}

/* A \uXXXX at text[at] ('u' is there); gives how many bytes it took. */
static size_t append_escaped(printer *p, peri_slice text, size_t at)
{
    unsigned code;

    if (at + 5 > text.length) {
        return text.length - at;
    }
    code = (unsigned)hex4(text.data + at + 1);
    if (code >= 0xd800 && code < 0xdc00 && at + 11 <= text.length &&
        text.data[at + 5] == '\\' && text.data[at + 6] == 'u') {
        unsigned low = (unsigned)hex4(text.data + at + 7);

        if (low >= 0xdc00 && low < 0xe000) {
            append_code_point(p->out, 0x10000 + ((code - 0xd800) << 10) +
                                          (low - 0xdc00));
            return 11;
        }
    }
    /* A terminal's control characters stay visible. */
    if (code < 0x20 || (code >= 0x7f && code < 0xa0) ||
        (code >= 0xd800 && code < 0xe000)) {
        peri_buf_printf(p->out, "\\u%04x", code);
    } else {
        append_code_point(p->out, code);
    }
    return 5;
}

/* The text that a JSON string stands for; line breaks are followed by columns
 * of blanks. Anything but a string is appended as it is. */
static void unescape(printer *p, peri_slice value, int columns)
{
    peri_slice text;

    if (value.length < 2 || value.data[0] != '"') {
        append(p, value);
        return;
    }
    text = peri_slice_part(value, 1, value.length - 1);
    for (size_t at = 0; at < text.length; at++) {
        const char *next = memchr(text.data + at, '\\', text.length - at);
        size_t end = next != NULL ? (size_t)(next - text.data) : text.length;
        char c;

        append(p, peri_slice_part(text, at, end));
        at = end + 1;
        if (at >= text.length) {
            break;
        }
        c = text.data[at];
        if (c == 'n') {
            peri_buf_append_byte(p->out, '\n');
            indent(p, columns);
        } else if (c == 't') {
            peri_buf_append_byte(p->out, '\t');
        } else if (c == 'u') {
            at += append_escaped(p, text, at) - 1;
        } else if (c == '"' || c == '\\' || c == '/') {
            peri_buf_append_byte(p->out, c);
        } else if (c != 'r') {
            peri_buf_append_byte(p->out, '\\');
            peri_buf_append_byte(p->out, c);
        }
    }
}

static void print_value(printer *p, peri_slice value, int columns, int depth);

static void print_list(printer *p, peri_slice value, int columns, int depth)
{
    size_t at = peri_log_skip_blank(value, 1);

    if (value.data[at] == ']') {
        text_of(p, "[]");
        return;
    }
    text_of(p, "[\n");
    for (;;) {
        size_t end = peri_log_skip_value(value, at);

        if (end == 0) {
            break;
        }
        indent(p, columns + 2);
        print_value(p, peri_slice_part(value, at, end), columns + 2, depth + 1);
        at = peri_log_skip_blank(value, end);
        if (at >= value.length || value.data[at] != ',') {
            break;
        }
        text_of(p, ",\n");
        at = peri_log_skip_blank(value, at + 1);
    }
    text_of(p, "\n");
    indent(p, columns);
    text_of(p, "]");
}

static void print_object(printer *p, peri_slice value, int columns, int depth)
{
    pretty_line object;

    if (!read_object(value, &object)) {
        append(p, value);
        return;
    }
    if (object.count == 0) {
        text_of(p, "{}");
        return;
    }
    text_of(p, "{\n");
    for (int i = 0; i < object.count; i++) {
        const pretty_field *field = &object.fields[i];

        indent(p, columns + 2);
        text_of(p, "\"");
        append(p, field->key);
        text_of(p, "\":");
        if (peri_slice_equal(field->key, PERI_SLICE("stack")) &&
            field->value.data[0] == '"') {
            text_of(p, "\n");
            indent(p, columns + 6);
            unescape(p, field->value, columns + 6);
        } else {
            text_of(p, " ");
            print_value(p, field->value, columns + 2, depth + 1);
        }
        text_of(p, i + 1 < object.count ? ",\n" : "\n");
    }
    indent(p, columns);
    text_of(p, "}");
}

static void print_value(printer *p, peri_slice value, int columns, int depth)
{
    if (depth < DEPTH_MAX && value.data[0] == '{') {
        print_object(p, value, columns, depth);
    } else if (depth < DEPTH_MAX && value.data[0] == '[') {
        print_list(p, value, columns, depth);
    } else {
        append(p, value);
    }
}

/* ---- the head of a line ---- */

static void print_time(printer *p, peri_slice time)
{
    int64_t ms;
    time_t seconds;
    struct tm parts;

    if (peri_slice_equal(time, PERI_SLICE("null"))) {
        return;
    }
    if (peri_log_time_of(time, &ms)) {
        seconds = (time_t)(ms / 1000);
        if (localtime_r(&seconds, &parts) != NULL) {
            peri_buf_printf(p->out, "[%02d:%02d:%02d.%03d] ", parts.tm_hour,
                            parts.tm_min, parts.tm_sec, (int)(ms % 1000));
            return;
        }
    }
    text_of(p, "[");
    unescape(p, time, INDENT);
    text_of(p, "] ");
}

static void print_level(printer *p, peri_slice level)
{
    static const struct {
        int number;
        const char *name;
        const char *color;
    } levels[] = {{10, "TRACE", "90"}, {20, "DEBUG", "34"},
                  {30, "INFO", "32"},  {40, "WARN", "33"},
                  {50, "ERROR", "31"}, {60, "FATAL", "41"}};
    int number = peri_log_level_of(level);

    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (levels[i].number == number) {
            color(p, levels[i].color);
            text_of(p, levels[i].name);
            color(p, "39");
            if (number == 60) {
                color(p, "49");
            }
            return;
        }
    }
    peri_buf_printf(p->out, "USERLVL");
}

/* " GET /orders 200 (3 ms)", when the line is about a request. */
static void print_request(printer *p, pretty_line *line)
{
    pretty_line req;
    pretty_line res;
    peri_slice method;
    peri_slice url;
    peri_slice status;
    peri_slice elapsed;

    for (int i = 0; i < line->count; i++) {
        line->fields[i].shown |=
            peri_slice_equal(line->fields[i].key, PERI_SLICE("hostname"));
    }
    if (!read_object(take(line, "req"), &req) ||
        !read_object(take(line, "res"), &res)) {
        for (int i = 0; i < line->count; i++) {
            pretty_field *field = &line->fields[i];

            if (peri_slice_equal(field->key, PERI_SLICE("req")) ||
                peri_slice_equal(field->key, PERI_SLICE("res"))) {
                field->shown = false;
            }
        }
        return;
    }
    method = take(&req, "method");
    url = take(&req, "url");
    status = take(&res, "statusCode");
    elapsed = take(line, "responseTime");
    text_of(p, ": ");
    unescape(p, method, 0);
    text_of(p, " ");
    unescape(p, url, 0);
    peri_buf_printf(p->out, " %.*s", (int)status.length, status.data);
    if (elapsed.data != NULL) {
        peri_buf_printf(p->out, " (%.*s ms)", (int)elapsed.length,
                        elapsed.data);
    }
}

static void print_fields(printer *p, const pretty_line *line)
{
    for (int i = 0; i < line->count; i++) {
        const pretty_field *field = &line->fields[i];

        if (field->shown) {
            continue;
        }
        indent(p, INDENT);
        color(p, "35");
        append(p, field->key);
        color(p, "39");
        text_of(p, ": ");
        print_value(p, field->value, INDENT, 0);
        text_of(p, "\n");
    }
}

int peri_pretty_line(peri_buf *out, peri_slice line, bool colors)
{
    printer p = {out, colors};
    pretty_line parsed;
    peri_slice level;
    peri_slice time;
    peri_slice pid;
    peri_slice msg;

    while (line.length > 0 && (line.data[line.length - 1] == '\n' ||
                               line.data[line.length - 1] == '\r')) {
        line.length--;
    }
    if (!read_object(line, &parsed) ||
        (level = take(&parsed, "level")).data == NULL) {
        if (peri_buf_append_slice(out, line) < 0) {
            return PERI_ELIMIT;
        }
        return peri_buf_append_byte(out, '\n');
    }
    time = take(&parsed, "time");
    pid = take(&parsed, "pid");
    msg = take(&parsed, "msg");
    if (time.data != NULL) {
        print_time(&p, time);
    }
    print_level(&p, level);
    if (pid.data != NULL) {
        peri_buf_printf(out, " (%.*s)", (int)pid.length, pid.data);
    }
    text_of(&p, ": ");
    color(&p, "36");
    unescape(&p, msg, INDENT);
    print_request(&p, &parsed);
    color(&p, "39");
    text_of(&p, "\n");
    print_fields(&p, &parsed);
    return out->length < out->max_bytes ? 0 : PERI_ELIMIT;
}
