/* perigee.core.events: publishing to all workers of the host, and hearing.
 *
 * What travels is "topic<LF>data as JSON". */
#include <stdlib.h>
#include <string.h>

#include "bindings/bind.h"
#include "bindings/gen.h"
#include "bindings/json.h"
#include "bindings/modules.h"
#include "core/cluster/channel.h"

/* publish(topic, data) -> true; or nil and an error: "too_large",
 * "unavailable", "invalid" for what is no JSON. */
static int events_publish(lua_State *L)
{
    peri_slice topic = perilua_check_slice(L, 1);
    peri_host *host = perilua_vm_of(L)->env->host;
    peri_buf text;
    int rc;

    luaL_argcheck(L, memchr(topic.data, '\n', topic.length) == NULL, 1,
                  "a topic has no line breaks");
    if (host == NULL) {
        return luaL_error(L, "no host is there to publish to");
    }
    lua_settop(L, 2);
    peri_buf_init(&text, PERI_CHANNEL_TEXT_MAX);
    rc = peri_buf_append_slice(&text, topic);
    if (rc == 0) {
        rc = peri_buf_append_byte(&text, '\n');
    }
    if (rc == 0) {
        rc = perilua_json_encode(L, 2, &text);
        if (rc < 0 && rc != PERI_ELIMIT) {
            peri_buf_fini(&text);
            return perilua_fail(L, "invalid", NULL, "%s", lua_tostring(L, -1));
        }
    }
    if (rc == 0) {
        rc = host->publish != NULL
                 ? host->publish(host->publisher, peri_buf_slice(&text))
                 : (perilua_host_hear(host, peri_buf_slice(&text)), 0);
    }
    peri_buf_fini(&text);
    if (rc < 0) {
        return perilua_fail_rc(L, rc, "publish");
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* listen(): this generation wants to hear. */
static int events_listen(lua_State *L)
{
    perilua_gen *gen = perilua_vm_of(L)->gen;

    if (gen != NULL) {
        gen->listens = true;
    }
    return 0;
}

static void on_delivered(void *data, perilua_task *task, lua_State *co, int rc,
                         int nresults)
{
    perilua_gen *gen = data;

    (void)task;
    (void)nresults;
    if (rc < 0) {
        peri_log(gen->host->env.logger, PERI_LOG_ERROR,
                 "delivering an event failed: %s",
                 lua_tostring(co, -1) != NULL ? lua_tostring(co, -1) : "?");
    }
    perilua_gen_unused(gen);
}

void perilua_host_hear(peri_host *host, peri_slice text)
{
    perilua_gen *gen = perilua_host_live(host);
    const char *line_feed = memchr(text.data, '\n', text.length);
    lua_State *L;
    size_t topic;

    if (gen == NULL || !gen->listens || line_feed == NULL) {
        return;
    }
    L = gen->vm->L;
    topic = (size_t)(line_feed - text.data);
    gen->active++;
    perilua_require(L, "perigee.events");
    lua_getfield(L, -1, "deliver");
    lua_remove(L, -2);
    lua_pushlstring(L, text.data, topic);
    if (perilua_json_decode(
            L, peri_slice_of(line_feed + 1, text.length - topic - 1)) < 0) {
        lua_pop(L, 3); /* our own JSON: a worker of another make sent it */
        perilua_gen_unused(gen);
        return;
    }
    perilua_task_start(gen->vm, L, 2, 0, on_delivered, gen);
}

int perilua_open_events(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"publish", events_publish},
        {"listen", events_listen},
        {NULL, NULL},
    };

    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
