/* Error codes: names and texts. */
#include "core/base/err.h"

#include <string.h>

static const struct {
    int rc;
    const char *name;
    const char *text;
} own_errors[] = {
    {PERI_ELIMIT, "ELIMIT", "a limit was reached"},
    {PERI_EFORMAT, "EFORMAT", "malformed input"},
    {PERI_EAGAIN, "EAGAIN", "wait before sending more"},
    {PERI_EGONE, "EGONE", "the other side has gone"},
    {PERI_ETIMEOUT, "ETIMEOUT", "the deadline has passed"},
    {PERI_ESTATE, "ESTATE", "not possible in this state"},
    {PERI_ENOTFOUND, "ENOTFOUND", "not found"},
    {PERI_EEXISTS, "EEXISTS", "exists already"},
};

#define OWN_ERRORS (sizeof own_errors / sizeof own_errors[0])

const char *peri_err_name(int rc)
{
    const char *name;

    for (size_t i = 0; i < OWN_ERRORS; i++) {
        if (own_errors[i].rc == rc) {
            return own_errors[i].name;
        }
    }
    if (rc == -4095) {
        return "EOF"; /* UV_EOF, without libuv's header */
    }
    name = rc < 0 ? strerrorname_np(-rc) : "OK";
    return name != NULL ? name : "EUNKNOWN";
}

const char *peri_err_text(int rc)
{
    const char *text;

    for (size_t i = 0; i < OWN_ERRORS; i++) {
        if (own_errors[i].rc == rc) {
            return own_errors[i].text;
        }
    }
    if (rc == -4095) {
        return "the other side closed the connection";
    }
    text = rc < 0 ? strerrordesc_np(-rc) : "success";
    return text != NULL ? text : "unknown error";
}
