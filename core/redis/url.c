/* URL: of a Redis. */
#include "core/redis/url.h"

#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/base/url.h"

#define DEFAULT_PORT 6379
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

static const char *read_query(peri_slice query, peri_redis_url *out)
{
    if (!take_prefix(&query, "db=") || !to_number(query, DB_MAX, &out->db)) {
        return "after ? only db=NUMBER is known";
    }
    return NULL;
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

static const char *read_host(peri_slice text, peri_redis_url *out)
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
    out->port = DEFAULT_PORT;
    if (rest.length > 0 &&
        (!to_number(rest, 65535, &out->port) || out->port == 0)) {
        return "the port is not a number from 1 to 65535";
    }
    out->host = host.length > 0 ? decoded(host) : peri_strdup("127.0.0.1");
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
        if (rest.length > 0 && !to_number(rest, DB_MAX, &out->db)) {
            return "the path is not the number of a database";
        }
    }
    return read_host(text, out);
}

static const char *refusal(peri_slice text)
{
    if (take_prefix(&text, "redis+cluster:") ||
        take_prefix(&text, "rediss+cluster:")) {
        return "Redis Cluster is not supported yet";
    }
    if (take_prefix(&text, "redis+sentinel:") ||
        take_prefix(&text, "rediss+sentinel:")) {
        return "Redis Sentinel is not supported yet";
    }
    if (take_prefix(&text, "rediss:")) {
        return "TLS to Redis (rediss:) is not supported yet";
    }
    return "the URL does not begin with redis:// or unix://";
}

int peri_redis_url_parse(peri_slice text, peri_redis_url *out, const char **why)
{
    memset(out, 0, sizeof *out);
    if (take_prefix(&text, "redis://")) {
        *why = read_parts(text, false, out);
    } else if (take_prefix(&text, "unix://") ||
               take_prefix(&text, "redis+unix://") ||
               take_prefix(&text, "unix:")) {
        *why = read_parts(text, true, out);
    } else {
        *why = refusal(text);
    }
    if (*why != NULL) {
        peri_redis_url_fini(out);
        return PERI_EFORMAT;
    }
    return 0;
}

void peri_redis_url_fini(peri_redis_url *url)
{
    free(url->host);
    free(url->path);
    free(url->user);
    free(url->password);
    memset(url, 0, sizeof *url);
}
