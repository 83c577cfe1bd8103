/* Conn behind proxies that the configuration trusts: whom they speak for, and
 * how that one reached them. X-Forwarded-For and X-Forwarded-Proto, and, where
 * there is none, Forwarded (RFC 7239). */
#include "core/http/conn.h"

static bool is_trusted(const peri_http_server *server,
                       const peri_net_addr *addr)
{
    for (size_t i = 0; i < server->proxy_count; i++) {
        if (peri_net_block_has(&server->proxies[i], addr)) {
            return true;
        }
    }
    return false;
}

static peri_slice trim(const char *from, const char *to)
{
    while (from < to && (*from == ' ' || *from == '\t')) {
        from++;
    }
    while (to > from && (to[-1] == ' ' || to[-1] == '\t')) {
        to--;
    }
    return peri_slice_of(from, (size_t)(to - from));
}

/* Takes the last element off *list. */
static bool list_last(peri_slice *list, peri_slice *element)
{
    const char *from;
    const char *end;

    if (list->data == NULL) {
        return false;
    }
    end = list->data + list->length;
    from = end;
    while (from > list->data && from[-1] != ',') {
        from--;
    }
    *element = trim(from, end);
    *list = from > list->data
                ? peri_slice_of(list->data, (size_t)(from - 1 - list->data))
                : (peri_slice){NULL, 0};
    return true;
}

static peri_slice unquoted(peri_slice text)
{
    return text.length > 1 && text.data[0] == '"' &&
                   text.data[text.length - 1] == '"'
               ? peri_slice_of(text.data + 1, text.length - 2)
               : text;
}

/* The value of a parameter of Forwarded: `for=1.2.3.4;proto=https`. */
static peri_slice parameter(peri_slice element, peri_slice name)
{
    const char *at = element.data;
    const char *end = at + element.length;

    while (at < end) {
        const char *stop = memchr(at, ';', (size_t)(end - at));
        peri_slice pair = trim(at, stop != NULL ? stop : end);

        if (pair.length > name.length && pair.data[name.length] == '=' &&
            strncasecmp(pair.data, name.data, name.length) == 0) {
            return unquoted(peri_slice_of(pair.data + name.length + 1,
                                          pair.length - name.length - 1));
        }
        at = stop != NULL ? stop + 1 : end;
    }
    return (peri_slice){NULL, 0};
}

/* One field's addresses, from the last; false: nobody vouches any further. */
static bool walk_list(peri_conn_exchange *ex, peri_slice list, bool parameters)
{
    peri_slice element;
    peri_net_addr addr;

    while (list_last(&list, &element)) {
        if (parameters) {
            element = parameter(element, PERI_SLICE("for"));
        }
        if (!is_trusted(ex->server, &ex->addr) ||
            peri_net_addr_parse(element, &addr) < 0) {
            return false;
        }
        ex->addr = addr;
    }
    return true;
}

/* Walks the chain from us to the first that nobody vouches for. False: there
 * is no such field. */
static bool walk(peri_conn_exchange *ex, peri_slice name, bool parameters)
{
    const peri_exchange *base = &ex->base;
    bool found = false;

    for (size_t i = base->field_count; i-- > 0;) {
        if (!peri_slice_equal_nocase(
                peri_exchange_text(base, base->fields[i].name), name)) {
            continue;
        }
        found = true;
        if (!walk_list(ex, peri_exchange_text(base, base->fields[i].value),
                       parameters)) {
            break;
        }
    }
    return found;
}

void peri_conn_proxy_client(peri_conn_exchange *ex)
{
    if (is_trusted(ex->server, &ex->addr) &&
        !walk(ex, PERI_SLICE("x-forwarded-for"), false)) {
        walk(ex, PERI_SLICE("forwarded"), true);
    }
}

/* The first element: what the client spoke to the proxy it reached. */
void peri_conn_proxy_scheme(peri_conn_exchange *ex)
{
    peri_slice scheme;
    const char *comma;

    if (!is_trusted(ex->server, &ex->addr)) {
        return;
    }
    scheme = peri_exchange_field(&ex->base, PERI_SLICE("x-forwarded-proto"));
    if (scheme.length == 0) {
        scheme = peri_exchange_field(&ex->base, PERI_SLICE("forwarded"));
    }
    if (scheme.length == 0) {
        return;
    }
    comma = memchr(scheme.data, ',', scheme.length);
    scheme =
        trim(scheme.data, comma != NULL ? comma : scheme.data + scheme.length);
    if (memchr(scheme.data, '=', scheme.length) != NULL) {
        scheme = parameter(scheme, PERI_SLICE("proto"));
    }
    if (peri_slice_equal_nocase(scheme, PERI_SLICE("https"))) {
        ex->base.is_tls = true;
    } else if (peri_slice_equal_nocase(scheme, PERI_SLICE("http"))) {
        ex->base.is_tls = false;
    }
}
