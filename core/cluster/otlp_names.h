/* OTLP names: what Prometheus spells with underscores and suffixes, as
 * OpenTelemetry's conventions name it. */
#ifndef PERI_CLUSTER_OTLP_NAMES_H
#define PERI_CLUSTER_OTLP_NAMES_H

#include <stdbool.h>

#include "core/base/attributes.h"
#include "core/base/otlp_metrics.h"

/* Sets name and unit. What follows no convention keeps its name. True: its
 * labels follow the conventions, too. */
bool peri_otlp_name_metric(peri_otlp_metric *metric, const char *name);

/* Labels, as peri_expo_sample() has them, as attributes. An empty value is as
 * good as none. */
void peri_otlp_attributes(peri_slice labels, bool conventional,
                          peri_attributes *out);

#endif
