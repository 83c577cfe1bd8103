/* Ready: /livez, /startupz and /readyz of the main listener, where no route of
 * the application answers them. */
#include <stdio.h>
#include <string.h>

#include "bindings/gen.h"
#include "core/shm/health.h"

#define READY_MAX_BYTES ((size_t)64 << 10)

/* What libraries and tracebacks say is for the admin listener, as it is for the
 * log and not for the answer when a handler fails. */
static void withhold(peri_health_check *check)
{
    snprintf(check->detail, sizeof check->detail, "%s",
             check->status == PERI_HEALTH_FAIL ? "required, not there"
                                               : "warn: not there");
}

static bool is_stopping(const peri_host *host)
{
    return host->closing ||
           (host->stopping != NULL && atomic_load(host->stopping) != 0);
}

/* What the host depends on, and whether it is to end. */
static size_t read_health(const perilua_gen *gen, peri_health_check *out)
{
    bool stopping = is_stopping(gen->host);
    peri_health *health = peri_health_open(gen->vm->env->regions);
    bool tells_all = strcmp(gen->vm->env->name, "development") == 0;
    size_t count = 2;

    out[0] =
        (peri_health_check){PERI_HEALTH_PASS, "generation", "serves", false};
    out[1] = (peri_health_check){stopping ? PERI_HEALTH_FAIL : PERI_HEALTH_PASS,
                                 "running", "", false};
    snprintf(out[1].detail, sizeof out[1].detail,
             stopping ? "stopping" : "not stopping");
    if (health != NULL) {
        count += peri_health_read(health, out + 2, PERI_HEALTH_MAX);
        peri_health_close(health);
    }
    for (size_t i = 2; i < count; i++) {
        if (out[i].internal && !tells_all) {
            withhold(&out[i]);
        }
    }
    return count;
}

static void answer(const peri_health_check *checks, size_t count,
                   const char *asked, peri_exchange *ex)
{
    static const peri_field no_store = {{"Cache-Control", 13}, {"no-store", 8}};
    static const char *const names[] = {"pass", "pass", "warn", "fail"};
    peri_health_status worst = peri_health_worst(checks, count);
    bool verbose = peri_health_is_verbose(peri_exchange_text(ex, ex->query));
    peri_buf text;

    peri_buf_init(&text, READY_MAX_BYTES);
    if (verbose) {
        peri_health_write(checks, count, asked, &text);
    } else {
        peri_buf_printf(&text, "{\"status\":\"%s\"}", names[worst & 3]);
    }
    peri_exchange_answer(ex, worst == PERI_HEALTH_FAIL ? 503 : 200,
                         verbose ? PERI_SLICE("text/plain; charset=utf-8")
                                 : PERI_SLICE("application/json"),
                         &no_store, 1, peri_buf_slice(&text));
    peri_buf_fini(&text);
}

bool perilua_is_health(const perilua_gen *gen, peri_slice path)
{
    return gen->health_paths &&
           (peri_slice_equal(path, PERI_SLICE("/livez")) ||
            peri_slice_equal(path, PERI_SLICE("/readyz")) ||
            peri_slice_equal(path, PERI_SLICE("/startupz")));
}

void perilua_answer_health(const perilua_gen *gen, peri_exchange *ex,
                           peri_slice path)
{
    /* Liveness and start-up are proven by the answer itself. */
    const peri_health_check alive = {PERI_HEALTH_PASS, "worker", "answers",
                                     false};
    peri_health_check checks[PERI_HEALTH_MAX + 2];

    if (path.data[1] == 'r') {
        size_t count = read_health(gen, checks);

        answer(checks, count, "readyz", ex);
        return;
    }
    answer(&alive, 1, path.data[1] == 'l' ? "livez" : "startupz", ex);
}
