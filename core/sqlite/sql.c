/* SQL: the first word. */
#include "core/sqlite/sql.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' ||
           c == ';';
}

static size_t comment_length(peri_slice sql)
{
    const char *end;

    if (sql.length >= 2 && sql.data[0] == '-' && sql.data[1] == '-') {
        end = memchr(sql.data, '\n', sql.length);
        return end != NULL ? (size_t)(end - sql.data) + 1 : sql.length;
    }
    if (sql.length >= 2 && sql.data[0] == '/' && sql.data[1] == '*') {
        end = sql.length > 2 ? memmem(sql.data + 2, sql.length - 2, "*/", 2)
                             : NULL;
        return end != NULL ? (size_t)(end - sql.data) + 2 : sql.length;
    }
    return 0;
}

peri_slice peri_sqlite_skip_blank(peri_slice sql)
{
    while (sql.length != 0) {
        size_t skip = is_blank(sql.data[0]) ? 1 : comment_length(sql);

        if (skip == 0) {
            break;
        }
        sql.data += skip;
        sql.length -= skip;
    }
    return sql;
}

static const struct {
    const char *word;
    peri_sqlite_class class;
} words[] = {
    {"SELECT", PERI_SQL_READ},       {"WITH", PERI_SQL_READ},
    {"VALUES", PERI_SQL_READ},       {"EXPLAIN", PERI_SQL_READ},
    {"PRAGMA", PERI_SQL_ALONE},      {"VACUUM", PERI_SQL_ALONE},
    {"BEGIN", PERI_SQL_CONTROL},     {"COMMIT", PERI_SQL_CONTROL},
    {"END", PERI_SQL_CONTROL},       {"ROLLBACK", PERI_SQL_CONTROL},
    {"SAVEPOINT", PERI_SQL_CONTROL}, {"RELEASE", PERI_SQL_CONTROL},
    {"ATTACH", PERI_SQL_ATTACH},     {"DETACH", PERI_SQL_ATTACH},
};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

peri_sqlite_class peri_sqlite_classify(peri_slice sql)
{
    size_t length = 0;

    sql = peri_sqlite_skip_blank(sql);
    if (sql.length == 0) {
        return PERI_SQL_EMPTY;
    }
    while (length < sql.length && is_letter(sql.data[length])) {
        length++;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (peri_slice_equal_nocase(peri_slice_of(sql.data, length),
                                    peri_slice_str(words[i].word))) {
            return words[i].class;
        }
    }
    return PERI_SQL_WRITE;
}

bool peri_sqlite_may_be_several(peri_slice sql)
{
    const char *end =
        sql.length != 0 ? memchr(sql.data, ';', sql.length) : NULL;

    if (end == NULL) {
        return false;
    }
    return peri_sqlite_skip_blank(
               peri_slice_of(end, (size_t)(sql.data + sql.length - end)))
               .length != 0;
}

int peri_sqlite_line_of(peri_slice text, size_t offset)
{
    int line = 1;

    for (size_t i = 0; i < offset && i < text.length; i++) {
        line += text.data[i] == '\n';
    }
    return line;
}
