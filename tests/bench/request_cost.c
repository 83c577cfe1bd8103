/* What one request costs in instructions, without sockets and noise:
 *
 *     ninja -C build/release request_cost
 *     valgrind --tool=callgrind build/release/request_cost DIR /json 2000
 *     valgrind --tool=callgrind build/release/request_cost DIR /json 12000
 *
 * The difference of both counts, divided by 10000. More arguments are settings:
 * trace.endpoint=http://127.0.0.1:4318/v1/traces. */
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "bindings/perigee.h"

#define SETTINGS_MAX 32

typedef struct run {
    perigee_host *host;
    const char *target;
    long left;
    int status;
} run;

static void on_closed(void *data)
{
    (void)data;
}

static void on_answer(void *data, const perigee_answer *answer)
{
    run *r = data;

    r->status = answer->status;
    r->left--;
}

static void next(run *r)
{
    const perigee_field fields[] = {{"Host", "127.0.0.1:3000"},
                                    {"User-Agent", "request_cost"}};
    const perigee_request request = {.method = "GET",
                                     .target = r->target,
                                     .fields = fields,
                                     .field_count = 2};

    if (perigee_request_start(r->host, &request, on_answer, r) != 0) {
        abort();
    }
}

static void on_ready(void *data, const char *error)
{
    run *r = data;

    if (error != NULL) {
        fprintf(stderr, "%s\n", error);
        exit(1);
    }
    r->status = -1;
}

static void drop_line(void *data, const char *line, size_t length)
{
    (void)data;
    (void)line;
    (void)length;
}

int main(int argc, char **argv)
{
    const char *settings[SETTINGS_MAX] = {NULL};
    perigee_options options = {
        .env = "production", .overrides = settings, .log = drop_line};
    uv_loop_t *loop = uv_default_loop();
    run r = {.status = 0};

    if (argc < 4 || argc > 4 + SETTINGS_MAX - 1) {
        fputs("usage: request_cost DIR TARGET COUNT [SETTING=VALUE...]\n",
              stderr);
        return 2;
    }
    options.dir = argv[1];
    r.target = argv[2];
    r.left = strtol(argv[3], NULL, 10);
    for (int i = 4; i < argc; i++) {
        settings[i - 4] = argv[i];
    }
    if (perigee_open(loop, &options, on_ready, &r, &r.host) < 0) {
        return 1;
    }
    while (r.status == 0) {
        uv_run(loop, UV_RUN_ONCE);
    }
    while (r.left > 0) {
        long before = r.left;

        next(&r);
        while (r.left == before) {
            uv_run(loop, UV_RUN_ONCE);
        }
    }
    printf("status %d\n", r.status);
    perigee_close(r.host, on_closed, NULL);
    return uv_run(loop, UV_RUN_DEFAULT);
}
