/* Perigee as a library: applications in Lua, on a loop of yours.
 *
 * A host is one application loaded from a directory. It opens no port, handles
 * no signal and never exits the process; several hosts may live on one loop or
 * in one process. All functions are called from the loop's thread, and every
 * callback comes from the loop, never from inside the call that asked for it.
 *
 *     uv_loop_t loop; uv_loop_init(&loop);
 *     perigee_host *host;
 *     perigee_options options = {.dir = "shop", .env = "production"};
 *     perigee_open(&loop, &options, on_ready, NULL, &host);
 *     uv_run(&loop, UV_RUN_DEFAULT);
 */
#ifndef PERIGEE_H
#define PERIGEE_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PERIGEE_API __attribute__((visibility("default")))

typedef struct perigee_host perigee_host;

typedef struct perigee_options {
    const char *dir;              /* the application's directory */
    const char *env;              /* NULL: as PERIGEE_ENV and its kin say */
    const char *const *overrides; /* "http.body_max=1mb", NULL-ended, or NULL */
    /* Log lines (JSON, with the line feed), borrowed during the call. NULL:
     * they go to standard error. Must not block. */
    void (*log)(void *data, const char *line, size_t length);
    void *log_data;
} perigee_options;

typedef struct perigee_field {
    const char *name;
    const char *value;
} perigee_field;

typedef struct perigee_request {
    const char *method; /* "GET" */
    const char *target; /* "/orders?page=2" */
    const perigee_field *fields;
    size_t field_count;
    const char *body; /* may be NULL */
    size_t body_length;
    const char *remote; /* the client's address; NULL: 127.0.0.1 */
} perigee_request;

typedef struct perigee_answer {
    int status; /* 0: aborted, there is no answer */
    const perigee_field *fields;
    size_t field_count;
    const char *body; /* a NUL follows that is not counted */
    size_t body_length;
} perigee_answer;

/* Loads the application. ready is called once: error NULL when it serves (its
 * on_start has run), else a text with file:line for each fault, borrowed during
 * the call; the host must be closed either way. 0, or a negative libuv status
 * when not even that could begin (*out is NULL then). */
PERIGEE_API int perigee_open(uv_loop_t *loop, const perigee_options *options,
                             void (*ready)(void *data, const char *error),
                             void *data, perigee_host **out);

/* Hands a request in; everything is copied. answer is called once, with memory
 * borrowed during the call. 0, or negative for a malformed request. */
PERIGEE_API int
perigee_request_start(perigee_host *host, const perigee_request *request,
                      void (*answer)(void *data, const perigee_answer *answer),
                      void *data);

/* Loads the application anew, while the old code serves. done as ready above;
 * with an error the old code stays. 0; UV_EBUSY while another, or the start, is
 * not over yet: done is not called then. */
PERIGEE_API int perigee_reload(perigee_host *host,
                               void (*done)(void *data, const char *error),
                               void *data);

/* Cancels what runs, runs on_stop, frees. closed may be NULL. */
PERIGEE_API void perigee_close(perigee_host *host, void (*closed)(void *data),
                               void *data);

PERIGEE_API const char *perigee_version(void);

#ifdef __cplusplus
}
#endif

#endif
