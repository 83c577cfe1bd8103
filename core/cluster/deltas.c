/* Deltas: see the header. */
#include "core/cluster/deltas.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"

#define TABLE_MIN 256
#define HEAD 6 /* of packed exponential buckets */

typedef struct peri_deltas_entry {
    char *key; /* NULL: empty */
    size_t length;
    double *values;
    size_t count;
} entry;

static uint64_t hash(const char *text, size_t length)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < length; i++) {
        h = (h ^ (unsigned char)text[i]) * 0x100000001b3u;
    }
    return h;
}

static entry *find(const peri_deltas *d, const char *key, size_t length)
{
    size_t at = hash(key, length) & (d->slots - 1);

    while (d->table[at].key != NULL &&
           (d->table[at].length != length ||
            memcmp(d->table[at].key, key, length) != 0)) {
        at = (at + 1) & (d->slots - 1);
    }
    return &d->table[at];
}

static void grow(peri_deltas *d)
{
    entry *old = d->table;
    size_t count = d->slots;

    d->slots = count == 0 ? TABLE_MIN : count * 2;
    d->table = peri_calloc(d->slots, sizeof *d->table);
    for (size_t i = 0; i < count; i++) {
        if (old[i].key != NULL) {
            *find(d, old[i].key, old[i].length) = old[i];
        }
    }
    free(old);
}

/* kind: tells apart what one series has several of. */
static entry *get(peri_deltas *d, const char *name, char kind,
                  peri_slice labels, bool *fresh)
{
    size_t name_length = strlen(name);
    size_t length = name_length + 1 + labels.length;
    char *key = peri_alloc(length);
    entry *e;

    memcpy(key, name, name_length);
    key[name_length] = kind;
    if (labels.length > 0) {
        memcpy(key + name_length + 1, labels.data, labels.length);
    }
    if (d->used * 2 >= d->slots) {
        grow(d);
    }
    e = find(d, key, length);
    *fresh = e->key == NULL;
    if (*fresh) {
        e->key = key;
        e->length = length;
        d->used++;
    } else {
        free(key);
    }
    return e;
}

static void resize(entry *e, size_t count)
{
    if (e->count != count) {
        free(e->values);
        e->values = peri_calloc(count, sizeof *e->values);
        e->count = count;
    }
}

void peri_deltas_fini(peri_deltas *d)
{
    for (size_t i = 0; i < d->slots; i++) {
        free(d->table[i].key);
        free(d->table[i].values);
    }
    free(d->table);
    *d = (peri_deltas){.slots = 0};
}

bool peri_deltas_subtract(peri_deltas *d, const char *name, peri_slice labels,
                          double *values, size_t count)
{
    bool fresh;
    entry *e = get(d, name, '{', labels, &fresh);

    resize(e, count);
    for (size_t i = 0; i < count; i++) {
        double now = values[i];

        values[i] = now >= e->values[i] ? now - e->values[i] : now;
        e->values[i] = now;
    }
    return !fresh;
}

/* ---- exponential buckets, without the room that they do not use ---- */

static void pack(entry *e, const peri_exponential *x)
{
    size_t positive = x->positive.count;
    size_t negative = x->negative.count;
    double *out;

    resize(e, HEAD + positive + negative);
    out = e->values;
    *out++ = x->scale;
    *out++ = x->zero;
    *out++ = x->positive.first;
    *out++ = (double)positive;
    *out++ = x->negative.first;
    *out++ = (double)negative;
    memcpy(out, x->positive.counts, positive * sizeof *out);
    memcpy(out + positive, x->negative.counts, negative * sizeof *out);
}

static void unpack(const entry *e, peri_exponential *x)
{
    const double *in = e->values;

    x->scale = (int)*in++;
    x->zero = *in++;
    x->positive.first = (int)*in++;
    x->positive.count = (uint32_t)*in++;
    x->negative.first = (int)*in++;
    x->negative.count = (uint32_t)*in++;
    memcpy(x->positive.counts, in, x->positive.count * sizeof *in);
    memcpy(x->negative.counts, in + x->positive.count,
           x->negative.count * sizeof *in);
}

void peri_deltas_subtract_exponential(peri_deltas *d, const char *name,
                                      peri_slice labels,
                                      peri_exponential *values)
{
    bool fresh;
    entry *e = get(d, name, '~', labels, &fresh);
    peri_exponential now = *values;

    if (!fresh) {
        peri_exponential before;

        unpack(e, &before);
        peri_exponential_subtract(values, &before);
    }
    pack(e, &now);
}
