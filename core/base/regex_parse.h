/* Regex parse: from a pattern to a tree. For regex.c. */
#ifndef PERI_BASE_REGEX_PARSE_H
#define PERI_BASE_REGEX_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/regex.h"

#define PERI_REGEX_UNBOUNDED UINT32_MAX
#define PERI_REGEX_CHAR_MAX 0x10ffffu

typedef enum peri_regex_kind {
    PERI_REGEX_SEQUENCE, /* children one after the other */
    PERI_REGEX_CHOICE,   /* one of the children */
    PERI_REGEX_REPEAT,   /* the child, min to max times */
    PERI_REGEX_CHAR,     /* the character `value` */
    PERI_REGEX_SET,      /* one of set number `value` */
    PERI_REGEX_START,
    PERI_REGEX_END,
    PERI_REGEX_BOUNDARY,
    PERI_REGEX_NO_BOUNDARY,
    PERI_REGEX_AHEAD,   /* the child matches here */
    PERI_REGEX_NO_AHEAD /* it does not */
} peri_regex_kind;

/* Nodes refer to each other by index; 0 is none. */
typedef struct peri_regex_node {
    peri_regex_kind kind;
    uint32_t child; /* the first */
    uint32_t next;  /* sibling */
    uint32_t value;
    uint32_t min;
    uint32_t max;
} peri_regex_node;

typedef struct peri_regex_range {
    uint32_t low;
    uint32_t high;
} peri_regex_range;

/* Characters, as ranges in order that neither touch nor overlap. */
typedef struct peri_regex_set {
    peri_regex_range *ranges;
    uint32_t count;
    uint32_t capacity;
    uint64_t ascii[2]; /* the same for characters below 128 */
} peri_regex_set;

typedef struct peri_regex_tree {
    peri_regex_node *nodes;
    uint32_t node_count;
    uint32_t node_capacity;
    peri_regex_set *sets;
    uint32_t set_count;
    uint32_t set_capacity;
    uint32_t root;
} peri_regex_tree;

/* False and a fault when the pattern is malformed. The tree is to be freed
 * with peri_regex_tree_fini() either way. */
bool peri_regex_parse(peri_slice pattern, peri_regex_tree *tree,
                      char fault[PERI_REGEX_FAULT_BYTES]);
void peri_regex_tree_fini(peri_regex_tree *tree);

/* Sets. Ranges may be added in any order before seal. */
void peri_regex_set_add(peri_regex_set *set, uint32_t low, uint32_t high);
void peri_regex_set_seal(peri_regex_set *set, bool inverted);
void peri_regex_set_add_set(peri_regex_set *set, const peri_regex_set *other);
void peri_regex_set_fini(peri_regex_set *set);

/* Adds \d \s \w, or with an upper-case letter what is not in them. False for
 * any other letter. */
bool peri_regex_set_add_class(peri_regex_set *set, char letter);

/* Adds the property of that name, or what does not have it. False when it is
 * unknown. */
bool peri_regex_set_add_property(peri_regex_set *set, peri_slice name,
                                 bool inverted);

static inline bool peri_regex_set_has(const peri_regex_set *set, uint32_t c)
{
    uint32_t low = 0;
    uint32_t high = set->count;

    if (c < 128) {
        return (set->ascii[c >> 6] >> (c & 63) & 1) != 0;
    }
    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (c < set->ranges[middle].low) {
            high = middle;
        } else if (c > set->ranges[middle].high) {
            low = middle + 1;
        } else {
            return true;
        }
    }
    return false;
}

#endif
