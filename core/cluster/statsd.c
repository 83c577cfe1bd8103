/* StatsD: metrics pushed by the master, as lines in datagrams.
 *
 * Every interval all of it is added up as for a scrape. Counters go as what was
 * added since; gauges as they are; histograms as counters of their count and
 * sum, and gauges of three quantiles of the interval. Nothing waits: what the
 * kernel does not take is gone. */
#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <math.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/number.h"
#include "core/cluster/deltas.h"
#include "core/cluster/master_state.h"

#define DATAGRAM_BYTES 1432 /* fits an Ethernet frame */
#define LINE_BYTES 1024
#define NAME_BYTES 512

typedef struct peri_statsd {
    peri_master *master;
    uv_timer_t timer;
    uv_getaddrinfo_t lookup;
    bool looking;
    bool closing;
    bool closed; /* the timer is */
    bool tags;   /* DogStatsD's */
    int fd;      /* while pushing */
    char *prefix;
    peri_deltas deltas;
    const char *name; /* of the family under way */
    peri_expo_type type;
    char datagram[DATAGRAM_BYTES];
    size_t length;
} peri_statsd;

/* ---- lines ---- */

static void flush(peri_statsd *s)
{
    if (s->length > 0) {
        /* Without a line feed at its end. */
        (void)!send(s->fd, s->datagram, s->length - 1,
                    MSG_DONTWAIT | MSG_NOSIGNAL);
        s->length = 0;
    }
}

static void put_line(peri_statsd *s, const char *line, size_t length)
{
    if (length + 1 > sizeof s->datagram) {
        return;
    }
    if (s->length + length + 1 > sizeof s->datagram) {
        flush(s);
    }
    memcpy(s->datagram + s->length, line, length);
    s->length += length;
    s->datagram[s->length++] = '\n';
}

static char plain(char c, bool tag)
{
    bool good = isalnum((unsigned char)c) || c == '_' || c == '-' ||
                (tag && (c == '.' || c == '/' || c == '*' || (c & 0x80) != 0));

    return (char)(good ? c : '_');
}

/* DogStatsD: name:value|c|#label:value; else the values are part of the name.
 */
static void emit(peri_statsd *s, const char *suffix, peri_slice labels,
                 double value, const char *type)
{
    char value_text[PERI_NUMBER_TEXT_BYTES + 1];
    char name[NAME_BYTES];
    char line[LINE_BYTES];
    char text[NAME_BYTES];
    peri_slice label;
    size_t length;
    size_t at = 0;
    int n;

    if (labels.length >= sizeof text || !isfinite(value)) {
        return;
    }
    name[0] = '\0';
    while (peri_expo_next_label(&labels, &label, text, &length)) {
        if (length == 0 || at + label.length + length + 3 > sizeof name) {
            continue;
        }
        if (s->tags) {
            at += (size_t)snprintf(name + at, sizeof name - at,
                                   "%s%.*s:", at == 0 ? "|#" : ",",
                                   (int)label.length, label.data);
        } else {
            name[at++] = '.';
        }
        for (size_t i = 0; i < length; i++) {
            name[at++] = plain(text[i], s->tags);
        }
        name[at] = '\0';
    }
    value_text[peri_number_write(value, value_text)] = '\0';
    n = s->tags ? snprintf(line, sizeof line, "%s%s%s:%s|%s%s", s->prefix,
                           s->name, suffix, value_text, type, name)
                : snprintf(line, sizeof line, "%s%s%s%s:%s|%s", s->prefix,
                           s->name, name, suffix, value_text, type);
    if (n > 0 && (size_t)n < sizeof line) {
        put_line(s, line, (size_t)n);
    }
}

static void gauge(peri_statsd *s, const char *suffix, peri_slice labels,
                  double value)
{
    if (value < 0 && !s->tags) {
        emit(s, suffix, labels, 0, "g"); /* a sign would mean "less by" */
    }
    emit(s, suffix, labels, value, "g");
}

/* ---- metrics ---- */

static void take_head(void *data, const char *name, peri_expo_type type,
                      const char *help)
{
    peri_statsd *s = data;

    (void)help;
    s->name = name;
    s->type = type;
}

static void take_sample(void *data, peri_slice labels, double value,
                        uint64_t created_ms)
{
    peri_statsd *s = data;

    (void)created_ms;
    if (s->type != PERI_EXPO_COUNTER) {
        gauge(s, "", labels, value);
    } else {
        peri_deltas_subtract(&s->deltas, s->name, labels, &value, 1);
        if (value > 0) {
            emit(s, "", labels, value, "c");
        }
    }
}

static void take_histogram(void *data, peri_slice labels,
                           const peri_distribution *all)
{
    double values[PERI_CELLS_BOUNDS_MAX + 2];
    peri_statsd *s = data;
    peri_distribution since = *all;
    size_t count = all->count;
    double total;

    if (count > PERI_CELLS_BOUNDS_MAX) {
        return;
    }
    memcpy(values, all->counts, (count + 1) * sizeof *values);
    values[count + 1] = all->sum;
    peri_deltas_subtract(&s->deltas, s->name, labels, values, count + 2);
    since.counts = values;
    total = peri_distribution_total(&since);
    if (total == 0) {
        return;
    }
    emit(s, ".count", labels, total, "c");
    emit(s, ".sum", labels, values[count + 1], "c");
    gauge(s, ".p50", labels, peri_distribution_quantile(&since, 0.5));
    gauge(s, ".p95", labels, peri_distribution_quantile(&since, 0.95));
    gauge(s, ".p99", labels, peri_distribution_quantile(&since, 0.99));
}

static void push(peri_statsd *s, const struct sockaddr *to, socklen_t length)
{
    static const peri_expo_sink sink = {take_head, take_sample, take_histogram,
                                        NULL};
    const peri_settings *settings = s->master->settings;
    peri_expo expo;

    s->fd = socket(to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        return;
    }
    if (connect(s->fd, to, length) == 0) {
        free(s->prefix);
        s->prefix = peri_strdup(
            peri_settings_str(settings, "metrics.statsd.prefix", ""));
        s->tags = strcmp(peri_settings_str(settings, "metrics.statsd.format",
                                           "statsd"),
                         "dogstatsd") == 0;
        peri_expo_init_sink(&expo, &sink, s);
        peri_metrics_write(s->master, &expo);
        flush(s);
    }
    close(s->fd);
    s->fd = -1;
}

/* ---- when ---- */

static void release(peri_statsd *s)
{
    if (!s->closed || s->looking) {
        return;
    }
    peri_deltas_fini(&s->deltas);
    free(s->prefix);
    free(s);
}

static void on_found(uv_getaddrinfo_t *lookup, int status,
                     struct addrinfo *found)
{
    peri_statsd *s = lookup->data;
    const struct addrinfo *best = found;

    /* StatsD servers listen on IPv4 unless told. */
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        if (at->ai_family == AF_INET) {
            best = at;
            break;
        }
    }
    s->looking = false;
    if (status == 0 && best != NULL && !s->closing) {
        push(s, best->ai_addr, best->ai_addrlen);
    }
    uv_freeaddrinfo(found);
    release(s);
}

/* A path, or an address; what else is asked for by name. */
static bool push_at_once(peri_statsd *s)
{
    const peri_settings *settings = s->master->settings;
    const char *path =
        peri_settings_str(settings, "metrics.statsd.socket", NULL);
    const char *host =
        peri_settings_str(settings, "metrics.statsd.host", "127.0.0.1");
    int port = (int)peri_settings_int(settings, "metrics.statsd.port", 8125);
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (path != NULL) {
        if (strlen(path) < sizeof local.sun_path) {
            memcpy(local.sun_path, path, strlen(path));
            push(s, (struct sockaddr *)&local, sizeof local);
        }
        return true;
    }
    if (uv_ip4_addr(host, port, &v4) == 0) {
        push(s, (struct sockaddr *)&v4, sizeof v4);
        return true;
    }
    if (uv_ip6_addr(host, port, &v6) == 0) {
        push(s, (struct sockaddr *)&v6, sizeof v6);
        return true;
    }
    return false;
}

static void on_time(uv_timer_t *timer)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_DGRAM};
    peri_statsd *s = timer->data;
    const peri_settings *settings = s->master->settings;

    if (s->looking || push_at_once(s)) {
        return;
    }
    s->lookup.data = s;
    s->looking = uv_getaddrinfo(
                     &s->master->loop, &s->lookup, on_found,
                     peri_settings_str(settings, "metrics.statsd.host", ""),
                     peri_settings_str(settings, "metrics.statsd.port", "8125"),
                     &hints) == 0;
}

static bool is_wanted(const peri_settings *settings)
{
    return peri_settings_bool(settings, "metrics.enabled", true) &&
           (peri_settings_str(settings, "metrics.statsd.host", NULL) != NULL ||
            peri_settings_str(settings, "metrics.statsd.socket", NULL) != NULL);
}

static void on_closed(uv_handle_t *handle)
{
    peri_statsd *s = handle->data;

    s->closed = true;
    release(s);
}

void peri_statsd_destroy(peri_master *master)
{
    peri_statsd *s = master->statsd;

    if (s == NULL) {
        return;
    }
    master->statsd = NULL;
    if (is_wanted(master->settings)) {
        push_at_once(s); /* the last; a name is not asked for any more */
    }
    s->closing = true;
    if (s->looking) {
        uv_cancel((uv_req_t *)&s->lookup);
    }
    uv_close((uv_handle_t *)&s->timer, on_closed);
}

void peri_statsd_refresh(peri_master *master)
{
    peri_statsd *s = master->statsd;
    uint64_t every_ms =
        peri_master_setting(master, "metrics.statsd.interval", 10000);

    if (!is_wanted(master->settings)) {
        if (s != NULL) {
            uv_timer_stop(&s->timer); /* a reload may switch it on again */
        }
        return;
    }
    if (s == NULL) {
        s = peri_calloc(1, sizeof *s);
        s->master = master;
        s->fd = -1;
        uv_timer_init(&master->loop, &s->timer);
        s->timer.data = s;
        master->statsd = s;
    }
    uv_timer_start(&s->timer, on_time, every_ms, every_ms);
}
