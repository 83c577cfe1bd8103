/* Certs: see the header. In the memory file, identity N is the entries
 * "N.cert", "N.key", "N.names", "N.what"; "ca" and "options" are for all. */
#include "core/cluster/certs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/alloc.h"
#include "core/base/buf.h"
#include "core/base/bundle.h"
#include "core/base/err.h"

#define PEM_MAX_BYTES ((size_t)1 << 20)
#define KEY_BYTES 64
#define PATH_BYTES 4096

typedef struct reader {
    const peri_settings *settings;
    const char *dir;
    peri_bundle_builder *builder;
    char *why;
    size_t why_bytes;
} reader;

bool peri_certs_wanted(const peri_settings *settings)
{
    return peri_settings_str(settings, "http.tls.cert", NULL) != NULL;
}

/* ---- files ---- */

static void full_path(const char *dir, const char *path, char *out)
{
    if (path[0] == '/') {
        snprintf(out, PATH_BYTES, "%s", path);
    } else {
        snprintf(out, PATH_BYTES, "%s/%s", dir, path);
    }
}

/* The file that a setting names becomes an entry. */
static int add_file(const reader *r, const char *key, const char *entry)
{
    const char *name = peri_settings_str(r->settings, key, NULL);
    char path[PATH_BYTES];
    peri_buf text;
    int rc;

    if (name == NULL) {
        return 0;
    }
    full_path(r->dir, name, path);
    peri_buf_init(&text, PEM_MAX_BYTES);
    rc = peri_tls_read_pem(peri_slice_str(path), &text);
    if (rc < 0) {
        snprintf(r->why, r->why_bytes, "%s: %s: %s", key, name,
                 peri_err_text(rc));
    } else {
        rc = peri_bundle_add(r->builder, entry, peri_buf_slice(&text));
    }
    if (text.data != NULL) {
        memset(text.data, 0, text.length); /* a key may have been in it */
    }
    peri_buf_fini(&text);
    return rc;
}

/* "http.tls" is the first identity, "http.tls.sni.1" the second. */
static void prefix_of(unsigned index, char *out)
{
    if (index == 0) {
        snprintf(out, KEY_BYTES, "http.tls");
    } else {
        snprintf(out, KEY_BYTES, "http.tls.sni.%u", index);
    }
}

static bool has_identity(const peri_settings *settings, unsigned index)
{
    char prefix[KEY_BYTES];
    char key[KEY_BYTES + 8];

    prefix_of(index, prefix);
    snprintf(key, sizeof key, "%s.cert", prefix);
    return index < PERI_TLS_IDENTITIES_MAX &&
           peri_settings_str(settings, key, NULL) != NULL;
}

/* ["a", "b"] as "a b ". */
static void add_names(const reader *r, const char *key, const char *entry)
{
    const char *json = peri_settings_str(r->settings, key, "[]");
    size_t length = strlen(json);
    char *names = peri_strdup(json);
    size_t n = 0;

    for (size_t i = 0; i < length; i++) {
        if (json[i] == ',') {
            names[n++] = ' ';
        } else if (strchr("[]\" ", json[i]) == NULL) {
            names[n++] = json[i];
        }
    }
    names[n] = '\0';
    peri_bundle_add(r->builder, entry, peri_slice_of(names, n));
    free(names);
}

static int add_identity(const reader *r, unsigned index)
{
    static const char *const parts[] = {"cert", "key"};
    char prefix[KEY_BYTES];
    char key[KEY_BYTES + 8];
    char entry[32];
    int rc = 0;

    prefix_of(index, prefix);
    for (size_t i = 0; i < 2 && rc == 0; i++) {
        snprintf(key, sizeof key, "%s.%s", prefix, parts[i]);
        snprintf(entry, sizeof entry, "%u.%s", index, parts[i]);
        rc = add_file(r, key, entry);
    }
    snprintf(key, sizeof key, "%s.names", prefix);
    snprintf(entry, sizeof entry, "%u.names", index);
    add_names(r, key, entry);
    snprintf(entry, sizeof entry, "%u.what", index);
    peri_bundle_add(r->builder, entry, peri_slice_str(prefix));
    return rc;
}

static void add_options(const reader *r)
{
    static const char *const keys[] = {"http.tls.verify_client",
                                       "http.tls.min_version",
                                       "http.tls.ciphers", "http.tls.tickets"};
    peri_buf text;

    peri_buf_init(&text, PEM_MAX_BYTES);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *value = peri_settings_str(r->settings, keys[i], NULL);

        if (value != NULL) {
            peri_buf_printf(&text, "%s\t%s\n", keys[i], value);
        }
    }
    peri_bundle_add(r->builder, "options", peri_buf_slice(&text));
    peri_buf_fini(&text);
}

static int add_all(const reader *r)
{
    int rc = 0;

    for (unsigned i = 0; rc == 0 && has_identity(r->settings, i); i++) {
        rc = add_identity(r, i);
    }
    if (rc == 0) {
        rc = add_file(r, "http.tls.ca", "ca");
    }
    add_options(r);
    return rc;
}

int peri_certs_read(const peri_settings *settings, const char *dir, int *out_fd,
                    int64_t *expires_s, char *why, size_t why_bytes)
{
    reader r = {settings, dir, peri_bundle_builder_create(), why, why_bytes};
    peri_tls_context *trial;
    int rc;

    *out_fd = -1;
    snprintf(why, why_bytes, "http.tls: the certificates are too large");
    rc = add_all(&r);
    if (rc == 0) {
        rc = peri_bundle_finish(r.builder, out_fd);
    }
    peri_bundle_builder_destroy(r.builder);
    if (rc == 0) {
        rc = peri_certs_context(*out_fd, NULL, &trial, why, why_bytes);
        if (rc == 0 && expires_s != NULL) {
            *expires_s = peri_tls_context_expires_s(trial);
        }
        peri_tls_context_unref(trial);
    }
    return rc;
}

/* ---- contexts ---- */

static peri_slice entry_of(const peri_bundle *bundle, unsigned index,
                           const char *part)
{
    char name[32];
    peri_slice data;

    snprintf(name, sizeof name, "%u.%s", index, part);
    data = peri_bundle_find(bundle, name);
    return data.data != NULL ? data : PERI_SLICE("");
}

static peri_tls_ask ask_of(const peri_settings *options)
{
    const char *text =
        peri_settings_str(options, "http.tls.verify_client", "false");

    if (strcmp(text, "request") == 0) {
        return PERI_TLS_ASK_REQUEST;
    }
    return strcmp(text, "false") == 0 ? PERI_TLS_ASK_NEVER
                                      : PERI_TLS_ASK_REQUIRE;
}

static int context_of(const peri_bundle *bundle, const peri_settings *options,
                      const peri_tls_tickets *tickets, peri_tls_context **out,
                      char *why, size_t why_bytes)
{
    peri_tls_identity *identities =
        peri_calloc(PERI_TLS_IDENTITIES_MAX, sizeof *identities);
    peri_tls_server_options server = {
        .identities = identities,
        .ca = peri_bundle_find(bundle, "ca"),
        .client = ask_of(options),
        .from_1_3 =
            strcmp(peri_settings_str(options, "http.tls.min_version", "1.2"),
                   "1.3") == 0,
        .ciphers = peri_settings_str(options, "http.tls.ciphers", ""),
        .tickets = peri_settings_bool(options, "http.tls.tickets", true),
        .ticket_keys = tickets,
    };
    int rc;

    for (unsigned i = 0; i < PERI_TLS_IDENTITIES_MAX; i++) {
        if (entry_of(bundle, i, "what").length == 0) {
            break;
        }
        /* A NUL follows each entry. */
        identities[server.count++] = (peri_tls_identity){
            .cert = entry_of(bundle, i, "cert"),
            .key = entry_of(bundle, i, "key"),
            .what = entry_of(bundle, i, "what").data,
            .names = entry_of(bundle, i, "names").data,
        };
    }
    rc = peri_tls_server_context(&server, out, why, why_bytes);
    free(identities);
    return rc;
}

int peri_certs_context(int fd, const peri_tls_tickets *tickets,
                       peri_tls_context **out, char *why, size_t why_bytes)
{
    peri_bundle *bundle;
    peri_settings *options;
    int rc = peri_bundle_open(fd, &bundle);

    *out = NULL;
    if (rc < 0) {
        snprintf(why, why_bytes, "http.tls: %s", peri_err_text(rc));
        return rc;
    }
    options = peri_settings_create(peri_bundle_find(bundle, "options"));
    rc = context_of(bundle, options, tickets, out, why, why_bytes);
    peri_settings_destroy(options);
    peri_bundle_close(bundle);
    return rc;
}

static bool same_entries(const peri_bundle *a, const peri_bundle *b)
{
    if (peri_bundle_count(a) != peri_bundle_count(b)) {
        return false;
    }
    for (size_t i = 0; i < peri_bundle_count(a); i++) {
        if (strcmp(peri_bundle_name(a, i), peri_bundle_name(b, i)) != 0 ||
            !peri_slice_equal(peri_bundle_data(a, i), peri_bundle_data(b, i))) {
            return false;
        }
    }
    return true;
}

bool peri_certs_equal(int fd, int other_fd)
{
    peri_bundle *a;
    peri_bundle *b;
    bool equal = false;

    if (peri_bundle_open(fd, &a) < 0) {
        return false;
    }
    if (peri_bundle_open(other_fd, &b) == 0) {
        equal = same_entries(a, b);
        peri_bundle_close(b);
    }
    peri_bundle_close(a);
    return equal;
}

/* ---- looking ---- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    return (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15) + (hash >> 29);
}

static uint64_t look_at(const peri_settings *settings, const char *dir,
                        const char *key, uint64_t hash)
{
    const char *name = peri_settings_str(settings, key, NULL);
    char path[PATH_BYTES];
    struct stat info;

    if (name == NULL) {
        return mix(hash, 1);
    }
    full_path(dir, name, path);
    if (stat(path, &info) < 0) {
        return mix(hash, (uint64_t)errno);
    }
    hash = mix(hash, (uint64_t)info.st_ino);
    hash = mix(hash, (uint64_t)info.st_size);
    hash = mix(hash, (uint64_t)info.st_mtim.tv_sec);
    return mix(hash, (uint64_t)info.st_mtim.tv_nsec);
}

uint64_t peri_certs_look(const peri_settings *settings, const char *dir)
{
    uint64_t hash = look_at(settings, dir, "http.tls.ca", 1);

    for (unsigned i = 0; has_identity(settings, i); i++) {
        char prefix[KEY_BYTES];
        char key[KEY_BYTES + 8];

        prefix_of(i, prefix);
        snprintf(key, sizeof key, "%s.cert", prefix);
        hash = look_at(settings, dir, key, hash);
        snprintf(key, sizeof key, "%s.key", prefix);
        hash = look_at(settings, dir, key, hash);
    }
    return hash;
}
