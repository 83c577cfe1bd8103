/* The program: a thin face of the library. */
#include "bindings/cli.h"

int main(int argc, char **argv)
{
    return perilua_cli_main(argc, argv);
}
