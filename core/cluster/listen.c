/* Listen: binding, and finding who is there already. */
#include "core/cluster/listen.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/err.h"

#define TCP_LISTENING 0x0a /* of /proc/net/tcp */

static void set_port(peri_address *address, int port)
{
    if (address->storage.ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)&address->storage)->sin6_port =
            htons((uint16_t)port);
    } else {
        ((struct sockaddr_in *)&address->storage)->sin_port =
            htons((uint16_t)port);
    }
    address->port = port;
}

static int get_port(const struct sockaddr_storage *storage)
{
    if (storage->ss_family == AF_INET6) {
        return ntohs(((const struct sockaddr_in6 *)storage)->sin6_port);
    }
    /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): a sockaddr_in */
    return ntohs(((const struct sockaddr_in *)storage)->sin_port);
}

int peri_address_resolve(const char *host, int port, peri_address *out,
                         char *why, size_t why_bytes)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int rc;

    memset(out, 0, sizeof *out);
    rc = getaddrinfo(host, NULL, &hints, &found);
    if (rc != 0 || found == NULL) {
        snprintf(why, why_bytes, "cannot listen on %s: %s", host,
                 gai_strerror(rc));
        return -EADDRNOTAVAIL;
    }
    memcpy(&out->storage, found->ai_addr, found->ai_addrlen);
    out->length = found->ai_addrlen;
    getnameinfo(found->ai_addr, found->ai_addrlen, out->host, sizeof out->host,
                NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(found);
    set_port(out, port);
    return 0;
}

/* ---- who holds a port ---- */

/* The inode of a socket that listens on port, or 0. */
static unsigned long listener_inode(const char *table, int port)
{
    char line[512];
    unsigned long inode = 0;
    FILE *file = fopen(table, "re");

    if (file == NULL) {
        return 0;
    }
    while (inode == 0 && fgets(line, sizeof line, file) != NULL) {
        unsigned local_port;
        unsigned state;
        unsigned long number;

        if (sscanf(line,
                   " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s "
                   "%*u %*u %lu",
                   &local_port, &state, &number) == 3 &&
            state == TCP_LISTENING && (int)local_port == port) {
            inode = number;
        }
    }
    fclose(file);
    return inode;
}

static bool holds_socket(const char *pid, const char *wanted)
{
    char path[512];
    char target[64];
    struct dirent *entry;
    bool found = false;
    DIR *fds;

    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    fds = opendir(path);
    if (fds == NULL) {
        return false;
    }
    while (!found && (entry = readdir(fds)) != NULL) {
        ssize_t n;

        snprintf(path, sizeof path, "/proc/%.20s/fd/%.20s", pid, entry->d_name);
        n = readlink(path, target, sizeof target - 1);
        if (n > 0) {
            target[n] = '\0';
            found = strcmp(target, wanted) == 0;
        }
    }
    closedir(fds);
    return found;
}

static void read_comm(const char *pid, char *out, size_t out_bytes)
{
    char path[64];
    FILE *file;

    snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
    file = fopen(path, "re");
    snprintf(out, out_bytes, "?");
    if (file != NULL) {
        if (fgets(out, (int)out_bytes, file) != NULL) {
            out[strcspn(out, "\n")] = '\0';
        }
        fclose(file);
    }
}

/* "pid 123 (nginx)", or that it could not be found out. */
static void describe_holder(int port, char *out, size_t out_bytes)
{
    unsigned long inode = listener_inode("/proc/net/tcp", port);
    char wanted[64];
    char comm[64];
    struct dirent *entry;
    DIR *proc;

    if (inode == 0) {
        inode = listener_inode("/proc/net/tcp6", port);
    }
    snprintf(out, out_bytes,
             "another process (of another user, or gone by "
             "now)");
    proc = inode != 0 ? opendir("/proc") : NULL;
    if (proc == NULL) {
        return;
    }
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    while ((entry = readdir(proc)) != NULL) {
        if (isdigit((unsigned char)entry->d_name[0]) &&
            holds_socket(entry->d_name, wanted)) {
            read_comm(entry->d_name, comm, sizeof comm);
            snprintf(out, out_bytes, "pid %.20s (%s)", entry->d_name, comm);
            break;
        }
    }
    closedir(proc);
}

/* ---- binding ---- */

static int open_socket(const peri_address *address, bool shared, int *out_fd)
{
    int family = address->storage.ss_family;
    int on = 1;
    int rc = 0;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        (shared &&
         setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0) ||
        bind(fd, (const struct sockaddr *)&address->storage, address->length) <
            0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    /* Inherited by what is accepted: small answers leave at once. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *out_fd = fd;
    return 0;
}

int peri_listen_probe(const peri_address *address, char *why, size_t why_bytes)
{
    char holder[160];
    int fd = -1;
    int rc;

    if (address->port == 0) {
        return 0;
    }
    rc = open_socket(address, false, &fd);
    if (rc == 0) {
        close(fd);
        return 0;
    }
    if (rc == -EADDRINUSE) {
        describe_holder(address->port, holder, sizeof holder);
        snprintf(why, why_bytes, "%s port %d is in use by %s", address->host,
                 address->port, holder);
    } else {
        snprintf(why, why_bytes, "%s port %d: %s", address->host, address->port,
                 peri_err_text(rc));
    }
    return rc;
}

int peri_listen_bind(peri_address *address, int shared, int *out_fd)
{
    struct sockaddr_storage bound = {0};
    socklen_t length = sizeof bound;
    int rc = open_socket(address, shared != 0, out_fd);

    if (rc < 0 || address->port != 0) {
        return rc;
    }
    if (getsockname(*out_fd, (struct sockaddr *)&bound, &length) < 0) {
        rc = -errno;
        close(*out_fd);
        return rc;
    }
    set_port(address, get_port(&bound));
    return 0;
}

int peri_listen_is_bound_to(int fd, peri_address *address)
{
    peri_address bound = {.length = sizeof bound.storage};
    int wanted = address->port;

    if (getsockname(fd, (struct sockaddr *)&bound.storage, &bound.length) < 0 ||
        bound.length != address->length) {
        return 0;
    }
    bound.port = get_port(&bound.storage);
    if (wanted == 0) {
        set_port(address, bound.port);
    }
    if (memcmp(&bound.storage, &address->storage, address->length) != 0) {
        set_port(address, wanted);
        return 0;
    }
    return 1;
}

void peri_address_url(const peri_address *address, const char *scheme,
                      char *out, size_t out_bytes)
{
    bool brackets = strchr(address->host, ':') != NULL;

    snprintf(out, out_bytes, "%s://%s%s%s:%d", scheme, brackets ? "[" : "",
             address->host, brackets ? "]" : "", address->port);
}
