/* Admin: health and metrics, served by the master on a listener of its own. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/base/expo_proto.h"
#include "core/cluster/master_state.h"
#include "core/shm/health.h"

#define PORT_DEFAULT 9464
#define CONNECTIONS_MAX 256
#define BACKLOG 64
#define METRICS_MAX ((size_t)256 << 20)
#define TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define OPENMETRICS_TYPE                                                       \
    "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define PROTOBUF_TYPE                                                          \
    "application/vnd.google.protobuf; "                                        \
    "proto=io.prometheus.client.MetricFamily; encoding=delimited"
#define READY_MAX_BYTES ((size_t)64 << 10)
#define BODY_MAX_BYTES 4096
#define SEND_BUFFER_BYTES (256 << 10)

struct peri_admin {
    peri_master *master;
    peri_http_server *server;
    peri_http_app app;
    peri_address address;
};

/* ---- health ---- */

static size_t run_checks(const peri_master *master, peri_health_check *out)
{
    int serving = peri_seats_serving(master);
    peri_health *health = peri_health_open(master->regions);
    bool running = master->phase == PERI_MASTER_RUNNING;
    size_t count = 2;

    out[0] =
        (peri_health_check){serving > 0 ? PERI_HEALTH_PASS : PERI_HEALTH_FAIL,
                            "workers", "", false};
    snprintf(out[0].detail, sizeof out[0].detail, "%d of %d serve", serving,
             master->seat_count);
    out[1] = (peri_health_check){running ? PERI_HEALTH_PASS : PERI_HEALTH_FAIL,
                                 "running", "", false};
    if (running) {
        snprintf(out[1].detail, sizeof out[1].detail, "generation %llu serves",
                 (unsigned long long)master->generation);
    } else {
        snprintf(out[1].detail, sizeof out[1].detail, "%s",
                 master->phase == PERI_MASTER_STARTING ? "starting"
                                                       : "stopping");
    }
    if (health != NULL) {
        count += peri_health_read(health, out + 2, PERI_HEALTH_MAX);
        peri_health_close(health);
    }
    return count;
}

static void answer_text(peri_exchange *ex, int status, peri_slice text)
{
    peri_field no_store = {PERI_SLICE("cache-control"), PERI_SLICE("no-store")};

    peri_exchange_answer(ex, status, PERI_SLICE("text/plain; charset=utf-8"),
                         &no_store, 1, text);
}

static bool is_verbose(const peri_exchange *ex)
{
    return peri_health_is_verbose(peri_exchange_text(ex, ex->query));
}

static void answer_checks(peri_exchange *ex, const char *asked,
                          const peri_health_check *checks, size_t count)
{
    peri_health_status worst = peri_health_worst(checks, count);
    peri_buf text;

    peri_buf_init(&text, READY_MAX_BYTES);
    if (is_verbose(ex) || worst == PERI_HEALTH_FAIL) {
        peri_health_write(checks, count, asked, &text);
    } else {
        peri_buf_append_str(&text,
                            worst == PERI_HEALTH_WARN ? "warn\n" : "ok\n");
    }
    answer_text(ex, worst == PERI_HEALTH_FAIL ? 503 : 200,
                peri_buf_slice(&text));
    peri_buf_fini(&text);
}

static void answer_ready(const peri_master *master, peri_exchange *ex)
{
    peri_health_check checks[PERI_HEALTH_MAX + 2];
    size_t count = run_checks(master, checks);

    answer_checks(ex, "readyz", checks, count);
}

static void answer_alive(peri_exchange *ex)
{
    const peri_health_check alive = {PERI_HEALTH_PASS, "master", "answers",
                                     false};

    answer_checks(ex, "livez", &alive, 1);
}

/* Once it has served, it has started: stays so. */
static void answer_started(const peri_master *master, peri_exchange *ex)
{
    const peri_health_check started =
        master->phase != PERI_MASTER_STARTING
            ? (peri_health_check){PERI_HEALTH_PASS, "started", "has served",
                                  false}
            : (peri_health_check){PERI_HEALTH_FAIL, "started", "starting",
                                  false};

    answer_checks(ex, "startupz", &started, 1);
}

static void answer_metrics(peri_master *master, peri_exchange *ex)
{
    const peri_field vary = {PERI_SLICE("vary"), PERI_SLICE("accept")};
    static const peri_slice types[] = {
        [PERI_FORM_TEXT] = {TEXT_TYPE, sizeof TEXT_TYPE - 1},
        [PERI_FORM_OPENMETRICS] = {OPENMETRICS_TYPE,
                                   sizeof OPENMETRICS_TYPE - 1},
        [PERI_FORM_PROTOBUF] = {PROTOBUF_TYPE, sizeof PROTOBUF_TYPE - 1},
    };
    peri_metrics_form form =
        peri_accepts_metrics(peri_exchange_field(ex, PERI_SLICE("accept")));
    peri_expo_proto proto;
    peri_expo expo;
    peri_buf text;

    if (!peri_settings_bool(master->settings, "metrics.enabled", true)) {
        peri_exchange_problem(ex, 404, PERI_SLICE("metrics.enabled is false"),
                              NULL, 0);
        return;
    }
    peri_buf_init(&text, METRICS_MAX);
    if (form == PERI_FORM_PROTOBUF) {
        peri_expo_proto_init(&proto, &expo, &text);
    } else {
        peri_expo_init(&expo, &text, form == PERI_FORM_OPENMETRICS);
    }
    peri_metrics_write(master, &expo);
    peri_exchange_answer(ex, 200, types[form], &vary, 1, peri_buf_slice(&text));
    peri_buf_fini(&text);
}

static void on_request(void *data, peri_exchange *ex)
{
    peri_master *master = data;
    peri_slice path = peri_exchange_text(ex, ex->path);
    peri_field allow = {PERI_SLICE("allow"), PERI_SLICE("GET, HEAD")};

    if (peri_dashboard_answer(master, ex, path)) {
        return;
    }
    if (ex->method != PERI_METHOD_GET && ex->method != PERI_METHOD_HEAD) {
        peri_exchange_problem(ex, 405, PERI_SLICE(""), &allow, 1);
    } else if (peri_slice_equal(path, PERI_SLICE("/metrics"))) {
        answer_metrics(master, ex);
    } else if (peri_slice_equal(path, PERI_SLICE("/livez"))) {
        answer_alive(ex);
    } else if (peri_slice_equal(path, PERI_SLICE("/readyz"))) {
        answer_ready(master, ex);
    } else if (peri_slice_equal(path, PERI_SLICE("/startupz"))) {
        answer_started(master, ex);
    } else {
        peri_exchange_problem(ex, 404, PERI_SLICE(""), NULL, 0);
    }
}

static void on_gone(void *data, peri_exchange *ex)
{
    peri_dashboard_gone(data, ex);
}

/* ---- coming and going ---- */

int peri_admin_port(const peri_master *master)
{
    return master->admin != NULL ? master->admin->address.port : 0;
}

static int bind_admin(peri_master *master, peri_address *address, int *out_fd,
                      char *why, size_t why_bytes)
{
    const char *host =
        peri_settings_str(master->settings, "admin.host", "127.0.0.1");
    int port =
        (int)peri_settings_int(master->settings, "admin.port", PORT_DEFAULT);
    int rc = peri_address_resolve(host, port, address, why, why_bytes);

    if (rc == 0) {
        rc = peri_listen_probe(address, why, why_bytes);
    }
    if (rc < 0) {
        return rc;
    }
    rc = peri_listen_bind(address, false, out_fd);
    if (rc == 0 && listen(*out_fd, BACKLOG) < 0) {
        rc = -errno;
        close(*out_fd);
    }
    if (rc < 0) {
        snprintf(why, why_bytes, "%s port %d: %s", host, port,
                 peri_err_text(rc));
    }
    return rc;
}

/* What the kernel keeps for a viewer that reads nothing. Connections inherit
 * it. */
static void bound_memory(int fd)
{
    int bytes = SEND_BUFFER_BYTES;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

static void serve(peri_master *master, const peri_address *address, int fd)
{
    struct peri_admin *admin = peri_calloc(1, sizeof *admin);
    peri_http_limits limits;

    peri_http_limits_default(&limits);
    limits.connections_max = CONNECTIONS_MAX;
    limits.body_max_bytes = BODY_MAX_BYTES; /* of the dashboard's posts */
    admin->master = master;
    admin->address = *address;
    admin->app = (peri_http_app){
        .data = master, .on_request = on_request, .on_gone = on_gone};
    admin->server = peri_http_server_create(&master->loop, &limits, &admin->app,
                                            &master->logger, NULL);
    master->admin = admin;
    bound_memory(fd);
    peri_http_server_listen(admin->server, fd);
}

static void tell_listening(const peri_master *master)
{
    const peri_address *address = &master->admin->address;
    peri_log_field fields[4];
    char url[128];

    peri_address_url(address, "http", url, sizeof url);
    fields[0] = (peri_log_field){
        .key = "admin", .type = PERI_FIELD_JSON, .text = PERI_SLICE("true")};
    fields[1] = PERI_FIELD_STR("address", address->host);
    fields[2] = PERI_FIELD_NUM("port", address->port);
    fields[3] = PERI_FIELD_STR("url", url);
    peri_log_fields(&master->logger, PERI_LOG_INFO, "listening", fields, 4);
}

int peri_admin_create(peri_master *master, char *why, size_t why_bytes)
{
    const char *port = peri_settings_str(master->settings, "admin.port", "");
    peri_address address;
    int fd = -1;
    int rc;

    if (strcmp(port, "false") == 0) {
        return 0;
    }
    rc = bind_admin(master, &address, &fd, why, why_bytes);
    if (rc == -EADDRINUSE &&
        !peri_settings_bool(master->settings, "explicit.admin.port", false)) {
        peri_log(&master->logger, PERI_LOG_WARN,
                 "no admin listener: %s (admin.port chooses another)", why);
        return 0;
    }
    if (rc < 0) {
        return rc;
    }
    serve(master, &address, fd);
    tell_listening(master);
    return 0;
}

static void on_closed(void *data)
{
    free(data);
}

void peri_admin_destroy(peri_master *master)
{
    struct peri_admin *admin = master->admin;

    if (admin == NULL) {
        return;
    }
    master->admin = NULL;
    peri_http_server_close(admin->server, on_closed, admin);
}
