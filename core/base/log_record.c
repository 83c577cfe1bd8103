/* Log record: see the header. */
#include "core/base/log_record.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/base/json_unescape.h"
#include "core/base/log_member.h"
#include "core/base/number.h"
#include "core/base/text_code.h"

#define TEXT_MAX ((size_t)1 << 20)
#define DEPTH_MAX 4

void peri_log_record_init(peri_log_record *record)
{
    *record = (peri_log_record){0};
    peri_attributes_init(&record->attributes);
    peri_buf_init(&record->message, TEXT_MAX);
    peri_buf_init(&record->text, TEXT_MAX);
}

void peri_log_record_fini(peri_log_record *record)
{
    peri_attributes_fini(&record->attributes);
    peri_buf_fini(&record->message);
    peri_buf_fini(&record->text);
}

static bool is_text(peri_slice value)
{
    return value.length >= 2 && value.data[0] == '"';
}

/* What a JSON string says, into out. */
static void unescape(peri_slice value, peri_buf *out)
{
    const char *why;
    char *to;

    peri_buf_clear(out);
    if (peri_buf_reserve(out, value.length) < 0) {
        return;
    }
    to = out->data;
    peri_json_unescape(value.data + 1, value.data + value.length - 1, &to,
                       &why);
    out->length = (size_t)(to - out->data);
}

static bool is_integer(peri_slice value)
{
    size_t from = value.data[0] == '-' ? 1 : 0;

    for (size_t i = from; i < value.length; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return false;
        }
    }
    return value.length > from && value.length - from <= 15;
}

/* A value that is no object. null says nothing. */
static void add(peri_log_record *record, peri_slice key, peri_slice value)
{
    peri_attribute one = {.type = PERI_ATTRIBUTE_STRING, .key = key};
    double number;

    if (value.length == 0 || peri_slice_equal(value, PERI_SLICE("null"))) {
        return;
    }
    if (is_text(value)) {
        unescape(value, &record->text);
        one.text = peri_buf_slice(&record->text);
    } else if (value.data[0] == 't' || value.data[0] == 'f') {
        one.type = PERI_ATTRIBUTE_BOOL;
        one.value.truth = value.data[0] == 't';
    } else if (peri_number_read(value.data, value.length, &number) ==
               value.length) {
        one.type =
            is_integer(value) ? PERI_ATTRIBUTE_INT : PERI_ATTRIBUTE_DOUBLE;
        if (one.type == PERI_ATTRIBUTE_INT) {
            one.value.integer = (int64_t)number;
        } else {
            one.value.real = number;
        }
    } else {
        one.text = value;
    }
    peri_attributes_set(&record->attributes, &one);
}

/* The names that OpenTelemetry has for ours. */
static peri_slice known_as(peri_slice name)
{
    static const char *const names[][2] = {
        {"err.type", "exception.type"},
        {"err.message", "exception.message"},
        {"err.stack", "exception.stacktrace"},
        {"pid", "process.pid"}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (peri_slice_equal(name, peri_slice_str(names[i][0]))) {
            return peri_slice_str(names[i][1]);
        }
    }
    return name;
}

/* A member, and what is inside of it; prefix ends in a dot, or is empty. */
static void flatten(peri_log_record *record, peri_slice prefix, peri_slice key,
                    peri_slice value, int depth)
{
    char name[PERI_ATTRIBUTE_KEY_MAX + 1];
    int n = snprintf(name, sizeof name, "%.*s%.*s", (int)prefix.length,
                     prefix.data, (int)key.length, key.data);
    size_t length = n < (int)sizeof name ? (size_t)n : sizeof name - 1;
    peri_slice inner;
    peri_slice inside;
    size_t at = 0;

    if (depth == DEPTH_MAX || value.data[0] != '{' ||
        length + 1 >= sizeof name) {
        add(record, known_as(peri_slice_of(name, length)), value);
        return;
    }
    name[length] = '.';
    while (peri_log_next(value, &at, &inner, &inside) > 0) {
        flatten(record, peri_slice_of(name, length + 1), inner, inside,
                depth + 1);
    }
}

/* True: the ids are whole. */
static bool read_id(peri_slice value, unsigned char *out, size_t bytes)
{
    return value.length == 2 * bytes + 2 && is_text(value) &&
           peri_hex_decode(value.data + 1, 2 * bytes, (char *)out);
}

static bool is(peri_slice key, const char *name)
{
    return peri_slice_equal(key, peri_slice_str(name));
}

static void take(peri_log_record *record, peri_slice key, peri_slice value)
{
    double number = 0;

    if (is(key, "level") || is(key, "time")) {
        peri_number_read(value.data, value.length, &number);
        if (is(key, "level")) {
            record->level = number > 0 && number < 1000 ? (int)number : 0;
        } else if (number > 0 && number < 9e12) {
            record->unix_ns = (uint64_t)number * 1000000u;
        }
    } else if (is(key, "msg") && is_text(value)) {
        unescape(value, &record->message);
    } else if (is(key, "trace_id")) {
        record->has_trace =
            read_id(value, record->trace_id, PERI_TRACE_ID_BYTES);
    } else if (is(key, "span_id")) {
        record->has_span = read_id(value, record->span_id, PERI_SPAN_ID_BYTES);
    } else if (!is(key, "hostname")) { /* the resource has it */
        flatten(record, PERI_SLICE(""), key, value, 0);
    }
}

void peri_log_record_read(peri_log_record *record, peri_slice line)
{
    peri_slice key;
    peri_slice value;
    size_t at = 0;
    int rc;

    record->unix_ns = peri_clock_wall_ms() * 1000000u;
    record->level = 0;
    record->has_trace = false;
    record->has_span = false;
    peri_attributes_clear(&record->attributes);
    peri_buf_clear(&record->message);
    while ((rc = peri_log_next(line, &at, &key, &value)) > 0) {
        take(record, key, value);
    }
    if (rc < 0) {
        peri_buf_clear(&record->message);
        peri_utf8_append(&record->message, line, TEXT_MAX);
    }
}
