/* Ready: /livez, /startupz and /readyz of the main listener, where no route of
 * the application answers them. */
#include <stdio.h>

#include "bindings/gen.h"
#include "core/shm/health.h"

#define READY_MAX_BYTES ((size_t)64 << 10)

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
    size_t count = 2;

    out[0] = (peri_health_check){PERI_HEALTH_PASS, "generation", "serves"};
    out[1] = (peri_health_check){stopping ? PERI_HEALTH_FAIL : PERI_HEALTH_PASS,
                                 "running", ""};
    snprintf(out[1].detail, sizeof out[1].detail,
             stopping ? "stopping" : "not stopping");
    if (health != NULL) {
        count += peri_health_read(health, out + 2, PERI_HEALTH_MAX);
        peri_health_close(health);
    }
    return count;
}

static void answer_ready(const perilua_gen *gen, peri_exchange *ex)
{
    static const peri_field no_store = {{"Cache-Control", 13}, {"no-store", 8}};
    static const char *const names[] = {"", "pass", "warn", "fail"};
    static const char *const ends[] = {"", "passed", "passed, warn", "failed"};
    peri_health_check checks[PERI_HEALTH_MAX + 2];
    size_t count = read_health(gen, checks);
    peri_health_status worst = peri_health_worst(checks, count);
    int status = worst == PERI_HEALTH_FAIL ? 503 : 200;
    bool verbose = peri_slice_equal(peri_exchange_text(ex, ex->query),
                                    PERI_SLICE("verbose"));
    peri_buf text;

    peri_buf_init(&text, READY_MAX_BYTES);
    if (verbose) {
        peri_health_write(checks, count, &text);
        peri_buf_printf(&text, "readyz %s\n", ends[worst]);
    } else {
        peri_buf_printf(&text, "{\"status\":\"%s\"}", names[worst]);
    }
    peri_exchange_answer(ex, status,
                         verbose ? PERI_SLICE("text/plain; charset=utf-8")
                                 : PERI_SLICE("application/json"),
                         &no_store, 1, peri_buf_slice(&text));
    peri_buf_fini(&text);
}

/* Liveness and start-up are proven by the answer itself. */
bool perilua_answer_health(const perilua_gen *gen, peri_exchange *ex,
                           peri_slice path)
{
    static const peri_field no_store = {{"Cache-Control", 13}, {"no-store", 8}};

    if (!gen->health_paths ||
        (ex->method != PERI_METHOD_GET && ex->method != PERI_METHOD_HEAD)) {
        return false;
    }
    if (peri_slice_equal(path, PERI_SLICE("/readyz"))) {
        answer_ready(gen, ex);
        return true;
    }
    if (!peri_slice_equal(path, PERI_SLICE("/livez")) &&
        !peri_slice_equal(path, PERI_SLICE("/startupz"))) {
        return false;
    }
    peri_exchange_answer(ex, 200, PERI_SLICE("application/json"), &no_store, 1,
                         PERI_SLICE("{\"status\":\"pass\"}"));
    return true;
}
