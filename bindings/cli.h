/* Command line: dispatch of `perigee COMMAND ...`. */
#ifndef PERILUA_CLI_H
#define PERILUA_CLI_H

/* Returns the exit code (design A3): 0, 1, 2, 3, 69, 70, 71, 78. */
int perilua_cli_main(int argc, char **argv);

#endif
