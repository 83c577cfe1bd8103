/* Command line: which command, and its help. */
#include "bindings/cli.h"

#include <stdio.h>
#include <string.h>

#include "bindings/cli_args.h"
#include "bindings/cli_commands.h"

#define SERVES (PERILUA_CLI_CONFIGURES | PERILUA_CLI_DIR)
#define NAMES_MAX 40

static int run_help(perilua_cli *cli);

const perilua_command perilua_commands[] = {
    {"run", SERVES, 1, perilua_cli_run, NULL, "[DIR] [flags]",
     "serve the application as PERIGEE_ENV says"},
    {"dev", SERVES, 1, perilua_cli_dev, NULL, "[DIR] [flags]",
     "serve it for development: reload on save, pretty logs"},
    {"check", SERVES | PERILUA_CLI_JSON, 1, perilua_cli_check,
     "perigee.cli.check", "[DIR] [--json] [flags]",
     "what is wrong with it, with file:line; serves nothing"},
    {"routes", SERVES | PERILUA_CLI_JSON, 1, perilua_cli_check,
     "perigee.cli.routes", "[DIR] [--json] [flags]",
     "method, path and handler of each route"},
    {"config", SERVES | PERILUA_CLI_JSON, 1, perilua_cli_config,
     "perigee.cli.config", "[DIR] [--json] [flags]",
     "the effective settings, each with where it came from"},
    {"test", PERILUA_CLI_PASSES, -1, perilua_cli_test, "perigee.cli.test",
     "[PATH] [busted options]", "run the specs with busted, inside of a host"},
    {"new", 0, 1, perilua_cli_plain, "perigee.cli.new", "NAME",
     "make an application that runs and whose test passes"},
    {"exec", SERVES, 2, perilua_cli_console, "perigee.cli.exec",
     "'LUA' [DIR] [flags]", "evaluate Lua with the application loaded"},
    {"repl", SERVES, 1, perilua_cli_console, "perigee.cli.repl",
     "[DIR] [flags]", "the same, line by line"},
    {"reload", PERILUA_CLI_DIR, 1, perilua_cli_control, "reload", "[DIR]",
     "let the running host take over what is on disk"},
    {"rollback", PERILUA_CLI_DIR, 1, perilua_cli_control, "rollback", "[DIR]",
     "let it go back to the code before the last reload"},
    {"status", PERILUA_CLI_DIR | PERILUA_CLI_JSON, 1, perilua_cli_status,
     "perigee.cli.status", "[DIR] [--json]", "how the running host is"},
    {"stop", PERILUA_CLI_DIR, 1, perilua_cli_stop, "stop", "[DIR]",
     "let it finish what it is doing, then end"},
    {"reopen", PERILUA_CLI_DIR, 1, perilua_cli_control, "reopen", "[DIR]",
     "let it open its log files anew, after they were moved"},
    {"queue", PERILUA_CLI_CONFIGURES | PERILUA_CLI_JSON | PERILUA_CLI_PASSES,
     -1, perilua_cli_queue, "perigee.cli.queue",
     "ls|show|add|retry|promote|remove|pause|resume|drain|clean ... [--json]",
     "look at queues and operate them"},
    {"pretty", PERILUA_CLI_FILTERS, 0, perilua_cli_pretty, NULL,
     "[--level L] [--route R] [--trace-id ID] < FILE",
     "log lines on stdin, for human eyes"},
    {"logs", PERILUA_CLI_DIR | PERILUA_CLI_FILTERS, 1, perilua_cli_logs, NULL,
     "[DIR] [-f] [--level L] [--route R] [--trace-id ID]",
     "what the running host has logged last, and with -f logs from now on"},
    {"log-level", PERILUA_CLI_DIR, 2, perilua_cli_log_level, NULL,
     "[MODULE=]LEVEL [DIR]",
     "have the running host, or a part, log more or less until it reloads"},
    {"profile", PERILUA_CLI_DIR | PERILUA_CLI_PROFILES, 1, perilua_cli_profiles,
     NULL,
     "--cpu [10s] | --heap [10s] [DIR] [--format F] [-o FILE] [--worker N]",
     "where the running host's time or memory goes, as a flame graph"},
    {"version", PERILUA_CLI_JSON, 0, perilua_cli_version, NULL, "[--json]",
     "versions of the program and its libraries"},
    {"help", 0, 1, run_help, NULL, "[COMMAND]", "what a command does"},
    {"stage", SERVES | PERILUA_CLI_HIDDEN, 1, perilua_cli_stage, NULL,
     "DIR [flags]", "make a bundle on descriptor 3, faults on 4"},
    {"worker", PERILUA_CLI_HIDDEN, 0, perilua_cli_worker, NULL, "",
     "started by the master"},
    {NULL, 0, 0, NULL, NULL, NULL, NULL},
};

const perilua_command *perilua_command_find(const char *name)
{
    for (const perilua_command *c = perilua_commands; c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

static void print_commands(FILE *out)
{
    fputs("perigee " PERI_VERSION ": a service host for Lua\n\n"
          "usage: perigee COMMAND [words] [flags]\n\n",
          out);
    for (const perilua_command *c = perilua_commands; c->name != NULL; c++) {
        if ((c->accepts & PERILUA_CLI_HIDDEN) == 0) {
            fprintf(out, "  %-10s%s\n", c->name, c->summary);
        }
    }
    fputs("\n`perigee help COMMAND` tells more. A first application:\n"
          "  perigee new shop && cd shop && perigee dev\n",
          out);
}

static int print_help(const perilua_command *command)
{
    printf("usage: perigee %s %s\n\n%s.\n", command->name, command->usage,
           command->summary);
    if ((command->accepts & PERILUA_CLI_CONFIGURES) != 0) {
        fputs("\n  -e, --env NAME        development, staging, production, "
              "test\n"
              "  -p, --port N          http.port\n"
              "  -H, --host ADDRESS    http.host\n"
              "  -w, --workers N|auto  cluster.workers\n"
              "      --log-level NAME  log.level\n"
              "      --set KEY=VALUE   any setting (repeatable)\n",
              stdout);
    }
    if ((command->accepts & PERILUA_CLI_PROFILES) != 0) {
        fputs("\n      --cpu [DURATION]   CPU time by call stack; 10s unless "
              "told, 5m at most\n"
              "      --heap [DURATION]  memory by type and by where it is "
              "allocated\n"
              "      --format NAME      svg (a flame graph), pprof (for go "
              "tool pprof), collapsed\n"
              "  -o, --output FILE      else standard output; where that is a "
              "terminal, a\n"
              "                         file whose name is said\n"
              "      --worker N         of that worker alone, from 0\n"
              "\nCtrl-C ends it early, with what there is by then.\n",
              stdout);
    }
    if ((command->accepts & PERILUA_CLI_JSON) != 0) {
        fputs("\n      --json            for machines\n", stdout);
    }
    return PERILUA_CLI_OK;
}

static int unknown_command(const char *name)
{
    const char *names[NAMES_MAX];
    char hint[128];
    size_t count = 0;

    for (const perilua_command *c = perilua_commands; c->name != NULL; c++) {
        if ((c->accepts & PERILUA_CLI_HIDDEN) == 0 && count + 1 < NAMES_MAX) {
            names[count++] = c->name;
        }
    }
    names[count] = NULL;
    perilua_cli_suggest(name, names, hint, sizeof hint);
    return perilua_cli_usage(NULL, "there is no command \"%s\"%s", name, hint);
}

static int run_help(perilua_cli *cli)
{
    const perilua_command *command;

    if (cli->word_count == 0) {
        print_commands(stdout);
        return PERILUA_CLI_OK;
    }
    command = perilua_command_find(cli->words[0]);
    return command != NULL ? print_help(command)
                           : unknown_command(cli->words[0]);
}

/* The command that argv[1] means; NULL: none. */
static const perilua_command *command_of(const char *word)
{
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0 ||
        strcmp(word, "-v") == 0) {
        return perilua_command_find("version");
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        return perilua_command_find("help");
    }
    return perilua_command_find(word);
}

int perilua_cli_main(int argc, char **argv)
{
    perilua_cli cli = {.dir = ".", .profile = {.worker = -1}};
    int code;

    if (argc < 2) {
        print_commands(stdout);
        return PERILUA_CLI_OK;
    }
    cli.command = command_of(argv[1]);
    if (cli.command == NULL) {
        return argv[1][0] == '-'
                   ? perilua_cli_usage(NULL, "a command comes first, not %s",
                                       argv[1])
                   : unknown_command(argv[1]);
    }
    code = perilua_cli_parse(&cli, argc - 2, argv + 2);
    if (code == 0) {
        code = cli.help ? print_help(cli.command) : cli.command->run(&cli);
    }
    perilua_cli_fini(&cli);
    if (fflush(stdout) != 0 && code == 0) {
        code = PERILUA_CLI_FAILURE;
    }
    return code;
}
