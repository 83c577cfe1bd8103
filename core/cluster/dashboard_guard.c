/* Dashboard guard: against pages of other sites in the browser of somebody who
 * may look, and against others in the network.
 *
 * A site that has its own name point here (DNS rebinding) is known by Host. One
 * that sends forms or loads what is here as a script is known by what browsers
 * tell of it: Sec-Fetch-Site, Origin; what changes something needs a header
 * that no other site may send, too. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "core/cluster/dashboard.h"

#define HOST_MAX 255
#define SETTING "admin.dashboard"

bool peri_dashboard_is_on(const peri_master *master)
{
    return master->options->asset != NULL && master->dashboard != NULL &&
           peri_settings_bool(master->settings, SETTING, true);
}

/* On a developer's machine there is nothing that is not theirs. */
bool peri_dashboard_may_write(const peri_master *master)
{
    return peri_settings_bool(master->settings, SETTING ".write",
                              strcmp(master->options->env, "development") == 0);
}

/* ---- who looks ---- */

static bool is_local(peri_slice address)
{
    return peri_slice_starts(address, PERI_SLICE("127.")) ||
           peri_slice_equal(address, PERI_SLICE("::1")) ||
           peri_slice_equal(address, PERI_SLICE("unix")) ||
           peri_slice_starts(address, PERI_SLICE("::ffff:127."));
}

/* ---- Host ---- */

static bool is_address(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    return inet_pton(AF_INET, host, &v4) == 1 ||
           inet_pton(AF_INET6, host, &v6) == 1;
}

/* The name without port and brackets, in lower case; false: it is none. */
static bool host_name(peri_slice field, char *out)
{
    const char *end = NULL;
    size_t length = field.length;

    if (length != 0 && field.data[0] == '[') {
        end = memchr(field.data, ']', length);
        field.data++;
    } else if (length != 0) {
        end = memchr(field.data, ':', length);
        end = end != NULL ? end : field.data + length;
    }
    if (end == NULL || end == field.data || end - field.data > HOST_MAX) {
        return false;
    }
    length = (size_t)(end - field.data);
    for (size_t i = 0; i < length; i++) {
        char c = field.data[i];

        out[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    out[length] = '\0';
    return strchr(out, '"') == NULL;
}

static bool is_listed(const peri_master *master, const char *host)
{
    const char *list =
        peri_settings_str(master->settings, SETTING ".hosts", "[]");
    char quoted[HOST_MAX + 3];

    snprintf(quoted, sizeof quoted, "\"%s\"", host);
    return strcasestr(list, quoted) != NULL;
}

/* An address is nobody's name, and "localhost" nobody else's. */
static bool is_our_host(const peri_master *master, peri_slice field)
{
    const char *own =
        peri_settings_str(master->settings, "admin.host", "127.0.0.1");
    char host[HOST_MAX + 1];

    return host_name(field, host) &&
           (is_address(host) || strcmp(host, "localhost") == 0 ||
            strcasecmp(host, own) == 0 || is_listed(master, host));
}

/* ---- pages of other sites ---- */

static bool is_own_origin(peri_exchange *ex, peri_slice origin)
{
    peri_slice host = peri_exchange_field(ex, PERI_SLICE("host"));
    peri_slice scheme = PERI_SLICE("http://");

    return origin.length == scheme.length + host.length &&
           peri_slice_starts(origin, scheme) &&
           peri_slice_equal_nocase(
               peri_slice_of(origin.data + scheme.length, host.length), host);
}

static bool field_is(peri_exchange *ex, peri_slice name, peri_slice value)
{
    return peri_slice_equal(peri_exchange_field(ex, name), value);
}

/* A page of our own, an address that was typed, or no browser. */
static bool is_same_site(peri_exchange *ex)
{
    peri_slice site = peri_exchange_field(ex, PERI_SLICE("sec-fetch-site"));

    return site.data == NULL ||
           peri_slice_equal(site, PERI_SLICE("same-origin")) ||
           peri_slice_equal(site, PERI_SLICE("none"));
}

/* Somebody follows a link. */
static bool is_navigation(peri_exchange *ex)
{
    return field_is(ex, PERI_SLICE("sec-fetch-mode"), PERI_SLICE("navigate")) &&
           field_is(ex, PERI_SLICE("sec-fetch-dest"), PERI_SLICE("document"));
}

const char *peri_dashboard_suspect(const peri_master *master, peri_exchange *ex,
                                   bool is_page)
{
    peri_slice origin = peri_exchange_field(ex, PERI_SLICE("origin"));

    if (!peri_settings_bool(master->settings, SETTING ".remote", false) &&
        !is_local(peri_exchange_remote(ex))) {
        return "the dashboard answers this machine alone: "
               "admin.dashboard.remote is not set";
    }
    if (!is_our_host(master, peri_exchange_field(ex, PERI_SLICE("host")))) {
        return "Host is no name of this listener: see admin.dashboard.hosts";
    }
    if (origin.data != NULL && !is_own_origin(ex, origin)) {
        return "Origin is another site";
    }
    if (!is_same_site(ex) && !(is_page && is_navigation(ex))) {
        return "the page of another site asks";
    }
    return NULL;
}

const char *peri_dashboard_suspect_change(peri_exchange *ex)
{
    peri_slice type = peri_exchange_field(ex, PERI_SLICE("content-type"));
    peri_slice json = PERI_SLICE("application/json");

    if (peri_exchange_field(ex, PERI_SLICE("x-perigee-dashboard")).length ==
        0) {
        return "the header X-Perigee-Dashboard is missing";
    }
    if (!peri_slice_starts(type, json) ||
        (type.length > json.length && type.data[json.length] != ';' &&
         type.data[json.length] != ' ')) {
        return "Content-Type is not application/json";
    }
    return NULL;
}
