/* What the commands do. Each returns the exit code. */
#ifndef PERILUA_CLI_COMMANDS_H
#define PERILUA_CLI_COMMANDS_H

#include "bindings/cli_args.h"

/* cli_serve.c */
int perilua_cli_run(perilua_cli *cli);
int perilua_cli_dev(perilua_cli *cli);
int perilua_cli_stage(perilua_cli *cli);
int perilua_cli_worker(perilua_cli *cli);

/* cli_tools.c */
int perilua_cli_config(perilua_cli *cli);
int perilua_cli_plain(perilua_cli *cli); /* cli->command->module, in Lua */
int perilua_cli_version(perilua_cli *cli);

/* cli_logs.c */
int perilua_cli_pretty(perilua_cli *cli);
int perilua_cli_logs(perilua_cli *cli);

/* cli_host.c */
int perilua_cli_test(perilua_cli *cli);
int perilua_cli_check(perilua_cli *cli);   /* and routes */
int perilua_cli_console(perilua_cli *cli); /* exec and repl */
int perilua_cli_queue(perilua_cli *cli);

/* cli_control.c: what the running master is asked */
int perilua_cli_control(perilua_cli *cli);
int perilua_cli_stop(perilua_cli *cli);
int perilua_cli_status(perilua_cli *cli);
int perilua_cli_log_level(perilua_cli *cli);

/* cli_profile.c */
int perilua_cli_profiles(perilua_cli *cli);

/* Runs cli->command->module inside of a host of cli->dir, with cli's words as
 * its arguments; the module returns a function. writes: var/ is made where it
 * is missing. Log lines go to standard error. Returns the exit code. */
int perilua_cli_inside(const perilua_cli *cli, const char *env, bool dev,
                       bool writes);

/* Makes the bundle of cli's application, or prints its faults and returns the
 * exit code. 0: the caller owns *out_fd. dev as in perilua_stage_options; env:
 * unless --env was given. */
int perilua_cli_make_bundle(const perilua_cli *cli, const char *env, bool dev,
                            int *out_fd);

#endif
