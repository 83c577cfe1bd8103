/* Command line: what the words after `perigee` mean. */
#include "bindings/cli.h"

#include <stdio.h>
#include <string.h>

int perilua_cli_main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "version") == 0) {
        printf("perigee %s\n", PERI_VERSION);
        return 0;
    }
    fprintf(stderr, "usage: perigee version\n");
    return 2;
}
