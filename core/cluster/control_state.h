/* Control, inside: what control.c and control_verbs.c share. */
#ifndef PERI_CLUSTER_CONTROL_STATE_H
#define PERI_CLUSTER_CONTROL_STATE_H

#include <sys/un.h>

#include "core/cluster/master_state.h"

struct peri_control {
    uv_pipe_t pipe;
    peri_master *master;
    peri_list clients;
    int client_count;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
};

/* ---- control_verbs.c ---- */

void peri_control_on_connection(uv_stream_t *stream, int status);
void peri_control_close_clients(struct peri_control *control);

#endif
