/* Limits: what the configuration says of connections, as the server wants it.
 */
#ifndef PERI_CLUSTER_LIMITS_H
#define PERI_CLUSTER_LIMITS_H

#include "core/base/settings.h"
#include "core/http/server.h"

void peri_limits_read(peri_http_limits *out, const peri_settings *settings);

/* A JSON list of plain strings ("[\"10.0.0.0/8\"]"), NULL-ended. The caller
 * frees it with free(), in one piece. */
char **peri_limits_list(const char *json);

#endif
