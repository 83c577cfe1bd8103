/* perigee.core.metrics: declaring metrics, and where their cells are.
 *
 * Counting itself is Lua's: it adds to the doubles whose addresses it gets
 * here, which lie in memory that outlives the VM. */
#include "bindings/bind.h"
#include "bindings/modules.h"
#include "core/base/clock.h"
#include "core/shm/cells.h"

#define TEXT_MAX ((size_t)256 << 20)

/* FFI: sets a gauge whose latest value counts, wherever it was set. */
static void set_last(double *cells, double value)
{
    cells[1] = (double)peri_clock_monotonic_ns();
    cells[0] = value;
}

static void observe(double *cells, const double *bounds, double count,
                    double exponential, double value)
{
    peri_cells_observe(cells, bounds, (size_t)count, (uint32_t)exponential,
                       value);
}

static peri_cells *check_cells(lua_State *L)
{
    peri_cells *cells = perilua_vm_of(L)->env->cells;

    if (cells == NULL) {
        luaL_error(L, "there is no memory for metrics here");
    }
    return cells;
}

static size_t check_list(lua_State *L, int index, size_t max)
{
    size_t count;

    luaL_checktype(L, index, LUA_TTABLE);
    count = lua_objlen(L, index);
    luaL_argcheck(L, count <= max, index, "too many");
    return count;
}

/* declare(name, help, type, merge, labels, bounds, exponential) -> number |
 * nil, err. What is of a wrong form was refused by perigee.metrics. */
static int metrics_declare(lua_State *L)
{
    peri_cells *cells = check_cells(L);
    const char *labels[PERI_CELLS_LABELS_MAX];
    double bounds[PERI_CELLS_BOUNDS_MAX];
    peri_cells_family family = {
        .name = luaL_checkstring(L, 1),
        .help = luaL_checkstring(L, 2),
        .type = (peri_cells_type)luaL_checkinteger(L, 3),
        .merge = (peri_cells_merge)luaL_checkinteger(L, 4),
        .labels = labels,
        .label_count = check_list(L, 5, PERI_CELLS_LABELS_MAX),
        .bounds = bounds,
        .bound_count = check_list(L, 6, PERI_CELLS_BOUNDS_MAX),
        .exponential = (uint32_t)luaL_checkinteger(L, 7),
    };
    int number;

    for (size_t i = 0; i < family.label_count; i++) {
        lua_rawgeti(L, 5, (int)i + 1);
        labels[i] = luaL_checkstring(L, -1); /* the list keeps it */
        lua_pop(L, 1);
    }
    for (size_t i = 0; i < family.bound_count; i++) {
        lua_rawgeti(L, 6, (int)i + 1);
        bounds[i] = luaL_checknumber(L, -1);
        lua_pop(L, 1);
    }
    number = peri_cells_declare(cells, &family, perilua_vm_of(L)->generation);
    if (number < 0) {
        return perilua_fail(L, "too_large", NULL, "%s: there are %s",
                            family.name,
                            number == PERI_ELIMIT ? "too many metrics"
                                                  : "names that are too long");
    }
    lua_pushinteger(L, number);
    return 1;
}

/* series(number, name, value...) -> address, whether it is the overflow. The
 * values are strings, as many as there are labels. */
static int metrics_series(lua_State *L)
{
    peri_cells *cells = check_cells(L);
    int family = (int)luaL_checkinteger(L, 1);
    const char *name = luaL_checkstring(L, 2);
    peri_slice values[PERI_CELLS_LABELS_MAX];
    double *out;
    int count = lua_gettop(L) - 2;
    int rc;

    luaL_argcheck(L, count <= PERI_CELLS_LABELS_MAX, 3, "too many");
    for (int i = 0; i < count; i++) {
        values[i] = perilua_check_slice(L, 3 + i);
    }
    rc = peri_cells_series(cells, family, values, &out);
    if (rc == PERI_CELLS_OVERFLOW_FIRST) {
        peri_log(perilua_vm_of(L)->env->logger, PERI_LOG_WARN,
                 "%s: too many series, the rest is counted as overflow "
                 "(metrics.series_max)",
                 name);
    }
    lua_pushlightuserdata(L, out);
    lua_pushboolean(L, rc != 0);
    return 2;
}

/* text(openmetrics) -> what has been counted, by all who share these cells. */
static int metrics_text(lua_State *L)
{
    const perilua_vm *vm = perilua_vm_of(L);
    const peri_cells_view view = {.generation = vm->generation};
    peri_cells *cells = check_cells(L);
    bool openmetrics = lua_toboolean(L, 1);
    peri_expo expo;
    peri_buf out;

    peri_buf_init(&out, TEXT_MAX);
    peri_expo_init(&expo, &out, openmetrics);
    peri_cells_write(cells, &view, &expo);
    peri_expo_end(&expo);
    perilua_push_slice(L, peri_buf_slice(&out));
    peri_buf_fini(&out);
    return 1;
}

typedef struct sum {
    peri_slice wanted;
    double value;
} sum;

static void add_series(void *data, peri_slice labels, double value)
{
    sum *s = data;

    if (peri_slice_equal(labels, s->wanted)) {
        s->value += value;
    }
}

/* total(name, labels) -> a counter's or gauge's value, of all who share these
 * cells; labels as in the text. */
static int metrics_total(lua_State *L)
{
    const perilua_vm *vm = perilua_vm_of(L);
    const peri_cells_view view = {.generation = vm->generation};
    const char *name = luaL_checkstring(L, 1);
    sum s = {perilua_check_slice(L, 2), 0};

    peri_cells_each(check_cells(L), &view, name, add_series, &s);
    lua_pushnumber(L, s.value);
    return 1;
}

typedef void (*any_function)(void);

static void set_address(lua_State *L, const char *name, any_function fn)
{
    union {
        any_function in;
        void *out;
    } address = {fn};

    lua_pushlightuserdata(L, address.out);
    lua_setfield(L, -2, name);
}

static void set_limit(lua_State *L, const char *name, int limit)
{
    lua_pushinteger(L, limit);
    lua_setfield(L, -2, name);
}

int perilua_open_metrics(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"declare", metrics_declare},
        {"series", metrics_series},
        {"text", metrics_text},
        {"total", metrics_total},
        {NULL, NULL},
    };

    lua_newtable(L);
    luaL_register(L, NULL, functions);
    set_address(L, "set_last", (any_function)set_last);
    set_address(L, "observe", (any_function)observe);
    set_limit(L, "name_max", PERI_CELLS_NAME_MAX);
    set_limit(L, "help_max", PERI_CELLS_HELP_MAX);
    set_limit(L, "labels_max", PERI_CELLS_LABELS_MAX);
    set_limit(L, "bounds_max", PERI_CELLS_BOUNDS_MAX);
    set_limit(L, "exponential", PERI_EXPONENTIAL_BUCKETS);
    set_limit(L, "exponential_min", PERI_EXPONENTIAL_BUCKETS_MIN);
    set_limit(L, "exponential_max", PERI_EXPONENTIAL_BUCKETS_MAX);
    return 1;
}
