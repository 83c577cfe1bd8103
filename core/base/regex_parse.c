/* Regex parse: ECMA-262, 22.2.1, with the flag u, by recursive descent.
 *
 * More lenient in one thing that schemas in the wild rely on: any ASCII
 * punctuation may be escaped, and a lone ] or } stands for itself. */
#include "core/base/regex_parse.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/utf8.h"

#define PATTERN_MAX_BYTES 65536
#define NESTING_MAX 200
#define REPEAT_MAX 10000

typedef struct parser {
    const char *start;
    const char *at;
    const char *end;
    peri_regex_tree *tree;
    int depth;
    char *fault; /* "" as long as there is none */
} parser;

static uint32_t parse_choice(parser *p);

static uint32_t fail_at(parser *p, const char *at, const char *what)
{
    if (p->fault[0] == '\0') {
        snprintf(p->fault, PERI_REGEX_FAULT_BYTES, "%s at byte %zu", what,
                 (size_t)(at - p->start) + 1);
    }
    p->at = p->end; /* ends every loop */
    return 0;
}

static uint32_t fail(parser *p, const char *what)
{
    return fail_at(p, p->at, what);
}

static bool failed(const parser *p)
{
    return p->fault[0] != '\0';
}

static uint32_t add_node(parser *p, peri_regex_kind kind)
{
    peri_regex_tree *t = p->tree;

    if (t->node_count == t->node_capacity) {
        t->node_capacity = t->node_capacity == 0 ? 32 : t->node_capacity * 2;
        t->nodes = peri_realloc(t->nodes, t->node_capacity * sizeof *t->nodes);
    }
    t->nodes[t->node_count] = (peri_regex_node){.kind = kind};
    return t->node_count++;
}

static uint32_t add_char(parser *p, uint32_t c)
{
    uint32_t node = add_node(p, PERI_REGEX_CHAR);

    p->tree->nodes[node].value = c;
    return node;
}

/* Takes the set over. */
static uint32_t add_set(parser *p, peri_regex_set *set, bool inverted)
{
    peri_regex_tree *t = p->tree;
    uint32_t node = add_node(p, PERI_REGEX_SET);

    if (t->set_count == t->set_capacity) {
        t->set_capacity = t->set_capacity == 0 ? 8 : t->set_capacity * 2;
        t->sets = peri_realloc(t->sets, t->set_capacity * sizeof *t->sets);
    }
    peri_regex_set_seal(set, inverted);
    t->nodes[node].value = t->set_count;
    t->sets[t->set_count++] = *set;
    return node;
}

static bool take(parser *p, const char *text)
{
    size_t length = strlen(text);

    if ((size_t)(p->end - p->at) < length || memcmp(p->at, text, length) != 0) {
        return false;
    }
    p->at += length;
    return true;
}

static bool peek(const parser *p, char c)
{
    return p->at < p->end && *p->at == c;
}

static uint32_t take_char(parser *p)
{
    size_t width = peri_utf8_width(p->at, (size_t)(p->end - p->at));
    unsigned char first = (unsigned char)*p->at;
    uint32_t c = first;

    if (width == 0) {
        return fail(p, "a pattern that is not UTF-8");
    }
    if (width > 1) {
        c = first & (0xffu >> (width + 1));
        for (size_t i = 1; i < width; i++) {
            c = c << 6 | ((unsigned char)p->at[i] & 0x3f);
        }
    }
    p->at += width;
    return c;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Exactly count digits. */
static bool take_hex(parser *p, int count, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < count; i++) {
        int digit = i < p->end - p->at ? hex_value(p->at[i]) : -1;

        if (digit < 0) {
            return false;
        }
        *out = *out * 16 + (uint32_t)digit;
    }
    p->at += count;
    return true;
}

/* Behind "\u": four digits, a pair of surrogates, or any number in braces. */
static uint32_t take_unicode(parser *p)
{
    uint32_t c = 0;
    uint32_t low;

    if (take(p, "{")) {
        const char *start = p->at;

        while (p->at < p->end && hex_value(*p->at) >= 0 &&
               c <= PERI_REGEX_CHAR_MAX) {
            c = c * 16 + (uint32_t)hex_value(*p->at++);
        }
        if (p->at == start || c > PERI_REGEX_CHAR_MAX || !take(p, "}")) {
            return fail(p, "a malformed \\u{...}");
        }
        return c;
    }
    if (!take_hex(p, 4, &c)) {
        return fail(p, "a malformed \\u");
    }
    if (c >= 0xd800 && c <= 0xdbff && p->end - p->at >= 6) {
        const char *here = p->at;

        if (take(p, "\\u") && take_hex(p, 4, &low) && low >= 0xdc00 &&
            low <= 0xdfff) {
            return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        }
        p->at = here;
    }
    return c;
}

static bool is_punctuation(char c)
{
    return c > ' ' && c < 0x7f && hex_value(c) < 0 &&
           !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && c != '_';
}

/* Behind the backslash: an escape that stands for one character. */
static uint32_t take_escape(parser *p)
{
    const char *at = p->at;
    uint32_t c;

    if (at == p->end) {
        return fail(p, "a backslash at the end");
    }
    p->at++;
    switch (*at) {
    case 't':
        return '\t';
    case 'n':
        return '\n';
    case 'v':
        return '\v';
    case 'f':
        return '\f';
    case 'r':
        return '\r';
    case '0':
        if (p->at < p->end && *p->at >= '0' && *p->at <= '9') {
            return fail_at(p, at, "an octal escape");
        }
        return 0;
    case 'c':
        if (p->at < p->end && (*p->at | 0x20) >= 'a' &&
            (*p->at | 0x20) <= 'z') {
            return (uint32_t)(*p->at++ & 31);
        }
        return fail_at(p, at, "\\c without a letter");
    case 'x':
        return take_hex(p, 2, &c) ? c : fail_at(p, at, "a malformed \\x");
    case 'u':
        return take_unicode(p);
    default:
        if (is_punctuation(*at)) {
            return (uint32_t)(unsigned char)*at;
        }
        return fail_at(p, at,
                       (*at >= '1' && *at <= '9') || *at == 'k'
                           ? "a back-reference (not supported)"
                           : "an unknown escape");
    }
}

/* \d \D \s \S \w \W \p{..} \P{..}: added to set when it is one of them. */
static bool take_class(parser *p, peri_regex_set *set)
{
    const char *name;
    bool inverted;

    if (p->at == p->end) {
        return false;
    }
    if (peri_regex_set_add_class(set, *p->at)) {
        p->at++;
        return true;
    }
    if ((*p->at | 0x20) != 'p') {
        return false;
    }
    inverted = *p->at == 'P';
    p->at++;
    if (!take(p, "{")) {
        fail(p, "\\p without {");
        return true;
    }
    name = p->at;
    while (p->at < p->end && *p->at != '}') {
        p->at++;
    }
    if (p->at == p->end ||
        !peri_regex_set_add_property(
            set, peri_slice_of(name, (size_t)(p->at - name)), inverted)) {
        fail_at(p, name, "an unknown property (general categories only)");
        return true;
    }
    p->at++;
    return true;
}

/* One end of a range, or one class (then *is_class). */
static uint32_t take_member(parser *p, peri_regex_set *set, bool *is_class)
{
    *is_class = false;
    if (!take(p, "\\")) {
        return take_char(p);
    }
    if (take_class(p, set)) {
        *is_class = true;
        return 0;
    }
    if (take(p, "b")) {
        return '\b';
    }
    return take_escape(p);
}

/* Behind the opening bracket. */
static uint32_t parse_set(parser *p)
{
    const char *start = p->at;
    peri_regex_set set = {0};
    bool inverted = take(p, "^");

    while (p->at < p->end && *p->at != ']') {
        const char *here = p->at;
        bool is_class;
        uint32_t low = take_member(p, &set, &is_class);
        uint32_t high = low;

        if (peek(p, '-') && p->end - p->at > 1 && p->at[1] != ']') {
            bool high_is_class;

            p->at++;
            high = take_member(p, &set, &high_is_class);
            if (is_class || high_is_class || high < low) {
                fail_at(p, here, "a range that is none");
            }
        }
        if (!is_class && !failed(p)) {
            peri_regex_set_add(&set, low, high);
        }
    }
    if (!failed(p) && !take(p, "]")) {
        fail_at(p, start, "a [ without its ]");
    }
    return add_set(p, &set, inverted);
}

static uint32_t parse_dot(parser *p)
{
    peri_regex_set set = {0};

    peri_regex_set_add(&set, '\n', '\n');
    peri_regex_set_add(&set, '\r', '\r');
    peri_regex_set_add(&set, 0x2028, 0x2029);
    return add_set(p, &set, true);
}

/* Behind "(?<": a name, which means nothing here. */
static bool skip_name(parser *p)
{
    if (peek(p, '=') || peek(p, '!')) {
        fail(p, "look-behind (not supported)");
        return false;
    }
    while (p->at < p->end && *p->at != '>') {
        p->at++;
    }
    return take(p, ">");
}

/* Behind the opening parenthesis. */
static uint32_t parse_group(parser *p)
{
    const char *start = p->at;
    peri_regex_kind kind = PERI_REGEX_SEQUENCE;
    uint32_t node;
    uint32_t inner;

    if (take(p, "?=")) {
        kind = PERI_REGEX_AHEAD;
    } else if (take(p, "?!")) {
        kind = PERI_REGEX_NO_AHEAD;
    } else if (!take(p, "?:") &&
               ((take(p, "?<") && !skip_name(p)) || peek(p, '?'))) {
        return fail_at(p, start, "an unknown kind of group");
    }
    if (p->depth >= NESTING_MAX) {
        return fail(p, "groups nested too deep");
    }
    p->depth++;
    node = add_node(p, kind);
    inner = parse_choice(p);
    p->tree->nodes[node].child = inner;
    p->depth--;
    if (!failed(p) && !take(p, ")")) {
        return fail_at(p, start, "a ( without its )");
    }
    return node;
}

static uint32_t parse_escape(parser *p)
{
    peri_regex_set set = {0};

    if (take(p, "b")) {
        return add_node(p, PERI_REGEX_BOUNDARY);
    }
    if (take(p, "B")) {
        return add_node(p, PERI_REGEX_NO_BOUNDARY);
    }
    if (take_class(p, &set)) {
        return add_set(p, &set, false);
    }
    return add_char(p, take_escape(p));
}

static uint32_t parse_atom(parser *p)
{
    switch (*p->at) {
    case '(':
        p->at++;
        return parse_group(p);
    case '[':
        p->at++;
        return parse_set(p);
    case '\\':
        p->at++;
        return parse_escape(p);
    case '.':
        p->at++;
        return parse_dot(p);
    case '^':
        p->at++;
        return add_node(p, PERI_REGEX_START);
    case '$':
        p->at++;
        return add_node(p, PERI_REGEX_END);
    case '*':
    case '+':
    case '?':
    case '{':
        return fail(p, "nothing to repeat");
    default:
        return add_char(p, take_char(p));
    }
}

static bool take_count(parser *p, uint32_t *out)
{
    const char *start = p->at;

    *out = 0;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9') {
        *out = *out > REPEAT_MAX ? *out : *out * 10 + (uint32_t)(*p->at - '0');
        p->at++;
    }
    return p->at > start;
}

/* Behind "{": n} or n,} or n,m}. */
static bool take_counts(parser *p, uint32_t *min, uint32_t *max)
{
    if (!take_count(p, min)) {
        return false;
    }
    *max = *min;
    if (take(p, ",") && !take_count(p, max)) {
        *max = PERI_REGEX_UNBOUNDED;
    }
    return take(p, "}");
}

static uint32_t parse_repeat(parser *p, uint32_t atom)
{
    const char *start = p->at;
    uint32_t min = 0;
    uint32_t max = PERI_REGEX_UNBOUNDED;
    peri_regex_kind kind = p->tree->nodes[atom].kind;
    uint32_t node;

    if (take(p, "+")) {
        min = 1;
    } else if (take(p, "?")) {
        max = 1;
    } else if (take(p, "{")) {
        if (!take_counts(p, &min, &max)) {
            return fail_at(p, start, "a malformed {n,m}");
        }
    } else if (!take(p, "*")) {
        return atom;
    }
    take(p, "?"); /* lazy or not is the same as to whether there is a match */
    if (kind != PERI_REGEX_SEQUENCE && kind != PERI_REGEX_CHAR &&
        kind != PERI_REGEX_SET) {
        return fail_at(p, start, "nothing to repeat");
    }
    if (max < min) {
        return fail_at(p, start, "a {n,m} that is out of order");
    }
    if (min > REPEAT_MAX || (max > REPEAT_MAX && max != PERI_REGEX_UNBOUNDED)) {
        return fail_at(p, start, "a repetition of more than 10000");
    }
    node = add_node(p, PERI_REGEX_REPEAT);
    p->tree->nodes[node].child = atom;
    p->tree->nodes[node].min = min;
    p->tree->nodes[node].max = max;
    return node;
}

static uint32_t parse_sequence(parser *p)
{
    uint32_t sequence = add_node(p, PERI_REGEX_SEQUENCE);
    uint32_t last = 0;

    while (p->at < p->end && *p->at != '|' && *p->at != ')') {
        uint32_t atom = parse_atom(p);

        if (!failed(p)) {
            atom = parse_repeat(p, atom);
        }
        if (failed(p)) {
            return 0;
        }
        if (last == 0) {
            p->tree->nodes[sequence].child = atom;
        } else {
            p->tree->nodes[last].next = atom;
        }
        last = atom;
    }
    return sequence;
}

static uint32_t parse_choice(parser *p)
{
    uint32_t choice = add_node(p, PERI_REGEX_CHOICE);
    uint32_t last = parse_sequence(p);

    p->tree->nodes[choice].child = last;
    while (!failed(p) && take(p, "|")) {
        uint32_t next = parse_sequence(p);

        p->tree->nodes[last].next = next;
        last = next;
    }
    return choice;
}

bool peri_regex_parse(peri_slice pattern, peri_regex_tree *tree,
                      char fault[PERI_REGEX_FAULT_BYTES])
{
    parser p = {.start = pattern.data,
                .at = pattern.data,
                .end = pattern.data + pattern.length,
                .tree = tree,
                .fault = fault};

    *tree = (peri_regex_tree){0};
    fault[0] = '\0';
    if (pattern.length == 0) {
        p.start = p.at = p.end = "";
    }
    add_node(&p, PERI_REGEX_SEQUENCE); /* index 0 stands for none */
    if (pattern.length > PATTERN_MAX_BYTES) {
        fail(&p, "a pattern of more than 65536 bytes");
        return false;
    }
    tree->root = parse_choice(&p);
    if (!failed(&p) && p.at < p.end) {
        fail(&p, "a ) without its (");
    }
    return !failed(&p);
}

void peri_regex_tree_fini(peri_regex_tree *tree)
{
    for (uint32_t i = 0; i < tree->set_count; i++) {
        peri_regex_set_fini(&tree->sets[i]);
    }
    free(tree->sets);
    free(tree->nodes);
    *tree = (peri_regex_tree){0};
}
