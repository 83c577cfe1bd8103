/* Log sink: descriptors, and lines on their way into them. */
#include "core/loop/log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/base/pretty.h"
#include "core/loop/log_sink_internal.h"

#define OUT_MAX_BYTES ((size_t)8 << 20)
#define COMPLAINT_PAUSE_NS ((uint64_t)60 * 1000000000u)
#define FILE_WRITE_BYTES ((size_t)256 << 10)

/* A named pipe that nobody reads is an error (ENXIO): to wait for a reader
 * would hold up the start, and signals with it. */
static int open_file(const char *path)
{
    int fd = open(
        path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
        0640);

    return fd < 0 ? -errno : fd;
}

static bool wants_colour(int fd)
{
    const char *no_color = getenv("NO_COLOR");

    return isatty(fd) && (no_color == NULL || no_color[0] == '\0');
}

/* What kind of thing a descriptor is. A pipe is opened once more, so that it
 * can be written to without waiting and without changing it for others. */
static void look_at(peri_log_sink *sink)
{
    struct stat info;
    char path[32];
    int fd;

    if (fstat(sink->fd, &info) < 0 || S_ISREG(info.st_mode)) {
        sink->kind = PERI_SINK_FILE;
        return;
    }
    if (S_ISSOCK(info.st_mode)) {
        sink->kind = PERI_SINK_STREAM;
        return;
    }
    sink->kind = PERI_SINK_PIPE;
    snprintf(path, sizeof path, "/proc/self/fd/%d", sink->fd);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        sink->may_block = true;
        return;
    }
    if (sink->own_fd) {
        close(sink->fd);
    }
    sink->fd = fd;
    sink->own_fd = true;
}

static int open_descriptor(peri_log_sink *sink)
{
    int standard = strcmp(sink->name, "stdout") == 0   ? STDOUT_FILENO
                   : strcmp(sink->name, "stderr") == 0 ? STDERR_FILENO
                                                       : -1;

    sink->fd = standard >= 0 ? standard : open_file(sink->name);
    if (sink->fd < 0) {
        return sink->fd;
    }
    sink->own_fd = standard < 0;
    sink->path = standard < 0 ? sink->name : NULL;
    look_at(sink);
    sink->colour = wants_colour(sink->fd);
    return 0;
}

int peri_log_sink_open(const peri_log_options *options, peri_log_sink **out)
{
    peri_log_sink *sink = peri_calloc(1, sizeof *sink);
    int rc = 0;

    sink->name = peri_strdup(options->destination);
    sink->fd = -1;
    sink->lost = options->lost;
    pthread_mutex_init(&sink->lock, NULL);
    peri_buf_init(&sink->out, OUT_MAX_BYTES);
    peri_buf_init(&sink->made_of, OUT_MAX_BYTES);
    if (peri_sink_parse_socket(sink)) {
        peri_syslog_init(
            &sink->syslog,
            options->facility != NULL ? options->facility : "daemon",
            options->app_name != NULL ? options->app_name : "perigee");
    } else {
        rc = open_descriptor(sink);
    }
    if (rc < 0) {
        peri_log_sink_close(sink);
        return rc;
    }
    sink->pretty = options->pretty && sink->kind != PERI_SINK_SYSLOG;
    *out = sink;
    return 0;
}

void peri_log_sink_close(peri_log_sink *sink)
{
    if (sink == NULL) {
        return;
    }
    if (sink->fd >= 0 && (sink->own_fd || sink->connects)) {
        close(sink->fd);
    }
    pthread_mutex_destroy(&sink->lock);
    peri_buf_fini(&sink->out);
    peri_buf_fini(&sink->made_of);
    free(sink->name);
    free(sink->host);
    free(sink);
}

const char *peri_log_sink_file(const char *destination)
{
    peri_log_sink sink = {.name = (char *)(uintptr_t)destination};
    bool is_socket = peri_sink_parse_socket(&sink);

    free(sink.host);
    return is_socket || strcmp(destination, "stdout") == 0 ||
                   strcmp(destination, "stderr") == 0
               ? NULL
               : destination;
}

/* ---- bytes ---- */

static bool is_datagram(const peri_log_sink *sink)
{
    return sink->kind == PERI_SINK_DATAGRAM || sink->kind == PERI_SINK_SYSLOG;
}

/* The first line of some, with its line feed. */
static size_t line_length(peri_slice lines)
{
    const char *end = memchr(lines.data, '\n', lines.length);

    return end != NULL ? (size_t)(end - lines.data) + 1 : lines.length;
}

/* Up to what a pipe takes as one piece, whole lines where possible. */
static size_t pipe_piece(peri_slice bytes)
{
    const char *end;

    if (bytes.length <= PIPE_BUF) {
        return bytes.length;
    }
    end = memrchr(bytes.data, '\n', PIPE_BUF);
    return end != NULL ? (size_t)(end - bytes.data) + 1 : PIPE_BUF;
}

static ssize_t put_pipe(const peri_log_sink *sink, peri_slice bytes)
{
    struct pollfd wanted = {.fd = sink->fd, .events = POLLOUT};

    if (sink->may_block && poll(&wanted, 1, 0) <= 0) {
        return 0;
    }
    return write(sink->fd, bytes.data, pipe_piece(bytes));
}

/* How many bytes were taken; 0: none now; -errno. */
static ssize_t put_bytes(const peri_log_sink *sink, peri_slice bytes)
{
    ssize_t n;

    if (sink->kind == PERI_SINK_FILE) {
        n = write(sink->fd, bytes.data,
                  bytes.length < FILE_WRITE_BYTES ? bytes.length
                                                  : FILE_WRITE_BYTES);
    } else if (sink->kind == PERI_SINK_PIPE) {
        n = put_pipe(sink, bytes);
    } else {
        n = send(sink->fd, bytes.data, bytes.length,
                 MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (n >= 0) {
        return n;
    }
    return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -errno;
}

/* ---- what is made of lines ---- */

static void begin_out(peri_log_sink *sink, peri_slice line)
{
    peri_buf_clear(&sink->out);
    peri_buf_clear(&sink->made_of);
    peri_buf_append_slice(&sink->made_of, line);
    sink->out_sent = 0;
    sink->finished = false;
}

/* A syslog message, pretty text, or the line alone: into out. */
static void make(peri_log_sink *sink, peri_slice line)
{
    int rc;

    begin_out(sink, line);
    if (sink->kind == PERI_SINK_SYSLOG) {
        rc = peri_syslog_format(&sink->syslog, line, &sink->out);
    } else {
        rc = peri_pretty_line(&sink->out, line, sink->colour);
    }
    if (rc < 0) {
        peri_buf_clear(&sink->out);
        peri_buf_append_slice(&sink->out, line);
    }
}

/* Out of out. 0: all is gone; 1: some is left; or -errno. */
static int push_out(peri_log_sink *sink)
{
    while (sink->out_sent < sink->out.length) {
        ssize_t n =
            put_bytes(sink, peri_slice_of(sink->out.data + sink->out_sent,
                                          sink->out.length - sink->out_sent));

        if (n <= 0) {
            return n < 0 ? (int)n : 1;
        }
        sink->out_sent += (size_t)n;
    }
    return 0;
}

static bool is_half_out(const peri_log_sink *sink)
{
    return sink->out_sent > 0 && sink->out_sent < sink->out.length;
}

/* Line by line: each is made into something else. A line is taken once all of
 * it is out; half of it may be, and then whoever gave it comes again. */
static ssize_t send_made(peri_log_sink *sink, peri_slice lines)
{
    size_t done = 0;

    while (done < lines.length) {
        peri_slice rest = peri_slice_of(lines.data + done, lines.length - done);
        int rc;

        rest.length = line_length(rest);
        make(sink, rest);
        rc = push_out(sink);
        if (rc < 0 && done == 0) {
            return rc;
        }
        if (rc != 0) {
            break;
        }
        done += rest.length;
    }
    return (ssize_t)done;
}

/* A datagram a line, as it is. */
static ssize_t send_datagrams(const peri_log_sink *sink, peri_slice lines)
{
    size_t done = 0;

    while (done < lines.length) {
        peri_slice rest = peri_slice_of(lines.data + done, lines.length - done);
        ssize_t n;

        rest.length = line_length(rest);
        n = put_bytes(sink, rest);
        if (n <= 0) {
            return done > 0 ? (ssize_t)done : n;
        }
        done += rest.length;
    }
    return (ssize_t)done;
}

/* As many as go out at once; then the one that did so by half. */
static ssize_t send_plain(peri_log_sink *sink, peri_slice lines)
{
    ssize_t n = put_bytes(sink, lines);
    const char *end = n > 0 ? memrchr(lines.data, '\n', (size_t)n) : NULL;
    size_t whole = end != NULL ? (size_t)(end - lines.data) + 1 : 0;
    peri_slice half;
    int rc;

    if (n <= 0 || whole == (size_t)n) {
        return n;
    }
    half = peri_slice_of(lines.data + whole, lines.length - whole);
    half.length = line_length(half);
    begin_out(sink, half);
    peri_buf_append_slice(&sink->out, half);
    sink->out_sent = (size_t)n - whole;
    rc = push_out(sink);
    return rc == 0                ? (ssize_t)(whole + half.length)
           : rc < 0 && whole == 0 ? rc
                                  : (ssize_t)whole;
}

/* A line that is half out goes first, whoever gave it: the lines of two rings
 * do not mix. Whoever gave it is told the next time. */
static ssize_t send_some(peri_log_sink *sink, peri_slice lines)
{
    if (is_half_out(sink)) {
        int rc = push_out(sink);

        if (rc != 0) {
            return rc < 0 ? rc : 0;
        }
        sink->finished = true;
    }
    if (sink->finished) {
        peri_slice first = peri_slice_of(lines.data, line_length(lines));

        if (peri_slice_equal(first, peri_buf_slice(&sink->made_of))) {
            sink->finished = false;
            return (ssize_t)first.length;
        }
    }
    if (sink->kind == PERI_SINK_SYSLOG || sink->pretty) {
        return send_made(sink, lines);
    }
    return sink->kind == PERI_SINK_DATAGRAM ? send_datagrams(sink, lines)
                                            : send_plain(sink, lines);
}

/* ---- trouble ---- */

static void complain(peri_log_sink *sink, int rc)
{
    uint64_t now = peri_clock_monotonic_ns();

    if (rc == -EAGAIN || sink->complained ||
        (sink->complained_ns != 0 &&
         now - sink->complained_ns < COMPLAINT_PAUSE_NS)) {
        return;
    }
    sink->complained = true;
    sink->complained_ns = now;
    fprintf(stderr, "perigee: log destination %s: %s (pid %d)\n", sink->name,
            peri_err_text(rc), (int)getpid());
}

static ssize_t failed(peri_log_sink *sink, peri_slice lines, int rc)
{
    if (rc == -EMSGSIZE && is_datagram(sink)) {
        sink->out_sent = sink->out.length;
        atomic_fetch_add(sink->lost, 1);
        return (ssize_t)line_length(lines);
    }
    complain(sink, rc);
    if (sink->connects) {
        peri_sink_disconnect(sink);
        sink->out_sent = 0; /* the next one gets all of the line */
    }
    return rc;
}

ssize_t peri_log_sink_send(void *data, peri_slice lines)
{
    peri_log_sink *sink = data;
    ssize_t n = 0;
    int rc = 0;

    pthread_mutex_lock(&sink->lock);
    if (sink->fd < 0) {
        rc = peri_sink_connect(sink);
    }
    if (rc < 0) {
        complain(sink, rc);
        n = rc == -EAGAIN ? 0 : rc;
    } else {
        n = send_some(sink, lines);
        if (n < 0) {
            n = failed(sink, lines, (int)n);
        } else if (n > 0) {
            sink->delay_ms = 0;
            sink->complained = false;
        }
    }
    pthread_mutex_unlock(&sink->lock);
    return n;
}

int peri_log_sink_wait(void *data, int timeout_ms)
{
    peri_log_sink *sink = data;
    struct pollfd wanted = {.events = POLLOUT};
    uint64_t pause_ns;
    int n;

    pthread_mutex_lock(&sink->lock);
    wanted.fd = sink->fd;
    pause_ns = sink->fd < 0 ? peri_sink_pause_ns(sink) : 0;
    pthread_mutex_unlock(&sink->lock);
    if (wanted.fd < 0) {
        uint64_t limit_ns = (uint64_t)timeout_ms * 1000000u;
        uint64_t ns = pause_ns < limit_ns ? pause_ns : limit_ns;
        struct timespec pause = {(time_t)(ns / 1000000000u),
                                 (long)(ns % 1000000000u)};

        nanosleep(&pause, NULL);
        return pause_ns <= limit_ns ? 0 : PERI_ETIMEOUT;
    }
    n = poll(&wanted, 1, timeout_ms);
    if (n < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    return n == 0 ? PERI_ETIMEOUT : 0;
}

int peri_log_sink_reopen(peri_log_sink *sink)
{
    int fd;
    int rc = 0;

    if (sink->path == NULL || sink->kind != PERI_SINK_FILE) {
        return 0;
    }
    fd = open_file(sink->path);
    if (fd < 0) {
        return fd;
    }
    /* In one step: a thread that writes meanwhile has the old or the new. */
    if (dup3(fd, sink->fd, O_CLOEXEC) < 0) {
        rc = -errno;
    }
    close(fd);
    return rc;
}
