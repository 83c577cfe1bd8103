/* Log sink: what its files share.
 *
 *   log_sink.c         descriptors, lines on their way
 *   log_sink_socket.c  sockets, and their other side that comes and goes */
#ifndef PERI_LOOP_LOG_SINK_INTERNAL_H
#define PERI_LOOP_LOG_SINK_INTERNAL_H

#include <pthread.h>

#include "core/base/buf.h"
#include "core/base/syslog.h"
#include "core/loop/log_sink.h"

typedef enum peri_sink_kind {
    PERI_SINK_FILE,
    PERI_SINK_PIPE,   /* also a terminal: a descriptor that may block */
    PERI_SINK_STREAM, /* a connected socket, ours or a standard stream */
    PERI_SINK_DATAGRAM,
    PERI_SINK_SYSLOG
} peri_sink_kind;

struct peri_log_sink {
    peri_sink_kind kind;
    int fd;           /* -1: not connected */
    bool own_fd;      /* to be closed by us */
    bool connects;    /* a socket of ours */
    bool may_block;   /* a pipe that could not be opened anew */
    char *name;       /* the destination */
    const char *path; /* within name; NULL: neither file nor Unix socket */
    char *host;       /* UDP */
    char port[8];
    bool pretty;
    bool colour;
    bool complained;        /* since it last worked */
    uint64_t complained_ns; /* 0: it did not have to */
    peri_syslog syslog;
    pthread_mutex_t lock; /* of what follows */
    peri_buf out;         /* what is made of a line; it goes out as a whole */
    peri_buf made_of;     /* that line */
    size_t out_sent;      /* of out; less than its length: the rest is due */
    bool finished;        /* the rest is out, and made_of is yet to be taken */
    uint64_t retry_ns;    /* not before this is it connected again */
    uint32_t delay_ms;
    _Atomic uint64_t *lost;
};

/* Reads "unix:", "syslog://..." into the sink. False: it is no socket. */
bool peri_sink_parse_socket(peri_log_sink *sink);

/* 0, or -errno: not now. */
int peri_sink_connect(peri_log_sink *sink);

/* The other side has gone. */
void peri_sink_disconnect(peri_log_sink *sink);

/* Nanoseconds until it may be connected; 0: now. */
uint64_t peri_sink_pause_ns(const peri_log_sink *sink);

#endif
