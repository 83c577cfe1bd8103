/* Log sink: one descriptor. */
#include "core/loop/log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/pretty.h"

/* How long a full pipe or terminal is waited for, per line. */
#define BLOCKED_MAX_MS 5000
#define PRETTY_MAX_BYTES ((size_t)8 << 20)

struct peri_log_sink {
    int fd;
    char *path; /* NULL: a standard stream */
    bool pretty;
    bool colour;
    pthread_mutex_t lock; /* of buf, and of lines' order */
    peri_buf buf;
    _Atomic uint64_t lost;
    peri_log_write next;
    void *next_data;
};

static int open_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

    return fd < 0 ? -errno : fd;
}

static bool wants_colour(int fd)
{
    const char *no_color = getenv("NO_COLOR");

    return isatty(fd) && (no_color == NULL || no_color[0] == '\0');
}

int peri_log_sink_open(const char *destination, bool pretty,
                       peri_log_sink **out)
{
    peri_log_sink *sink;
    bool standard = strcmp(destination, "stdout") == 0 ||
                    strcmp(destination, "stderr") == 0;
    int fd = strcmp(destination, "stdout") == 0   ? STDOUT_FILENO
             : strcmp(destination, "stderr") == 0 ? STDERR_FILENO
                                                  : open_file(destination);

    if (fd < 0) {
        return fd;
    }
    sink = peri_calloc(1, sizeof *sink);
    sink->fd = fd;
    sink->path = standard ? NULL : peri_strdup(destination);
    sink->pretty = pretty;
    sink->colour = wants_colour(fd);
    pthread_mutex_init(&sink->lock, NULL);
    peri_buf_init(&sink->buf, PRETTY_MAX_BYTES);
    *out = sink;
    return 0;
}

void peri_log_sink_close(peri_log_sink *sink)
{
    if (sink == NULL) {
        return;
    }
    if (sink->path != NULL) {
        close(sink->fd);
    }
    pthread_mutex_destroy(&sink->lock);
    peri_buf_fini(&sink->buf);
    free(sink->path);
    free(sink);
}

/* Someone else may have made our standard output non-blocking. */
static bool wait_writable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    return poll(&p, 1, BLOCKED_MAX_MS) > 0;
}

static bool write_all(int fd, peri_slice text)
{
    while (text.length != 0) {
        ssize_t written = write(fd, text.data, text.length);

        if (written > 0) {
            text.data += written;
            text.length -= (size_t)written;
        } else if (written < 0 && errno == EAGAIN) {
            if (!wait_writable(fd)) {
                return false;
            }
        } else if (written < 0 && errno != EINTR) {
            return false;
        }
    }
    return true;
}

void peri_log_sink_write(void *data, peri_slice line)
{
    peri_log_sink *sink = data;

    pthread_mutex_lock(&sink->lock);
    if (sink->pretty) {
        peri_buf_clear(&sink->buf);
        if (peri_pretty_line(&sink->buf, line, sink->colour) == 0) {
            line = peri_buf_slice(&sink->buf);
        }
    }
    if (sink->next != NULL) {
        sink->next(sink->next_data, line);
    } else if (!write_all(sink->fd, line)) {
        atomic_fetch_add(&sink->lost, 1);
    }
    pthread_mutex_unlock(&sink->lock);
}

int peri_log_sink_reopen(peri_log_sink *sink)
{
    int fd;
    int rc = 0;

    if (sink->path == NULL) {
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

int peri_log_sink_fd(const peri_log_sink *sink)
{
    return sink->fd;
}

uint64_t peri_log_sink_lost(const peri_log_sink *sink)
{
    return atomic_load(&sink->lost);
}

void peri_log_sink_redirect(peri_log_sink *sink, peri_log_write next,
                            void *data)
{
    pthread_mutex_lock(&sink->lock);
    sink->next = next;
    sink->next_data = data;
    pthread_mutex_unlock(&sink->lock);
}
