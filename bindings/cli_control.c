/* Commands for the running master: asked over its control socket. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bindings/cli_commands.h"
#include "bindings/cli_lua.h"
#include "core/base/log.h"
#include "core/cluster/control.h"
#include "core/cluster/lock.h"

#define ANSWER_MAX_BYTES ((size_t)4 << 20)
#define STATUS_TIMEOUT_MS 10000
#define END_MAX_MS 10000
#define END_STEP_MS 5

static void print_line(FILE *out, const peri_buf *text)
{
    if (text->length == 0) {
        return;
    }
    fwrite(text->data, 1, text->length, out);
    if (text->data[text->length - 1] != '\n') {
        fputc('\n', out);
    }
}

int perilua_cli_control(perilua_cli *cli)
{
    peri_buf answer;
    int code;

    peri_buf_init(&answer, ANSWER_MAX_BYTES);
    /* However long it takes: the answer is the outcome. */
    code = peri_control_call(cli->dir, cli->command->module, 0, &answer);
    print_line(code == 0 ? stdout : stderr, &answer);
    peri_buf_fini(&answer);
    return code;
}

/* It has said its last, but may still be at its log's last lines: who comes
 * next wants its place. */
static void await_end(const char *dir, int pid)
{
    const struct timespec step = {0, END_STEP_MS * 1000000};

    for (int ms = 0; ms < END_MAX_MS && peri_lock_holder(dir) == pid;
         ms += END_STEP_MS) {
        nanosleep(&step, NULL);
    }
}

int perilua_cli_stop(perilua_cli *cli)
{
    static const char stopped[] = "stopped";
    int pid = peri_lock_holder(cli->dir);
    peri_buf answer;
    int code;

    peri_buf_init(&answer, ANSWER_MAX_BYTES);
    code = peri_control_call(cli->dir, "stop", 0, &answer);
    if (answer.length >= sizeof stopped - 1 &&
        memcmp(answer.data, stopped, sizeof stopped - 1) == 0) {
        await_end(cli->dir, pid);
    }
    print_line(code == 0 ? stdout : stderr, &answer);
    peri_buf_fini(&answer);
    return code;
}

int perilua_cli_log_level(perilua_cli *cli)
{
    char verb[256];
    const char *name;
    peri_buf answer;
    int code;

    if (cli->word_count != 1) {
        return perilua_cli_usage(cli, "log-level needs a level");
    }
    name = strrchr(cli->words[0], '=');
    name = name != NULL ? name + 1 : cli->words[0];
    if (!peri_log_level_is_name(name)) {
        return perilua_cli_usage(cli,
                                 "a level is trace, debug, info, warn, error, "
                                 "fatal or silent, not \"%s\"",
                                 name);
    }
    snprintf(verb, sizeof verb, "log-level %s", cli->words[0]);
    peri_buf_init(&answer, ANSWER_MAX_BYTES);
    code = peri_control_call(cli->dir, verb, STATUS_TIMEOUT_MS, &answer);
    print_line(code == 0 ? stdout : stderr, &answer);
    peri_buf_fini(&answer);
    return code;
}

int perilua_cli_status(perilua_cli *cli)
{
    peri_buf answer;
    int code;

    peri_buf_init(&answer, ANSWER_MAX_BYTES);
    code = peri_control_call(cli->dir, "status", STATUS_TIMEOUT_MS, &answer);
    if (code != 0) {
        print_line(stderr, &answer);
    } else if (cli->json) {
        print_line(stdout, &answer);
    } else {
        code = perilua_cli_call(cli->command->module, cli,
                                peri_buf_slice(&answer));
    }
    peri_buf_fini(&answer);
    return code;
}
