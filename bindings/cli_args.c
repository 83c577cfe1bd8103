/* Arguments: flags may stand anywhere behind the command, until `--`. */
#include "bindings/cli_args.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/log.h"

#define WORD_BYTES 64

typedef struct flag {
    char letter; /* 0: has none */
    const char *name;
    int needs; /* which PERILUA_CLI_... the command must accept; 0: any */
    enum { NO_VALUE, A_VALUE, MAYBE_A_NUMBER } takes;
    int (*apply)(perilua_cli *cli, const char *value);
} flag;

int perilua_cli_usage(const perilua_cli *cli, const char *format, ...)
{
    va_list args;

    fputs("perigee: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    if (cli != NULL && cli->command != NULL) {
        fprintf(stderr, "\nusage: perigee %s %s\n", cli->command->name,
                cli->command->usage);
    } else {
        fputs("\n`perigee help` lists the commands.\n", stderr);
    }
    return PERILUA_CLI_USAGE;
}

/* ---- did you mean ---- */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edits from a to b, a swap of neighbours counting as one. */
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][WORD_BYTES + 1];
    size_t a_length = strlen(a);
    size_t b_length = strlen(b);

    if (a_length > WORD_BYTES || b_length > WORD_BYTES) {
        return WORD_BYTES;
    }
    for (size_t j = 0; j <= b_length; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a_length; i++) {
        size_t *row = rows[i % 3];
        const size_t *last = rows[(i - 1) % 3];

        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t swap = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);

            row[j] = least(least(last[j], row[j - 1]) + 1, swap);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
                a[i - 2] == b[j - 1]) {
                row[j] = least(row[j], rows[(i - 2) % 3][j - 2] + 1);
            }
        }
    }
    return rows[a_length % 3][b_length];
}

void perilua_cli_suggest(const char *word, const char *const *candidates,
                         char *out, size_t out_bytes)
{
    const char *best = NULL;
    size_t best_edits = 0;

    for (; *candidates != NULL; candidates++) {
        size_t shorter = least(strlen(word), strlen(*candidates));
        size_t longer = strlen(word) + strlen(*candidates) - shorter;
        size_t edits = distance(word, *candidates);
        size_t limit = longer / 3 > 0 ? longer / 3 : 1;

        /* "prod" for "production": a beginning counts as meant. */
        if (shorter >= 3 && strncmp(word, *candidates, shorter) == 0) {
            edits = least(edits, 1);
        }
        if (edits <= limit && (best == NULL || edits < best_edits)) {
            best = *candidates;
            best_edits = edits;
        }
    }
    if (best != NULL) {
        snprintf(out, out_bytes, "; did you mean \"%s\"?", best);
    } else if (out_bytes > 0) {
        out[0] = '\0';
    }
}

/* ---- flags ---- */

static void add_override(perilua_cli *cli, const char *prefix,
                         const char *value)
{
    size_t bytes = strlen(prefix) + strlen(value) + 1;
    char *text = peri_alloc(bytes);

    snprintf(text, bytes, "%s%s", prefix, value);
    cli->overrides = peri_realloc(cli->overrides, (cli->override_count + 2) *
                                                      sizeof *cli->overrides);
    cli->overrides[cli->override_count++] = text;
    cli->overrides[cli->override_count] = NULL;
}

/* Decimal digits alone, from min to max. */
static bool is_number(const char *text, long min, long max)
{
    char *end;
    long number;

    if (!isdigit((unsigned char)text[0]) || strlen(text) > 9) {
        return false;
    }
    number = strtol(text, &end, 10);
    return *end == '\0' && number >= min && number <= max;
}

static int apply_env(perilua_cli *cli, const char *value)
{
    static const char *const names[] = {"development", "staging", "production",
                                        "test", NULL};
    char hint[WORD_BYTES + 32];

    for (size_t i = 0; names[i] != NULL; i++) {
        if (strcmp(value, names[i]) == 0) {
            cli->env = names[i];
            return 0;
        }
    }
    perilua_cli_suggest(value, names, hint, sizeof hint);
    return perilua_cli_usage(cli,
                             "--env must be development, staging, production "
                             "or test, not \"%s\"%s",
                             value, hint);
}

static int apply_port(perilua_cli *cli, const char *value)
{
    if (!is_number(value, 0, 65535)) {
        return perilua_cli_usage(
            cli, "--port must be a number from 0 to 65535, not \"%s\"", value);
    }
    add_override(cli, "--port:http.port=", value);
    return 0;
}

static int apply_host(perilua_cli *cli, const char *value)
{
    if (value[0] == '\0') {
        return perilua_cli_usage(cli, "--host must not be empty");
    }
    add_override(cli, "--host:http.host=", value);
    return 0;
}

static int apply_workers(perilua_cli *cli, const char *value)
{
    if (strcmp(value, "auto") != 0 && !is_number(value, 1, 256)) {
        return perilua_cli_usage(
            cli, "--workers must be auto or a number from 1 to 256, not \"%s\"",
            value);
    }
    add_override(cli, "--workers:cluster.workers=", value);
    return 0;
}

static int apply_log_level(perilua_cli *cli, const char *value)
{
    static const char *const names[] = {"trace", "debug", "info",   "warn",
                                        "error", "fatal", "silent", NULL};
    char hint[WORD_BYTES + 32];

    for (size_t i = 0; names[i] != NULL; i++) {
        if (strcmp(value, names[i]) == 0) {
            add_override(cli, "--log-level:log.level=", value);
            return 0;
        }
    }
    perilua_cli_suggest(value, names, hint, sizeof hint);
    return perilua_cli_usage(cli,
                             "--log-level must be trace, debug, info, warn, "
                             "error, fatal or silent, not \"%s\"%s",
                             value, hint);
}

static int apply_level(perilua_cli *cli, const char *value)
{
    int level = peri_log_level_parse(value);

    if (level == PERI_LOG_INFO && strcmp(value, "info") != 0) {
        return perilua_cli_usage(cli,
                                 "--level must be trace, debug, info, warn, "
                                 "error or fatal, not \"%s\"",
                                 value);
    }
    cli->filter.level = level;
    return 0;
}

static int apply_route(perilua_cli *cli, const char *value)
{
    if (value[0] != '/') {
        return perilua_cli_usage(
            cli, "--route must be a route such as /users/:id, not \"%s\"",
            value);
    }
    cli->filter.route = value;
    return 0;
}

static int apply_trace_id(perilua_cli *cli, const char *value)
{
    size_t length = strlen(value);

    if (length == 0 || length > 32 ||
        strspn(value, "0123456789abcdef") != length) {
        return perilua_cli_usage(
            cli,
            "--trace-id must be up to 32 hexadecimal digits of lower case, "
            "not \"%s\"",
            value);
    }
    cli->filter.trace_id = value;
    return 0;
}

static int apply_follow(perilua_cli *cli, const char *value)
{
    (void)value;
    cli->follow = true;
    return 0;
}

static int apply_cpu(perilua_cli *cli, const char *value)
{
    cli->profile.cpu = value != NULL ? value : "10s";
    return 0;
}

static int apply_heap(perilua_cli *cli, const char *value)
{
    cli->profile.heap = value != NULL ? value : "10s";
    return 0;
}

static int apply_format(perilua_cli *cli, const char *value)
{
    static const char *const names[] = {"svg", "pprof", "collapsed", NULL};
    char hint[WORD_BYTES + 32];

    for (size_t i = 0; names[i] != NULL; i++) {
        if (strcmp(value, names[i]) == 0) {
            cli->profile.format = value;
            return 0;
        }
    }
    perilua_cli_suggest(value, names, hint, sizeof hint);
    return perilua_cli_usage(
        cli, "--format must be svg, pprof or collapsed, not \"%s\"%s", value,
        hint);
}

static int apply_output(perilua_cli *cli, const char *value)
{
    if (value[0] == '\0') {
        return perilua_cli_usage(cli, "--output must not be empty");
    }
    cli->profile.output = value;
    return 0;
}

static int apply_worker(perilua_cli *cli, const char *value)
{
    if (!is_number(value, 0, 255)) {
        return perilua_cli_usage(
            cli, "--worker must be a number from 0 to 255, not \"%s\"", value);
    }
    cli->profile.worker = atoi(value);
    return 0;
}

static int apply_set(perilua_cli *cli, const char *value)
{
    const char *equals = strchr(value, '=');

    if (equals == NULL || equals == value || value[0] == '-') {
        return perilua_cli_usage(
            cli, "--set must be KEY=VALUE (http.port=8080), not \"%s\"", value);
    }
    add_override(cli, "", value);
    return 0;
}

static int apply_json(perilua_cli *cli, const char *value)
{
    (void)value;
    cli->json = true;
    return 0;
}

static int apply_help(perilua_cli *cli, const char *value)
{
    (void)value;
    cli->help = true;
    return 0;
}

/* ---- hidden: how the master repeats our flags to `stage` ---- */

static int apply_override(perilua_cli *cli, const char *value)
{
    add_override(cli, "", value);
    return 0;
}

static int apply_dev(perilua_cli *cli, const char *value)
{
    (void)value;
    cli->dev = true;
    return 0;
}

static const flag flags[] = {
    {'e', "env", PERILUA_CLI_CONFIGURES, A_VALUE, apply_env},
    {'p', "port", PERILUA_CLI_CONFIGURES, A_VALUE, apply_port},
    {'H', "host", PERILUA_CLI_CONFIGURES, A_VALUE, apply_host},
    {'w', "workers", PERILUA_CLI_CONFIGURES, A_VALUE, apply_workers},
    {0, "log-level", PERILUA_CLI_CONFIGURES, A_VALUE, apply_log_level},
    {0, "set", PERILUA_CLI_CONFIGURES, A_VALUE, apply_set},
    {'f', "follow", PERILUA_CLI_FILTERS, NO_VALUE, apply_follow},
    {0, "level", PERILUA_CLI_FILTERS, A_VALUE, apply_level},
    {0, "route", PERILUA_CLI_FILTERS, A_VALUE, apply_route},
    {0, "trace-id", PERILUA_CLI_FILTERS, A_VALUE, apply_trace_id},
    {0, "cpu", PERILUA_CLI_PROFILES, MAYBE_A_NUMBER, apply_cpu},
    {0, "heap", PERILUA_CLI_PROFILES, MAYBE_A_NUMBER, apply_heap},
    {0, "format", PERILUA_CLI_PROFILES, A_VALUE, apply_format},
    {'o', "output", PERILUA_CLI_PROFILES, A_VALUE, apply_output},
    {0, "worker", PERILUA_CLI_PROFILES, A_VALUE, apply_worker},
    {0, "json", PERILUA_CLI_JSON, NO_VALUE, apply_json},
    {'h', "help", 0, NO_VALUE, apply_help},
    {0, "override", PERILUA_CLI_HIDDEN, A_VALUE, apply_override},
    {0, "dev", PERILUA_CLI_HIDDEN, NO_VALUE, apply_dev},
};

#define FLAGS (sizeof flags / sizeof flags[0])

static bool is_accepted(const perilua_cli *cli, const flag *f)
{
    return f->needs == 0 || (cli->command->accepts & f->needs) != 0;
}

/* "--port=80" gives "80" in value; "-p80" too. */
static const flag *find_flag(const perilua_cli *cli, const char *text,
                             const char **value)
{
    *value = NULL;
    for (size_t i = 0; i < FLAGS; i++) {
        const flag *f = &flags[i];
        size_t length = strlen(f->name);

        if (!is_accepted(cli, f)) {
            continue;
        }
        if (text[1] == '-' && strncmp(text + 2, f->name, length) == 0 &&
            (text[length + 2] == '\0' || text[length + 2] == '=')) {
            *value = text[length + 2] == '=' ? text + length + 3 : NULL;
            return f;
        }
        if (text[1] != '-' && f->letter != 0 && text[1] == f->letter &&
            (text[2] == '\0' || f->takes == A_VALUE)) {
            *value = text[2] != '\0' ? text + 2 + (text[2] == '=') : NULL;
            return f;
        }
    }
    return NULL;
}

static int unknown_flag(const perilua_cli *cli, const char *text)
{
    const char *names[FLAGS + 1];
    char word[WORD_BYTES];
    char hint[WORD_BYTES + 32];
    size_t count = 0;

    for (size_t i = 0; i < FLAGS; i++) {
        if (is_accepted(cli, &flags[i]) &&
            flags[i].needs != PERILUA_CLI_HIDDEN) {
            names[count++] = flags[i].name;
        }
    }
    names[count] = NULL;
    snprintf(word, sizeof word, "%s", text + strspn(text, "-"));
    word[strcspn(word, "=")] = '\0';
    perilua_cli_suggest(word, names, hint, sizeof hint);
    if (hint[0] != '\0') { /* `; did you mean "--port"?` */
        char *quote = strchr(hint, '"');

        memmove(quote + 3, quote + 1, strlen(quote + 1) + 1);
        memcpy(quote + 1, "--", 2);
    }
    return perilua_cli_usage(cli, "%s takes no %.*s%s", cli->command->name,
                             (int)strcspn(text, "="), text, hint);
}

/* argv[*at] is a flag; moves *at to its last word. */
static int parse_flag(perilua_cli *cli, int argc, char **argv, int *at)
{
    const char *text = argv[*at];
    const char *value;
    const flag *f = find_flag(cli, text, &value);

    if (f == NULL) {
        if ((cli->command->accepts & PERILUA_CLI_PASSES) != 0) {
            cli->words[cli->word_count++] = text;
            return 0;
        }
        return unknown_flag(cli, text);
    }
    if (f->takes == MAYBE_A_NUMBER) {
        if (value == NULL && *at + 1 < argc &&
            isdigit((unsigned char)argv[*at + 1][0])) {
            value = argv[++*at];
        }
        return f->apply(cli, value);
    }
    if (f->takes == NO_VALUE) {
        return value == NULL
                   ? f->apply(cli, NULL)
                   : perilua_cli_usage(cli, "--%s takes no value", f->name);
    }
    if (value == NULL) {
        if (*at + 1 >= argc) {
            return perilua_cli_usage(cli, "--%s needs a value", f->name);
        }
        value = argv[++*at];
    }
    return f->apply(cli, value);
}

int perilua_cli_parse(perilua_cli *cli, int argc, char **argv)
{
    bool only_words = false;
    int rc;

    cli->words = peri_calloc((size_t)argc + 1, sizeof *cli->words);
    cli->overrides = peri_calloc(1, sizeof *cli->overrides);
    for (int i = 0; i < argc; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
            if ((cli->command->accepts & PERILUA_CLI_PASSES) != 0) {
                cli->words[cli->word_count++] = argv[i]; /* for it as well */
            }
        } else if (!only_words && argv[i][0] == '-' && argv[i][1] != '\0') {
            rc = parse_flag(cli, argc, argv, &i);
            if (rc != 0) {
                return rc;
            }
        } else {
            cli->words[cli->word_count++] = argv[i];
        }
    }
    if (cli->command->words_max >= 0 && !cli->help &&
        cli->word_count > (size_t)cli->command->words_max) {
        return perilua_cli_usage(cli, "%s: one word too many: \"%s\"",
                                 cli->command->name,
                                 cli->words[cli->command->words_max]);
    }
    if ((cli->command->accepts & PERILUA_CLI_DIR) != 0 &&
        cli->word_count == (size_t)cli->command->words_max) {
        cli->dir = cli->words[--cli->word_count];
        cli->words[cli->word_count] = NULL;
    }
    return 0;
}

void perilua_cli_fini(perilua_cli *cli)
{
    for (size_t i = 0; i < cli->override_count; i++) {
        free(cli->overrides[i]);
    }
    free(cli->overrides);
    free(cli->words);
}
