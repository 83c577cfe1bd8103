/* Client identities: certificates, as options name them, and sessions. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/http/client_internal.h"

#define UNUSED_MAX 16 /* identities that are kept although nobody uses them */
#define SESSIONS_MAX 256
#define LOOK_MS 1000 /* between looks at the files */
#define PARTS 3

struct peri_client_identity {
    peri_list link; /* in client->identities, the last used first */
    peri_client *client;
    peri_slice parts[PARTS]; /* ca, cert, key, as given; copies */
    bool insecure;
    bool from_1_3;
    bool stale; /* its files have changed */
    peri_tls_context *context;
    uint64_t look;
    uint64_t looked_ms;
    unsigned refs; /* origins, sessions */
};

/* ---- files ---- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    return (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15) + (hash >> 29);
}

/* Another number when one of the files is another. */
static uint64_t look_at(const peri_slice *parts)
{
    uint64_t hash = 1;

    for (unsigned i = 0; i < PARTS; i++) {
        struct stat info;

        if (!peri_tls_is_path(parts[i])) {
            continue;
        }
        if (stat(parts[i].data, &info) < 0) { /* ended by a NUL: copies */
            hash = mix(hash, (uint64_t)errno);
            continue;
        }
        hash = mix(hash, (uint64_t)info.st_ino);
        hash = mix(hash, (uint64_t)info.st_size);
        hash = mix(hash, (uint64_t)info.st_mtim.tv_sec);
        hash = mix(hash, (uint64_t)info.st_mtim.tv_nsec);
    }
    return hash;
}

/* ---- life ---- */

static void identity_free(peri_client_identity *identity)
{
    peri_list_remove(&identity->link);
    for (unsigned i = 0; i < PARTS; i++) {
        free((char *)(uintptr_t)identity->parts[i].data);
    }
    peri_tls_context_unref(identity->context);
    free(identity);
}

static int make_context(peri_client_identity *identity, char *why,
                        size_t why_bytes)
{
    peri_tls_client_options options = {
        .ca = identity->parts[0],
        .cert = identity->parts[1],
        .key = identity->parts[2],
        .insecure = identity->insecure,
        .from_1_3 = identity->from_1_3,
        .http = true,
    };

    return peri_tls_client_context_from(&options, &identity->context, why,
                                        why_bytes);
}

static bool is_same(peri_client_identity *identity,
                    const peri_client_identity_options *options)
{
    const peri_slice parts[PARTS] = {options->ca, options->cert, options->key};
    uint64_t now_ms = uv_now(identity->client->loop);

    if (identity->stale || identity->insecure != options->insecure ||
        identity->from_1_3 != options->from_1_3) {
        return false;
    }
    for (unsigned i = 0; i < PARTS; i++) {
        if (!peri_slice_equal(identity->parts[i], parts[i])) {
            return false;
        }
    }
    if (now_ms - identity->looked_ms >= LOOK_MS) {
        identity->looked_ms = now_ms;
        identity->stale = look_at(identity->parts) != identity->look;
    }
    return !identity->stale;
}

/* Those that nobody uses, but for the last few. */
static void forget_unused(peri_client *client)
{
    peri_list *link = client->identities.next;
    unsigned unused = 0;

    while (link != &client->identities) {
        peri_client_identity *identity =
            PERI_CONTAINER(link, peri_client_identity, link);

        link = link->next;
        if (identity->refs == 0 && (identity->stale || ++unused > UNUSED_MAX)) {
            identity_free(identity);
        }
    }
}

int peri_client_identity_get(peri_client *client,
                             const peri_client_identity_options *options,
                             peri_client_identity **out, char *why,
                             size_t why_bytes)
{
    const peri_slice parts[PARTS] = {options->ca, options->cert, options->key};
    peri_client_identity *identity;
    int rc;

    for (peri_list *link = client->identities.next; link != &client->identities;
         link = link->next) {
        identity = PERI_CONTAINER(link, peri_client_identity, link);
        if (is_same(identity, options)) {
            *out = identity;
            return 0;
        }
    }
    forget_unused(client);
    identity = peri_calloc(1, sizeof *identity);
    identity->client = client;
    identity->insecure = options->insecure;
    identity->from_1_3 = options->from_1_3;
    for (unsigned i = 0; i < PARTS; i++) {
        identity->parts[i] = (peri_slice){
            peri_strndup(parts[i].data != NULL ? parts[i].data : "",
                         parts[i].length),
            parts[i].length};
    }
    identity->looked_ms = uv_now(client->loop);
    identity->look = look_at(identity->parts);
    peri_list_prepend(&client->identities, &identity->link);
    rc = make_context(identity, why, why_bytes);
    if (rc < 0) {
        identity_free(identity);
        identity = NULL;
    }
    *out = identity;
    return rc;
}

peri_tls_context *
peri_client_identity_context(const peri_client_identity *identity)
{
    return identity->context;
}

/* ---- sessions ---- */

static void session_free(peri_client_session *session)
{
    peri_list_remove(&session->link);
    session->identity->refs--;
    session->identity->client->session_count--;
    peri_tls_sessions_destroy(session->tickets);
    free(session->name);
    free(session);
}

/* The one that nobody has used for longest. */
static void forget_session(peri_client *client)
{
    peri_list *link = client->sessions.prev;

    while (client->session_count > SESSIONS_MAX && link != &client->sessions) {
        peri_client_session *session =
            PERI_CONTAINER(link, peri_client_session, link);

        link = link->prev;
        if (session->refs == 0) {
            session_free(session);
        }
    }
}

static peri_client_session *session_get(peri_client *client,
                                        peri_client_identity *identity,
                                        const char *name)
{
    peri_client_session *session;

    for (peri_list *link = client->sessions.next; link != &client->sessions;
         link = link->next) {
        session = PERI_CONTAINER(link, peri_client_session, link);
        if (session->identity == identity && strcmp(session->name, name) == 0) {
            peri_list_remove(&session->link);
            peri_list_prepend(&client->sessions, &session->link);
            return session;
        }
    }
    session = peri_calloc(1, sizeof *session);
    session->identity = identity;
    session->name = peri_strdup(name);
    session->tickets = peri_tls_sessions_create();
    identity->refs++;
    client->session_count++;
    peri_list_prepend(&client->sessions, &session->link);
    return session;
}

/* ---- origins ---- */

static peri_slice name_of(const peri_call_options *options)
{
    return options->server_name.length > 0 ? options->server_name
                                           : options->host;
}

bool peri_origin_has_tls(const peri_origin *origin,
                         const peri_call_options *options)
{
    if (origin->identity != options->identity || options->identity == NULL) {
        return origin->identity == options->identity;
    }
    return peri_slice_equal(peri_slice_str(origin->server_name),
                            name_of(options)) &&
           peri_slice_equal(peri_slice_str(origin->tunnel), options->tunnel) &&
           peri_slice_equal(peri_slice_str(origin->tunnel_auth),
                            options->tunnel_auth);
}

void peri_origin_use_tls(peri_origin *origin, const peri_call_options *options)
{
    peri_slice server_name = name_of(options);
    char name[800];

    origin->identity = options->identity;
    origin->identity->refs++;
    origin->server_name = peri_strndup(server_name.data, server_name.length);
    if (options->tunnel.length > 0) {
        origin->tunnel =
            peri_strndup(options->tunnel.data, options->tunnel.length);
    }
    origin->tunnel_auth = peri_strndup(
        options->tunnel_auth.data != NULL ? options->tunnel_auth.data : "",
        options->tunnel_auth.length);
    snprintf(name, sizeof name, "%s %u %.200s %.200s", origin->server_name,
             origin->port, origin->host,
             origin->tunnel != NULL ? origin->tunnel : "");
    origin->session = session_get(origin->client, origin->identity, name);
    origin->session->refs++;
    forget_session(origin->client);
}

void peri_origin_drop_tls(peri_origin *origin)
{
    if (origin->identity == NULL) {
        return;
    }
    origin->session->refs--;
    origin->identity->refs--;
    free(origin->server_name);
    free(origin->tunnel);
    free(origin->tunnel_auth);
}

void peri_client_identities_fini(peri_client *client)
{
    while (!peri_list_empty(&client->sessions)) {
        session_free(
            PERI_CONTAINER(client->sessions.next, peri_client_session, link));
    }
    while (!peri_list_empty(&client->identities)) {
        identity_free(PERI_CONTAINER(client->identities.next,
                                     peri_client_identity, link));
    }
}
