/* Log: building one line. */
#include "core/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/json_text.h"

#define LINE_MAX_BYTES ((size_t)256 * 1024)
#define MESSAGE_MAX_BYTES 4096

int peri_log_level_parse(const char *name)
{
    static const struct {
        const char *name;
        int level;
    } levels[] = {{"trace", PERI_LOG_TRACE},  {"debug", PERI_LOG_DEBUG},
                  {"info", PERI_LOG_INFO},    {"warn", PERI_LOG_WARN},
                  {"error", PERI_LOG_ERROR},  {"fatal", PERI_LOG_FATAL},
                  {"silent", PERI_LOG_SILENT}};

    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (strcmp(levels[i].name, name) == 0) {
            return levels[i].level;
        }
    }
    return PERI_LOG_INFO;
}

bool peri_log_level_is_name(const char *name)
{
    return peri_log_level_parse(name) != PERI_LOG_INFO ||
           strcmp(name, "info") == 0;
}

void peri_logger_init(peri_logger *logger, int level, peri_log_write write,
                      void *data)
{
    *logger = (peri_logger){
        .level = level, .write = write, .data = data, .pid = (int)getpid()};
    if (gethostname(logger->hostname, sizeof logger->hostname - 1) < 0) {
        snprintf(logger->hostname, sizeof logger->hostname, "localhost");
    }
    for (char *c = logger->hostname; *c != '\0'; c++) {
        if (*c < ' ' || *c == '"' || *c == '\\' || *c == 127) {
            *c = '-';
        }
    }
    logger->identity_length = (uint8_t)snprintf(
        logger->identity, sizeof logger->identity,
        ",\"pid\":%d,\"hostname\":\"%s\"", logger->pid, logger->hostname);
}

static int append_field(peri_buf *line, const peri_log_field *field)
{
    if (peri_buf_append_byte(line, ',') < 0 ||
        peri_json_append_string(line, peri_slice_str(field->key)) < 0 ||
        peri_buf_append_byte(line, ':') < 0) {
        return PERI_ELIMIT;
    }
    switch (field->type) {
    case PERI_FIELD_INT:
        return peri_buf_printf(line, "%lld", (long long)field->number);
    case PERI_FIELD_JSON:
        return peri_buf_append_slice(line, field->text);
    case PERI_FIELD_STRING:
    default:
        return peri_json_append_string(line, field->text);
    }
}

void peri_log_fields(const peri_logger *logger, int level, const char *message,
                     const peri_log_field *fields, int count)
{
    peri_buf line;

    if (!peri_log_enabled(logger, level)) {
        return;
    }
    peri_buf_init(&line, LINE_MAX_BYTES);
    peri_buf_printf(
        &line, "{\"level\":%d,\"time\":%llu,\"pid\":%d,\"hostname\":\"%s\"",
        level, (unsigned long long)peri_clock_wall_ms(), logger->pid,
        logger->hostname);
    for (int i = 0; i < count; i++) {
        size_t length = line.length;

        if (append_field(&line, &fields[i]) < 0) {
            line.length = length; /* too big: the line goes without it */
        }
    }
    peri_buf_append_str(&line, ",\"msg\":");
    if (peri_json_append_string(&line, peri_slice_str(message)) < 0) {
        peri_buf_append_str(&line, "\"\"");
    }
    if (peri_buf_append_str(&line, "}\n") == 0) {
        logger->write(logger->data, peri_buf_slice(&line));
    }
    peri_buf_fini(&line);
}

void peri_log(const peri_logger *logger, int level, const char *format, ...)
{
    char message[MESSAGE_MAX_BYTES];
    va_list args;

    if (!peri_log_enabled(logger, level)) {
        return;
    }
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    peri_log_fields(logger, level, message, NULL, 0);
}
