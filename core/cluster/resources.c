/* Resources: what workers share (dictionaries, breakers) and what they have
 * noted of it, for /metrics and `perigee status`. */
#include <stdio.h>
#include <string.h>

#include "core/base/json_text.h"
#include "core/cluster/master_state.h"
#include "core/shm/breaker.h"
#include "core/shm/dict.h"
#include "core/shm/health.h"

#define LABEL_BYTES (3 * PERI_REGION_NAME_MAX + 32)

static const char *const breaker_states[] = {"closed", "open", "half_open",
                                             "?"};

/* What a region's name says behind the prefix; NULL: it is another kind. */
static const char *named(const char *name, const char *prefix)
{
    size_t length = strlen(prefix);

    return strncmp(name, prefix, length) == 0 ? name + length : NULL;
}

/* Of dictionaries as applications name them; a cache's as "cache:NAME". */
static const char *dict_name(const char *region)
{
    const char *name = named(region, "dict:");

    return name != NULL                      ? name
           : named(region, "cache:") != NULL ? region
                                             : NULL;
}

static bool read_dict(peri_regions *regions, const char *region, size_t bytes,
                      peri_dict_stats *out)
{
    peri_dict *dict;

    if (peri_dict_open(regions, region, bytes, &dict) < 0) {
        return false;
    }
    peri_dict_stat(dict, out);
    peri_dict_close(dict);
    return true;
}

static peri_slice label(const char *key, const char *value, char *out)
{
    size_t length = (size_t)sprintf(out, "%s=\"", key);

    length += peri_expo_escape(peri_slice_str(value), PERI_REGION_NAME_MAX,
                               out + length);
    out[length++] = '"';
    return peri_slice_of(out, length);
}

/* ---- metrics ---- */

typedef struct dict_family {
    const char *name;
    const char *help;
    peri_expo_type type;
    size_t offset; /* of a uint64_t in peri_dict_stats */
} dict_family;

typedef struct dict_walk {
    const dict_family *family;
    peri_regions *regions;
    peri_expo *expo;
} dict_walk;

static void write_dict(void *data, const char *name, void *memory, size_t bytes)
{
    const dict_walk *walk = data;
    const char *shown = dict_name(name);
    peri_dict_stats stats;
    uint64_t value;
    char text[LABEL_BYTES];

    (void)memory;
    if (shown != NULL && read_dict(walk->regions, name, bytes, &stats)) {
        memcpy(&value, (const char *)&stats + walk->family->offset,
               sizeof value);
        peri_expo_sample(walk->expo, label("dict", shown, text), (double)value,
                         0);
    }
}

static void write_dicts(const peri_master *master, peri_expo *out)
{
    static const dict_family families[] = {
        {"perigee_shared_size_bytes", "Memory of a dictionary, all in all.",
         PERI_EXPO_GAUGE, offsetof(peri_dict_stats, size_bytes)},
        {"perigee_shared_used_bytes", "Memory of entries that are there.",
         PERI_EXPO_GAUGE, offsetof(peri_dict_stats, used_bytes)},
        {"perigee_shared_items", "Entries that are there.", PERI_EXPO_GAUGE,
         offsetof(peri_dict_stats, items)},
        {"perigee_shared_evictions_total", "Entries that had to make room.",
         PERI_EXPO_COUNTER, offsetof(peri_dict_stats, evicted_total)},
        {"perigee_shared_expired_total", "Entries met after their time.",
         PERI_EXPO_COUNTER, offsetof(peri_dict_stats, expired_total)},
    };

    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        dict_walk walk = {&families[i], master->regions, out};

        peri_expo_head(out, families[i].name, families[i].type,
                       families[i].help);
        peri_regions_each(master->regions, write_dict, &walk);
    }
}

typedef struct breaker_walk {
    peri_expo *expo;
    int what; /* 0: state, 1: opened, 2: refused */
} breaker_walk;

static void write_breaker(void *data, const char *name, void *memory,
                          size_t bytes)
{
    const breaker_walk *walk = data;
    const char *shown = named(name, "breaker:");
    peri_breaker_counts counts;
    char text[LABEL_BYTES + 32];
    peri_slice labels;

    if (shown == NULL) {
        return;
    }
    peri_breaker_peek(memory, bytes, &counts);
    labels = label("breaker", shown, text);
    if (walk->what != 0) {
        peri_expo_sample(walk->expo, labels,
                         (double)(walk->what == 1 ? counts.opened_total
                                                  : counts.refused_total),
                         0);
        return;
    }
    for (uint32_t state = 0; state < 3; state++) {
        int more = sprintf(text + labels.length, ",state=\"%s\"",
                           breaker_states[state]);

        peri_expo_sample(walk->expo,
                         peri_slice_of(text, labels.length + (size_t)more),
                         counts.state == state ? 1 : 0, 0);
    }
}

static void write_breakers(const peri_master *master, peri_expo *out)
{
    breaker_walk walk = {out, 0};

    peri_expo_head(out, "perigee_breaker_state", PERI_EXPO_GAUGE,
                   "1 for the state that a circuit breaker is in.");
    peri_regions_each(master->regions, write_breaker, &walk);
    walk.what = 1;
    peri_expo_head(out, "perigee_breaker_opened_total", PERI_EXPO_COUNTER,
                   "Times that a circuit breaker opened.");
    peri_regions_each(master->regions, write_breaker, &walk);
    walk.what = 2;
    peri_expo_head(out, "perigee_breaker_refused_total", PERI_EXPO_COUNTER,
                   "Calls that a circuit breaker refused.");
    peri_regions_each(master->regions, write_breaker, &walk);
}

void peri_resources_metrics(const peri_master *master, peri_expo *out)
{
    write_dicts(master, out);
    write_breakers(master, out);
}

/* ---- status ---- */

typedef struct json_walk {
    const peri_master *master;
    peri_buf *out;
    const char *comma;
} json_walk;

static void begin(json_walk *walk, const char *name)
{
    peri_buf_append_str(walk->out, walk->comma);
    peri_buf_append_str(walk->out, "{\"name\":");
    peri_json_append_string(walk->out, peri_slice_str(name));
    walk->comma = ",";
}

static void breaker_json(void *data, const char *name, void *memory,
                         size_t bytes)
{
    json_walk *walk = data;
    const char *shown = named(name, "breaker:");
    peri_breaker_counts counts;

    if (shown != NULL) {
        peri_breaker_peek(memory, bytes, &counts);
        begin(walk, shown);
        peri_buf_printf(walk->out,
                        ",\"state\":\"%s\",\"opened\":%llu,\"refused\":%llu}",
                        breaker_states[counts.state & 3],
                        (unsigned long long)counts.opened_total,
                        (unsigned long long)counts.refused_total);
    }
}

static void dict_json(void *data, const char *name, void *memory, size_t bytes)
{
    json_walk *walk = data;
    const char *shown = dict_name(name);
    peri_dict_stats s;

    (void)memory;
    if (shown != NULL && read_dict(walk->master->regions, name, bytes, &s)) {
        begin(walk, shown);
        peri_buf_printf(
            walk->out,
            ",\"size\":%llu,\"used\":%llu,\"items\":%llu,\"evicted\":%llu,"
            "\"expired\":%llu}",
            (unsigned long long)s.size_bytes, (unsigned long long)s.used_bytes,
            (unsigned long long)s.items, (unsigned long long)s.evicted_total,
            (unsigned long long)s.expired_total);
    }
}

/* A label's text up to its closing quote, as JSON has it: the escapes are the
 * same, what JSON forbids becomes a space. */
static size_t value_json(peri_slice labels, size_t at, peri_buf *out)
{
    for (; at < labels.length && labels.data[at] != '"'; at++) {
        char c = labels.data[at];

        if (c == '\\' && at + 1 < labels.length) {
            peri_buf_append(out, labels.data + at, 2);
            at++;
        } else {
            peri_buf_append(out, (unsigned char)c < ' ' ? " " : &c, 1);
        }
    }
    return at;
}

/* name="value",... -> {"name":"value",...,"value":n} */
static void series_json(void *data, peri_slice labels, double value)
{
    json_walk *walk = data;

    peri_buf_append_str(walk->out, walk->comma);
    peri_buf_append_str(walk->out, "{");
    walk->comma = ",";
    for (size_t at = 0; at < labels.length;) {
        size_t equals = at;

        while (equals < labels.length && labels.data[equals] != '=') {
            equals++;
        }
        peri_buf_printf(walk->out, "\"%.*s\":\"", (int)(equals - at),
                        labels.data + at);
        at = value_json(labels, equals + 2, walk->out) + 2; /* quote, comma */
        peri_buf_append_str(walk->out, "\",");
    }
    peri_buf_printf(walk->out, "\"value\":%.0f}", value);
}

static void
list_json(const peri_master *master, peri_buf *out, const char *name,
          void (*fn)(void *data, const char *name, void *memory, size_t bytes))
{
    json_walk walk = {master, out, ""};

    peri_buf_printf(out, "\"%s\":[", name);
    peri_regions_each(master->regions, fn, &walk);
    peri_buf_append_str(out, "],");
}

static void family_json(const peri_master *master, peri_buf *out,
                        const char *name, const char *family)
{
    const peri_cells_view view = {master->generation, peri_metrics_is_alive,
                                  master};
    json_walk walk = {master, out, ""};

    peri_buf_printf(out, "\"%s\":[", name);
    if (master->cells != NULL) {
        peri_cells_each(master->cells, &view, family, series_json, &walk);
    }
    peri_buf_append_str(out, "],");
}

static void health_json(const peri_master *master, peri_buf *out)
{
    static const char *const names[] = {"?", "pass", "warn", "fail"};
    peri_health_check checks[PERI_HEALTH_MAX];
    peri_health *health = peri_health_open(master->regions);
    json_walk walk = {master, out, ""};
    size_t count = 0;

    if (health != NULL) {
        count = peri_health_read(health, checks, PERI_HEALTH_MAX);
        peri_health_close(health);
    }
    peri_buf_append_str(out, "\"health\":[");
    for (size_t i = 0; i < count; i++) {
        begin(&walk, checks[i].name);
        peri_buf_printf(
            out, ",\"status\":\"%s\",\"detail\":", names[checks[i].status & 3]);
        peri_json_append_string(out, peri_slice_str(checks[i].detail));
        peri_buf_append_str(out, "}");
    }
    peri_buf_append_str(out, "],");
}

void peri_resources_json(const peri_master *master, peri_buf *out)
{
    health_json(master, out);
    list_json(master, out, "breakers", breaker_json);
    family_json(master, out, "bulkheads", "perigee_bulkhead_calls");
    family_json(master, out, "limiters", "perigee_limiter_requests_total");
    peri_pools_json(master, out);
    list_json(master, out, "shared", dict_json);
}
