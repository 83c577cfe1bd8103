/* Settings: flat text, sorted once, then looked up by bisection. */
#include "core/base/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/buf.h"

typedef struct setting {
    const char *key;
    const char *value;
} setting;

struct peri_settings {
    char *text;
    setting *list; /* by key; of equal keys the last line stands first */
    size_t count;
};

static int compare_settings(const void *a, const void *b)
{
    const setting *left = a;
    const setting *right = b;
    int order = strcmp(left->key, right->key);

    if (order != 0) {
        return order;
    }
    return left->key > right->key ? -1 : left->key < right->key;
}

static size_t count_lines(const char *text)
{
    size_t lines = 1;

    for (; *text != '\0'; text++) {
        lines += *text == '\n';
    }
    return lines;
}

/* Cuts line at its tab; a line without one is left out. */
static void add_line(peri_settings *settings, char *line)
{
    char *tab = strchr(line, '\t');

    if (tab == NULL || tab == line) {
        return;
    }
    *tab = '\0';
    settings->list[settings->count++] = (setting){line, tab + 1};
}

peri_settings *peri_settings_create(peri_slice text)
{
    peri_settings *settings = peri_calloc(1, sizeof *settings);
    char *line;

    settings->text = text.length != 0 ? peri_strndup(text.data, text.length)
                                      : peri_strdup("");
    settings->list = peri_calloc(count_lines(settings->text), sizeof(setting));
    line = settings->text;
    while (line != NULL && *line != '\0') {
        char *end = strchr(line, '\n');

        if (end != NULL) {
            *end++ = '\0';
        }
        add_line(settings, line);
        line = end;
    }
    if (settings->count > 1) {
        qsort(settings->list, settings->count, sizeof(setting),
              compare_settings);
    }
    return settings;
}

void peri_settings_destroy(peri_settings *settings)
{
    if (settings == NULL) {
        return;
    }
    free(settings->list);
    free(settings->text);
    free(settings);
}

const char *peri_settings_str(const peri_settings *settings, const char *key,
                              const char *fallback)
{
    size_t low = 0;
    size_t high = settings->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(settings->list[middle].key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < settings->count && strcmp(settings->list[low].key, key) == 0) {
        return settings->list[low].value;
    }
    return fallback;
}

int64_t peri_settings_int(const peri_settings *settings, const char *key,
                          int64_t fallback)
{
    const char *text = peri_settings_str(settings, key, NULL);
    char *end;
    double real;
    long long number;

    if (text == NULL || *text == '\0') {
        return fallback;
    }
    errno = 0;
    number = strtoll(text, &end, 10);
    if (*end == '\0' && errno == 0) {
        return number;
    }
    /* Lua writes 1e+15 for large numbers and 0.5 for half a millisecond. */
    real = strtod(text, &end);
    if (*end != '\0' || !(real > -9.0e18 && real < 9.0e18)) {
        return fallback;
    }
    return (int64_t)real;
}

bool peri_settings_bool(const peri_settings *settings, const char *key,
                        bool fallback)
{
    const char *text = peri_settings_str(settings, key, NULL);

    if (text == NULL) {
        return fallback;
    }
    if (strcmp(text, "true") == 0) {
        return true;
    }
    return strcmp(text, "false") == 0 ? false : fallback;
}

void peri_settings_each(const peri_settings *settings, const char *prefix,
                        void (*fn)(void *data, const char *key,
                                   const char *value),
                        void *data)
{
    size_t length = strlen(prefix);

    for (size_t i = 0; i < settings->count; i++) {
        if (strncmp(settings->list[i].key, prefix, length) == 0) {
            fn(data, settings->list[i].key, settings->list[i].value);
        }
    }
}

static void add_to_text(void *data, const char *key, const char *value)
{
    peri_buf_printf(data, "%s\t%s\n", key, value);
}

char *peri_settings_text(const peri_settings *settings,
                         const char *const *prefixes)
{
    peri_buf text;

    peri_buf_init(&text, SIZE_MAX);
    for (; *prefixes != NULL; prefixes++) {
        peri_settings_each(settings, *prefixes, add_to_text, &text);
    }
    peri_buf_append_byte(&text, '\0');
    return text.data;
}
