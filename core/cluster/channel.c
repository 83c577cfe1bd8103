/* Channel: one datagram a message, a fixed head before the text. */
#include "core/cluster/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/base/list.h"

#define WAITING_MAX 1024
#define READS_A_TURN 64 /* then the loop gets its turn */

typedef struct message_head {
    uint32_t verb;
    uint32_t number;
    uint64_t generation;
} message_head;

typedef struct waiting_message {
    peri_list link;
    message_head head;
    int fd; /* our copy, or -1 */
    size_t length;
    char text[];
} waiting_message;

struct peri_channel {
    uv_poll_t poll;
    int fd;
    bool closing;
    bool told_gone;
    void (*on_message)(void *data, const peri_channel_message *message);
    void *data;
    peri_list waiting;
    size_t waiting_count;
    char room[sizeof(message_head) + PERI_CHANNEL_TEXT_MAX];
};

int peri_channel_pair(int out_fds[2])
{
    int type = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK;

    return socketpair(AF_UNIX, type, 0, out_fds) < 0 ? -errno : 0;
}

static int send_now(int socket, const message_head *head, const char *text,
                    size_t length, int fd)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec parts[2] = {{(void *)(uintptr_t)head, sizeof *head},
                             {(void *)(uintptr_t)text, length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    if (fd >= 0) {
        struct cmsghdr *c;

        message.msg_control = control;
        message.msg_controllen = sizeof control;
        c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void want(peri_channel *channel)
{
    int events =
        UV_READABLE | (peri_list_empty(&channel->waiting) ? 0 : UV_WRITABLE);

    uv_poll_start(&channel->poll, events, on_poll);
}

static void drop_waiting(peri_channel *channel, waiting_message *message)
{
    peri_list_remove(&message->link);
    channel->waiting_count--;
    if (message->fd >= 0) {
        close(message->fd);
    }
    free(message);
}

static void tell_gone(peri_channel *channel)
{
    if (channel->told_gone || channel->closing) {
        return;
    }
    channel->told_gone = true;
    uv_poll_stop(&channel->poll);
    channel->on_message(channel->data, NULL);
}

/* False: the channel is broken. */
static bool send_waiting(peri_channel *channel)
{
    while (!peri_list_empty(&channel->waiting)) {
        waiting_message *message =
            PERI_CONTAINER(channel->waiting.next, waiting_message, link);
        int rc = send_now(channel->fd, &message->head, message->text,
                          message->length, message->fd);

        if (rc == -EAGAIN || rc == -ENOBUFS) {
            return true;
        }
        if (rc < 0) {
            return false;
        }
        drop_waiting(channel, message);
    }
    want(channel);
    return true;
}

static int taken_fd(struct msghdr *message)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(message);
    int fd = -1;

    if (c != NULL && c->cmsg_level == SOL_SOCKET &&
        c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd)) {
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    }
    return fd;
}

/* 1: told of one; 0: there is none now; negative: the other side has gone. */
static int receive_one(peri_channel *channel)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {channel->room, sizeof channel->room};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t n = recvmsg(channel->fd, &message, MSG_CMSG_CLOEXEC);
    peri_channel_message out;
    message_head head;

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    if (n < (ssize_t)sizeof head) {
        return PERI_EGONE; /* 0 is the end; nobody sends less than a head */
    }
    memcpy(&head, channel->room, sizeof head);
    out = (peri_channel_message){
        .verb = head.verb,
        .number = head.number,
        .generation = head.generation,
        .text = {channel->room + sizeof head, (size_t)n - sizeof head},
        .fd = taken_fd(&message)};
    channel->on_message(channel->data, &out);
    return 1;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    peri_channel *channel = poll->data;

    if (status < 0 || ((events & UV_WRITABLE) != 0 && !send_waiting(channel))) {
        tell_gone(channel);
        return;
    }
    if ((events & (UV_READABLE | UV_DISCONNECT)) == 0) {
        return;
    }
    for (int i = 0; i < READS_A_TURN && !channel->closing; i++) {
        int rc = receive_one(channel);

        if (rc < 0) {
            tell_gone(channel);
        }
        if (rc <= 0) {
            return;
        }
    }
}

int peri_channel_open(uv_loop_t *loop, int fd,
                      void (*on_message)(void *data,
                                         const peri_channel_message *message),
                      void *data, peri_channel **out)
{
    peri_channel *channel = peri_calloc(1, sizeof *channel);
    int rc = uv_poll_init(loop, &channel->poll, fd);

    if (rc < 0) {
        close(fd);
        free(channel);
        return rc;
    }
    channel->poll.data = channel;
    channel->fd = fd;
    channel->on_message = on_message;
    channel->data = data;
    peri_list_init(&channel->waiting);
    want(channel);
    *out = channel;
    return 0;
}

int peri_channel_send(peri_channel *channel,
                      const peri_channel_message *message)
{
    message_head head = {message->verb, message->number, message->generation};
    size_t length = message->text.length < PERI_CHANNEL_TEXT_MAX
                        ? message->text.length
                        : PERI_CHANNEL_TEXT_MAX;
    waiting_message *waiting;
    int copy = -1;
    int rc = -EAGAIN;

    if (channel->closing || channel->told_gone) {
        return PERI_EGONE;
    }
    if (peri_list_empty(&channel->waiting)) {
        rc = send_now(channel->fd, &head, message->text.data, length,
                      message->fd);
    }
    if (rc != -EAGAIN && rc != -ENOBUFS) {
        return rc < 0 ? PERI_EGONE : 0; /* the poll tells of the loss */
    }
    if (channel->waiting_count >= WAITING_MAX) {
        return PERI_ELIMIT;
    }
    if (message->fd >= 0) {
        copy = fcntl(message->fd, F_DUPFD_CLOEXEC, 3);
        if (copy < 0) {
            return -errno; /* without it, it would say something else */
        }
    }
    waiting = peri_alloc(sizeof *waiting + length);
    waiting->head = head;
    waiting->fd = copy;
    waiting->length = length;
    if (length != 0) {
        memcpy(waiting->text, message->text.data, length);
    }
    peri_list_append(&channel->waiting, &waiting->link);
    channel->waiting_count++;
    want(channel);
    return 0;
}

void peri_channel_read_now(peri_channel *channel)
{
    while (!channel->closing && !channel->told_gone) {
        int rc = receive_one(channel);

        if (rc < 0) {
            tell_gone(channel);
        }
        if (rc <= 0) {
            return;
        }
    }
}

size_t peri_channel_waiting(const peri_channel *channel)
{
    return channel->waiting_count;
}

static void on_closed(uv_handle_t *handle)
{
    peri_channel *channel = handle->data;

    close(channel->fd);
    free(channel);
}

void peri_channel_close(peri_channel *channel)
{
    if (channel == NULL || channel->closing) {
        return;
    }
    channel->closing = true;
    while (!peri_list_empty(&channel->waiting)) {
        drop_waiting(channel, PERI_CONTAINER(channel->waiting.next,
                                             waiting_message, link));
    }
    uv_close((uv_handle_t *)&channel->poll, on_closed);
}
