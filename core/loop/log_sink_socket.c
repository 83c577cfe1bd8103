/* Log sink, sockets: the other side comes and goes. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/loop/log_sink_internal.h"

#define DELAY_MIN_MS 100u
#define DELAY_MAX_MS 5000u
#define SEND_BUFFER_BYTES (256 * 1024)

/* "//host:port", "//[::1]:514" into host and port. */
static void take_address(peri_log_sink *sink, const char *text)
{
    const char *end;
    const char *colon;

    if (text[0] == '[' && (end = strchr(text, ']')) != NULL) {
        text++;
        colon = end[1] == ':' ? end + 1 : NULL;
    } else {
        colon = strrchr(text, ':');
        end = colon != NULL ? colon : text + strlen(text);
    }
    sink->host = peri_strndup(text, (size_t)(end - text));
    snprintf(sink->port, sizeof sink->port, "%s",
             colon != NULL ? colon + 1 : "514");
}

/* Behind the scheme: "/path", "path" or "///path". */
static const char *path_of(const char *text)
{
    return strncmp(text, "//", 2) == 0 ? text + 2 : text;
}

bool peri_sink_parse_socket(peri_log_sink *sink)
{
    const char *name = sink->name;

    if (strncmp(name, "unix:", 5) == 0) {
        sink->kind = PERI_SINK_STREAM;
        sink->path = path_of(name + 5);
    } else if (strncmp(name, "unix-dgram:", 11) == 0) {
        sink->kind = PERI_SINK_DATAGRAM;
        sink->path = path_of(name + 11);
    } else if (strcmp(name, "syslog") == 0 || strcmp(name, "syslog:") == 0) {
        sink->kind = PERI_SINK_SYSLOG;
        sink->path = "/dev/log";
    } else if (strncmp(name, "syslog://", 9) == 0 && name[9] != '/') {
        sink->kind = PERI_SINK_SYSLOG;
        take_address(sink, name + 9);
    } else if (strncmp(name, "syslog:", 7) == 0) {
        sink->kind = PERI_SINK_SYSLOG;
        sink->path = path_of(name + 7);
    } else {
        return false;
    }
    sink->connects = true;
    return true;
}

static int connect_unix(const peri_log_sink *sink)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int type = sink->kind == PERI_SINK_STREAM ? SOCK_STREAM : SOCK_DGRAM;
    int fd;
    int rc;

    if (strlen(sink->path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "%s", sink->path);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static int connect_udp(const peri_log_sink *sink)
{
    const struct addrinfo wanted = {.ai_socktype = SOCK_DGRAM};
    struct addrinfo *found = NULL;
    int fd = -1;
    int rc = -EHOSTUNREACH;

    if (getaddrinfo(sink->host, sink->port, &wanted, &found) != 0) {
        return rc;
    }
    for (const struct addrinfo *at = found; at != NULL && fd < 0;
         at = at->ai_next) {
        fd =
            socket(at->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) < 0) {
            rc = -errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd >= 0 ? fd : rc;
}

uint64_t peri_sink_pause_ns(const peri_log_sink *sink)
{
    uint64_t now = peri_clock_monotonic_ns();

    return sink->retry_ns > now ? sink->retry_ns - now : 0;
}

static void put_off(peri_log_sink *sink)
{
    sink->delay_ms = sink->delay_ms == 0 ? DELAY_MIN_MS : 2 * sink->delay_ms;
    if (sink->delay_ms > DELAY_MAX_MS) {
        sink->delay_ms = DELAY_MAX_MS;
    }
    sink->retry_ns =
        peri_clock_monotonic_ns() + (uint64_t)sink->delay_ms * 1000000u;
}

int peri_sink_connect(peri_log_sink *sink)
{
    int bytes = SEND_BUFFER_BYTES;
    int fd;

    if (peri_sink_pause_ns(sink) > 0) {
        return -EAGAIN;
    }
    fd = sink->path != NULL ? connect_unix(sink) : connect_udp(sink);
    if (fd < 0) {
        put_off(sink);
        return fd;
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    sink->fd = fd;
    return 0;
}

void peri_sink_disconnect(peri_log_sink *sink)
{
    close(sink->fd);
    sink->fd = -1;
    put_off(sink);
}
