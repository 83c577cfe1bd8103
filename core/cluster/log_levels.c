/* Levels: what `perigee log-level` has set, until the next reload. Workers are
 * told, and later workers too when they begin to serve. */
#include <stdio.h>
#include <string.h>

#include "core/cluster/master_state.h"

static void tell(peri_proc *proc, const peri_level_set *set)
{
    peri_proc_tell(proc, PERI_CHANNEL_LOG_LEVEL, (uint32_t)set->level, 0,
                   set->module, -1);
}

static peri_level_set *find(peri_master *master, const char *module)
{
    for (int i = 0; i < master->level_count; i++) {
        if (strcmp(master->levels[i].module, module) == 0) {
            return &master->levels[i];
        }
    }
    if (master->level_count == PERI_LEVELS_MAX) {
        return NULL;
    }
    return &master->levels[master->level_count++];
}

int peri_log_level_set(peri_master *master, const char *what, char *said,
                       size_t said_bytes)
{
    const char *equals = strrchr(what, '=');
    const char *name = equals != NULL ? equals + 1 : what;
    size_t length = equals != NULL ? (size_t)(equals - what) : 0;
    int level = peri_log_level_parse(name);
    peri_level_set *set;
    char module[PERI_MODULE_BYTES];

    if (!peri_log_level_is_name(name)) {
        snprintf(said, said_bytes,
                 "a level is trace, debug, info, warn, error, fatal or silent, "
                 "not \"%s\"",
                 name);
        return 2;
    }
    if (length >= sizeof module || (equals != NULL && length == 0)) {
        snprintf(said, said_bytes, "a module's name has 1 to %d characters",
                 PERI_MODULE_BYTES - 1);
        return 2;
    }
    snprintf(module, sizeof module, "%.*s", (int)length, what);
    set = find(master, module);
    if (set == NULL) {
        snprintf(said, said_bytes, "at most %d modules; a reload forgets them",
                 PERI_LEVELS_MAX);
        return 1;
    }
    snprintf(set->module, sizeof set->module, "%s", module);
    set->level = level;
    if (length == 0) {
        master->logger.level = level;
    }
    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        tell(PERI_CONTAINER(link, peri_proc, link), set);
    }
    snprintf(said, said_bytes, "%s logs at %s until the next reload",
             length == 0 ? "the host" : module, name);
    return 0;
}

void peri_log_levels_give(peri_proc *proc)
{
    for (int i = 0; i < proc->master->level_count; i++) {
        tell(proc, &proc->master->levels[i]);
    }
}
