/* Limits: see the header. */
#include "core/cluster/limits.h"

#include <string.h>

#include "core/base/alloc.h"

static uint32_t number(const peri_settings *settings, const char *key,
                       uint32_t fallback)
{
    int64_t value = peri_settings_int(settings, key, fallback);

    if (value < 0) {
        return fallback;
    }
    return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

/* A table, or true for all of its defaults. */
static void compression_read(peri_compression *out, const peri_settings *s)
{
    const char *names =
        peri_settings_str(s, "http.compression.encodings", "br gzip");
    const char *br = strstr(names, "br");
    const char *gzip = strstr(names, "gzip");
    uint32_t level = number(s, "http.compression.level", 5);

    *out = (peri_compression){.count = 0};
    if (!peri_settings_bool(s, "http.compression", true)) {
        return;
    }
    out->min_bytes = number(s, "http.compression.min_bytes", 1024);
    out->level = (uint8_t)(level < 1 ? 1 : level > 9 ? 9 : level);
    if (br != NULL) {
        out->codings[out->count++] = PERI_CODING_BR;
    }
    if (gzip != NULL) {
        out->codings[out->count++] = PERI_CODING_GZIP;
    }
    if (br != NULL && gzip != NULL && gzip < br) {
        out->codings[0] = PERI_CODING_GZIP;
        out->codings[1] = PERI_CODING_BR;
    }
}

void peri_limits_read(peri_http_limits *out, const peri_settings *settings)
{
    const peri_settings *s = settings;
    int64_t body_max;

    peri_http_limits_default(out);
    out->keepalive_timeout_ms =
        number(s, "http.keepalive_timeout", out->keepalive_timeout_ms);
    out->header_timeout_ms =
        number(s, "http.header_timeout", out->header_timeout_ms);
    out->body_timeout_ms = number(s, "http.body_timeout", out->body_timeout_ms);
    out->body_rate_min = number(s, "http.body_rate_min", out->body_rate_min);
    out->request_timeout_ms =
        number(s, "http.request_timeout", out->request_timeout_ms);
    out->header_max_bytes = number(s, "http.header_max", out->header_max_bytes);
    out->header_count_max =
        number(s, "http.header_count_max", out->header_count_max);
    out->url_max_bytes = number(s, "http.url_max", out->url_max_bytes);
    out->connections_max =
        number(s, "http.connections_max", out->connections_max);
    compression_read(&out->compression, s);
    body_max = peri_settings_int(s, "http.body_max", -1);
    if (body_max >= 0) {
        out->body_max_bytes = (uint64_t)body_max;
    }
}

char **peri_limits_list(const char *json)
{
    size_t length = strlen(json);
    size_t slots = length / 2 + 2; /* "" is the shortest member */
    char **list = peri_calloc(1, slots * sizeof(char *) + length + 1);
    char *text = (char *)(list + slots);
    size_t count = 0;

    memcpy(text, json, length);
    for (text = strchr(text, '"'); text != NULL; text = strchr(text, '"')) {
        char *end = strchr(++text, '"');

        if (end == NULL) {
            break;
        }
        *end = '\0';
        list[count++] = text;
        text = end + 1;
    }
    return list;
}
