/* The router against a plain one: patterns, one a line, then paths to find.
 * The plain one reads every pattern segment by segment and keeps the best. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/http/router.h"

#define PATTERNS_MAX 24

typedef struct plain {
    char *patterns[PATTERNS_MAX];
    size_t count;
} plain;

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* How a pattern reads a path, a letter a segment: 'a' static, 'b' parameter,
 * 'c' rest; so that what comes first in the alphabet wins. */
static bool reads(const char *pattern, const char *path, char *how)
{
    for (;;) {
        size_t p = strcspn(pattern + 1, "/") + 1;
        size_t q = strcspn(path + 1, "/") + 1;

        if (pattern[1] == '*') {
            *how++ = 'c';
            *how = '\0';
            return true;
        }
        if (pattern[1] == ':') {
            *how++ = 'b';
            if (q == 1) {
                return false;
            }
        } else if (p == q && memcmp(pattern, path, p) == 0) {
            *how++ = 'a';
        } else {
            return false;
        }
        pattern += p;
        path += q;
        if (*pattern == '\0' || *path == '\0') {
            *how = '\0';
            return *pattern == *path;
        }
    }
}

static int find_plain(const plain *all, const char *path)
{
    char best[PERI_ROUTER_SEGMENTS_MAX + 2] = "z";
    char how[PERI_ROUTER_SEGMENTS_MAX + 2];
    int found = -1;

    for (size_t i = 0; i < all->count; i++) {
        if (reads(all->patterns[i], path, how) && strcmp(how, best) < 0) {
            strcpy(best, how);
            found = (int)i;
        }
    }
    return found;
}

static void add(peri_router *router, plain *all, char *line)
{
    peri_route route = {.id = (uint32_t)all->count};
    char why[200];

    if (all->count < PATTERNS_MAX &&
        peri_router_add(router, 1u << PERI_METHOD_GET, line, &route, why,
                        sizeof why) == 0) {
        all->patterns[all->count++] = line;
    }
}

static void find(const peri_router *router, const plain *all, const char *path)
{
    peri_route_match match;
    int expected = find_plain(all, path);
    bool found = peri_router_match(router, PERI_METHOD_GET,
                                   peri_slice_str(path), &match);

    require(found == (expected >= 0));
    require(!found || (int)match.route->id == expected);
    require(found == (match.allowed != 0));
    for (unsigned i = 0; found && i < match.param_count; i++) {
        require(match.params[i].data >= path &&
                match.params[i].data + match.params[i].length <=
                    path + strlen(path));
    }
}

/* Bytes that a pattern would escape are left to the unit tests. */
static void make_printable(char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] != '\n' && (text[i] <= ' ' || text[i] > '~')) {
            text[i] = '/';
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    peri_router *router = peri_router_create();
    plain all = {.count = 0};
    char *text = malloc(length + 1);
    char *rest = text;
    char *line;
    bool finding = false;

    memcpy(text, bytes, length);
    make_printable(text, length);
    text[length] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL) {
        if (*line == '\0') {
            finding = true;
        } else if (!finding) {
            add(router, &all, line);
        } else if (*line == '/' && strlen(line) < PERI_ROUTER_SEGMENTS_MAX) {
            find(router, &all, line);
        }
    }
    peri_router_destroy(router);
    free(text);
    return 0;
}
