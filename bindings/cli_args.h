/* Arguments of the command line: a command, its flags, its words. */
#ifndef PERILUA_CLI_ARGS_H
#define PERILUA_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/log_filter.h"

#define PERILUA_CLI_OK 0
#define PERILUA_CLI_FAILURE 1
#define PERILUA_CLI_USAGE 2
#define PERILUA_CLI_REFUSED 3
#define PERILUA_CLI_INTERNAL 70
#define PERILUA_CLI_OS 71
#define PERILUA_CLI_CONFIG 78

typedef struct perilua_cli perilua_cli;

/* What a command accepts. */
enum {
    PERILUA_CLI_CONFIGURES = 1, /* -e -p -H -w --set --log-level */
    PERILUA_CLI_JSON = 2,       /* --json */
    PERILUA_CLI_PASSES = 4,     /* flags it does not know are words */
    PERILUA_CLI_HIDDEN = 8,     /* not in the help */
    PERILUA_CLI_DIR = 16,       /* the last of words_max is the directory */
    PERILUA_CLI_FILTERS = 32,   /* -f --level --route --trace-id */
    PERILUA_CLI_PROFILES = 64,  /* --cpu --heap --format -o --worker */
};

typedef struct perilua_command {
    const char *name;
    int accepts;
    int words_max; /* -1: any number; the directory counts */
    int (*run)(perilua_cli *cli);
    const char *module; /* for run: "perigee.cli.config"; may be NULL */
    const char *usage;  /* what stands behind the name: "[DIR] [--json]" */
    const char *summary;
} perilua_command;

/* Of `perigee profile`. */
typedef struct perilua_cli_profile {
    const char *cpu;    /* a duration; NULL: not wanted */
    const char *heap;   /* the same */
    const char *format; /* NULL: svg */
    const char *output; /* NULL: as standard output is */
    int worker;         /* -1: all */
} perilua_cli_profile;

struct perilua_cli {
    const perilua_command *command;
    const char *dir;  /* "." unless told */
    const char *env;  /* of --env; NULL: not given */
    char **overrides; /* "--port:http.port=80", NULL-ended, owned */
    size_t override_count;
    const char **words; /* behind the command, NULL-ended */
    size_t word_count;
    peri_log_filter filter; /* of log lines */
    bool follow;            /* lines that are yet to come, too */
    perilua_cli_profile profile;
    bool json;
    bool help;
    bool dev; /* of the hidden `stage`: the command was `dev` */
};

/* Ended by a NULL name. */
extern const perilua_command perilua_commands[];

const perilua_command *perilua_command_find(const char *name);

/* Reads what follows the command. 0, or PERILUA_CLI_USAGE after a message on
 * standard error. Words are borrowed from argv. */
int perilua_cli_parse(perilua_cli *cli, int argc, char **argv);
void perilua_cli_fini(perilua_cli *cli);

/* Prints "perigee: ..." and where help is; returns PERILUA_CLI_USAGE. cli may
 * be NULL. */
__attribute__((format(printf, 2, 3))) int
perilua_cli_usage(const perilua_cli *cli, const char *format, ...);

/* The word of candidates (NULL-ended) that is meant; NULL: none is near.
 * Writes `; did you mean "x"?` or "" to out. */
void perilua_cli_suggest(const char *word, const char *const *candidates,
                         char *out, size_t out_bytes);

#endif
