/* SQL text: tokens are told apart no further than that takes. */
#include "core/base/sql_text.h"

#include <ctype.h>
#include <stdbool.h>

typedef enum token {
    TOKEN_OTHER, /* one byte */
    TOKEN_WORD,
    TOKEN_QUOTED, /* a name in quotes, or a comment */
    TOKEN_LITERAL,
    TOKEN_PARAMETER
} token;

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* Up to and with the quote that ends it; a doubled one does not. */
static size_t skip_quoted(peri_slice sql, size_t at, char end)
{
    for (at++; at < sql.length; at++) {
        if (sql.data[at] != end) {
            continue;
        }
        if (at + 1 < sql.length && sql.data[at + 1] == end) {
            at++;
        } else {
            return at + 1;
        }
    }
    return sql.length;
}

static size_t skip_comment(peri_slice sql, size_t at)
{
    bool line = sql.data[at] == '-';

    for (at += 2; at < sql.length; at++) {
        if (line && sql.data[at] == '\n') {
            return at;
        }
        if (!line && sql.data[at] == '/' && sql.data[at - 1] == '*') {
            return at + 1;
        }
    }
    return sql.length;
}

static size_t skip_word(peri_slice sql, size_t at)
{
    while (at < sql.length && is_word(sql.data[at])) {
        at++;
    }
    return at;
}

/* 12, 1.5e-3, 0x1f */
static size_t skip_number(peri_slice sql, size_t at)
{
    while (at < sql.length && (is_word(sql.data[at]) || sql.data[at] == '.' ||
                               ((sql.data[at] == '-' || sql.data[at] == '+') &&
                                (sql.data[at - 1] | 0x20) == 'e'))) {
        at++;
    }
    return at;
}

/* What is at *at, which moves behind it. */
static token next(peri_slice sql, size_t *at)
{
    char c = sql.data[*at];
    char after = *at + 1 < sql.length ? sql.data[*at + 1] : '\0';

    if (c == '\'' || ((c | 0x20) == 'x' && after == '\'')) {
        *at = skip_quoted(sql, *at + (c != '\''), '\'');
        return TOKEN_LITERAL;
    }
    if (isdigit((unsigned char)c) ||
        (c == '.' && isdigit((unsigned char)after))) {
        *at = skip_number(sql, *at);
        return TOKEN_LITERAL;
    }
    if (c == '"' || c == '`' || c == '[') {
        *at = skip_quoted(sql, *at, c == '[' ? ']' : c);
        return TOKEN_QUOTED;
    }
    if ((c == '-' && after == '-') || (c == '/' && after == '*')) {
        *at = skip_comment(sql, *at);
        return TOKEN_QUOTED;
    }
    if (c == '?' || ((c == ':' || c == '@' || c == '$') && is_word(after))) {
        *at = skip_word(sql, *at + 1);
        return TOKEN_PARAMETER;
    }
    *at = is_word(c) ? skip_word(sql, *at) : *at + 1;
    return is_word(c) ? TOKEN_WORD : TOKEN_OTHER;
}

static bool has_parameters(peri_slice sql)
{
    for (size_t at = 0; at < sql.length;) {
        if (next(sql, &at) == TOKEN_PARAMETER) {
            return true;
        }
    }
    return false;
}

static size_t copy(char *out, size_t out_bytes, size_t length, peri_slice text)
{
    size_t n =
        text.length < out_bytes - length ? text.length : out_bytes - length;

    memcpy(out + length, text.data, n);
    return length + n;
}

size_t peri_sql_masked(peri_slice sql, char *out, size_t out_bytes)
{
    size_t length = 0;
    size_t at = 0;

    if (has_parameters(sql)) {
        return copy(out, out_bytes, 0, sql);
    }
    while (at < sql.length && length < out_bytes) {
        size_t from = at;
        token what = next(sql, &at);

        length = copy(out, out_bytes, length,
                      what == TOKEN_LITERAL
                          ? PERI_SLICE("?")
                          : peri_slice_of(sql.data + from, at - from));
    }
    return length;
}
