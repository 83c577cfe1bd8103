/* Commands that are tools: what they do is written in Lua. */
#include <stdio.h>

#include "bindings/cli_commands.h"

int perilua_cli_version(perilua_cli *cli)
{
    printf(cli->json ? "{\"version\":\"%s\"}\n" : "perigee %s\n", PERI_VERSION);
    return PERILUA_CLI_OK;
}
