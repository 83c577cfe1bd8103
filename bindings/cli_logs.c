/* Commands for log lines: pretty reads them from standard input, logs follows
 * the file that the running host writes to. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bindings/cli_commands.h"
#include "core/base/buf.h"
#include "core/base/bundle.h"
#include "core/base/pretty.h"
#include "core/base/settings.h"
#include "core/cluster/control.h"

#define LINE_MAX_BYTES ((size_t)4 << 20)
#define TAIL_BYTES 65536
#define POLL_MICROSECONDS 150000
#define STATUS_TIMEOUT_MS 10000
#define PATH_BYTES 4096

static bool wants_color(void)
{
    const char *none = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    return (none == NULL || none[0] == '\0') && isatty(1) == 1 &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

static int write_out(peri_buf *out)
{
    size_t done = 0;

    while (done < out->length) {
        ssize_t n = write(1, out->data + done, out->length - done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        done += (size_t)n;
    }
    peri_buf_clear(out);
    return 0;
}

static int print_line(peri_buf *out, peri_slice line, bool color,
                      const peri_log_filter *filter)
{
    if (!peri_log_filter_passes(filter, line)) {
        return 0;
    }
    if (line.length > LINE_MAX_BYTES ||
        peri_pretty_line(out, line, color) < 0) {
        peri_buf_clear(out);
        peri_buf_append_slice(out, line);
    }
    return write_out(out);
}

int perilua_cli_pretty(perilua_cli *cli)
{
    bool color = wants_color();
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    peri_buf out;
    int code = 0;

    /* Ctrl-C goes to the whole pipe: the host's last lines are yet to come. */
    signal(SIGINT, SIG_IGN);
    peri_buf_init(&out, 2 * LINE_MAX_BYTES);
    while (code == 0 && (length = getline(&line, &capacity, stdin)) > 0) {
        if (print_line(&out, peri_slice_of(line, (size_t)length), color,
                       &cli->filter) < 0) {
            code = PERILUA_CLI_FAILURE;
        }
    }
    peri_buf_fini(&out);
    free(line);
    return code;
}

/* ---- logs: which file ---- */

typedef struct running {
    pid_t pid;
    char env[32];
} running;

/* Of the status that the host gives of itself. */
static int ask_host(const char *dir, running *out)
{
    peri_buf answer;
    const char *env;
    int code;

    peri_buf_init(&answer, LINE_MAX_BYTES);
    code = peri_control_call(dir, "status", STATUS_TIMEOUT_MS, &answer);
    peri_buf_append_byte(&answer, '\0');
    if (code != 0) {
        fprintf(stderr, "perigee: %s\n", answer.data);
        peri_buf_fini(&answer);
        return code;
    }
    env = strstr(answer.data, "\"env\":\"");
    if (sscanf(answer.data, "{\"pid\":%d", &out->pid) != 1 || env == NULL ||
        sscanf(env, "\"env\":\"%31[a-z]", out->env) != 1) {
        fputs("perigee: the host's status cannot be read\n", stderr);
        code = PERILUA_CLI_FAILURE;
    }
    peri_buf_fini(&answer);
    return code;
}

/* log.destination, as a path. */
static int find_file(const perilua_cli *cli, const running *host, char *out)
{
    peri_bundle *bundle;
    peri_settings *settings;
    const char *name;
    int fd;
    int code = perilua_cli_make_bundle(cli, host->env, false, &fd);

    if (code != 0) {
        return code;
    }
    if (peri_bundle_open(fd, &bundle) < 0) {
        close(fd);
        return PERILUA_CLI_INTERNAL;
    }
    settings = peri_settings_create(peri_bundle_find(bundle, "@settings"));
    name = peri_settings_str(settings, "log.destination", "stdout");
    if (strcmp(name, "stdout") == 0 || strcmp(name, "stderr") == 0) {
        snprintf(out, PATH_BYTES, "/proc/%d/fd/%d", (int)host->pid,
                 strcmp(name, "stdout") == 0 ? 1 : 2);
    } else {
        snprintf(out, PATH_BYTES, "%s%s%s", name[0] == '/' ? "" : cli->dir,
                 name[0] == '/' ? "" : "/", name);
    }
    peri_settings_destroy(settings);
    peri_bundle_close(bundle);
    close(fd);
    return 0;
}

/* ---- logs: following it ---- */

typedef struct follower {
    const char *path;
    int fd;
    ino_t inode;
    peri_buf pending; /* the beginning of a line */
    peri_buf out;
    bool color;
    const peri_log_filter *filter;
} follower;

static int open_file(follower *f)
{
    struct stat info;
    int fd = open(f->path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return -ESPIPE;
    }
    if (f->fd >= 0) {
        close(f->fd);
    }
    f->fd = fd;
    f->inode = info.st_ino;
    return 0;
}

/* To the start of the first whole line of the last bytes. */
static void seek_tail(follower *f)
{
    char byte;

    if (lseek(f->fd, -(off_t)TAIL_BYTES, SEEK_END) < 0) {
        lseek(f->fd, 0, SEEK_SET);
        return;
    }
    while (read(f->fd, &byte, 1) == 1 && byte != '\n') {
    }
}

static int print_lines(follower *f)
{
    const char *end;

    while (f->pending.length > 0 &&
           (end = memchr(f->pending.data, '\n', f->pending.length)) != NULL) {
        size_t length = (size_t)(end - f->pending.data) + 1;

        if (print_line(&f->out, peri_slice_of(f->pending.data, length),
                       f->color, f->filter) < 0) {
            return -1;
        }
        peri_buf_consume(&f->pending, length);
    }
    return 0;
}

/* What is there now. */
static int read_on(follower *f)
{
    char piece[TAIL_BYTES];
    ssize_t n;

    while ((n = read(f->fd, piece, sizeof piece)) > 0) {
        if (peri_buf_append(&f->pending, piece, (size_t)n) < 0) {
            peri_buf_clear(&f->pending); /* one endless line */
        }
        if (print_lines(f) < 0) {
            return -1;
        }
    }
    return 0;
}

static void reopen_if_moved(follower *f)
{
    struct stat info;

    if (stat(f->path, &info) == 0 && info.st_ino != f->inode) {
        open_file(f);
    }
}

static int follow(follower *f, pid_t host)
{
    seek_tail(f);
    for (;;) {
        bool ended = kill(host, 0) < 0 && errno == ESRCH;

        if (read_on(f) < 0) {
            return PERILUA_CLI_FAILURE;
        }
        if (ended) {
            return PERILUA_CLI_OK;
        }
        usleep(POLL_MICROSECONDS);
        reopen_if_moved(f);
    }
}

int perilua_cli_logs(perilua_cli *cli)
{
    running host;
    char path[PATH_BYTES];
    follower f = {
        .path = path, .fd = -1, .color = wants_color(), .filter = &cli->filter};
    int code;

    if (isatty(0) != 1 && cli->dir[0] == '.' && cli->dir[1] == '\0') {
        return perilua_cli_pretty(cli);
    }
    code = ask_host(cli->dir, &host);
    if (code == 0) {
        code = find_file(cli, &host, path);
    }
    if (code != 0) {
        return code;
    }
    if (open_file(&f) < 0) {
        fputs("perigee: the host does not log to a file; try perigee run | "
              "perigee pretty\n",
              stderr);
        return PERILUA_CLI_FAILURE;
    }
    peri_buf_init(&f.pending, LINE_MAX_BYTES);
    peri_buf_init(&f.out, 2 * LINE_MAX_BYTES);
    code = follow(&f, host.pid);
    peri_buf_fini(&f.pending);
    peri_buf_fini(&f.out);
    close(f.fd);
    return code;
}
