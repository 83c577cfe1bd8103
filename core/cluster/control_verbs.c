/* Control, the master's side: one verb a connection.
 *
 *     reload\n          ->  3\nscripts/routes/a.lua:7: unexpected symbol ...
 *
 * The first line of the answer is the exit code of the command that asked.
 * After "logs" or "logs follow", lines of the log follow it, and between them
 * "!7" where seven were passed over. A profile has
 * lines that say what it is and an empty one before the file; it comes when its
 * time is over, or when the client says "end". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/cluster/control_state.h"
#include "core/cluster/log_tail.h"

#define CLIENTS_MAX 64
#define VERB_BYTES 256
#define VERB_MS 5000 /* then whoever has not said what it wants has to go */
#define ANSWER_MAX ((size_t)1 << 20)
#define TAIL_QUEUE_MAX ((size_t)1 << 20) /* to a slow follower */
#define TAIL_BACK_BYTES ((size_t)128 << 10)
#define PROFILE_MAX ((size_t)64 << 20)

typedef struct control_client {
    peri_list link;
    peri_waiter waiter;
    uv_pipe_t pipe;
    uv_timer_t patience; /* until the first line */
    uv_write_t write;
    int open_handles;
    peri_master *master;
    peri_buf answer;
    peri_log_tail *tail; /* NULL: does not read the log */
    bool follows;        /* it goes on reading it */
    bool closing;
    bool waiting; /* for a reload or the end */
    bool profiles;
    peri_profile_format format;
    size_t length;
    char verb[VERB_BYTES];
} control_client;

static void on_client_closed(uv_handle_t *handle)
{
    control_client *client = handle->data;

    if (--client->open_handles == 0) {
        peri_buf_fini(&client->answer);
        free(client);
    }
}

static void close_client(control_client *client)
{
    if (client->closing) {
        return;
    }
    client->closing = true;
    peri_log_tail_destroy(client->tail);
    if (client->waiting) {
        peri_list_remove(&client->waiter.link);
    }
    if (client->profiles) {
        peri_profile_forget(client->master, client);
    }
    peri_list_remove(&client->link);
    client->master->control->client_count--;
    uv_close((uv_handle_t *)&client->pipe, on_client_closed);
    uv_close((uv_handle_t *)&client->patience, on_client_closed);
}

static void on_no_verb(uv_timer_t *timer)
{
    close_client(timer->data);
}

static void on_written(uv_write_t *write, int status)
{
    (void)status;
    close_client(write->data);
}

/* The last bytes, then the end. */
static void answer_with(control_client *client, peri_slice text)
{
    uv_buf_t out;

    peri_buf_append_slice(&client->answer, text);
    uv_read_stop((uv_stream_t *)&client->pipe);
    out = uv_buf_init(client->answer.data, (unsigned)client->answer.length);
    client->write.data = client;
    if (uv_write(&client->write, (uv_stream_t *)&client->pipe, &out, 1,
                 on_written) < 0) {
        close_client(client);
    }
}

static void answer(control_client *client, int code, const char *text)
{
    size_t length = strlen(text);
    char head[16];

    snprintf(head, sizeof head, "%d\n", code);
    peri_buf_append_str(&client->answer, head);
    peri_buf_append(&client->answer, text, length);
    answer_with(client, length == 0 || text[length - 1] != '\n'
                            ? PERI_SLICE("\n")
                            : PERI_SLICE(""));
}

static void on_outcome(peri_waiter *waiter, int code, const char *text)
{
    control_client *client = PERI_CONTAINER(waiter, control_client, waiter);

    client->waiting = false;
    answer(client, code, text);
}

static void answer_status(control_client *client)
{
    peri_buf text;

    peri_buf_init(&text, ANSWER_MAX);
    peri_status_json(client->master, &text);
    peri_buf_append_byte(&text, '\0');
    answer(client, 0, text.data);
    peri_buf_fini(&text);
}

static void answer_health(control_client *client)
{
    const peri_master *master = client->master;
    int serving = peri_seats_serving(master);
    char text[96];

    snprintf(text, sizeof text, "%d of %d workers serve%s", serving,
             master->seat_count,
             master->phase >= PERI_MASTER_LEAVING ? "; stopping" : "");
    answer(client, master->phase == PERI_MASTER_RUNNING && serving > 0 ? 0 : 1,
           text);
}

static void wait_for_end(control_client *client)
{
    peri_master *master = client->master;

    client->waiting = true;
    peri_list_append(&master->stop_waiters, &client->waiter.link);
    peri_log(&master->logger, PERI_LOG_INFO, "stopping: perigee stop");
    peri_stop(master, 0);
}

/* ---- the log ---- */

static void on_piece_written(uv_write_t *write, int status)
{
    (void)status;
    free(write->data);
    free(write);
}

static bool send_lines(void *data, peri_slice lines)
{
    control_client *client = data;
    uv_stream_t *stream = (uv_stream_t *)&client->pipe;
    uv_buf_t out =
        uv_buf_init((char *)(uintptr_t)lines.data, (unsigned)lines.length);
    uv_write_t *write;
    int n;

    if (lines.length == 0) {
        out = uv_buf_init((char *)(uintptr_t) "\n", 1);
    }
    if (client->follows &&
        uv_stream_get_write_queue_size(stream) > TAIL_QUEUE_MAX) {
        return false; /* it reads slowly; the others get it all at once */
    }
    n = uv_try_write(stream, &out, 1);
    if (n == (int)out.len) {
        return true;
    }
    n = n < 0 ? 0 : n;
    out.len -= (size_t)n;
    out.base = memcpy(peri_alloc(out.len), out.base + n, out.len);
    write = peri_calloc(1, sizeof *write);
    write->data = out.base;
    if (uv_write(write, stream, &out, 1, on_piece_written) < 0) {
        on_piece_written(write, 0);
    }
    return true;
}

static bool send_missed(void *data, uint64_t lines)
{
    control_client *client = data;
    char text[32];
    int length =
        snprintf(text, sizeof text, "!%llu\n", (unsigned long long)lines);

    if (!send_lines(client, peri_slice_of(text, (size_t)length))) {
        return false;
    }
    client->master->log_missed_by_logs += (double)lines;
    return true;
}

/* "0\n", then what the rings still hold, then what comes: lines of all
 * processes up to some moment, and an empty line. */
static void begin_tail(control_client *client, bool follow)
{
    client->follows = follow;
    send_lines(client, PERI_SLICE("0\n"));
    client->tail = peri_log_tail_create(client->master, TAIL_BACK_BYTES,
                                        send_lines, send_missed, client);
    peri_log_tail_read(client->tail);
    if (!follow) {
        peri_log_tail_destroy(client->tail);
        client->tail = NULL;
        answer_with(client, PERI_SLICE("\n"));
    }
}

static void set_level(control_client *client, const char *what)
{
    char said[VERB_BYTES + 128];
    int code = peri_log_level_set(client->master, what, said, sizeof said);

    answer(client, code, said);
}

/* ---- profiles ---- */

static void on_profile(void *data, const peri_profile_result *result)
{
    control_client *client = data;
    peri_buf *out = &client->answer;
    char summary[PERI_PROFILE_SUMMARY_BYTES];

    client->profiles = false;
    if (result->fault != NULL) {
        answer(client, 1, result->fault);
        return;
    }
    peri_profile_summary(result, summary, sizeof summary);
    peri_buf_printf(out, "0\n%s\n\n", summary);
    if (peri_profile_render(result, client->format, out) < 0) {
        peri_buf_clear(out);
        answer(client, 1, "the profile is larger than 64 MB");
        return;
    }
    answer_with(client, PERI_SLICE(""));
}

/* "profile cpu 10000 -1 svg": kind, milliseconds, worker, format. */
static void begin_profile(control_client *client)
{
    peri_profile_options options;
    char kind[8];
    char format[16];
    char why[160];

    if (sscanf(client->verb, "profile %7s %u %d %15s", kind,
               &options.duration_ms, &options.worker, format) != 4 ||
        !peri_profile_format_parse(format, &client->format)) {
        answer(client, 2, "profile: kind, milliseconds, worker, format");
        return;
    }
    options.kind =
        strcmp(kind, "heap") == 0 ? PERI_PROFILE_HEAP : PERI_PROFILE_CPU;
    if (peri_profile_start(client->master, &options, on_profile, client, why,
                           sizeof why) < 0) {
        answer(client, 1, why);
        return;
    }
    client->answer.max_bytes = PROFILE_MAX;
    client->profiles = true;
}

static void obey(control_client *client)
{
    peri_master *master = client->master;
    const char *verb = client->verb;

    client->waiter.fn = on_outcome;
    if (strcmp(verb, "status") == 0) {
        answer_status(client);
    } else if (strcmp(verb, "health") == 0) {
        answer_health(client);
    } else if (strcmp(verb, "reload") == 0) {
        client->waiting = true;
        peri_reload_ask(master, "control", &client->waiter);
    } else if (strcmp(verb, "rollback") == 0) {
        client->waiting = true;
        peri_reload_rollback(master, &client->waiter);
    } else if (strcmp(verb, "stop") == 0) {
        wait_for_end(client);
    } else if (strcmp(verb, "reopen") == 0) {
        peri_reopen_logs(master, "logs reopened");
        answer(client, 0, "logs reopened");
    } else if (strcmp(verb, "logs") == 0 || strcmp(verb, "logs follow") == 0) {
        begin_tail(client, verb[4] != '\0');
    } else if (strncmp(verb, "log-level ", 10) == 0) {
        set_level(client, verb + 10);
    } else if (strncmp(verb, "profile ", 8) == 0) {
        begin_profile(client);
    } else {
        answer(client, 2, "unknown verb");
    }
}

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    control_client *client = handle->data;

    (void)suggested;
    *out = uv_buf_init(client->verb + client->length,
                       (unsigned)(VERB_BYTES - 1 - client->length));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    control_client *client = stream->data;
    char *end;

    (void)buf;
    if (n < 0) {
        close_client(client); /* it does not want to know any more */
        return;
    }
    if (client->waiting || client->tail != NULL) {
        client->length = 0;
        return;
    }
    client->length += (size_t)n;
    client->verb[client->length] = '\0';
    end = strchr(client->verb, '\n');
    if (end != NULL) {
        *end = '\0';
        client->length = 0;
        uv_timer_stop(&client->patience);
        if (!client->profiles) {
            obey(client);
        } else if (strcmp(client->verb, "end") == 0) {
            peri_profile_end(client->master, client);
        }
    } else if (client->length >= VERB_BYTES - 1) {
        answer(client, 2, "unknown verb");
    }
}

void peri_control_on_connection(uv_stream_t *stream, int status)
{
    struct peri_control *control = stream->data;
    control_client *client;

    if (status < 0) {
        return;
    }
    client = peri_calloc(1, sizeof *client);
    client->master = control->master;
    peri_buf_init(&client->answer, ANSWER_MAX + 64);
    uv_pipe_init(&control->master->loop, &client->pipe, 0);
    uv_timer_init(&control->master->loop, &client->patience);
    client->pipe.data = client->patience.data = client;
    client->open_handles = 2;
    peri_list_append(&control->clients, &client->link);
    control->client_count++;
    if (uv_accept(stream, (uv_stream_t *)&client->pipe) < 0 ||
        control->client_count > CLIENTS_MAX) {
        close_client(client);
        return;
    }
    uv_read_start((uv_stream_t *)&client->pipe, give_room, on_read);
    uv_timer_start(&client->patience, on_no_verb, VERB_MS, 0);
}

void peri_control_close_clients(struct peri_control *control)
{
    while (!peri_list_empty(&control->clients)) {
        control_client *client =
            PERI_CONTAINER(control->clients.next, control_client, link);

        if (client->tail != NULL) {
            peri_log_tail_read(client->tail);
        }
        /* uv_close() would drop what uv_write() has queued; it queues only
         * what the socket did not take at once, and this is little. */
        close_client(client);
    }
}
