/* URL: of a Redis. */
#include "core/redis/url.h"

#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/base/url.h"

#define DEFAULT_PORT 6379
#define SENTINEL_PORT 26379
#define DB_MAX 1000000

static bool take_prefix(peri_slice *text, const char *prefix)
{
    if (!peri_slice_starts(*text, peri_slice_str(prefix))) {
        return false;
    }
    text->data += strlen(prefix);
    text->length -= strlen(prefix);
    return true;
}

/* The text before the first separator, which is taken too; false: none. */
static bool cut(peri_slice *text, char separator, peri_slice *before)
{
    const char *at =
        text->length > 0 ? memchr(text->data, separator, text->length) : NULL;

    if (at == NULL) {
        return false;
    }
    *before = peri_slice_of(text->data, (size_t)(at - text->data));
    text->length -= before->length + 1;
    text->data = at + 1;
    return true;
}

static char *decoded(peri_slice text)
{
    char *out = peri_alloc(text.length + 1);

    out[peri_url_decode(text, false, out)] = '\0';
    return out;
}

static bool to_number(peri_slice text, uint32_t max, uint32_t *out)
{
    uint32_t value = 0;

    if (text.length == 0 || text.length > 9) {
        return false;
    }
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        value = value * 10 + (uint32_t)(text.data[i] - '0');
    }
    *out = value;
    return value <= max;
}

static const char *read_option(peri_slice text, peri_redis_url *out)
{
    if (take_prefix(&text, "db=")) {
        return to_number(text, DB_MAX, &out->db)
                   ? NULL
                   : "db is not the number of a database";
    }
    if (out->mode == PERI_REDIS_SENTINEL &&
        take_prefix(&text, "sentinel_user=")) {
        free(out->sentinel_user);
        out->sentinel_user = decoded(text);
        return NULL;
    }
    if (out->mode == PERI_REDIS_SENTINEL &&
        take_prefix(&text, "sentinel_password=")) {
        free(out->sentinel_password);
        out->sentinel_password = decoded(text);
        return NULL;
    }
    return "an unknown word after ?";
}

static const char *read_query(peri_slice query, peri_redis_url *out)
{
    const char *why = NULL;
    peri_slice option;

    while (why == NULL && cut(&query, '&', &option)) {
        why = read_option(option, out);
    }
    return why != NULL ? why : read_option(query, out);
}

static const char *read_login(peri_slice login, peri_redis_url *out)
{
    peri_slice user;

    if (!cut(&login, ':', &user)) {
        return "a login is written user:password@ or :password@";
    }
    if (user.length > 0) {
        out->user = decoded(user);
    }
    out->password = decoded(login);
    return NULL;
}

static const char *read_host(peri_slice text, peri_redis_host *out,
                             uint32_t port)
{
    peri_slice host = text;
    peri_slice rest = {"", 0};

    if (take_prefix(&text, "[")) {
        if (!cut(&text, ']', &host)) {
            return "a [ without its ]";
        }
        rest = text;
        if (rest.length > 0 && !take_prefix(&rest, ":")) {
            return "after ] comes : and a port";
        }
    } else if (cut(&text, ':', &host)) {
        rest = text;
    }
    out->port = port;
    if (rest.length > 0 &&
        (!to_number(rest, 65535, &out->port) || out->port == 0)) {
        return "the port is not a number from 1 to 65535";
    }
    out->name = host.length > 0 ? decoded(host) : peri_strdup("127.0.0.1");
    return NULL;
}

static const char *read_hosts(peri_slice text, peri_redis_url *out)
{
    uint32_t port =
        out->mode == PERI_REDIS_SENTINEL ? SENTINEL_PORT : DEFAULT_PORT;
    peri_redis_host first = {NULL, 0};
    peri_slice part;
    const char *why = NULL;
    bool more = true;

    if (out->mode == PERI_REDIS_SINGLE) {
        why = read_host(text, &first, port);
        out->host = first.name;
        out->port = first.port;
        return why;
    }
    out->hosts = peri_calloc(PERI_REDIS_HOSTS_MAX, sizeof *out->hosts);
    while (why == NULL && more) {
        more = cut(&text, ',', &part);
        if (out->host_count == PERI_REDIS_HOSTS_MAX) {
            return "too many hosts";
        }
        why =
            read_host(more ? part : text, &out->hosts[out->host_count++], port);
    }
    if (why == NULL) {
        out->host = peri_strdup(out->hosts[0].name);
        out->port = out->hosts[0].port;
    }
    return why;
}

/* What comes behind the hosts and a slash. */
static const char *read_path(peri_slice path, peri_redis_url *out)
{
    peri_slice master = path;
    peri_slice rest = path;

    if (out->mode == PERI_REDIS_SENTINEL) {
        path = PERI_SLICE("");
        if (cut(&rest, '/', &master)) {
            path = rest;
        }
        if (master.length == 0) {
            return "the master's name is missing: .../NAME";
        }
        out->master = decoded(master);
    }
    if (path.length > 0 && !to_number(path, DB_MAX, &out->db)) {
        return "the path is not the number of a database";
    }
    return NULL;
}

static const char *read_parts(peri_slice text, bool local, peri_redis_url *out)
{
    peri_slice part;
    const char *why = NULL;
    peri_slice rest = text;

    if (cut(&rest, '?', &part)) {
        why = read_query(rest, out);
        text = part;
    }
    rest = text;
    /* The last @ ends the login: a password may hold one. */
    for (size_t i = text.length; why == NULL && i > 0; i--) {
        if (text.data[i - 1] == '@') {
            why = read_login(peri_slice_of(text.data, i - 1), out);
            rest = peri_slice_of(text.data + i, text.length - i);
            break;
        }
    }
    if (why != NULL) {
        return why;
    }
    if (local) {
        out->path = decoded(rest);
        return out->path[0] != '\0' ? NULL : "the socket's path is missing";
    }
    text = rest;
    if (cut(&rest, '/', &part)) {
        text = part;
    } else {
        rest = PERI_SLICE("");
    }
    why = read_path(rest, out);
    if (why == NULL && out->mode == PERI_REDIS_CLUSTER && out->db != 0) {
        why = "a cluster has no databases but 0";
    }
    return why != NULL ? why : read_hosts(text, out);
}

static bool take_scheme(peri_slice *text, peri_redis_url *out, bool *local)
{
    static const struct {
        const char *scheme;
        peri_redis_mode mode;
        bool tls;
        bool local;
    } schemes[] = {
        {"redis://", PERI_REDIS_SINGLE, false, false},
        {"rediss://", PERI_REDIS_SINGLE, true, false},
        {"redis+cluster://", PERI_REDIS_CLUSTER, false, false},
        {"rediss+cluster://", PERI_REDIS_CLUSTER, true, false},
        {"redis+sentinel://", PERI_REDIS_SENTINEL, false, false},
        {"rediss+sentinel://", PERI_REDIS_SENTINEL, true, false},
        {"unix://", PERI_REDIS_SINGLE, false, true},
        {"redis+unix://", PERI_REDIS_SINGLE, false, true},
        {"unix:", PERI_REDIS_SINGLE, false, true},
    };

    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (take_prefix(text, schemes[i].scheme)) {
            out->mode = schemes[i].mode;
            out->tls = schemes[i].tls;
            *local = schemes[i].local;
            return true;
        }
    }
    return false;
}

int peri_redis_url_parse(peri_slice text, peri_redis_url *out, const char **why)
{
    bool local;

    memset(out, 0, sizeof *out);
    *why = "the URL does not begin with redis://, redis+cluster://, "
           "redis+sentinel:// or unix://";
    if (take_scheme(&text, out, &local)) {
        *why = read_parts(text, local, out);
    }
    if (*why != NULL) {
        peri_redis_url_fini(out);
        return PERI_EFORMAT;
    }
    return 0;
}

void peri_redis_url_fini(peri_redis_url *url)
{
    for (uint32_t i = 0; i < url->host_count; i++) {
        free(url->hosts[i].name);
    }
    free(url->hosts);
    free(url->host);
    free(url->path);
    free(url->user);
    free(url->password);
    free(url->master);
    free(url->sentinel_user);
    free(url->sentinel_password);
    memset(url, 0, sizeof *url);
}
