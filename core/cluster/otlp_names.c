/* OTLP names: the tables. */
#include "core/cluster/otlp_names.h"

#include <stdlib.h>
#include <string.h>

#define LABELS_MAX ((size_t)16384) /* bytes of a series' labels */

typedef struct convention {
    const char *ours;
    const char *theirs;
    const char *counts; /* the unit of an up-down counter; NULL: it is none */
} convention;

static const convention metrics[] = {
    {"http_server_request_duration_seconds", "http.server.request.duration",
     NULL},
    {"http_server_active_requests", "http.server.active_requests", "{request}"},
    {"http_client_request_duration_seconds", "http.client.request.duration",
     NULL},
    {"db_client_operation_duration_seconds", "db.client.operation.duration",
     NULL},
    {"messaging_process_duration_seconds", "messaging.process.duration", NULL},
    {"http_client_open_connections", "http.client.open_connections",
     "{connection}"},
    {"db_client_open_connections", "db.client.connection.count",
     "{connection}"},
    {"db_client_connection_pending_requests",
     "db.client.connection.pending_requests", "{request}"},
};

typedef struct label {
    const char *ours;
    const char *theirs;
    bool number;
} label;

static const label labels_of[] = {
    {"http_request_method", "http.request.method", false},
    {"http_route", "http.route", false},
    {"http_response_status_code", "http.response.status_code", true},
    {"url_scheme", "url.scheme", false},
    {"error_type", "error.type", false},
    {"server_address", "server.address", false},
    {"server_port", "server.port", true},
    {"db_system_name", "db.system.name", false},
    {"db_namespace", "db.namespace", false},
    {"db_operation_name", "db.operation.name", false},
    {"http_connection_state", "http.connection.state", false},
    {"db_client_connection_pool_name", "db.client.connection.pool.name", false},
    {"db_client_connection_state", "db.client.connection.state", false},
    {"messaging_system", "messaging.system", false},
    {"messaging_destination_name", "messaging.destination.name", false},
    {"messaging_operation_name", "messaging.operation.name", false},
};

static bool ends(const char *name, const char *suffix)
{
    size_t length = strlen(name);
    size_t n = strlen(suffix);

    return length > n && strcmp(name + length - n, suffix) == 0;
}

static peri_slice unit_of(const char *name)
{
    return ends(name, "_seconds") || ends(name, "_seconds_total")
               ? PERI_SLICE("s")
           : ends(name, "_bytes") || ends(name, "_bytes_total")
               ? PERI_SLICE("By")
               : PERI_SLICE("");
}

bool peri_otlp_name_metric(peri_otlp_metric *metric, const char *name)
{
    metric->unit = unit_of(name);
    metric->name = peri_slice_str(name);
    metric->up_down = false;
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
        if (strcmp(name, metrics[i].ours) == 0) {
            metric->name = peri_slice_str(metrics[i].theirs);
            metric->up_down = metrics[i].counts != NULL;
            if (metric->up_down) {
                metric->unit = peri_slice_str(metrics[i].counts);
            }
            return true;
        }
    }
    return false;
}

static void add(peri_attributes *out, peri_slice name, peri_slice value,
                bool conventional)
{
    peri_attribute one = {
        .type = PERI_ATTRIBUTE_STRING, .key = name, .text = value};

    for (size_t i = 0;
         conventional && i < sizeof labels_of / sizeof labels_of[0]; i++) {
        if (peri_slice_equal(name, peri_slice_str(labels_of[i].ours))) {
            one.key = peri_slice_str(labels_of[i].theirs);
            one.type = labels_of[i].number ? PERI_ATTRIBUTE_INT : one.type;
        }
    }
    if (one.type == PERI_ATTRIBUTE_INT) {
        char digits[24] = {0};

        memcpy(digits, value.data,
               value.length < sizeof digits - 1 ? value.length
                                                : sizeof digits - 1);
        one.value.integer = strtoll(digits, NULL, 10);
    }
    peri_attributes_add(out, &one);
}

void peri_otlp_attributes(peri_slice labels, bool conventional,
                          peri_attributes *out)
{
    char text[LABELS_MAX];
    peri_slice name;
    size_t length;

    peri_attributes_clear(out);
    if (labels.length > sizeof text) {
        return;
    }
    while (peri_expo_next_label(&labels, &name, text, &length)) {
        if (length > 0) {
            add(out, name, peri_slice_of(text, length), conventional);
        }
    }
}
