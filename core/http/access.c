/* Access: a format is compiled once to parts. */
#include "core/http/access.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/http/access_internal.h"

#define NAME_MAX_BYTES 64
#define LINE_MAX_BYTES ((size_t)64 << 10)

static int add(peri_access *access, peri_access_part part, const char *text,
               size_t length)
{
    if (access->count == PERI_ACCESS_PARTS_MAX) {
        return PERI_ELIMIT;
    }
    part.text = peri_strndup(text, length);
    part.length = length;
    access->parts[access->count++] = part;
    return 0;
}

/* "http_user_agent" is the header user-agent. */
static int add_header(peri_access *access, const char *name, size_t length)
{
    int rc = add(access, (peri_access_part){.put = peri_access_put_header},
                 name, length);

    for (size_t i = 0; rc == 0 && i < length; i++) {
        char *c = &access->parts[access->count - 1].text[i];

        *c = *c == '_' ? '-' : *c;
    }
    return rc;
}

static int add_variable(peri_access *access, const char *name, size_t length)
{
    peri_access_put put = peri_access_variable(name, length);

    if (put != NULL) {
        return add(access, (peri_access_part){.put = put}, "", 0);
    }
    if (length > 5 && length < NAME_MAX_BYTES &&
        memcmp(name, "http_", 5) == 0) {
        return add_header(access, name + 5, length - 5);
    }
    return PERI_EFORMAT;
}

static size_t name_length(const char *text)
{
    size_t length = 0;

    while (isalnum((unsigned char)text[length]) || text[length] == '_') {
        length++;
    }
    return length;
}

static int compile(peri_access *access, const char *format, char *why,
                   size_t why_bytes)
{
    int rc = 0;

    while (rc == 0 && *format != '\0') {
        size_t length = strcspn(format, "$");

        if (length > 0) {
            rc = add(access, (peri_access_part){.put = peri_access_put_literal},
                     format, length);
            format += length;
            continue;
        }
        format++;
        length = name_length(format);
        rc = add_variable(access, format, length);
        if (rc == PERI_EFORMAT) {
            snprintf(why, why_bytes, "there is no variable $%.*s",
                     (int)(length < NAME_MAX_BYTES ? length : NAME_MAX_BYTES),
                     format);
        }
        format += length;
    }
    if (rc == PERI_ELIMIT) {
        snprintf(why, why_bytes, "more than %d parts", PERI_ACCESS_PARTS_MAX);
    }
    return rc;
}

int peri_access_create(const char *format, peri_access **out, char *why,
                       size_t why_bytes)
{
    peri_access *access;
    int rc;

    if (format[strcspn(format, "\n\r")] != '\0') {
        snprintf(why, why_bytes, "a line break in the format");
        return PERI_EFORMAT;
    }
    format = strcmp(format, "common") == 0     ? PERI_ACCESS_COMMON
             : strcmp(format, "combined") == 0 ? PERI_ACCESS_COMBINED
                                               : format;
    access = peri_calloc(1, sizeof *access);
    peri_buf_init(&access->line, LINE_MAX_BYTES);
    access->second = -1;
    rc = compile(access, format, why, why_bytes);
    if (rc < 0) {
        peri_access_destroy(access);
        return PERI_EFORMAT;
    }
    *out = access;
    return 0;
}

void peri_access_destroy(peri_access *access)
{
    if (access == NULL) {
        return;
    }
    for (int i = 0; i < access->count; i++) {
        free(access->parts[i].text);
    }
    peri_buf_fini(&access->line);
    free(access);
}

void peri_access_write(peri_access *access, const peri_logger *logger,
                       peri_exchange *ex, uint64_t now_ns)
{
    uint64_t took_ns = now_ns > ex->started_ns ? now_ns - ex->started_ns : 0;

    if (logger == NULL || logger->write == NULL) {
        return;
    }
    peri_buf_clear(&access->line);
    access->logger = logger;
    for (int i = 0; i < access->count; i++) {
        access->parts[i].put(access, &access->parts[i], ex, took_ns);
    }
    if (peri_buf_append_byte(&access->line, '\n') < 0) {
        access->line.data[access->line.length - 1] = '\n'; /* it is full */
    }
    logger->write(logger->data, peri_buf_slice(&access->line));
}
