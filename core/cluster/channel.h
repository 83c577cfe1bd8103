/* Channel: small messages between the master and one worker.
 *
 * One end of a SOCK_SEQPACKET pair; a message may carry one descriptor. Sending
 * never blocks: what the other side is slow to take waits here, up to a limit.
 * Belongs to the loop thread. */
#ifndef PERI_CLUSTER_CHANNEL_H
#define PERI_CLUSTER_CHANNEL_H

#include <stdint.h>
#include <uv.h>

#include "core/base/slice.h"

#define PERI_CHANNEL_TEXT_MAX ((size_t)32 << 10) /* longer ones are cut */

typedef enum peri_channel_verb {
    /* master to worker */
    PERI_CHANNEL_STAGE =
        1, /* number of the attempt, generation, fd of its bundle */
    PERI_CHANNEL_COMMIT,        /* generation; the first one: serve; number:
                                   1: with TLS */
    PERI_CHANNEL_ABANDON,       /* generation */
    PERI_CHANNEL_DRAIN,         /* number: ms until the worker is killed */
    PERI_CHANNEL_REOPEN,        /* log files */
    PERI_CHANNEL_ADOPT,         /* fd of an accepted connection */
    PERI_CHANNEL_RELOAD_FAILED, /* text: why; empty: it is over */
    PERI_CHANNEL_HEAR,          /* text: what a worker published */
    PERI_CHANNEL_CERTS,         /* fd: see certs.h; before the first COMMIT */
    PERI_CHANNEL_LOG_LEVEL,     /* number: the level; text: of which module, or
                                   empty */
    PERI_CHANNEL_ASK,           /* number of the question; text: it */
    PERI_CHANNEL_PROFILE,       /* generation: which one; number: ms; text:
                                   "cpu" or "heap" */
    PERI_CHANNEL_PROFILE_END,   /* now, rather than when its time is over */
    /* worker to master */
    PERI_CHANNEL_READY = 64, /* the first generation is staged */
    PERI_CHANNEL_FAILED,     /* text: why it could not be */
    PERI_CHANNEL_VOTE,       /* number, generation; text: why not; empty: yes */
    PERI_CHANNEL_ADOPTED,    /* the oldest ADOPT that is unanswered */
    PERI_CHANNEL_RECYCLE,    /* wants to be replaced */
    PERI_CHANNEL_PUBLISH,    /* text: for every worker, itself included */
    PERI_CHANNEL_TOLD,       /* number of the question, generation: status of
                                HTTP, 0 while more follows; text: a piece of
                                the answer */
    PERI_CHANNEL_PROFILED    /* generation: of PROFILE; fd: a memfd of stacks;
                                -1: text says why not */
} peri_channel_verb;

typedef struct peri_channel_message {
    uint32_t verb;
    uint32_t number;
    uint64_t generation;
    peri_slice text; /* borrowed */
    int fd;          /* -1: none. Sent: a copy, the caller keeps his;
                        received: the receiver's to close */
} peri_channel_message;

typedef struct peri_channel peri_channel;

/* A pair of descriptors, closed on exec. 0 or -errno. */
int peri_channel_pair(int out_fds[2]);

/* Takes fd. message NULL: the other side has gone (told once). The callback may
 * close the channel. 0 or a libuv status (fd is closed then). */
int peri_channel_open(uv_loop_t *loop, int fd,
                      void (*on_message)(void *data,
                                         const peri_channel_message *message),
                      void *data, peri_channel **out);

/* 0; PERI_ELIMIT: the other side takes nothing; PERI_EGONE; -errno: it would
 * have to wait, and its descriptor cannot be copied. */
int peri_channel_send(peri_channel *channel,
                      const peri_channel_message *message);

/* Tells of what has arrived already; its sender may have ended since. */
void peri_channel_read_now(peri_channel *channel);

/* Messages that wait for the other side. */
size_t peri_channel_waiting(const peri_channel *channel);

/* Idempotent for a channel that is closing; NULL is allowed. */
void peri_channel_close(peri_channel *channel);

#endif
