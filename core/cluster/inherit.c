/* Inherit: writing and reading the variables. */
#include "core/cluster/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/err.h"

#define PREFIX "PERIGEE_WORKER_"
#define VARIABLES 13

static char *variable(const char *name, const char *value)
{
    size_t bytes = sizeof PREFIX + strlen(name) + strlen(value) + 1;
    char *text = peri_alloc(bytes);

    snprintf(text, bytes, PREFIX "%s=%s", name, value);
    return text;
}

static char *number_variable(const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return variable(name, text);
}

char **peri_inherit_environment(const peri_inherited *in, size_t *own_count)
{
    size_t count = 0;
    size_t kept = 0;
    char **list;
    char **at;

    while (environ[count] != NULL) {
        count++;
    }
    list = peri_calloc(count + VARIABLES + 1, sizeof(char *));
    for (size_t i = 0; i < count; i++) {
        if (strncmp(environ[i], PREFIX, sizeof PREFIX - 1) != 0) {
            list[kept++] = environ[i];
        }
    }
    at = list + kept;
    *at++ = number_variable("SEGMENT", PERI_INHERIT_SEGMENT);
    *at++ = number_variable("CHANNEL", PERI_INHERIT_CHANNEL);
    *at++ = number_variable("BUNDLE", PERI_INHERIT_BUNDLE);
    *at++ = number_variable("LISTENER", PERI_INHERIT_LISTENER);
    *at++ = number_variable("RECORD", (uint64_t)in->record);
    *at++ = number_variable("NUMBER", (uint64_t)in->number);
    *at++ = number_variable("COUNT", (uint64_t)in->workers);
    *at++ = number_variable("NO_JOBS", (uint64_t)in->no_jobs);
    *at++ = number_variable("MASTER", (uint64_t)in->master_pid);
    *at++ = number_variable("GENERATION", in->generation);
    *at++ = variable("DIR", in->dir);
    *at++ = variable("ENV", in->env);
    *at++ = variable("LOGS", in->logs);
    *own_count = kept;
    return list;
}

/* False when it is absent or not a number. */
static bool take_number(const char *name, uint64_t max, uint64_t *out)
{
    char key[64];
    const char *text;
    char *end;

    snprintf(key, sizeof key, PREFIX "%s", name);
    text = getenv(key);
    if (text == NULL || *text < '0' || *text > '9') {
        return false;
    }
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (*end != '\0' || errno != 0 || *out > max) {
        return false;
    }
    unsetenv(key);
    return true;
}

static bool take_int(const char *name, int *out)
{
    uint64_t value;

    if (!take_number(name, INT32_MAX, &value)) {
        return false;
    }
    *out = (int)value;
    return true;
}

static bool take_fd(const char *name, int *out)
{
    /* Not for the programs that the application may start. */
    return take_int(name, out) && fcntl(*out, F_SETFD, FD_CLOEXEC) == 0;
}

/* *out is the caller's. */
static bool take_string(const char *name, char **out)
{
    char key[64];
    const char *text;

    snprintf(key, sizeof key, PREFIX "%s", name);
    text = getenv(key);
    if (text == NULL) {
        return false;
    }
    *out = peri_strdup(text);
    unsetenv(key);
    return true;
}

static bool take_text(const char *name, char *out, size_t out_bytes)
{
    char *text;
    bool fits;

    if (!take_string(name, &text)) {
        return false;
    }
    fits = strlen(text) < out_bytes;
    if (fits) {
        memcpy(out, text, strlen(text) + 1);
    }
    free(text);
    return fits;
}

int peri_inherit_read(peri_inherited *out)
{
    bool ok = take_fd("SEGMENT", &out->segment_fd) &&
              take_fd("CHANNEL", &out->channel_fd) &&
              take_fd("BUNDLE", &out->bundle_fd) &&
              take_fd("LISTENER", &out->listener_fd) &&
              take_int("RECORD", &out->record) &&
              take_int("NUMBER", &out->number) &&
              take_int("COUNT", &out->workers) &&
              take_int("NO_JOBS", &out->no_jobs) &&
              take_int("MASTER", &out->master_pid) &&
              take_number("GENERATION", UINT64_MAX, &out->generation) &&
              take_text("DIR", out->dir, sizeof out->dir) &&
              take_text("ENV", out->env, sizeof out->env) &&
              take_string("LOGS", &out->logs);

    return ok ? 0 : PERI_EFORMAT;
}
