/* Attributes: names and values of a span, an event or a resource.
 *
 * Packed one behind the other in one buffer, bounded in number and size; what
 * is over is counted. Text is valid UTF-8 afterwards, whatever it was. */
#ifndef PERI_BASE_ATTRIBUTES_H
#define PERI_BASE_ATTRIBUTES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"

#define PERI_ATTRIBUTES_MAX 128 /* unless count_max says otherwise */
#define PERI_ATTRIBUTES_BYTES ((size_t)64 << 10)
#define PERI_ATTRIBUTE_KEY_MAX 255
/* Bytes of a text, unless value_max says otherwise; the rest is cut. */
#define PERI_ATTRIBUTE_VALUE_MAX 4096

typedef struct peri_attributes {
    peri_buf packed;
    uint32_t count;
    uint32_t dropped;
    uint32_t count_max;
    uint32_t value_max;
} peri_attributes;

typedef enum peri_attribute_type {
    PERI_ATTRIBUTE_STRING,
    PERI_ATTRIBUTE_INT,
    PERI_ATTRIBUTE_DOUBLE,
    PERI_ATTRIBUTE_BOOL
} peri_attribute_type;

/* One attribute, as it is read back. */
typedef struct peri_attribute {
    peri_attribute_type type;
    peri_slice key;
    peri_slice text; /* of a STRING */
    union {
        int64_t integer;
        double real;
        bool truth;
    } value;
} peri_attribute;

void peri_attributes_init(peri_attributes *attributes);
void peri_attributes_fini(peri_attributes *attributes);

/* Forgets all; keeps the memory. */
void peri_attributes_clear(peri_attributes *attributes);

/* For keys that are not there yet. */
void peri_attributes_add(peri_attributes *attributes,
                         const peri_attribute *one);
void peri_attributes_add_text(peri_attributes *attributes, const char *key,
                              peri_slice text);
void peri_attributes_add_int(peri_attributes *attributes, const char *key,
                             int64_t value);

/* Takes the place of what has the same key. */
void peri_attributes_set(peri_attributes *attributes,
                         const peri_attribute *one);

/* Takes the next one off the front of packed; false at its end. */
bool peri_attributes_next(peri_slice *packed, peri_attribute *out);

/* Appends text as valid UTF-8, at most max_bytes of it. */
int peri_utf8_append(peri_buf *out, peri_slice text, size_t max_bytes);

#endif
