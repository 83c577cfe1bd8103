/* Conditions: tags before times, as section 13.2.2 orders them. */
#include "core/http/condition.h"

#include "core/http/compress.h"
#include "core/http/date.h"
#include "core/http/exchange_ops.h"

static bool is_weak(peri_slice tag)
{
    return peri_slice_starts(tag, PERI_SLICE("W/"));
}

static peri_slice opaque(peri_slice tag)
{
    return is_weak(tag) ? peri_slice_of(tag.data + 2, tag.length - 2) : tag;
}

/* The next tag of a list; a malformed one ends it. */
static bool tag_next(peri_slice *list, peri_slice *tag)
{
    const char *p = list->data;
    const char *end = p + list->length;
    const char *from;
    const char *close;

    while (p < end && (*p == ' ' || *p == '\t' || *p == ',')) {
        p++;
    }
    from = p;
    if (end - p > 2 && p[0] == 'W' && p[1] == '/') {
        p += 2;
    }
    if (p == end || *p != '"') {
        return false;
    }
    close = memchr(p + 1, '"', (size_t)(end - p - 1));
    if (close == NULL) {
        return false;
    }
    *tag = peri_slice_of(from, (size_t)(close + 1 - from));
    *list = peri_slice_of(close + 1, (size_t)(end - close - 1));
    return true;
}

static bool list_has(peri_slice list, peri_slice tag, bool strong)
{
    peri_slice other;

    if (peri_slice_equal(list, PERI_SLICE("*"))) {
        return true;
    }
    while (tag_next(&list, &other)) {
        if (peri_slice_equal(opaque(other), opaque(tag)) &&
            !(strong && (is_weak(other) || is_weak(tag)))) {
            return true;
        }
    }
    return false;
}

int peri_condition_check(const peri_exchange *ex, peri_slice tag,
                         int64_t modified_seconds)
{
    peri_slice match = peri_exchange_field(ex, PERI_SLICE("if-match"));
    peri_slice none = peri_exchange_field(ex, PERI_SLICE("if-none-match"));
    peri_slice unmodified =
        peri_exchange_field(ex, PERI_SLICE("if-unmodified-since"));
    peri_slice modified =
        peri_exchange_field(ex, PERI_SLICE("if-modified-since"));
    int64_t seconds;

    if (match.data != NULL) {
        if (!list_has(match, tag, true)) {
            return 412;
        }
    } else if (unmodified.data != NULL &&
               modified_seconds != PERI_MODIFIED_UNKNOWN &&
               peri_date_parse(unmodified, &seconds) == 0 &&
               modified_seconds > seconds) {
        return 412;
    }
    if (none.data != NULL) {
        return list_has(none, tag, false) ? 304 : 200;
    }
    if (modified.data != NULL && modified_seconds != PERI_MODIFIED_UNKNOWN &&
        peri_date_parse(modified, &seconds) == 0 &&
        modified_seconds <= seconds) {
        return 304;
    }
    return 200;
}

/* 304 tells what the answer would have, but for what describes its body. */
static void answer_not_modified(peri_exchange *ex, peri_slice content_type,
                                const peri_field *fields, size_t field_count,
                                int64_t body_bytes)
{
    peri_compress_plan plan;
    peri_field *kept;
    size_t count = 0;

    if (body_bytes < 0 || body_bytes >= PERI_COMPRESS_FLOOR_BYTES) {
        if (peri_compress_plan_make(ex, 200, content_type, fields, field_count,
                                    body_bytes, &plan)) {
            fields = plan.fields;
            field_count = plan.field_count;
        }
    }
    kept = peri_arena_alloc(peri_exchange_arena(ex),
                            (field_count + 1) * sizeof *kept);
    for (size_t i = 0; i < field_count; i++) {
        peri_slice name = fields[i].name;

        if (name.length < 8 || strncasecmp(name.data, "content-", 8) != 0 ||
            peri_slice_equal_nocase(name, PERI_SLICE("content-location"))) {
            kept[count++] = fields[i];
        }
    }
    ex->ops->answer(ex, 304, (peri_slice){NULL, 0}, kept, count,
                    (peri_slice){NULL, 0});
}

bool peri_condition_answer(peri_exchange *ex, peri_slice content_type,
                           const peri_field *fields, size_t field_count,
                           int64_t body_bytes)
{
    peri_slice tag = {NULL, 0};
    int64_t modified = PERI_MODIFIED_UNKNOWN;
    int verdict;

    for (size_t i = 0; i < field_count; i++) {
        peri_slice name = fields[i].name;

        if (name.length == 4 &&
            peri_slice_equal_nocase(name, PERI_SLICE("etag"))) {
            tag = fields[i].value;
        } else if (name.length == 13 &&
                   peri_slice_equal_nocase(name, PERI_SLICE("last-modified")) &&
                   peri_date_parse(fields[i].value, &modified) < 0) {
            modified = PERI_MODIFIED_UNKNOWN;
        }
    }
    if ((tag.length == 0 && modified == PERI_MODIFIED_UNKNOWN) ||
        (ex->method != PERI_METHOD_GET && ex->method != PERI_METHOD_HEAD)) {
        return false;
    }
    verdict = peri_condition_check(ex, tag, modified);
    if (verdict == 304) {
        answer_not_modified(ex, content_type, fields, field_count, body_bytes);
    } else if (verdict == 412) {
        peri_exchange_problem(ex, 412, (peri_slice){NULL, 0}, NULL, 0);
    }
    return verdict != 200;
}

bool peri_condition_range(const peri_exchange *ex, peri_slice tag,
                          int64_t modified_seconds)
{
    peri_slice version = peri_exchange_field(ex, PERI_SLICE("if-range"));
    int64_t seconds;

    if (version.data == NULL) {
        return true;
    }
    if (version.length != 0 && version.data[version.length - 1] == '"') {
        return !is_weak(tag) && peri_slice_equal(version, tag);
    }
    return peri_date_parse(version, &seconds) == 0 &&
           seconds == modified_seconds;
}
