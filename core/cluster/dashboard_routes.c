/* Dashboard routes: the series of a route (its statuses and schemes) added up,
 * as counts that only grow: who looks makes rates and quantiles of two of
 * them. */
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/json_text.h"
#include "core/cluster/dashboard.h"

#define ROUTES_MAX 256 /* the rest is one */
#define METHOD_BYTES 16
#define ROUTE_BYTES 256

typedef struct route_row {
    char method[METHOD_BYTES];
    char route[ROUTE_BYTES];
    size_t method_length;
    size_t route_length;
    double sum;
    double total;
    double client_errors; /* 4xx */
    double server_errors; /* 5xx, or cut off */
    double aborted;
    double counts[PERI_CELLS_BOUNDS_MAX + 1];
} route_row;

struct peri_routes {
    size_t count;
    size_t bound_count;
    double bounds[PERI_CELLS_BOUNDS_MAX];
    route_row row[ROUTES_MAX];
};

peri_routes *peri_routes_create(void)
{
    return peri_calloc(1, sizeof(peri_routes));
}

void peri_routes_destroy(peri_routes *routes)
{
    free(routes);
}

typedef struct route_labels {
    char method[METHOD_BYTES];
    char route[ROUTE_BYTES];
    size_t method_length;
    size_t route_length;
    char status; /* its first digit; 0: none */
    bool aborted;
    bool cut;
} route_labels;

static size_t put(char *out, size_t room, const char *text, size_t length)
{
    length = length < room ? length : room;
    memcpy(out, text, length);
    return length;
}

static void read_labels(peri_slice labels, route_labels *out)
{
    char value[3 * PERI_CELLS_VALUE_MAX + 2];
    peri_slice name;
    size_t length;

    *out = (route_labels){.method_length = 0};
    if (labels.length > sizeof value * PERI_CELLS_LABELS_MAX) {
        return;
    }
    while (peri_expo_next_label(&labels, &name, value, &length)) {
        if (peri_slice_equal(name, PERI_SLICE("http_request_method"))) {
            out->method_length =
                put(out->method, sizeof out->method, value, length);
        } else if (peri_slice_equal(name, PERI_SLICE("http_route"))) {
            out->route_length =
                put(out->route, sizeof out->route, value, length);
        } else if (peri_slice_equal(name,
                                    PERI_SLICE("http_response_status_code"))) {
            out->status = length != 0 ? value[0] : '\0';
        } else if (peri_slice_equal(name, PERI_SLICE("error_type"))) {
            out->aborted = peri_slice_equal(peri_slice_of(value, length),
                                            PERI_SLICE("aborted"));
            out->cut = peri_slice_equal(peri_slice_of(value, length),
                                        PERI_SLICE("cut_off"));
        } else if (peri_slice_equal(name, PERI_SLICE("overflow"))) {
            out->route_length =
                put(out->route, sizeof out->route, "(more series)",
                    sizeof "(more series)" - 1);
        }
    }
}

static route_row *row_of(peri_routes *routes, const route_labels *labels)
{
    route_row *row;

    for (size_t i = 0; i < routes->count; i++) {
        row = &routes->row[i];
        if (row->route_length == labels->route_length &&
            row->method_length == labels->method_length &&
            memcmp(row->route, labels->route, row->route_length) == 0 &&
            memcmp(row->method, labels->method, row->method_length) == 0) {
            return row;
        }
    }
    if (routes->count == ROUTES_MAX) {
        return &routes->row[ROUTES_MAX - 1];
    }
    row = &routes->row[routes->count++];
    if (routes->count == ROUTES_MAX) {
        row->route_length = put(row->route, sizeof row->route, "(other routes)",
                                sizeof "(other routes)" - 1);
        return row;
    }
    memcpy(row->method, labels->method, labels->method_length);
    memcpy(row->route, labels->route, labels->route_length);
    row->method_length = labels->method_length;
    row->route_length = labels->route_length;
    return row;
}

void peri_routes_add(peri_routes *routes, peri_slice labels,
                     const double *bounds, const double *counts, size_t count,
                     double sum)
{
    route_labels read;
    route_row *row;
    double total = 0;

    read_labels(labels, &read);
    row = row_of(routes, &read);
    count = count < PERI_CELLS_BOUNDS_MAX ? count : PERI_CELLS_BOUNDS_MAX;
    routes->bound_count = count;
    memcpy(routes->bounds, bounds, count * sizeof bounds[0]);
    for (size_t i = 0; i <= count; i++) {
        row->counts[i] += counts[i];
        total += counts[i];
    }
    row->sum += sum;
    row->total += total;
    row->client_errors += read.status == '4' && !read.aborted ? total : 0;
    row->server_errors += read.status == '5' || read.cut ? total : 0;
    row->aborted += read.aborted ? total : 0;
}

static void row_json(const route_row *row, size_t bound_count, peri_buf *out)
{
    peri_buf_append_str(out, "{\"method\":");
    peri_json_append_string(out,
                            peri_slice_of(row->method, row->method_length));
    peri_buf_append_str(out, ",\"route\":");
    peri_json_append_string(out, peri_slice_of(row->route, row->route_length));
    peri_buf_printf(out,
                    ",\"total\":%.0f,\"sum\":%.6f,\"client_errors\":%.0f,"
                    "\"server_errors\":%.0f,\"aborted\":%.0f,\"counts\":[",
                    row->total, row->sum, row->client_errors,
                    row->server_errors, row->aborted);
    for (size_t i = 0; i <= bound_count; i++) {
        peri_buf_printf(out, "%s%.0f", i > 0 ? "," : "", row->counts[i]);
    }
    peri_buf_append_str(out, "]}");
}

void peri_routes_json(const peri_routes *routes, peri_buf *out)
{
    peri_buf_append_str(out, "\"bounds\":[");
    for (size_t i = 0; i < routes->bound_count; i++) {
        peri_buf_printf(out, "%s%.9g", i > 0 ? "," : "", routes->bounds[i]);
    }
    peri_buf_append_str(out, "],\"routes\":[");
    for (size_t i = 0; i < routes->count; i++) {
        peri_buf_append_str(out, i > 0 ? "," : "");
        row_json(&routes->row[i], routes->bound_count, out);
    }
    peri_buf_append_str(out, "],");
}
