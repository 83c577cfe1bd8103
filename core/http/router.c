/* Router: a tree of text prefixes; segments of a parameter hang below the node
 * that ends in their slash. Every node stands for one way of reading the path,
 * so a match visits each at most once: backing up costs no more than the tree
 * is large. */
#include "core/http/router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/arena.h"
#include "core/base/err.h"
#include "core/base/text_code.h"
#include "core/http/route_pattern.h"

#define ROUTER_BLOCK_BYTES 8192

typedef struct leaf {
    uint32_t methods; /* that have a route */
    const peri_route *routes[PERI_METHODS];
} leaf;

typedef struct node {
    const char *prefix;
    size_t prefix_length;
    size_t child_count;
    unsigned char *first_bytes; /* of the children's prefixes */
    struct node **children;
    struct node *param; /* what follows a `:name` here */
    leaf *rest;         /* a `*rest` here */
    leaf *end;          /* the path ends here */
} node;

struct peri_router {
    peri_arena *arena;
    node root; /* its prefix is empty */
};

typedef struct search {
    peri_method method;
    const char *end;
    peri_route_match *out;
} search;

static uint32_t allowed_of(const leaf *l)
{
    uint32_t allowed = l->methods | 1u << PERI_METHOD_OPTIONS;

    if (allowed & 1u << PERI_METHOD_GET) {
        allowed |= 1u << PERI_METHOD_HEAD;
    }
    return allowed;
}

static int refuse(char *why, size_t why_bytes, const char *text,
                  const char *reason)
{
    if (why != NULL && why_bytes != 0) {
        snprintf(why, why_bytes, "%s: %s", text, reason);
    }
    return PERI_EFORMAT;
}

static bool needs_no_escape(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
           c == '~';
}

size_t peri_path_normalize(peri_slice raw, char *out)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t at = 0;

    for (size_t i = 0; i < raw.length; i++) {
        char byte;

        if (raw.data[i] != '%' || raw.length - i < 3 ||
            !peri_hex_decode(raw.data + i + 1, 2, &byte)) {
            out[at++] = raw.data[i];
            continue;
        }
        i += 2;
        if (needs_no_escape((unsigned char)byte)) {
            out[at++] = byte;
        } else {
            out[at++] = '%';
            out[at++] = hex[(unsigned char)byte >> 4];
            out[at++] = hex[byte & 15];
        }
    }
    return at;
}

/* ---- building ---- */

static node *node_create(peri_router *router, const char *prefix, size_t length)
{
    node *n = peri_arena_alloc(router->arena, sizeof *n);

    n->prefix = prefix;
    n->prefix_length = length;
    return n;
}

static void child_add(peri_router *router, node *parent, node *child)
{
    size_t count = parent->child_count;
    unsigned char *first = peri_arena_alloc(router->arena, count + 1);
    node **children =
        peri_arena_alloc(router->arena, (count + 1) * sizeof *children);

    if (count != 0) {
        memcpy(first, parent->first_bytes, count);
        memcpy(children, parent->children, count * sizeof *children);
    }
    first[count] = (unsigned char)child->prefix[0];
    children[count] = child;
    parent->first_bytes = first;
    parent->children = children;
    parent->child_count = count + 1;
}

/* Splits n after length bytes; n keeps the front. */
static void node_split(peri_router *router, node *n, size_t length)
{
    node *back = peri_arena_alloc(router->arena, sizeof *back);

    *back = *n;
    back->prefix += length;
    back->prefix_length -= length;
    *n = (node){.prefix = n->prefix, .prefix_length = length};
    child_add(router, n, back);
}

static size_t common_prefix(const node *n, const char *text, size_t length)
{
    size_t i = 0;

    while (i < n->prefix_length && i < length && n->prefix[i] == text[i]) {
        i++;
    }
    return i;
}

static node *child_find(const node *n, char first)
{
    for (size_t i = 0; i < n->child_count; i++) {
        if (n->first_bytes[i] == (unsigned char)first) {
            return n->children[i];
        }
    }
    return NULL;
}

/* The node at the end of text below from; made where missing. */
static node *static_insert(peri_router *router, node *from, const char *text,
                           size_t length)
{
    while (length != 0) {
        node *child = child_find(from, text[0]);
        size_t common;

        if (child == NULL) {
            child = node_create(router, text, length);
            child_add(router, from, child);
            return child;
        }
        common = common_prefix(child, text, length);
        if (common < child->prefix_length) {
            node_split(router, child, common);
        }
        text += common;
        length -= common;
        from = child;
    }
    return from;
}

static leaf **leaf_place(peri_router *router, const char *text)
{
    node *at = &router->root;

    for (;;) {
        const char *stop = text;

        while (*stop != '\0' && !(stop > text && stop[-1] == '/' &&
                                  (*stop == ':' || *stop == '*'))) {
            stop++;
        }
        at = static_insert(router, at, text, (size_t)(stop - text));
        if (*stop == '\0') {
            return &at->end;
        }
        if (*stop == '*') {
            return &at->rest;
        }
        text = stop + strcspn(stop, "/");
        if (at->param == NULL) {
            at->param = node_create(router, "", 0);
        }
        at = at->param;
    }
}

static peri_route *route_copy(peri_router *router, const peri_route_pattern *p,
                              const peri_route *route, const char *text)
{
    peri_route *copy = peri_arena_alloc(router->arena, sizeof *copy);
    peri_slice *names = peri_arena_alloc(
        router->arena, (size_t)(p->param_count + 1) * sizeof *names);

    memcpy(names, p->names, p->param_count * sizeof *names);
    *copy = *route;
    copy->pattern = peri_arena_copy(router->arena, text, strlen(text));
    copy->param_count = p->param_count;
    copy->param_names = names;
    return copy;
}

peri_router *peri_router_create(void)
{
    peri_router *router = peri_calloc(1, sizeof *router);

    router->arena = peri_arena_create(ROUTER_BLOCK_BYTES);
    router->root.prefix = "";
    return router;
}

void peri_router_destroy(peri_router *router)
{
    if (router != NULL) {
        peri_arena_destroy(router->arena);
        free(router);
    }
}

int peri_router_add(peri_router *router, uint32_t methods, const char *text,
                    const peri_route *route, char *why, size_t why_bytes)
{
    peri_route_pattern p;
    const char *fault = peri_route_pattern_parse(router->arena, text, &p);
    peri_route *copy;
    leaf **place;

    if (fault == NULL && (methods & ((1u << PERI_METHOD_OTHER) - 1)) == 0) {
        fault = "a route needs a method";
    }
    if (fault != NULL) {
        return refuse(why, why_bytes, text, fault);
    }
    place = leaf_place(router, p.text);
    if (*place == NULL) {
        *place = peri_arena_alloc(router->arena, sizeof **place);
    }
    if (((*place)->methods & methods) != 0) {
        refuse(why, why_bytes, text, "the method has a route here already");
        return PERI_EEXISTS;
    }
    copy = route_copy(router, &p, route, text);
    (*place)->methods |= methods;
    for (unsigned m = 0; m < PERI_METHODS; m++) {
        if (methods & (1u << m)) {
            (*place)->routes[m] = copy;
        }
    }
    return 0;
}

/* ---- matching ---- */

static bool leaf_take(const leaf *l, const search *s, uint16_t params)
{
    const peri_route *route = l->routes[s->method];

    if (route == NULL && s->method == PERI_METHOD_HEAD) {
        route = l->routes[PERI_METHOD_GET];
    }
    s->out->allowed |= allowed_of(l);
    if (route == NULL) {
        return false;
    }
    s->out->route = route;
    s->out->param_count = params;
    return true;
}

static bool node_match(const node *n, const search *s, const char *at,
                       uint16_t params);

static bool param_match(const node *n, const search *s, const char *at,
                        uint16_t params)
{
    const char *stop = memchr(at, '/', (size_t)(s->end - at));

    if (stop == NULL) {
        stop = s->end;
    }
    if (stop == at) {
        return false;
    }
    s->out->params[params] = peri_slice_of(at, (size_t)(stop - at));
    return node_match(n, s, stop, (uint16_t)(params + 1));
}

/* Recursion goes as deep as the longest pattern has nodes. */
static bool node_match(const node *n, const search *s, const char *at,
                       uint16_t params)
{
    size_t left = (size_t)(s->end - at);

    if (n->prefix_length > left ||
        memcmp(n->prefix, at, n->prefix_length) != 0) {
        return false;
    }
    at += n->prefix_length;
    if (at == s->end) {
        if (n->end != NULL && leaf_take(n->end, s, params)) {
            return true;
        }
    } else {
        const node *child = child_find(n, *at);

        if (child != NULL && node_match(child, s, at, params)) {
            return true;
        }
        if (n->param != NULL && param_match(n->param, s, at, params)) {
            return true;
        }
    }
    if (n->rest == NULL) {
        return false;
    }
    s->out->params[params] = peri_slice_of(at, (size_t)(s->end - at));
    return leaf_take(n->rest, s, (uint16_t)(params + 1));
}

bool peri_router_match(const peri_router *router, peri_method method,
                       peri_slice path, peri_route_match *out)
{
    search s = {.method = method, .end = path.data + path.length, .out = out};

    out->route = NULL;
    out->allowed = 0;
    out->param_count = 0;
    return node_match(&router->root, &s, path.data, 0);
}
