/* Commands that run inside of a host: a loop, an application's modules, no
 * port. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "bindings/cli_commands.h"
#include "bindings/host.h"
#include "core/base/alloc.h"
#include "core/base/bundle.h"
#include "core/base/settings.h"

#define ENV_BYTES 32

typedef struct inside {
    const perilua_cli *cli;
    peri_logger logger;
    peri_host *host;
    char env[ENV_BYTES];
    int code;
} inside;

/* Standard output is the command's own. */
static void write_log(void *data, peri_slice line)
{
    (void)data;
    fwrite(line.data, 1, line.length, stderr);
}

/* The environment's name and the log's level, as the bundle has them. */
static int read_bundle(inside *in, int bundle_fd)
{
    peri_bundle *bundle;
    peri_settings *settings;
    peri_slice name;
    int rc = peri_bundle_open(bundle_fd, &bundle);

    if (rc < 0) {
        return rc;
    }
    name = peri_bundle_find(bundle, "@env");
    snprintf(in->env, sizeof in->env, "%.*s", (int)name.length,
             name.data != NULL ? name.data : "test");
    settings = peri_settings_create(peri_bundle_find(bundle, "@settings"));
    peri_logger_init(
        &in->logger,
        peri_log_level_parse(peri_settings_str(settings, "log.level", "info")),
        write_log, NULL);
    peri_settings_destroy(settings);
    peri_bundle_close(bundle);
    return 0;
}

static void on_called(void *data, int exit_code)
{
    inside *in = data;

    in->code = exit_code;
    perilua_host_close(in->host, NULL, NULL);
}

static void on_staged(void *data, const char *error)
{
    inside *in = data;

    if (error != NULL) {
        fprintf(stderr, "perigee: %s\n", error);
        in->code = PERILUA_CLI_CONFIG;
        perilua_host_close(in->host, NULL, NULL);
        return;
    }
    perilua_host_commit(in->host, 1);
    perilua_host_call(in->host, in->cli->command->module,
                      (int)in->cli->word_count, in->cli->words, on_called, in);
}

static int run_inside(inside *in, int bundle_fd, bool writes)
{
    uv_loop_t loop;
    char *dir = realpath(in->cli->dir, NULL);
    peri_host_options options = {
        .loop = &loop,
        .logger = &in->logger,
        .dir = dir,
        .env = in->env,
        .worker = -1,
        .workers = 1,
    };

    /* The host's working directory is the application's. */
    if (dir == NULL || chdir(dir) < 0 || uv_loop_init(&loop) < 0) {
        free(dir);
        return PERILUA_CLI_OS;
    }
    if (writes) {
        mkdir("var", 0755); /* whoever writes there says what is wrong */
    }
    in->host = perilua_host_create(&options);
    perilua_host_stage(in->host, 1, bundle_fd, false, on_staged, in);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    free(dir);
    return in->code;
}

int perilua_cli_inside(const perilua_cli *cli, const char *env, bool dev,
                       bool writes)
{
    inside in = {.cli = cli, .code = PERILUA_CLI_INTERNAL};
    int fd;
    int code = perilua_cli_make_bundle(cli, env, dev, &fd);

    if (code != 0) {
        return code;
    }
    signal(SIGPIPE,
           SIG_IGN); /* it is an error of the write that it belongs to */
    if (read_bundle(&in, fd) < 0) {
        close(fd);
        return PERILUA_CLI_INTERNAL;
    }
    return run_inside(&in, fd, writes);
}

int perilua_cli_test(perilua_cli *cli)
{
    setenv("PERIGEE_ENV", "test", 1); /* for what the specs start, too */
    return perilua_cli_inside(cli, "test", true, true);
}

/* The words come to the module as its arguments; --json is the first of them.
 */
static void pass_json(perilua_cli *cli)
{
    if (cli->json) { /* it was a word of the command line: there is room */
        memmove(cli->words + 1, cli->words,
                cli->word_count * sizeof *cli->words);
        cli->words[0] = "--json";
        cli->word_count++;
    }
}

int perilua_cli_check(perilua_cli *cli)
{
    pass_json(cli);
    return perilua_cli_inside(cli, NULL, false, false);
}

int perilua_cli_console(perilua_cli *cli)
{
    if (cli->word_count == 0 && strcmp(cli->command->name, "exec") == 0) {
        return perilua_cli_usage(
            cli, "exec needs Lua to evaluate: perigee exec 'return 1'");
    }
    return perilua_cli_inside(cli, NULL, false, true);
}

int perilua_cli_queue(perilua_cli *cli)
{
    pass_json(cli);
    return perilua_cli_inside(cli, NULL, false, true);
}
