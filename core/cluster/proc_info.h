/* Process info: what /proc says of a process, for status and metrics. */
#ifndef PERI_CLUSTER_PROC_INFO_H
#define PERI_CLUSTER_PROC_INFO_H

#include <stdint.h>

typedef struct peri_process_info {
    uint64_t rss_bytes;
    uint64_t virtual_bytes;
    uint64_t data_bytes; /* of private memory that can be written */
    uint64_t user_us;    /* CPU time */
    uint64_t system_us;
    uint64_t started_unix; /* s */
    uint64_t open_fds;
    uint64_t max_fds;
} peri_process_info;

/* What cannot be read (a process that has just ended) is 0. */
void peri_process_info_read(int pid, peri_process_info *out);

/* All of it; the above leaves out what takes many system calls. */
void peri_process_info_read_all(int pid, peri_process_info *out);

#endif
