/* Commands for log lines: pretty reads them from standard input, logs from the
 * running host, whatever its destination. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bindings/cli_commands.h"
#include "core/base/alloc.h"
#include "core/base/buf.h"
#include "core/base/fd.h"
#include "core/base/log_member.h"
#include "core/base/number.h"
#include "core/base/pretty.h"
#include "core/cluster/control.h"

#define LINE_MAX_BYTES ((size_t)4 << 20)
#define TIMEOUT_MS 10000 /* as for status */

static bool wants_color(void)
{
    const char *none = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    return (none == NULL || none[0] == '\0') && isatty(1) == 1 &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

static int print_line(peri_buf *out, peri_slice line, bool color,
                      const peri_log_filter *filter)
{
    int rc;

    if (!peri_log_filter_passes(filter, line)) {
        return 0;
    }
    if (line.length > LINE_MAX_BYTES ||
        peri_pretty_line(out, line, color) < 0) {
        peri_buf_clear(out);
        peri_buf_append_slice(out, line);
    }
    rc = peri_fd_write(STDOUT_FILENO, peri_buf_slice(out));
    peri_buf_clear(out);
    return rc;
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

/* ---- logs: of the running host ---- */

/* Lines are shown by the moments up to which the host gives them, of all its
 * processes together. */
typedef struct held_line {
    char *text;
    size_t length;
    double time_ms;
    size_t order; /* among those of the same millisecond */
} held_line;

typedef struct reader {
    peri_buf pending; /* the beginning of a line */
    peri_buf out;
    bool color;
    const peri_log_filter *filter;
    held_line *held;
    size_t count;
} reader;

static int by_time(const void *a, const void *b)
{
    const held_line *x = a;
    const held_line *y = b;

    if (x->time_ms != y->time_ms) {
        return x->time_ms < y->time_ms ? -1 : 1;
    }
    return x->order < y->order ? -1 : 1;
}

static void hold(reader *r, peri_slice line)
{
    peri_slice time =
        peri_log_member(peri_slice_of(line.data, line.length - 1), "time");
    held_line *held;

    if (!peri_log_filter_passes(r->filter, line)) {
        return;
    }
    r->held = peri_realloc(r->held, (r->count + 1) * sizeof *r->held);
    held = &r->held[r->count];
    *held = (held_line){.text = peri_strndup(line.data, line.length),
                        .length = line.length,
                        .order = r->count};
    if (time.length > 0) {
        peri_number_read(time.data, time.length, &held->time_ms);
    }
    r->count++;
}

/* The oldest first. */
static bool show_held(reader *r)
{
    bool ok = true;

    if (r->count > 0) {
        qsort(r->held, r->count, sizeof *r->held, by_time);
    }
    for (size_t i = 0; i < r->count; i++) {
        peri_slice line = peri_slice_of(r->held[i].text, r->held[i].length);

        ok = ok && print_line(&r->out, line, r->color, r->filter) == 0;
        free(r->held[i].text);
    }
    r->count = 0;
    return ok;
}

static bool on_line(reader *r, peri_slice line)
{
    if (line.length == 1) {
        return show_held(r);
    }
    if (line.data[0] == '!') { /* no JSON: see core/cluster/control.c */
        fprintf(stderr,
                "perigee: %.*s lines passed over: they came faster than they "
                "can be read\n",
                (int)line.length - 2, line.data + 1);
        return true;
    }
    hold(r, line);
    return true;
}

static bool on_piece(void *data, peri_slice piece)
{
    reader *r = data;
    const char *end;

    if (peri_buf_append_slice(&r->pending, piece) < 0) {
        peri_buf_clear(&r->pending); /* one endless line */
    }
    while (r->pending.length > 0 &&
           (end = memchr(r->pending.data, '\n', r->pending.length)) != NULL) {
        size_t length = (size_t)(end - r->pending.data) + 1;

        if (!on_line(r, peri_slice_of(r->pending.data, length))) {
            return false;
        }
        peri_buf_consume(&r->pending, length);
    }
    return true;
}

/* A pipe, a file: lines are there. Nothing is to be had of a terminal or of
 * /dev/null. */
static bool stdin_has_lines(void)
{
    struct stat info;

    return fstat(0, &info) == 0 && !S_ISCHR(info.st_mode);
}

int perilua_cli_logs(perilua_cli *cli)
{
    reader r = {.color = wants_color(), .filter = &cli->filter};
    bool is_here = cli->dir[0] == '.' && cli->dir[1] == '\0';
    peri_buf why;
    int code;

    if (!cli->follow && is_here && stdin_has_lines()) {
        return perilua_cli_pretty(cli);
    }
    peri_buf_init(&r.pending, LINE_MAX_BYTES);
    peri_buf_init(&r.out, 2 * LINE_MAX_BYTES);
    peri_buf_init(&why, LINE_MAX_BYTES);
    code = peri_control_logs(cli->dir, cli->follow, TIMEOUT_MS, on_piece, &r,
                             &why);
    show_held(&r); /* the host ended in the midst of it */
    free(r.held);
    if (code != 0) {
        fprintf(stderr, "perigee: %.*s\n", (int)why.length, why.data);
    }
    peri_buf_fini(&r.pending);
    peri_buf_fini(&r.out);
    peri_buf_fini(&why);
    return code;
}
