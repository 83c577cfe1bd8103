/* Log redaction: which fields of a line are censored. */
#ifndef PERILUA_LOG_REDACT_H
#define PERILUA_LOG_REDACT_H

#include <stdbool.h>

#include "core/base/slice.h"

#define PERILUA_LOG_REDACT_MAX 64 /* paths: bits of a mask */
#define PERILUA_LOG_SEGMENTS_MAX 8

/* Paths whose values are censored: "req.headers.authorization", "*.password",
 * "cards[*].number". */
typedef struct perilua_redact {
    int count;
    struct {
        int length;
        char *segments[PERILUA_LOG_SEGMENTS_MAX];
    } paths[PERILUA_LOG_REDACT_MAX];
} perilua_redact;

/* 0, or PERI_EFORMAT or PERI_ELIMIT: too many, or too long. */
int perilua_redact_add(perilua_redact *redact, peri_slice path);
void perilua_redact_fini(perilua_redact *redact);

/* Whether the value at these names, from the line's fields on, is censored.
 * Names end with NULL. */
bool perilua_redact_covers(const perilua_redact *redact,
                           const char *const *names);

#endif
