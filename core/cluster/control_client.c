/* Control, the client's side: one blocking exchange. */
#include "core/cluster/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/cluster/lock.h"

#define CONNECT_MS 10000 /* where the outcome may take as long as it takes */

/* The address is short however long dir is: the directory is opened, and named
 * by its descriptor. */
static int connect_in(int dir_fd, int timeout_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int ms = timeout_ms != 0 ? timeout_ms : CONNECT_MS;
    struct timeval patience = {ms / 1000, ms % 1000 * 1000};
    int rc = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    /* A host that accepts nobody lets connect() wait. */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    snprintf(address.sun_path, sizeof address.sun_path,
             "/proc/self/fd/%d/var/perigee.sock", dir_fd);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        rc = errno == EAGAIN ? PERI_ETIMEOUT : -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static int open_connection(const char *dir, int timeout_ms)
{
    int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd;

    if (dir_fd < 0) {
        return -errno;
    }
    fd = connect_in(dir_fd, timeout_ms);
    close(dir_fd);
    return fd;
}

static int send_verb(int fd, const char *verb)
{
    char line[256];
    int n = snprintf(line, sizeof line, "%s\n", verb);

    if (n >= (int)sizeof line) {
        return PERI_ELIMIT;
    }
    return send(fd, line, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -errno;
}

/* What is left of it for poll(). */
static int left_ms(uint64_t start_ns, int timeout_ms)
{
    uint64_t past_ms = (peri_clock_monotonic_ns() - start_ns) / 1000000u;

    if (timeout_ms == 0) {
        return -1;
    }
    return past_ms < (uint64_t)timeout_ms ? timeout_ms - (int)past_ms : 0;
}

/* The first time the host is told, the second time nothing is awaited. */
static int on_end(int fd, int end_fd, int *times)
{
    char event[256];

    if (read(end_fd, event, sizeof event) <= 0) {
        return 0;
    }
    return ++*times == 1 ? send_verb(fd, "end") : -EINTR;
}

/* 0 at the end, or negative. */
static int read_all(int fd, int timeout_ms, int end_fd, peri_buf *out)
{
    uint64_t start_ns = peri_clock_monotonic_ns();
    int ends = 0;
    char piece[4096];

    for (;;) {
        struct pollfd wanted[2] = {{.fd = fd, .events = POLLIN},
                                   {.fd = end_fd, .events = POLLIN}};
        ssize_t n;

        if (poll(wanted, 2, left_ms(start_ns, timeout_ms)) == 0) {
            return PERI_ETIMEOUT;
        }
        if (wanted[1].revents != 0) {
            int rc = on_end(fd, end_fd, &ends);

            if (rc < 0) {
                return rc;
            }
        }
        n = recv(fd, piece, sizeof piece, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : 0;
        }
        if (peri_buf_append(out, piece, (size_t)n) < 0) {
            return PERI_ELIMIT;
        }
    }
}

/* "3\nreason" becomes 3, "reason". */
static int split_code(peri_buf *out)
{
    char *end = out->length > 0 ? memchr(out->data, '\n', out->length) : NULL;
    int code;

    if (end == NULL) {
        peri_buf_clear(out);
        peri_buf_append_str(out, "the host ended without an answer");
        return 1;
    }
    *end = '\0';
    code = atoi(out->data);
    peri_buf_consume(out, (size_t)(end + 1 - out->data));
    return code;
}

static int say(peri_buf *out, const char *dir, int rc)
{
    int holder;

    peri_buf_clear(out);
    if (rc == -ENOENT || rc == -ECONNREFUSED || rc == -ENOTDIR) {
        holder = peri_lock_holder(dir);
        if (holder != 0) {
            peri_buf_printf(out,
                            "the host in %s (pid %d) has no control "
                            "socket",
                            dir, holder);
        } else {
            peri_buf_printf(out, "no host runs in %s", dir);
        }
    } else if (rc == -EINTR) {
        peri_buf_append_str(out, "interrupted");
    } else if (rc == PERI_ETIMEOUT) {
        peri_buf_append_str(out, "the host does not answer in time");
    } else {
        peri_buf_printf(out, "%s/var/perigee.sock: %s", dir, peri_err_text(rc));
    }
    return 1;
}

int peri_control_call_until(const char *dir, const char *verb, int timeout_ms,
                            int end_fd, peri_buf *out)
{
    int fd = open_connection(dir, timeout_ms);
    int rc;

    if (fd < 0) {
        return say(out, dir, fd);
    }
    rc = send_verb(fd, verb);
    if (rc == 0) {
        rc = read_all(fd, timeout_ms, end_fd, out);
    }
    close(fd);
    return rc < 0 ? say(out, dir, rc) : split_code(out);
}

/* The line with the code, which comes first: 0, or what it says. */
static int take_code(peri_buf *buf)
{
    return buf->length >= 2 && memcmp(buf->data, "0\n", 2) == 0
               ? 0
               : split_code(buf);
}

/* Some bytes, or 0 at the end. timeout_ms -1: it may say nothing for ever. */
static ssize_t read_some(int fd, int timeout_ms, char *piece, size_t room)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    ssize_t n;
    int rc;

    do {
        rc = poll(&wanted, 1, timeout_ms);
    } while (rc < 0 && errno == EINTR);
    if (rc <= 0) {
        return rc == 0 ? PERI_ETIMEOUT : -errno;
    }
    do {
        n = read(fd, piece, room);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* The time is that between two pieces: a pager may hold them up for hours. */
static int pass_on(int fd, bool follow, int timeout_ms,
                   bool (*on_piece)(void *data, peri_slice piece), void *data,
                   peri_buf *head)
{
    char piece[65536];
    bool begun = false;
    ssize_t n;

    while ((n = read_some(fd, follow && begun ? -1 : timeout_ms, piece,
                          sizeof piece)) != 0) {
        peri_slice lines = peri_slice_of(piece, (size_t)n);

        if (n < 0) {
            return (int)n;
        }
        if (!begun) {
            if (peri_buf_append(head, piece, (size_t)n) < 0) {
                return PERI_ELIMIT;
            }
            if (head->length < 2) {
                continue;
            }
            if (take_code(head) != 0) {
                return 1;
            }
            begun = true;
            lines = peri_slice_of(head->data + 2, head->length - 2);
        }
        if (lines.length > 0 && !on_piece(data, lines)) {
            return 0;
        }
    }
    return begun ? 0 : split_code(head);
}

int peri_control_logs(const char *dir, bool follow, int timeout_ms,
                      bool (*on_piece)(void *data, peri_slice piece),
                      void *data, peri_buf *why)
{
    int fd = open_connection(dir, timeout_ms);
    int rc;

    if (fd < 0) {
        return say(why, dir, fd);
    }
    rc = send_verb(fd, follow ? "logs follow" : "logs");
    if (rc == 0) {
        rc = pass_on(fd, follow, timeout_ms, on_piece, data, why);
    }
    close(fd);
    return rc < 0 ? say(why, dir, rc) : rc;
}

int peri_control_call(const char *dir, const char *verb, int timeout_ms,
                      peri_buf *out)
{
    return peri_control_call_until(dir, verb, timeout_ms, -1, out);
}
