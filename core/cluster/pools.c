/* Pools: the gauges that workers keep of their pools of connections (what is
 * written by bindings/pools.c), by pool, for `perigee status`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/json_text.h"
#include "core/cluster/master_state.h"

#define ROWS_MAX 200
#define KIND_BYTES 24
#define NAME_BYTES (PERI_CELLS_VALUE_MAX + 8)

typedef struct row {
    char kind[KIND_BYTES]; /* http, https, redis, sqlite */
    char name[NAME_BYTES];
    double used;
    double idle;
    double waiting;
} row;

typedef struct table {
    row *rows;
    size_t count;
    bool waiting; /* the family that is being read */
} table;

static void put(char *out, size_t out_bytes, const char *text, size_t length)
{
    snprintf(out, out_bytes, "%.*s", (int)length, text);
}

/* What a series counts of which pool. True: of its connections, those in use.
 */
static bool read_labels(peri_slice labels, row *out)
{
    char value[3 * PERI_CELLS_VALUE_MAX + 2];
    char port[8] = "";
    bool used = true;
    peri_slice label;
    size_t length;

    put(out->kind, sizeof out->kind, "any", 3);
    put(out->name, sizeof out->name, "overflow", 8);
    while (peri_expo_next_label(&labels, &label, value, &length)) {
        if (peri_slice_equal(label, PERI_SLICE("url_scheme")) ||
            peri_slice_equal(label, PERI_SLICE("db_system_name"))) {
            put(out->kind, sizeof out->kind, value, length);
        } else if (peri_slice_equal(label, PERI_SLICE("server_port"))) {
            put(port, sizeof port, value, length);
        } else if (peri_slice_equal(label, PERI_SLICE("server_address")) ||
                   peri_slice_equal(
                       label, PERI_SLICE("db_client_connection_pool_name"))) {
            put(out->name, PERI_CELLS_VALUE_MAX + 1, value, length);
        } else { /* the state */
            used = !peri_slice_equal(peri_slice_of(value, length),
                                     PERI_SLICE("idle"));
        }
    }
    if (port[0] != '\0') {
        size_t at = strlen(out->name);

        snprintf(out->name + at, sizeof out->name - at, ":%s", port);
    }
    return used;
}

static row *find(table *t, const row *wanted)
{
    for (size_t i = 0; i < t->count; i++) {
        if (strcmp(t->rows[i].kind, wanted->kind) == 0 &&
            strcmp(t->rows[i].name, wanted->name) == 0) {
            return &t->rows[i];
        }
    }
    if (t->count == ROWS_MAX) {
        return NULL;
    }
    t->rows[t->count] = *wanted;
    return &t->rows[t->count++];
}

static void on_series(void *data, peri_slice labels, double value)
{
    table *t = data;
    row wanted = {.used = 0};
    bool used = read_labels(labels, &wanted);
    bool http = strncmp(wanted.kind, "http", 4) == 0;
    row *at;

    if (value == 0 && http) {
        return; /* an origin that was called once; databases are few */
    }
    at = find(t, &wanted);
    if (at == NULL) {
        return;
    }
    if (t->waiting) {
        at->waiting += value;
    } else if (used) {
        at->used += value;
    } else {
        at->idle += value;
    }
}

static void rows_json(const table *t, peri_buf *out)
{
    peri_buf_append_str(out, "\"pools\":[");
    for (size_t i = 0; i < t->count; i++) {
        const row *at = &t->rows[i];

        peri_buf_printf(out, "%s{\"kind\":", i > 0 ? "," : "");
        peri_json_append_string(out, peri_slice_str(at->kind));
        peri_buf_append_str(out, ",\"name\":");
        peri_json_append_string(out, peri_slice_str(at->name));
        peri_buf_printf(out, ",\"used\":%.0f,\"idle\":%.0f,\"waiting\":%.0f}",
                        at->used, at->idle, at->waiting);
    }
    peri_buf_append_str(out, "],");
}

void peri_pools_json(const peri_master *master, peri_buf *out)
{
    static const struct {
        const char *name;
        bool waiting;
    } families[] = {
        {"http_client_open_connections", false},
        {"perigee_http_client_pending_requests", true},
        {"db_client_open_connections", false},
        {"db_client_connection_pending_requests", true},
    };
    const peri_cells_view view = {master->generation, peri_metrics_is_alive,
                                  master};
    table t = {.rows = peri_calloc(ROWS_MAX, sizeof(row))};

    for (size_t i = 0;
         master->cells != NULL && i < sizeof families / sizeof families[0];
         i++) {
        t.waiting = families[i].waiting;
        peri_cells_each(master->cells, &view, families[i].name, on_series, &t);
    }
    rows_json(&t, out);
    free(t.rows);
}
