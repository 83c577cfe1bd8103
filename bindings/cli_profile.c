/* perigee profile: asks the running host, and writes what it answers. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bindings/cli_commands.h"
#include "core/base/fd.h"
#include "core/cluster/control.h"
#include "core/cluster/profile.h"

#define ANSWER_MAX_BYTES ((size_t)72 << 20)
#define PATIENCE_MS 30000 /* beyond the duration */
#define VERB_BYTES 64
#define NAME_BYTES 64

/* Whole milliseconds of "500ms", "10s", "1.5s", "1m"; 0: it is none, or none
 * that a profile may take. */
static unsigned duration_ms(const char *text)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"", 1}};
    char *end;
    double number = strtod(text, &end);

    if (end == text || text[0] < '0' || text[0] > '9') {
        return 0;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        double ms = number * units[i].ms;

        if (strcmp(end, units[i].name) == 0) {
            return ms >= 1 && ms <= PERI_PROFILE_MAX_MS ? (unsigned)ms : 0;
        }
    }
    return 0;
}

/* Readable when the user has had enough. -1: he cannot say so. */
static int watch_interrupts(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_CLOEXEC);
}

static const char *ending_of(const char *format)
{
    return strcmp(format, "pprof") == 0       ? "pb.gz"
           : strcmp(format, "collapsed") == 0 ? "txt"
                                              : "svg";
}

/* Where it goes: NULL is standard output. */
static const char *destination(const perilua_cli *cli, const char *kind,
                               const char *format, char *name)
{
    time_t now = time(NULL);
    char stamp[32] = "";
    struct tm local;

    if (cli->profile.output != NULL) {
        return strcmp(cli->profile.output, "-") == 0 ? NULL
                                                     : cli->profile.output;
    }
    if (isatty(1) != 1) {
        return NULL;
    }
    if (localtime_r(&now, &local) != NULL) {
        strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &local);
    }
    snprintf(name, NAME_BYTES, "perigee-%s-%s.%s", kind, stamp,
             ending_of(format));
    return name;
}

static int failed(const char *path, int rc)
{
    fprintf(stderr, "perigee: %s: %s\n",
            path != NULL ? path : "standard output", strerror(-rc));
    return PERILUA_CLI_FAILURE;
}

static int open_file(const char *path, int flags)
{
    int fd = path == NULL
                 ? STDOUT_FILENO
                 : open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);

    return fd < 0 ? -errno : fd;
}

/* Whether it can be written to, before anybody waits for what will be. What is
 * there already, a pipe perhaps, is not opened yet. */
static int try_file(const char *path)
{
    struct stat info;
    int fd;

    if (path == NULL) {
        return 0;
    }
    if (stat(path, &info) == 0) {
        return S_ISDIR(info.st_mode)    ? -EISDIR
               : access(path, W_OK) < 0 ? -errno
                                        : 0;
    }
    fd = open_file(path, O_EXCL);
    if (fd < 0) {
        return fd;
    }
    close(fd);
    unlink(path);
    return 0;
}

static int deliver(const char *path, peri_slice file)
{
    int fd = open_file(path, O_TRUNC);
    int rc = fd < 0 ? fd : peri_fd_write(fd, file);

    if (fd >= 0 && path != NULL && close(fd) < 0 && rc == 0) {
        rc = -errno;
    }
    if (rc < 0) {
        return failed(path, rc);
    }
    if (path != NULL) {
        fprintf(stderr, "perigee: written to %s\n", path);
    }
    return PERILUA_CLI_OK;
}

/* What it is stands on the first lines, up to an empty one. */
static peri_slice tell(const peri_buf *answer)
{
    peri_slice rest = peri_buf_slice(answer);

    for (;;) {
        const char *end =
            rest.length != 0 ? memchr(rest.data, '\n', rest.length) : NULL;
        size_t length = end != NULL ? (size_t)(end - rest.data) : 0;

        if (end == NULL || length == 0) {
            rest.data += end != NULL;
            rest.length -= end != NULL;
            return rest;
        }
        fprintf(stderr, "perigee: %.*s\n", (int)length, rest.data);
        rest.data += length + 1;
        rest.length -= length + 1;
    }
}

static int ask(const perilua_cli *cli, const char *kind, unsigned ms)
{
    const char *format =
        cli->profile.format != NULL ? cli->profile.format : "svg";
    char verb[VERB_BYTES];
    char name[NAME_BYTES];
    const char *path = destination(cli, kind, format, name);
    peri_buf answer;
    int end_fd;
    int code = try_file(path);

    if (code < 0) {
        return failed(path, code);
    }
    end_fd = watch_interrupts();
    snprintf(verb, sizeof verb, "profile %s %u %d %s", kind, ms,
             cli->profile.worker, format);
    peri_buf_init(&answer, ANSWER_MAX_BYTES);
    if (isatty(2) == 1) {
        fprintf(stderr, "perigee: profiling for %.3g s; Ctrl-C ends it early\n",
                ms / 1e3);
    }
    code = peri_control_call_until(cli->dir, verb, (int)ms + PATIENCE_MS,
                                   end_fd, &answer);
    if (code == 0) {
        code = deliver(path, tell(&answer));
    } else {
        while (answer.length > 0 && answer.data[answer.length - 1] == '\n') {
            answer.length--;
        }
        fprintf(stderr, "perigee: %.*s\n", (int)answer.length, answer.data);
    }
    peri_buf_fini(&answer);
    close(end_fd);
    return code;
}

int perilua_cli_profiles(perilua_cli *cli)
{
    bool heap = cli->profile.heap != NULL;
    const char *text = heap ? cli->profile.heap : cli->profile.cpu;
    unsigned ms;

    if ((cli->profile.cpu != NULL) == heap) {
        return perilua_cli_usage(cli, "profile takes --cpu or --heap");
    }
    ms = duration_ms(text);
    if (ms == 0) {
        return perilua_cli_usage(cli,
                                 "--%s must be a duration from 1ms to 5m "
                                 "(10s), not \"%s\"",
                                 heap ? "heap" : "cpu", text);
    }
    return ask(cli, heap ? "heap" : "cpu", ms);
}
