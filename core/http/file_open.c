/* File opening: openat2() with RESOLVE_BENEATH does what we need in one call;
 * without it each segment is opened by itself and a link is an error. */
#include "core/http/file_open.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/err.h"

/* A rename below the root may race the kernel's look-up. */
#define RACES_MAX 8
#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One character of a segment; *at moves behind it. Negative: refused. */
static int decode_one(const char **at, const char *end)
{
    const char *p = *at;
    int value;

    if (*p != '%') {
        (*at)++;
        return *p != '\0' ? (unsigned char)*p : PERI_EFORMAT;
    }
    if (end - p < 3 || hex_value(p[1]) < 0 || hex_value(p[2]) < 0) {
        return PERI_EFORMAT;
    }
    *at += 3;
    value = hex_value(p[1]) << 4 | hex_value(p[2]);
    return value == 0 || value == '/' ? PERI_EFORMAT : value;
}

/* RFC 8615: the one folder with a dot that is there to be seen. */
static bool is_well_known(const char *behind_dot, const char *end)
{
    static const char rest[] = "well-known/";
    const size_t length = sizeof rest - 1;

    return (size_t)(end - behind_dot) > length &&
           memcmp(behind_dot, rest, length) == 0;
}

int peri_file_path(peri_slice raw, char *out)
{
    const char *at = raw.data;
    const char *end = at + raw.length;
    const char *start = out;
    const char *segment = out;

    if (at < end && *at == '/') {
        at++;
    }
    while (at < end) {
        bool slash = *at == '/';
        int c = decode_one(&at, end);

        if (c < 0 || (slash && out == segment) ||
            (c == '.' && out == segment &&
             (out != start || !is_well_known(at, end)))) {
            return PERI_EFORMAT;
        }
        *out++ = (char)c;
        if (slash) {
            segment = out;
        }
    }
    if (out == segment) {
        memcpy(out, "index.html", sizeof "index.html");
        return 0;
    }
    *out = '\0';
    return out > start ? 0 : PERI_EFORMAT;
}

int peri_file_open_walking(int root_fd, const char *path)
{
    int at = root_fd;

    for (;;) {
        const char *slash = strchr(path, '/');
        size_t length = slash != NULL ? (size_t)(slash - path) : strlen(path);
        char name[NAME_MAX + 1];
        int fd;

        if (length > NAME_MAX) {
            fd = -ENAMETOOLONG;
        } else {
            memcpy(name, path, length);
            name[length] = '\0';
            fd = openat(at, name,
                        slash != NULL
                            ? O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
                            : OPEN_FLAGS | O_NOFOLLOW);
            fd = fd < 0 ? -errno : fd;
        }
        if (at != root_fd) {
            close(at);
        }
        if (fd < 0 || slash == NULL) {
            return fd;
        }
        at = fd;
        path = slash + 1;
    }
}

static int open_beneath(int root_fd, const char *path)
{
    struct open_how how = {
        .flags = OPEN_FLAGS,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd = -1;

    for (int i = 0; i < RACES_MAX; i++) {
        fd = syscall(SYS_openat2, root_fd, path, &how, sizeof how);
        if (fd >= 0 || errno != EAGAIN) {
            break;
        }
    }
    if (fd >= 0) {
        return (int)fd;
    }
    if (errno == ENOSYS || errno == EPERM || errno == EINVAL) {
        return peri_file_open_walking(root_fd, path);
    }
    return -errno;
}

int peri_file_open(const char *root, const char *path, struct stat *stat)
{
    int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd;

    if (root_fd < 0) {
        return -errno;
    }
    fd = open_beneath(root_fd, path);
    close(root_fd);
    if (fd < 0) {
        return fd;
    }
    if (fstat(fd, stat) < 0 ||
        (!S_ISREG(stat->st_mode) && !S_ISDIR(stat->st_mode))) {
        close(fd);
        return -ENOENT;
    }
    return fd;
}
