/* VM: one lua_State with what belongs to it, for one generation.
 *
 * Made by a host (host.c) or by the command line. Belongs to the loop thread.
 * The VM outlives every operation that a task of it waits for: an operation
 * that is still under way holds a reference. */
#ifndef PERILUA_VM_H
#define PERILUA_VM_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/base/bundle.h"
#include "core/base/log.h"
#include "core/base/settings.h"

typedef struct perilua_vm perilua_vm;
typedef struct perilua_task perilua_task;

/* What every VM of a host shares. Filled in by the host, borrowed by VMs. */
typedef struct perilua_env {
    uv_loop_t *loop;
    peri_logger *logger;
    const char *dir;  /* the application's directory, absolute */
    const char *name; /* of the environment: "development", ... */
    int worker;       /* slot, 0-based; -1: not a worker */
    int workers;
    bool no_jobs;
    void *host; /* peri_host *, opaque here; NULL: a bare VM */
    /* Told which request (a task's context; NULL: none's) is about to run;
     * NULL: nobody watches. */
    void (*doing)(const struct perilua_env *env, void *context);
    struct peri_sqlite_set *sqlite;    /* the databases; NULL: none to be had */
    struct peri_client *client;        /* of HTTP; NULL: none to be had */
    struct peri_tracer *tracer;        /* NULL: none to be had */
    struct peri_redis_set *redis;      /* NULL: none to be had */
    struct peri_regions *regions;      /* shared memory; NULL: none to be had */
    struct peri_cells *cells;          /* metrics; NULL: none to be had */
    struct perilua_db_meter *db_meter; /* NULL: nobody counts */
} perilua_env;

/* Why the running task has a hook. */
#define PERILUA_VM_STOPPED 1u /* it is over its budget */
#define PERILUA_VM_ASKED 2u   /* a sample of its stack is wanted */

struct perilua_vm {
    lua_State *L; /* the main thread */
    const perilua_env *env;
    peri_bundle *bundle;     /* borrowed; NULL: modules come from disk alone */
    peri_settings *settings; /* borrowed; NULL as long as there are none */
    uint64_t generation;
    perilua_task *current; /* the running task; NULL outside of tasks */
    struct perilua_scheduler *scheduler; /* task.c's */
    void *gen; /* host.c's: the generation it runs, or NULL */
    uint32_t refs;
    bool closing;
    volatile unsigned hooked; /* budget.c: PERILUA_VM_... of the running task */
    volatile bool late;       /* STOPPED because its deadline has passed */
    char overrun[160];        /* where the last task over its budget was */
    lua_Alloc allocate;       /* LuaJIT's own, below the limit of memory */
    void *allocate_data;
    size_t memory_bytes;
    size_t memory_max_bytes; /* limits.memory_per_vm; 0: none */
    void (*closed)(void *data);
    void *closed_data;
};

/* The VM of a state or of any coroutine in it. Never NULL. */
perilua_vm *perilua_vm_of(lua_State *L);

/* Keeps the lua_State alive until unref: for operations in flight. */
void perilua_vm_ref(perilua_vm *vm);
void perilua_vm_unref(perilua_vm *vm);

/* A fresh state with the standard and Perigee's libraries; nothing of the
 * application is loaded. Caller owns it; release with perilua_vm_close(). */
perilua_vm *perilua_vm_create(const perilua_env *env, peri_bundle *bundle,
                              peri_settings *settings, uint64_t generation);

/* Cancels all tasks; frees when they have ended and the last reference has
 * gone, then calls closed (may be NULL) from the loop. */
void perilua_vm_close(perilua_vm *vm, void (*closed)(void *data), void *data);

/* Makes L a state with the libraries but without loop and tasks, for another
 * thread; vm (zero-filled but for env, bundle and settings) and L are the
 * caller's. 0, or as lua_cpcall with the error on the stack. */
int perilua_vm_init_apart(perilua_vm *vm, lua_State *L);

/* Installs the standard libraries, Perigee's C modules and its require in a
 * bare state without loop and tasks: for evaluating configuration. */
void perilua_open_libs(lua_State *L);

/* Loads a module of the embedded library and pushes what it returns; raises
 * on failure. For C that starts something written in Lua. */
void perilua_require(lua_State *L, const char *name);

#endif
