/* Log: pino-shaped JSON lines, built here, written by whoever owns the sink.
 *
 * A logger is a level and a sink; no globals. Lines are complete, end in a
 * line feed, and are handed over in one call. */
#ifndef PERI_BASE_LOG_H
#define PERI_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/slice.h"

typedef enum peri_log_level {
    PERI_LOG_TRACE = 10,
    PERI_LOG_DEBUG = 20,
    PERI_LOG_INFO = 30,
    PERI_LOG_WARN = 40,
    PERI_LOG_ERROR = 50,
    PERI_LOG_FATAL = 60,
    PERI_LOG_SILENT = 100
} peri_log_level;

/* "info" to 30, "silent" to 100; what is no level's name to PERI_LOG_INFO. */
int peri_log_level_parse(const char *name);
bool peri_log_level_is_name(const char *name);

/* Takes one whole line (borrowed during the call). Must not block. */
typedef void (*peri_log_write)(void *data, peri_slice line);

typedef struct peri_logger {
    int level; /* lines below it are dropped */
    peri_log_write write;
    void *data;
    char hostname[65]; /* JSON-safe */
    int pid;
    /* ,"pid":1,"hostname":"h" as it is in every line */
    char identity[112];
    uint8_t identity_length;
} peri_logger;

/* Fills in who logs. */
void peri_logger_init(peri_logger *logger, int level, peri_log_write write,
                      void *data);

static inline bool peri_log_enabled(const peri_logger *logger, int level)
{
    return logger != NULL && level >= logger->level;
}

/* One field of a line. */
typedef struct peri_log_field {
    const char *key;
    enum { PERI_FIELD_STRING, PERI_FIELD_INT, PERI_FIELD_JSON } type;
    peri_slice text; /* for STRING (escaped by us) and JSON (taken as it is) */
    int64_t number;  /* for INT */
} peri_log_field;

#define PERI_FIELD_STR(k, s)                                                   \
    ((peri_log_field){                                                         \
        .key = (k), .type = PERI_FIELD_STRING, .text = peri_slice_str(s)})
#define PERI_FIELD_NUM(k, n)                                                   \
    ((peri_log_field){                                                         \
        .key = (k), .type = PERI_FIELD_INT, .number = (int64_t)(n)})

/* fields may be NULL when count is 0. */
void peri_log_fields(const peri_logger *logger, int level, const char *message,
                     const peri_log_field *fields, int count);

/* A message without fields, as printf. */
__attribute__((format(printf, 3, 4))) void
peri_log(const peri_logger *logger, int level, const char *format, ...);

#endif
