/* The library's door: two hosts with different applications in one process,
 * requests without a socket, reload, and the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bindings/perigee.h"

#define DIR_BYTES 64
#define BODY_BYTES 4096

typedef struct outcome {
    bool done;
    char error[BODY_BYTES];
    int status;
    char body[BODY_BYTES];
    char type[128];
} outcome;

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    for (char *slash = path + strlen(dir) + 1;
         (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void make_app(char *dir, const char *routes)
{
    strcpy(dir, "/tmp/peri-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    write_file(dir, "scripts/routes/main.lua", routes);
}

static void remove_app(const char *dir)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static void on_ready(void *data, const char *error)
{
    outcome *o = data;

    o->done = true;
    snprintf(o->error, sizeof o->error, "%s", error != NULL ? error : "");
}

static void on_answer(void *data, const perigee_answer *answer)
{
    outcome *o = data;

    o->done = true;
    o->status = answer->status;
    snprintf(o->body, sizeof o->body, "%s", answer->body);
    for (size_t i = 0; i < answer->field_count; i++) {
        if (strcasecmp(answer->fields[i].name, "content-type") == 0) {
            snprintf(o->type, sizeof o->type, "%s", answer->fields[i].value);
        }
    }
}

static void on_closed(void *data)
{
    ((outcome *)data)->done = true;
}

static void ignore_log(void *data, const char *line, size_t length)
{
    (void)data;
    (void)line;
    (void)length;
}

static void run_until(uv_loop_t *loop, outcome *o)
{
    while (!o->done) {
        assert_int_not_equal(uv_run(loop, UV_RUN_ONCE) == 0 && !o->done, 1);
    }
}

static perigee_host *open_in(uv_loop_t *loop, const char *dir, const char *env,
                             outcome *o)
{
    perigee_options options = {.dir = dir, .env = env, .log = ignore_log};
    perigee_host *host;

    *o = (outcome){.done = false};
    assert_int_equal(perigee_open(loop, &options, on_ready, o, &host), 0);
    assert_false(o->done); /* never from inside */
    run_until(loop, o);
    return host;
}

static perigee_host *open_app(uv_loop_t *loop, const char *dir, outcome *o)
{
    return open_in(loop, dir, "production", o);
}

static void get(uv_loop_t *loop, perigee_host *host, const char *target,
                outcome *o)
{
    perigee_request request = {.method = "GET", .target = target};

    *o = (outcome){.done = false};
    assert_int_equal(perigee_request_start(host, &request, on_answer, o), 0);
    assert_false(o->done);
    run_until(loop, o);
}

static void close_app(uv_loop_t *loop, perigee_host *host)
{
    outcome o = {.done = false};

    perigee_close(host, on_closed, &o);
    run_until(loop, &o);
}

static void end_loop(uv_loop_t *loop)
{
    uv_run(loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(loop), 0);
}

static void two_hosts_answer_for_themselves(void **state)
{
    char one[DIR_BYTES];
    char two[DIR_BYTES];
    perigee_host *first;
    perigee_host *second;
    uv_loop_t loop;
    outcome o;

    (void)state;
    uv_loop_init(&loop);
    make_app(one, "return function(r) r:get('/who', function()"
                  " return { app = 'one' } end) end\n");
    make_app(two, "local task = require 'perigee.task'\n"
                  "return function(r) r:get('/who', function()\n"
                  " task.sleep(1) return 'two' end) end\n");
    first = open_app(&loop, one, &o);
    assert_string_equal(o.error, "");
    second = open_app(&loop, two, &o);
    assert_string_equal(o.error, "");

    get(&loop, first, "/who", &o);
    assert_int_equal(o.status, 200);
    assert_string_equal(o.body, "{\"app\":\"one\"}");
    assert_string_equal(o.type, "application/json");
    get(&loop, second, "/who", &o);
    assert_int_equal(o.status, 200);
    assert_string_equal(o.body, "two");
    get(&loop, second, "/nothing", &o);
    assert_int_equal(o.status, 404);
    assert_string_equal(o.type, "application/problem+json");

    close_app(&loop, first);
    get(&loop, second, "/who", &o); /* the other one is not disturbed */
    assert_int_equal(o.status, 200);
    close_app(&loop, second);
    end_loop(&loop);
    remove_app(one);
    remove_app(two);
}

static void the_environment_is_the_process_s_unless_told(void **state)
{
    char dir[DIR_BYTES];
    perigee_host *host;
    uv_loop_t loop;
    outcome o;

    (void)state;
    uv_loop_init(&loop);
    make_app(dir, "return function(r) r:get('/', function()"
                  " return require('perigee.host').env end) end\n");
    setenv("PERIGEE_ENV", "staging", 1);
    host = open_in(&loop, dir, NULL, &o);
    unsetenv("PERIGEE_ENV");
    assert_string_equal(o.error, "");
    get(&loop, host, "/", &o);
    assert_string_equal(o.body, "staging");
    close_app(&loop, host);
    end_loop(&loop);
    remove_app(dir);
}

static void a_fault_in_the_code_names_its_place(void **state)
{
    char dir[DIR_BYTES];
    perigee_host *host;
    uv_loop_t loop;
    outcome o;

    (void)state;
    uv_loop_init(&loop);
    make_app(dir, "local x = nil\nreturn x.y\n");
    host = open_app(&loop, dir, &o);
    assert_non_null(strstr(o.error, "scripts/routes/main.lua:2:"));
    close_app(&loop, host);
    end_loop(&loop);
    remove_app(dir);
}

static void a_refused_reload_leaves_the_old_code(void **state)
{
    char dir[DIR_BYTES];
    perigee_host *host;
    uv_loop_t loop;
    outcome o;

    (void)state;
    uv_loop_init(&loop);
    make_app(dir, "return function(r) r:get('/', function()"
                  " return 'old' end) end\n");
    host = open_app(&loop, dir, &o);
    assert_string_equal(o.error, "");

    write_file(dir, "scripts/routes/main.lua", "return function(\n");
    o.done = false;
    assert_int_equal(perigee_reload(host, on_ready, &o), 0);
    run_until(&loop, &o);
    assert_non_null(strstr(o.error, "scripts/routes/main.lua:"));
    get(&loop, host, "/", &o);
    assert_string_equal(o.body, "old");

    write_file(dir, "scripts/routes/main.lua",
               "return function(r) r:get('/', function()"
               " return 'new' end) end\n");
    o.done = false;
    assert_int_equal(perigee_reload(host, on_ready, &o), 0);
    run_until(&loop, &o);
    assert_string_equal(o.error, "");
    get(&loop, host, "/", &o);
    assert_string_equal(o.body, "new");
    close_app(&loop, host);
    end_loop(&loop);
    remove_app(dir);
}

static void a_malformed_request_is_refused(void **state)
{
    char dir[DIR_BYTES];
    perigee_host *host;
    uv_loop_t loop;
    outcome o;
    perigee_request bad = {.method = "G T", .target = "/"};

    (void)state;
    uv_loop_init(&loop);
    make_app(dir, "return function() end\n");
    host = open_app(&loop, dir, &o);
    assert_string_equal(o.error, "");
    assert_true(perigee_request_start(host, &bad, on_answer, &o) < 0);
    close_app(&loop, host);
    end_loop(&loop);
    remove_app(dir);
}

static void closing_cancels_what_waits(void **state)
{
    char dir[DIR_BYTES];
    perigee_host *host;
    perigee_request request = {.method = "GET", .target = "/"};
    uv_loop_t loop;
    outcome o;

    (void)state;
    uv_loop_init(&loop);
    make_app(dir, "local task = require 'perigee.task'\n"
                  "return function(r) r:get('/', function()\n"
                  " task.sleep '1h' return 'never' end) end\n");
    host = open_app(&loop, dir, &o);
    o = (outcome){.done = false};
    assert_int_equal(perigee_request_start(host, &request, on_answer, &o), 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    close_app(&loop, host);
    assert_true(o.done);
    assert_int_equal(o.status, 503);
    end_loop(&loop);
    remove_app(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_hosts_answer_for_themselves),
        cmocka_unit_test(the_environment_is_the_process_s_unless_told),
        cmocka_unit_test(a_fault_in_the_code_names_its_place),
        cmocka_unit_test(a_refused_reload_leaves_the_old_code),
        cmocka_unit_test(a_malformed_request_is_refused),
        cmocka_unit_test(closing_cancels_what_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
