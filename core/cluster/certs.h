/* Certs: from http.tls of the configuration to what workers serve with.
 *
 * The master reads the files, proves that certificates and keys fit, and
 * freezes all of it in a memory file that workers get over the channel: what is
 * on disk may be half written just when a worker starts, and need not be
 * readable to it. */
#ifndef PERI_CLUSTER_CERTS_H
#define PERI_CLUSTER_CERTS_H

#include <stdbool.h>

#include "core/base/settings.h"
#include "core/loop/tls.h"

/* Whether TLS is asked for. */
bool peri_certs_wanted(const peri_settings *settings);

/* Reads the files (relative to dir) and tries them; the caller owns *out_fd.
 * expires_s: Unix time when the first of them expires; may be NULL. Negative:
 * why names the setting and the file. */
int peri_certs_read(const peri_settings *settings, const char *dir, int *out_fd,
                    int64_t *expires_s, char *why, size_t why_bytes);

/* In the worker: a context from what peri_certs_read made. Does not take fd;
 * tickets are borrowed for the context's life. */
int peri_certs_context(int fd, const peri_tls_tickets *tickets,
                       peri_tls_context **out, char *why, size_t why_bytes);

/* Whether two such files hold the same. */
bool peri_certs_equal(int fd, int other_fd);

/* What the files look like from outside: another number when one of them was
 * changed, replaced or removed. */
uint64_t peri_certs_look(const peri_settings *settings, const char *dir);

#endif
