/* The fields of a request that decide its framing: collected one by one while
 * the head is scanned, judged together at its end. */
#ifndef PERI_HTTP_SCAN_FIELD_H
#define PERI_HTTP_SCAN_FIELD_H

#include "core/base/slice.h"
#include "core/http/scan.h"

typedef struct peri_framing {
    peri_slice host;
    peri_slice coding; /* Transfer-Encoding */
    peri_slice length; /* Content-Length */
    unsigned hosts;
    unsigned codings;
    unsigned lengths;
    bool close;
    bool keep_alive;
    bool expect_continue;
    bool expect_other;
} peri_framing;

/* Takes note of a field if it is one of those; index goes to head when it is
 * X-Request-Id. Values must outlive framing. */
void peri_framing_note(peri_framing *framing, peri_slice name, peri_slice value,
                       uint16_t index, peri_head *head);

/* Fills in the head's framing. authority: of an absolute target, or NULL data;
 * secure: its scheme is https. 0, or the status of a refusal. */
int peri_framing_judge(const peri_framing *framing, peri_slice authority,
                       bool secure, peri_head *head, peri_refusal *refusal);

/* uri-host [ ":" port ], not empty. */
bool peri_host_valid(peri_slice host);

#endif
