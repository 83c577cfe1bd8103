/* Build tool: turns the files of a folder into C arrays.
 *
 * embed DIR LIST OUT: LIST names one file of DIR a line; OUT gets an array
 * peri_embedded[] of {name, data, size}, ended by a NULL name, in LIST's
 * order (sorted by the build), so that a lookup may bisect. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 1024
#define PATH_BYTES 1024

static void emit_file(FILE *out, const char *path, int index)
{
    FILE *in = fopen(path, "rb");
    size_t count = 0;
    int c;

    if (in == NULL) {
        perror(path);
        exit(1);
    }
    fprintf(out, "static const unsigned char file_%d[] = {", index);
    while ((c = fgetc(in)) != EOF) {
        fprintf(out, "%s%d,", count++ % 24 == 0 ? "\n" : "", c);
    }
    fprintf(out, "0};\n"); /* the closing NUL is not counted in size */
    fclose(in);
}

int main(int argc, char **argv)
{
    static char names[FILES_MAX][PATH_BYTES];
    char path[2 * PATH_BYTES];
    FILE *list;
    FILE *out;
    int count = 0;

    if (argc != 4 || (list = fopen(argv[2], "r")) == NULL ||
        (out = fopen(argv[3], "w")) == NULL) {
        fprintf(stderr, "usage: embed DIR LIST OUT\n");
        return 1;
    }
    fprintf(out, "#include \"bindings/embedded.h\"\n");
    while (count < FILES_MAX && fgets(names[count], PATH_BYTES, list)) {
        names[count][strcspn(names[count], "\n")] = '\0';
        if (names[count][0] == '\0') {
            continue;
        }
        if ((size_t)snprintf(path, sizeof path, "%s/%s", argv[1],
                             names[count]) >= sizeof path) {
            fprintf(stderr, "%s: the path is too long\n", names[count]);
            return 1;
        }
        emit_file(out, path, count++);
    }
    fprintf(out, "const peri_embedded_file peri_embedded[] = {\n");
    for (int i = 0; i < count; i++) {
        fprintf(out, "{\"%s\", file_%d, sizeof file_%d - 1},\n", names[i], i,
                i);
    }
    fprintf(out, "{0, 0, 0}};\n");
    fclose(list);
    return fclose(out) == 0 ? 0 : 1;
}
