/* Exporter: where it sends to, as an endpoint and the configuration say. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/http/exporter_internal.h"

#define DEFAULT_ENDPOINT "http://localhost:4318/v1/"
#define KEY_MAX 96

/* ---- the endpoint ---- */

static int read_port(peri_exporter_target *t, const char *text, size_t length)
{
    unsigned long port = 0;

    if (length == 0 || length > 5) {
        return PERI_EFORMAT;
    }
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return PERI_EFORMAT;
        }
        port = port * 10 + (unsigned long)(text[i] - '0');
    }
    t->port = (uint16_t)port;
    return port >= 1 && port <= 65535 ? 0 : PERI_EFORMAT;
}

/* The path and the query; never empty. Caller owns. */
static char *path_of(const char *text)
{
    size_t length = strcspn(text, "#");
    char *path = peri_alloc(length + 2);

    snprintf(path, length + 2, "%s%.*s", *text == '/' ? "" : "/", (int)length,
             text);
    return path;
}

static bool read_endpoint(peri_exporter_target *t, const char *url)
{
    const char *at = NULL;
    const char *path;
    const char *colon;
    const char *end;

    t->tls = strncasecmp(url, "https://", 8) == 0;
    if (!t->tls && strncasecmp(url, "http://", 7) != 0) {
        return false;
    }
    at = url + (t->tls ? 8 : 7);
    path = at + strcspn(at, "/?#");
    t->authority = peri_strndup(at, (size_t)(path - at));
    t->path = path_of(path);
    t->port = t->tls ? 443 : 80;
    if (*at == '[') {
        end = memchr(at, ']', (size_t)(path - at));
        if (end == NULL) {
            return false;
        }
        t->host = peri_strndup(at + 1, (size_t)(end - at - 1));
        colon = end + 1 < path ? end + 1 : NULL;
    } else {
        colon = memchr(at, ':', (size_t)(path - at));
        end = colon != NULL ? colon : path;
        t->host = peri_strndup(at, (size_t)(end - at));
    }
    return t->host[0] != '\0' && strchr(t->authority, '@') == NULL &&
           (colon == NULL ||
            (*colon == ':' &&
             read_port(t, colon + 1, (size_t)(path - colon - 1)) == 0));
}

/* ---- fields ---- */

static char *copy_slice(peri_slice text)
{
    return peri_strndup(text.data != NULL ? text.data : "", text.length);
}

static void add_field(peri_exporter_target *t, peri_slice name,
                      peri_slice value)
{
    if (t->field_count < sizeof t->fields / sizeof t->fields[0]) {
        t->fields[t->field_count++] = (peri_field){
            {copy_slice(name), name.length}, {copy_slice(value), value.length}};
    }
}

static void set_fields(peri_exporter_target *t,
                       const peri_exporter_options *options)
{
    add_field(t, PERI_SLICE("host"), peri_slice_str(t->authority));
    add_field(t, PERI_SLICE("content-type"),
              peri_otlp_content_type(options->format));
    add_field(t, PERI_SLICE("user-agent"),
              PERI_SLICE("OTel-OTLP-Exporter-Perigee/" PERI_VERSION));
    if (options->gzip) {
        add_field(t, PERI_SLICE("content-encoding"), PERI_SLICE("gzip"));
    }
    for (size_t i = 0; i < options->field_count && i < PERI_EXPORTER_FIELDS_MAX;
         i++) {
        add_field(t, options->fields[i].name, options->fields[i].value);
    }
}

const char *peri_exporter_target_init(peri_exporter_target *t,
                                      const peri_exporter_options *options)
{
    const char *parts[] = {options->ca, options->cert, options->key};

    *t = (peri_exporter_target){.field_count = 0};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        t->tls_parts[i] = peri_strdup(parts[i] != NULL ? parts[i] : "");
    }
    if (!read_endpoint(t, options->endpoint)) {
        return "no http or https URL";
    }
    set_fields(t, options);
    return NULL;
}

void peri_exporter_target_fini(peri_exporter_target *t)
{
    for (size_t i = 0; i < t->field_count; i++) {
        free((char *)(uintptr_t)t->fields[i].name.data);
        free((char *)(uintptr_t)t->fields[i].value.data);
    }
    for (size_t i = 0; i < sizeof t->tls_parts / sizeof t->tls_parts[0]; i++) {
        free(t->tls_parts[i]);
    }
    free(t->host);
    free(t->path);
    free(t->authority);
}

/* ---- the configuration ---- */

typedef struct reader {
    const peri_settings *settings;
    const char *section;
    size_t prefix_length; /* of "SECTION.headers." */
    peri_field fields[PERI_EXPORTER_FIELDS_MAX];
    size_t field_count;
} reader;

static void join_key(char out[KEY_MAX], const reader *r, const char *name)
{
    snprintf(out, KEY_MAX, "%s.%s", r->section, name);
}

static const char *text(const reader *r, const char *name, const char *fallback)
{
    char key[KEY_MAX];

    join_key(key, r, name);
    return peri_settings_str(r->settings, key, fallback);
}

static uint32_t number(const reader *r, const char *name, int64_t fallback)
{
    char key[KEY_MAX];

    join_key(key, r, name);
    return (uint32_t)peri_settings_int(r->settings, key, fallback);
}

static void add_header(void *data, const char *key, const char *value)
{
    reader *r = data;

    if (r->field_count < PERI_EXPORTER_FIELDS_MAX) {
        r->fields[r->field_count++] = (peri_field){
            peri_slice_str(key + r->prefix_length), peri_slice_str(value)};
    }
}

static void set_text(peri_attributes *attributes, const char *key,
                     const char *value)
{
    const peri_attribute one = {.type = PERI_ATTRIBUTE_STRING,
                                .key = peri_slice_str(key),
                                .text = peri_slice_str(value)};

    peri_attributes_set(attributes, &one);
}

static void add_resource(void *data, const char *key, const char *value)
{
    set_text(data, key + strlen("trace.resource."), value);
}

static void fill_resource(peri_attributes *resource,
                          const peri_settings *settings,
                          const peri_logger *logger)
{
    set_text(resource, "telemetry.sdk.name", "perigee");
    set_text(resource, "telemetry.sdk.language", "lua");
    set_text(resource, "telemetry.sdk.version", PERI_VERSION);
    set_text(resource, "host.name", logger->hostname);
    peri_attributes_add_int(resource, "process.pid", logger->pid);
    peri_settings_each(settings, "trace.resource.", add_resource, resource);
    /* A name of its own stands over one among the resource's attributes. */
    if (peri_settings_str(settings, "trace.resource.service.name", NULL) ==
            NULL ||
        peri_settings_bool(settings, "explicit.trace.service_name", false)) {
        set_text(resource, "service.name",
                 peri_settings_str(settings, "trace.service_name",
                                   "unknown_service:perigee"));
    }
}

peri_exporter *peri_exporter_configured(uv_loop_t *loop, peri_client *client,
                                        const peri_logger *logger,
                                        const peri_settings *settings,
                                        const char *section,
                                        peri_otlp_signal signal,
                                        const peri_exporter_counts *counts)
{
    reader r = {.settings = settings, .section = section};
    peri_attributes resource;
    char endpoint[64];
    char headers[KEY_MAX];
    const char *why = NULL;
    peri_exporter *exporter;
    peri_exporter_options options = {
        .signal = signal,
        .fields = r.fields,
        .resource = &resource,
        .ca = text(&r, "certificate", NULL),
        .cert = text(&r, "client_certificate", NULL),
        .key = text(&r, "client_key", NULL),
        .gzip = strcmp(text(&r, "compression", ""), "gzip") == 0,
        .timeout_ms = number(&r, "timeout", 10000),
        .delay_ms = number(&r, "batch_delay", 5000),
        .batch_max = number(&r, "batch_max", 512),
        .queue_max = number(&r, "queue_max", 2048),
    };

    snprintf(endpoint, sizeof endpoint, DEFAULT_ENDPOINT "%s",
             peri_otlp_signal_name(signal));
    options.endpoint = text(&r, "endpoint", endpoint);
    options.format = strcmp(text(&r, "protocol", ""), "http/json") == 0
                         ? PERI_OTLP_JSON
                         : PERI_OTLP_PROTOBUF;
    join_key(headers, &r, "headers.");
    r.prefix_length = strlen(headers);
    peri_settings_each(settings, headers, add_header, &r);
    options.field_count = r.field_count;
    peri_attributes_init(&resource);
    fill_resource(&resource, settings, logger);
    exporter =
        peri_exporter_create(loop, client, logger, &options, counts, &why);
    peri_attributes_fini(&resource);
    if (exporter == NULL) {
        peri_log(logger, PERI_LOG_WARN, "%s are not exported: %s.endpoint: %s",
                 peri_otlp_signal_name(signal), section, why);
    }
    return exporter;
}
