/* Expo in protobuf: io.prometheus.client.MetricFamily, each with its length in
 * front, as Prometheus scrapes it. The one form that has native histograms. */
#ifndef PERI_BASE_EXPO_PROTO_H
#define PERI_BASE_EXPO_PROTO_H

#include "core/base/expo.h"

typedef struct peri_expo_proto {
    peri_buf *out;   /* borrowed; what it cannot take is left out */
    peri_buf family; /* the one under way */
    peri_expo_type type;
    bool failed; /* of the family: it is left out */
} peri_expo_proto;

/* From then on expo writes there, until peri_expo_end(), which releases what
 * proto holds. */
void peri_expo_proto_init(peri_expo_proto *proto, peri_expo *expo,
                          peri_buf *out);

#endif
