/* Regex: the tree becomes a program, the program is run on all states at
 * once. */
#include "core/base/regex.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/regex_parse.h"
#include "core/base/utf8.h"

#define PROGRAM_MAX 20000  /* instructions */
#define STEPS_MAX 50000000 /* of one search; about half a second */
#define LOOKS_MAX 8        /* look-aheads within each other */
#define NO_CHAR UINT32_MAX /* before the start and behind the end */

typedef enum regex_op {
    OP_CHAR,
    OP_SET,
    OP_SPLIT,
    OP_JUMP,
    OP_START,
    OP_END,
    OP_BOUNDARY,
    OP_NO_BOUNDARY,
    OP_AHEAD, /* its own program follows and ends with OP_MATCH */
    OP_NO_AHEAD,
    OP_MATCH
} regex_op;

typedef struct instruction {
    regex_op op;
    uint32_t x; /* a character, a set, or where to go on */
    uint32_t y; /* the other way of a split */
} instruction;

/* States of one run; a look-ahead is a run within a run. */
typedef struct run_memory {
    uint32_t *now;
    uint32_t *then;
    uint32_t *stack;
    uint32_t *mark; /* equal to round: already there */
    uint32_t round;
} run_memory;

struct peri_regex {
    instruction *program;
    uint32_t count;
    uint32_t capacity;
    peri_regex_tree tree; /* the sets; nodes are freed */
    bool anchored;        /* can match at the start alone */
    int looks;            /* how deep look-aheads are nested */
    uint64_t steps;
    run_memory memory[LOOKS_MAX + 1];
};

typedef struct text_at {
    const char *text;
    size_t length;
    size_t at;
    uint32_t before; /* the character in front of at */
    uint32_t here;   /* the one at it */
    size_t width;
} text_at;

static uint32_t emit(peri_regex *r, regex_op op, uint32_t x, uint32_t y)
{
    if (r->count == r->capacity) {
        r->capacity = r->capacity == 0 ? 32 : r->capacity * 2;
        r->program = peri_realloc(r->program, r->capacity * sizeof *r->program);
    }
    r->program[r->count] = (instruction){op, x, y};
    return r->count++;
}

static bool emit_node(peri_regex *r, uint32_t index, int looks);

static bool emit_children(peri_regex *r, uint32_t child, int looks)
{
    for (; child != 0; child = r->tree.nodes[child].next) {
        if (!emit_node(r, child, looks)) {
            return false;
        }
    }
    return true;
}

static bool emit_choice(peri_regex *r, uint32_t child, int looks)
{
    uint32_t last_jump = UINT32_MAX; /* jumps to the end, linked by x */

    for (; r->tree.nodes[child].next != 0; child = r->tree.nodes[child].next) {
        uint32_t split = emit(r, OP_SPLIT, r->count + 1, 0);

        if (!emit_node(r, child, looks)) {
            return false;
        }
        last_jump = emit(r, OP_JUMP, last_jump, 0);
        r->program[split].y = r->count;
    }
    if (!emit_node(r, child, looks)) {
        return false;
    }
    while (last_jump != UINT32_MAX) {
        uint32_t next = r->program[last_jump].x;

        r->program[last_jump].x = r->count;
        last_jump = next;
    }
    return true;
}

static bool emit_optional(peri_regex *r, const peri_regex_node *node, int looks)
{
    uint32_t last_split = UINT32_MAX; /* splits to the end, linked by y */

    for (uint32_t i = node->min; i < node->max; i++) {
        last_split = emit(r, OP_SPLIT, r->count + 1, last_split);
        if (!emit_node(r, node->child, looks)) {
            return false;
        }
    }
    while (last_split != UINT32_MAX) {
        uint32_t next = r->program[last_split].y;

        r->program[last_split].y = r->count;
        last_split = next;
    }
    return true;
}

static bool emit_repeat(peri_regex *r, const peri_regex_node *repeat, int looks)
{
    peri_regex_node node = *repeat;
    uint32_t split;

    for (uint32_t i = 0; i < node.min; i++) {
        uint32_t before = r->count;

        if (!emit_node(r, node.child, looks)) {
            return false;
        }
        if (r->count == before) {
            return true; /* an empty group, however often */
        }
    }
    if (node.max != PERI_REGEX_UNBOUNDED) {
        return emit_optional(r, &node, looks);
    }
    split = emit(r, OP_SPLIT, r->count + 1, 0);
    if (!emit_node(r, node.child, looks)) {
        return false;
    }
    emit(r, OP_JUMP, split, 0);
    r->program[split].y = r->count;
    return true;
}

static bool emit_look(peri_regex *r, regex_op op, uint32_t child, int looks)
{
    uint32_t look;

    if (looks >= LOOKS_MAX) {
        return false;
    }
    r->looks = looks + 1 > r->looks ? looks + 1 : r->looks;
    look = emit(r, op, 0, 0);
    if (!emit_node(r, child, looks + 1)) {
        return false;
    }
    emit(r, OP_MATCH, 0, 0);
    r->program[look].x = r->count;
    return true;
}

/* False when the program gets too large. */
static bool emit_node(peri_regex *r, uint32_t index, int looks)
{
    const peri_regex_node *node = &r->tree.nodes[index];

    if (r->count > PROGRAM_MAX) {
        return false;
    }
    switch (node->kind) {
    case PERI_REGEX_SEQUENCE:
        return emit_children(r, node->child, looks);
    case PERI_REGEX_CHOICE:
        return emit_choice(r, node->child, looks);
    case PERI_REGEX_REPEAT:
        return emit_repeat(r, node, looks);
    case PERI_REGEX_CHAR:
        emit(r, OP_CHAR, node->value, 0);
        return true;
    case PERI_REGEX_SET:
        emit(r, OP_SET, node->value, 0);
        return true;
    case PERI_REGEX_START:
        emit(r, OP_START, 0, 0);
        return true;
    case PERI_REGEX_END:
        emit(r, OP_END, 0, 0);
        return true;
    case PERI_REGEX_BOUNDARY:
        emit(r, OP_BOUNDARY, 0, 0);
        return true;
    case PERI_REGEX_NO_BOUNDARY:
        emit(r, OP_NO_BOUNDARY, 0, 0);
        return true;
    case PERI_REGEX_AHEAD:
        return emit_look(r, OP_AHEAD, node->child, looks);
    case PERI_REGEX_NO_AHEAD:
        return emit_look(r, OP_NO_AHEAD, node->child, looks);
    }
    return false;
}

static uint32_t char_at(const char *text, size_t length, size_t at,
                        size_t *width)
{
    const unsigned char *b = (const unsigned char *)text + at;
    uint32_t c;

    if (at == length) {
        *width = 0;
        return NO_CHAR;
    }
    if (b[0] < 0x80) {
        *width = 1;
        return b[0];
    }
    *width = peri_utf8_width(text + at, length - at);
    if (*width == 0) {
        *width = 1;
        return 0xfffd;
    }
    c = b[0] & (0xffu >> (*width + 1));
    for (size_t i = 1; i < *width; i++) {
        c = c << 6 | (b[i] & 0x3fu);
    }
    return c;
}

static bool is_word(uint32_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (c >= 'a' && c <= 'z');
}

static int run(peri_regex *r, uint32_t start, text_at t, bool search,
               int depth);

/* Whether the condition of an instruction that takes no character holds;
 * negative when that took too much work. */
static int holds(peri_regex *r, uint32_t pc, const text_at *t, int depth)
{
    int found;

    switch (r->program[pc].op) {
    case OP_START:
        return t->at == 0;
    case OP_END:
        return t->at == t->length;
    case OP_BOUNDARY:
        return is_word(t->before) != is_word(t->here);
    case OP_NO_BOUNDARY:
        return is_word(t->before) == is_word(t->here);
    default:
        found = run(r, pc + 1, *t, false, depth + 1);
        if (found < 0) {
            return found;
        }
        return (found == 1) == (r->program[pc].op == OP_AHEAD);
    }
}

static uint32_t push(run_memory *m, uint32_t top, uint32_t pc)
{
    if (m->mark[pc] != m->round) {
        m->mark[pc] = m->round;
        m->stack[top++] = pc;
    }
    return top;
}

/* Adds the states that pc leads to without taking a character to list; 1 when
 * the match is among them. */
static int follow(peri_regex *r, run_memory *m, uint32_t pc, const text_at *t,
                  int depth, uint32_t *list, uint32_t *count)
{
    uint32_t top = push(m, 0, pc);

    while (top > 0) {
        const instruction *i;
        int rc;

        pc = m->stack[--top];
        i = &r->program[pc];
        r->steps++;
        switch (i->op) {
        case OP_CHAR:
        case OP_SET:
            list[(*count)++] = pc;
            break;
        case OP_MATCH:
            return 1;
        case OP_JUMP:
            top = push(m, top, i->x);
            break;
        case OP_SPLIT:
            top = push(m, top, i->y);
            top = push(m, top, i->x);
            break;
        default:
            rc = holds(r, pc, t, depth);
            if (rc < 0) {
                return rc;
            }
            if (rc == 1) {
                top = push(m, top,
                           i->op == OP_AHEAD || i->op == OP_NO_AHEAD ? i->x
                                                                     : pc + 1);
            }
        }
    }
    return 0;
}

static void next_round(peri_regex *r, run_memory *m)
{
    if (++m->round == 0) {
        memset(m->mark, 0, r->count * sizeof *m->mark);
        m->round = 1;
    }
}

static bool takes(const peri_regex *r, uint32_t pc, uint32_t c)
{
    const instruction *i = &r->program[pc];

    return i->op == OP_CHAR ? i->x == c
                            : peri_regex_set_has(&r->tree.sets[i->x], c);
}

static void advance(text_at *t)
{
    t->at += t->width;
    t->before = t->here;
    t->here = char_at(t->text, t->length, t->at, &t->width);
}

/* 1 when the program at start matches at t, or with search anywhere behind. */
static int run(peri_regex *r, uint32_t start, text_at t, bool search, int depth)
{
    run_memory *m = &r->memory[depth];
    uint32_t now_count = 0;
    int rc;

    next_round(r, m);
    rc = follow(r, m, start, &t, depth, m->now, &now_count);
    while (rc == 0 && t.at < t.length && (now_count > 0 || search)) {
        uint32_t c = t.here;
        uint32_t then_count = 0;
        uint32_t *swap = m->now;

        if (r->steps > STEPS_MAX) {
            return PERI_ELIMIT;
        }
        advance(&t);
        next_round(r, m);
        for (uint32_t i = 0; i < now_count && rc == 0; i++) {
            r->steps++;
            if (takes(r, m->now[i], c)) {
                rc = follow(r, m, m->now[i] + 1, &t, depth, m->then,
                            &then_count);
            }
        }
        if (rc == 0 && search) {
            rc = follow(r, m, start, &t, depth, m->then, &then_count);
        }
        m->now = m->then;
        m->then = swap;
        now_count = then_count;
    }
    return rc;
}

static bool starts_anchored(const peri_regex_tree *tree, uint32_t index)
{
    const peri_regex_node *node = &tree->nodes[index];

    switch (node->kind) {
    case PERI_REGEX_START:
        return true;
    case PERI_REGEX_SEQUENCE:
        return node->child != 0 && starts_anchored(tree, node->child);
    case PERI_REGEX_CHOICE:
        for (uint32_t child = node->child; child != 0;
             child = tree->nodes[child].next) {
            if (!starts_anchored(tree, child)) {
                return false;
            }
        }
        return node->child != 0;
    default:
        return false;
    }
}

static void make_memory(peri_regex *r)
{
    for (int i = 0; i <= r->looks; i++) {
        run_memory *m = &r->memory[i];

        m->now = peri_calloc(r->count, sizeof *m->now);
        m->then = peri_calloc(r->count, sizeof *m->then);
        m->stack = peri_calloc(r->count, sizeof *m->stack);
        m->mark = peri_calloc(r->count, sizeof *m->mark);
    }
}

peri_regex *peri_regex_create(peri_slice pattern,
                              char fault[PERI_REGEX_FAULT_BYTES])
{
    peri_regex *r = peri_calloc(1, sizeof *r);

    if (!peri_regex_parse(pattern, &r->tree, fault)) {
        peri_regex_destroy(r);
        return NULL;
    }
    if (!emit_node(r, r->tree.root, 0) || r->count > PROGRAM_MAX) {
        snprintf(fault, PERI_REGEX_FAULT_BYTES, "a pattern that is too large");
        peri_regex_destroy(r);
        return NULL;
    }
    emit(r, OP_MATCH, 0, 0);
    r->anchored = starts_anchored(&r->tree, r->tree.root);
    free(r->tree.nodes);
    r->tree.nodes = NULL;
    make_memory(r);
    return r;
}

void peri_regex_destroy(peri_regex *r)
{
    if (r == NULL) {
        return;
    }
    for (int i = 0; i <= LOOKS_MAX; i++) {
        free(r->memory[i].now);
        free(r->memory[i].then);
        free(r->memory[i].stack);
        free(r->memory[i].mark);
    }
    peri_regex_tree_fini(&r->tree);
    free(r->program);
    free(r);
}

int peri_regex_search(peri_regex *r, const char *text, size_t length)
{
    text_at t = {.text = text, .length = length, .before = NO_CHAR};

    t.here = char_at(text, length, 0, &t.width);
    r->steps = 0;
    return run(r, 0, t, !r->anchored, 0);
}
