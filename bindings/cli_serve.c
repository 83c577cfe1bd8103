/* Commands that serve: run and dev become the master; worker and stage are what
 * the master starts. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bindings/cli_commands.h"
#include "bindings/cli_lua.h"
#include "bindings/embedded.h"
#include "bindings/host.h"
#include "bindings/stage.h"
#include "core/base/alloc.h"
#include "core/base/bundle.h"
#include "core/base/fd.h"
#include "core/cluster/master.h"
#include "core/cluster/worker.h"

#define FAULTS_MAX_BYTES ((size_t)1 << 20)
#define STAGE_BUNDLE_FD 3
#define STAGE_FAULTS_FD 4
#define ENV_BYTES 32

/* Others may well run where the certificates are not. */
static bool needs_certificates(const char *command)
{
    static const char *const names[] = {"run", "dev", "stage", "check"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(command, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int make_bundle(const perilua_cli *cli, const char *env, bool dev,
                       int *out_fd, peri_buf *faults)
{
    perilua_stage_options options = {
        .dir = cli->dir,
        .env = cli->env != NULL ? cli->env : env,
        .overrides = (const char *const *)cli->overrides,
        .dev = dev,
        .certificates = needs_certificates(cli->command->name),
        .tolerant = strcmp(cli->command->name, "check") == 0,
    };

    return perilua_stage(&options, out_fd, faults);
}

/* A line that begins with a blank goes on with the one before it. */
static size_t count_faults(const peri_buf *text)
{
    size_t count = 0;

    for (size_t i = 0; i < text->length; i++) {
        bool begins = i == 0 || text->data[i - 1] == '\n';

        count += begins && text->data[i] != '\t' && text->data[i] != ' ';
    }
    return count;
}

static void print_faults(const peri_buf *faults)
{
    size_t count = count_faults(faults);

    fwrite(faults->data, 1, faults->length, stderr);
    fprintf(stderr, "perigee: %zu %s\n", count,
            count == 1 ? "fault" : "faults");
}

int perilua_cli_make_bundle(const perilua_cli *cli, const char *env, bool dev,
                            int *out_fd)
{
    peri_buf faults;
    int code = 0;

    peri_buf_init(&faults, FAULTS_MAX_BYTES);
    if (make_bundle(cli, env, dev, out_fd, &faults) < 0) {
        code = PERILUA_CLI_CONFIG;
        if (cli->json && strcmp(cli->command->name, "check") == 0) {
            perilua_cli_call("perigee.cli.faults", cli,
                             peri_buf_slice(&faults));
        } else {
            print_faults(&faults);
        }
    }
    peri_buf_fini(&faults);
    return code;
}

/* The environment's name, decided while the bundle was made. */
static int read_env(int bundle_fd, char *out)
{
    peri_bundle *bundle;
    peri_slice name;
    int rc = peri_bundle_open(bundle_fd, &bundle);

    if (rc < 0) {
        return rc;
    }
    name = peri_bundle_find(bundle, "@env");
    snprintf(out, ENV_BYTES, "%.*s", (int)name.length,
             name.data != NULL ? name.data : "production");
    peri_bundle_close(bundle);
    return 0;
}

/* The words with which the master makes the next bundle: the same flags. */
static const char **stage_arguments(const perilua_cli *cli, const char *program,
                                    const char *dir, const char *env, bool dev)
{
    const char **list = peri_calloc(8 + 2 * cli->override_count, sizeof *list);
    size_t count = 0;

    list[count++] = program;
    list[count++] = "stage";
    list[count++] = dir;
    list[count++] = "--env";
    list[count++] = env;
    if (dev) {
        list[count++] = "--dev";
    }
    for (size_t i = 0; i < cli->override_count; i++) {
        list[count++] = "--override";
        list[count++] = cli->overrides[i];
    }
    return list;
}

/* The words that start this host again: flags as --set. */
static const char **run_arguments(const perilua_cli *cli, const char *program,
                                  const char *dir, const char *env, bool dev)
{
    const char **list = peri_calloc(8 + 2 * cli->override_count, sizeof *list);
    size_t count = 0;

    list[count++] = program;
    list[count++] = dev ? "dev" : "run";
    list[count++] = dir;
    list[count++] = "--env";
    list[count++] = env;
    for (size_t i = 0; i < cli->override_count; i++) {
        const char *text = cli->overrides[i];
        const char *colon = strchr(text, ':');

        /* "--port:http.port=80" says where it came from. */
        list[count++] = "--set";
        list[count++] =
            strncmp(text, "--", 2) == 0 && colon != NULL ? colon + 1 : text;
    }
    return list;
}

static int os_failure(const char *what)
{
    fprintf(stderr, "perigee: %s: %s\n", what, strerror(errno));
    return PERILUA_CLI_OS;
}

static bool find_asset(const char *name, peri_slice *out)
{
    const peri_embedded_file *file;
    char path[64];

    snprintf(path, sizeof path, "dashboard/%s", name);
    file = perilua_embedded_find(path);
    if (file == NULL) {
        return false;
    }
    *out = peri_slice_of((const char *)file->data, file->size_bytes);
    return true;
}

static int run_master(const perilua_cli *cli, bool dev, int bundle_fd)
{
    char env[ENV_BYTES];
    char *dir = realpath(cli->dir, NULL);
    char *program = realpath("/proc/self/exe", NULL);
    const char **stage_argv;
    const char **run_argv;
    int code;

    if (dir == NULL || program == NULL || chdir(dir) < 0) {
        code = os_failure(cli->dir);
        goto out;
    }
    if (mkdir("var", 0755) < 0 && errno != EEXIST) {
        code = os_failure("var");
        goto out;
    }
    if (read_env(bundle_fd, env) < 0) {
        code = PERILUA_CLI_INTERNAL;
        goto out;
    }
    stage_argv = stage_arguments(cli, program, dir, env, dev);
    run_argv = run_arguments(cli, program, dir, env, dev);
    code = peri_master_run(&(peri_master_options){
        .dir = dir,
        .env = env,
        .program = program,
        .stage_argv = stage_argv,
        .run_argv = run_argv,
        .asset = find_asset,
        .bundle_fd = bundle_fd,
        .dev = dev,
    });
    bundle_fd = -1;
    free(stage_argv);
    free(run_argv);

out:
    if (bundle_fd >= 0) {
        close(bundle_fd);
    }
    free(program);
    free(dir);
    return code;
}

static int serve(const perilua_cli *cli, bool dev)
{
    int bundle_fd;
    int code = perilua_cli_make_bundle(cli, dev ? "development" : NULL, dev,
                                       &bundle_fd);

    if (code != 0) {
        return code;
    }
    if (dev) {
        perilua_cli_write_library(cli->dir); /* a convenience: may fail */
    }
    return run_master(cli, dev, bundle_fd);
}

int perilua_cli_run(perilua_cli *cli)
{
    return serve(cli, false);
}

int perilua_cli_dev(perilua_cli *cli)
{
    return serve(cli, true);
}

int perilua_cli_worker(perilua_cli *cli)
{
    (void)cli;
    /* What scripts print is seen at once, also by who reads a pipe. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    return peri_worker_run(&perilua_worker_app);
}

/* ---- stage: for the master ---- */

static int copy_bundle(int from, int to)
{
    char chunk[65536];
    ssize_t n;

    if (lseek(from, 0, SEEK_SET) < 0) {
        return -1;
    }
    while ((n = read(from, chunk, sizeof chunk)) > 0) {
        if (peri_fd_write(to, peri_slice_of(chunk, (size_t)n)) < 0) {
            return -1;
        }
    }
    return n < 0 ? -1 : 0;
}

int perilua_cli_stage(perilua_cli *cli)
{
    peri_buf faults;
    int bundle_fd;
    int code = 0;

    if (fcntl(STAGE_BUNDLE_FD, F_GETFD) < 0 ||
        fcntl(STAGE_FAULTS_FD, F_GETFD) < 0) {
        return perilua_cli_usage(cli, "stage: started by the master alone");
    }
    peri_buf_init(&faults, FAULTS_MAX_BYTES);
    if (make_bundle(cli, NULL, cli->dev, &bundle_fd, &faults) < 0) {
        peri_fd_write(STAGE_FAULTS_FD, peri_buf_slice(&faults));
        code = PERILUA_CLI_CONFIG;
    } else if (copy_bundle(bundle_fd, STAGE_BUNDLE_FD) < 0) {
        code = os_failure("writing the bundle");
    }
    peri_buf_fini(&faults);
    return code;
}
