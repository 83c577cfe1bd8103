/* Stacks: a hash table of texts with sums. */
#include "core/base/stacks.h"

#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/arena.h"

#define OTHER PERI_SLICE("?;[other stacks]")
#define SLOTS_FIRST 1024
#define BLOCK_BYTES 65536

struct peri_stacks {
    peri_stack *all;
    uint32_t *slots; /* numbers + 1; 0: free */
    size_t slot_count;
    size_t count;
    size_t capacity;
    size_t text_bytes;
    peri_arena *texts;
};

static uint64_t hash_of(peri_slice key)
{
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < key.length; i++) {
        hash = (hash ^ (unsigned char)key.data[i]) * 1099511628211u;
    }
    return hash ^ (hash >> 32);
}

peri_stacks *peri_stacks_create(void)
{
    peri_stacks *stacks = peri_calloc(1, sizeof *stacks);

    stacks->slot_count = SLOTS_FIRST;
    stacks->slots = peri_calloc(SLOTS_FIRST, sizeof *stacks->slots);
    stacks->texts = peri_arena_create(BLOCK_BYTES);
    return stacks;
}

void peri_stacks_destroy(peri_stacks *stacks)
{
    if (stacks != NULL) {
        peri_arena_destroy(stacks->texts);
        free(stacks->slots);
        free(stacks->all);
        free(stacks);
    }
}

/* The slot that has the key, or the free one where it belongs. */
static uint32_t *slot_of(const peri_stacks *stacks, peri_slice key)
{
    size_t mask = stacks->slot_count - 1;
    size_t at = hash_of(key) & mask;

    while (stacks->slots[at] != 0 &&
           !peri_slice_equal(stacks->all[stacks->slots[at] - 1].key, key)) {
        at = (at + 1) & mask;
    }
    return &stacks->slots[at];
}

static void grow_slots(peri_stacks *stacks)
{
    free(stacks->slots);
    stacks->slot_count *= 2;
    stacks->slots = peri_calloc(stacks->slot_count, sizeof *stacks->slots);
    for (size_t i = 0; i < stacks->count; i++) {
        *slot_of(stacks, stacks->all[i].key) = (uint32_t)i + 1;
    }
}

static size_t append(peri_stacks *stacks, peri_slice key, uint32_t *slot)
{
    peri_stack *stack;

    if (stacks->count == stacks->capacity) {
        stacks->capacity = stacks->capacity != 0 ? 2 * stacks->capacity : 256;
        stacks->all =
            peri_realloc(stacks->all, stacks->capacity * sizeof *stacks->all);
    }
    stack = &stacks->all[stacks->count++];
    *stack = (peri_stack){
        .key = {peri_arena_copy(stacks->texts, key.data, key.length),
                key.length}};
    stacks->text_bytes += key.length;
    *slot = (uint32_t)stacks->count;
    if (2 * stacks->count > stacks->slot_count) {
        grow_slots(stacks);
    }
    return stacks->count - 1;
}

size_t peri_stacks_add(peri_stacks *stacks, peri_slice key,
                       const uint64_t values[PERI_STACK_VALUES])
{
    uint32_t *slot;
    size_t number;

    if (key.length == 0 || key.length > PERI_STACK_KEY_MAX) {
        key = OTHER;
    }
    slot = slot_of(stacks, key);
    if (*slot == 0 && (stacks->count >= PERI_STACKS_MAX ||
                       stacks->text_bytes >= PERI_STACKS_TEXT_MAX)) {
        key = OTHER;
        slot = slot_of(stacks, key);
    }
    number = *slot != 0 ? *slot - 1 : append(stacks, key, slot);
    for (int i = 0; i < PERI_STACK_VALUES; i++) {
        stacks->all[number].values[i] += values[i];
    }
    return number;
}

size_t peri_stacks_count(const peri_stacks *stacks)
{
    return stacks->count;
}

peri_stack *peri_stacks_get(peri_stacks *stacks, size_t number)
{
    return &stacks->all[number];
}

/* ---- as text ---- */

int peri_stacks_write(peri_stacks *stacks, peri_buf *out)
{
    int rc = 0;

    for (size_t i = 0; i < stacks->count && rc == 0; i++) {
        const peri_stack *stack = &stacks->all[i];

        for (int v = 0; v < PERI_STACK_VALUES && rc == 0; v++) {
            rc = peri_buf_append_u64(out, stack->values[v]);
            rc = rc == 0 ? peri_buf_append_byte(out, ' ') : rc;
        }
        rc = rc == 0 ? peri_buf_append_slice(out, stack->key) : rc;
        rc = rc == 0 ? peri_buf_append_byte(out, '\n') : rc;
    }
    return rc;
}

/* Digits and the blank behind them. */
static bool take_number(peri_slice *line, uint64_t *out)
{
    *out = 0;
    while (line->length > 0 && line->data[0] >= '0' && line->data[0] <= '9') {
        *out = *out * 10 + (uint64_t)(line->data[0] - '0');
        line->data++;
        line->length--;
    }
    if (line->length == 0 || line->data[0] != ' ') {
        return false;
    }
    line->data++;
    line->length--;
    return true;
}

void peri_stacks_read(peri_stacks *stacks, peri_slice text)
{
    while (text.length > 0) {
        const char *end = memchr(text.data, '\n', text.length);
        size_t length = end != NULL ? (size_t)(end - text.data) : text.length;
        peri_slice line = {text.data, length};
        uint64_t values[PERI_STACK_VALUES];
        int v = 0;

        while (v < PERI_STACK_VALUES && take_number(&line, &values[v])) {
            v++;
        }
        if (v == PERI_STACK_VALUES) {
            peri_stacks_add(stacks, line, values);
        }
        length += end != NULL;
        text.data += length;
        text.length -= length;
    }
}

bool peri_stack_next(peri_slice *rest, peri_slice *frame)
{
    const char *end;

    if (rest->length == 0) {
        return false;
    }
    end = memchr(rest->data, ';', rest->length);
    *frame = *rest;
    if (end == NULL) {
        *rest = (peri_slice){NULL, 0};
        return true;
    }
    frame->length = (size_t)(end - rest->data);
    rest->data += frame->length + 1;
    rest->length -= frame->length + 1;
    return true;
}

uint32_t peri_stack_line(peri_slice *frame)
{
    size_t at = frame->length;
    uint32_t line = 0;
    uint32_t place = 1;

    while (at > 0 && frame->data[at - 1] >= '0' && frame->data[at - 1] <= '9' &&
           frame->length - at < 9) {
        at--;
        line += place * (uint32_t)(frame->data[at] - '0');
        place *= 10;
    }
    if (at == frame->length || at == 0 || frame->data[at - 1] != '@') {
        return 0;
    }
    frame->length = at - 1;
    return line;
}

peri_slice peri_stack_leaf(char state)
{
    switch (state) {
    case 'G':
        return PERI_SLICE("[gc]");
    case 'C':
        return PERI_SLICE("[C]");
    case 'J':
        return PERI_SLICE("[compiler]");
    default:
        return (peri_slice){NULL, 0};
    }
}

static int collapse_key(peri_slice key, peri_buf *out)
{
    peri_slice frame;
    peri_slice leaf = {NULL, 0};
    bool first = true;
    int rc = 0;

    if (peri_stack_next(&key, &frame)) {
        leaf = peri_stack_leaf(frame.data[0]);
    }
    while (rc == 0 && peri_stack_next(&key, &frame)) {
        peri_stack_line(&frame);
        rc = first ? 0 : peri_buf_append_byte(out, ';');
        rc = rc == 0 ? peri_buf_append_slice(out, frame) : rc;
        first = false;
    }
    if (rc == 0 && leaf.length != 0) {
        rc = peri_buf_append_str(out, first ? "" : ";");
        rc = rc == 0 ? peri_buf_append_slice(out, leaf) : rc;
    }
    return rc;
}

peri_stacks *peri_stacks_flatten(peri_stacks *stacks)
{
    peri_stacks *flat = peri_stacks_create();
    peri_buf key;

    peri_buf_init(&key, PERI_STACK_KEY_MAX);
    for (size_t i = 0; i < stacks->count; i++) {
        peri_buf_clear(&key);
        collapse_key(stacks->all[i].key, &key); /* gets shorter: fits */
        peri_stacks_add(flat, peri_buf_slice(&key), stacks->all[i].values);
    }
    peri_buf_fini(&key);
    return flat;
}

int peri_stacks_collapse(peri_stacks *stacks, int value, peri_buf *out)
{
    peri_stacks *flat = peri_stacks_flatten(stacks);
    int rc = 0;

    for (size_t i = 0; i < flat->count && rc == 0; i++) {
        const peri_stack *stack = &flat->all[i];

        if (stack->values[value] != 0) {
            rc = peri_buf_append_slice(out, stack->key);
            rc = rc == 0 ? peri_buf_append_byte(out, ' ') : rc;
            rc = rc == 0 ? peri_buf_append_u64(out, stack->values[value]) : rc;
            rc = rc == 0 ? peri_buf_append_byte(out, '\n') : rc;
        }
    }
    peri_stacks_destroy(flat);
    return rc;
}
