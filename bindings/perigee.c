/* Perigee as a library: perigee.h over a host. */
#include "bindings/perigee.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bindings/host.h"
#include "bindings/stage.h"
#include "core/base/alloc.h"
#include "core/http/local.h"

#define FAULTS_MAX_BYTES ((size_t)1 << 20)

struct perigee_host {
    peri_host *host;
    peri_logger logger;
    uv_loop_t *loop;
    char *dir;
    char *env;
    char **overrides;
    void (*log)(void *data, const char *line, size_t length);
    void *log_data;
    uint64_t last_number;
    bool reloading;
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- options ---- */

static char **copy_strings(const char *const *list)
{
    size_t count = 0;
    char **copy;

    while (list != NULL && list[count] != NULL) {
        count++;
    }
    copy = peri_calloc(count + 1, sizeof *copy);
    for (size_t i = 0; i < count; i++) {
        copy[i] = peri_strdup(list[i]);
    }
    return copy;
}

static void free_strings(char **list)
{
    for (size_t i = 0; list[i] != NULL; i++) {
        free(list[i]);
    }
    free(list);
}

static void write_log(void *data, peri_slice line)
{
    perigee_host *host = data;

    if (host->log != NULL) {
        host->log(host->log_data, line.data, line.length);
    } else {
        fwrite(line.data, 1, line.length, stderr);
    }
}

/* ---- staging, at the start and at a reload ---- */

typedef struct staging {
    perigee_host *host;
    uint64_t number;
    void (*done)(void *data, const char *error);
    void *data;
    char *error;
    uv_timer_t late;
} staging;

static void on_late_closed(uv_handle_t *handle)
{
    staging *s = handle->data;

    free(s->error);
    free(s);
}

static void on_late(uv_timer_t *timer)
{
    staging *s = timer->data;

    s->host->reloading = false;
    s->done(s->data, s->error);
    uv_close((uv_handle_t *)timer, on_late_closed);
}

static void fail_late(staging *s, const char *error, size_t length)
{
    s->error = peri_strndup(error, length);
    uv_timer_init(s->host->loop, &s->late);
    s->late.data = s;
    uv_timer_start(&s->late, on_late, 0, 0);
}

static void on_staged(void *data, const char *error)
{
    staging *s = data;

    if (error == NULL) {
        perilua_host_commit(s->host->host, s->number);
    }
    s->host->reloading = false;
    s->done(s->data, error);
    free(s);
}

static int make_bundle(perigee_host *host, int *out_fd, peri_buf *faults)
{
    perilua_stage_options options = {
        .dir = host->dir,
        .env = host->env,
        .overrides = (const char *const *)host->overrides,
    };

    return perilua_stage(&options, out_fd, faults);
}

static void stage(perigee_host *host,
                  void (*done)(void *data, const char *error), void *data)
{
    staging *s = peri_calloc(1, sizeof *s);
    peri_buf faults;
    int fd;

    s->host = host;
    s->done = done;
    s->data = data;
    s->number = ++host->last_number;
    host->reloading = true;
    peri_buf_init(&faults, FAULTS_MAX_BYTES);
    if (make_bundle(host, &fd, &faults) < 0) {
        fail_late(s, faults.data != NULL ? faults.data : "", faults.length);
    } else {
        perilua_host_stage(host->host, s->number, fd, true, on_staged, s);
    }
    peri_buf_fini(&faults);
}

int perigee_open(uv_loop_t *loop, const perigee_options *options,
                 void (*ready)(void *data, const char *error), void *data,
                 perigee_host **out)
{
    perigee_host *host = peri_calloc(1, sizeof *host);
    peri_host_options inner;

    *out = NULL;
    host->dir = realpath(options->dir, NULL);
    if (host->dir == NULL) {
        free(host);
        return UV_ENOENT;
    }
    host->loop = loop;
    host->env = options->env != NULL ? peri_strdup(options->env) : NULL;
    host->overrides = copy_strings(options->overrides);
    host->log = options->log;
    host->log_data = options->log_data;
    peri_logger_init(&host->logger, PERI_LOG_INFO, write_log, host);
    inner = (peri_host_options){
        .loop = loop,
        .logger = &host->logger,
        .dir = host->dir,
        .env = host->env,
        .worker = -1,
        .workers = 1,
    };
    host->host = perilua_host_create(&inner);
    *out = host;
    stage(host, ready, data);
    return 0;
}

int perigee_reload(perigee_host *host,
                   void (*done)(void *data, const char *error), void *data)
{
    if (host->reloading) {
        return UV_EBUSY;
    }
    stage(host, done, data);
    return 0;
}

/* ---- requests ---- */

typedef struct call {
    void (*answer)(void *data, const perigee_answer *answer);
    void *data;
} call;

static char *copy_answer_text(peri_slice text)
{
    return peri_strndup(text.data != NULL ? text.data : "", text.length);
}

static void on_answer(void *data, const peri_local_answer *local)
{
    call *c = data;
    perigee_answer answer = {.status = local->status,
                             .field_count = local->field_count,
                             .body_length = local->body.length};
    perigee_field *fields =
        peri_calloc(local->field_count, sizeof(perigee_field));
    char *body = copy_answer_text(local->body);

    for (size_t i = 0; i < local->field_count; i++) {
        fields[i].name = copy_answer_text(local->fields[i].name);
        fields[i].value = copy_answer_text(local->fields[i].value);
    }
    answer.fields = fields;
    answer.body = body;
    c->answer(c->data, &answer);
    for (size_t i = 0; i < local->field_count; i++) {
        free((void *)(uintptr_t)fields[i].name);
        free((void *)(uintptr_t)fields[i].value);
    }
    free(fields);
    free(body);
    free(c);
}

int perigee_request_start(perigee_host *host, const perigee_request *request,
                          void (*answer)(void *data,
                                         const perigee_answer *answer),
                          void *data)
{
    peri_field *fields = peri_calloc(request->field_count, sizeof *fields);
    peri_local_request local = {
        .method = peri_slice_str(request->method),
        .target = peri_slice_str(request->target),
        .fields = fields,
        .field_count = request->field_count,
        .body = {request->body, request->body_length},
        .remote = peri_slice_str(request->remote),
    };
    call *c = peri_calloc(1, sizeof *c);
    int rc;

    c->answer = answer;
    c->data = data;
    for (size_t i = 0; i < request->field_count; i++) {
        fields[i].name = peri_slice_str(request->fields[i].name);
        fields[i].value = peri_slice_str(request->fields[i].value);
    }
    rc = peri_local_start(host->loop, perilua_host_http(host->host), &local,
                          on_answer, c);
    free(fields);
    if (rc < 0) {
        free(c);
    }
    return rc;
}

/* ---- the end ---- */

static void on_closed(void *data)
{
    perigee_host *host = data;

    if (host->closed != NULL) {
        host->closed(host->closed_data);
    }
    free_strings(host->overrides);
    free(host->dir);
    free(host->env);
    free(host);
}

void perigee_close(perigee_host *host, void (*closed)(void *data), void *data)
{
    host->closed = closed;
    host->closed_data = data;
    perilua_host_close(host->host, on_closed, host);
}

peri_host *perilua_host_inside(perigee_host *host)
{
    return host->host;
}

const char *perigee_version(void)
{
    return PERI_VERSION;
}
