/* kill -9 of processes that write to a shared dictionary, at any instruction.
 *
 *     shared_kill [KILLS]
 *
 * Writers do nothing but write, so that they die with a shard's lock held as
 * often as not. After each death every shard must be free, its invariants hold,
 * and every value be one that somebody has written as a whole. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/shm/dict.h"

#define AREA_BYTES ((size_t)8 << 20)
#define DICT_BYTES ((size_t)128 << 10)
#define VALUE_MAX 400
#define KEYS 700 /* with long values, more than there is room for */
#define WRITERS 2
#define SAMPLES 40

typedef struct drill {
    peri_regions *regions;
    peri_dict *dict;
    unsigned seed;
    long kills;
    uint64_t slowest_ns;
} drill;

static peri_slice key_of(char *room, unsigned k)
{
    return peri_slice_of(room, (size_t)snprintf(room, 32, "key-%u", k));
}

/* A value that shows whether it is whole: one letter all through, and as many
 * as the letter says modulo 26. */
static size_t make_value(char *room, unsigned seed)
{
    size_t length = 1 + seed % VALUE_MAX;

    memset(room, (int)('a' + length % 26), length);
    return length;
}

static bool is_whole(const peri_dict_value *value)
{
    if (value->type == PERI_DICT_NUMBER) {
        double half = value->number / 2;

        return half >= 0 && half < 1e12;
    }
    for (size_t i = 0; i < value->length; i++) {
        if (value->data[i] != (char)('a' + value->length % 26)) {
            return false;
        }
    }
    return value->length > 0 && value->length <= VALUE_MAX;
}

static void write_once(peri_dict *dict, unsigned *seed)
{
    char key[32];
    char room[VALUE_MAX];
    peri_dict_value value = {.type = PERI_DICT_STRING, .data = room};
    peri_slice k = key_of(key, (unsigned)rand_r(seed) % KEYS);
    double n;

    value.length = make_value(room, (unsigned)rand_r(seed));
    switch (rand_r(seed) % 8) {
    case 0:
        peri_dict_delete(dict, k);
        break;
    case 1:
        peri_dict_incr(dict, key_of(key, (unsigned)rand_r(seed) % 16 + KEYS), 2,
                       0, 0, &n);
        break;
    case 2:
        peri_dict_set(dict, k, &value, 1, PERI_DICT_ADD);
        break;
    case 3: /* in place */
        value.length = make_value(room, 8);
        peri_dict_set(dict, k, &value, 0, PERI_DICT_SET);
        value.length = make_value(room, 9);
        peri_dict_set(dict, k, &value, 5, PERI_DICT_SET);
        break;
    default:
        peri_dict_set(dict, k, &value, 0, PERI_DICT_SET);
    }
}

static pid_t start_writer(const drill *d, unsigned seed)
{
    pid_t pid = fork();

    if (pid == 0) {
        peri_regions *regions;
        peri_dict *dict;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        regions =
            peri_regions_attach(peri_regions_memory(d->regions), AREA_BYTES);
        if (peri_dict_open(regions, "drill", DICT_BYTES, &dict) < 0) {
            _exit(1);
        }
        for (;;) {
            write_once(dict, &seed);
        }
    }
    return pid;
}

static const char *look(drill *d)
{
    char key[32];
    char room[VALUE_MAX + 8];
    const char *wrong = peri_dict_check(d->dict);

    for (int i = 0; wrong == NULL && i < SAMPLES; i++) {
        peri_dict_value value = {.data = room, .room_bytes = VALUE_MAX};
        int type = peri_dict_get(
            d->dict, key_of(key, (unsigned)rand_r(&d->seed) % (KEYS + 16)),
            &value);

        if (type < 0 || (type != PERI_DICT_NONE && !is_whole(&value))) {
            wrong = "a value is not whole";
        }
    }
    return wrong;
}

static const char *kill_one(drill *d, pid_t *writer)
{
    uint64_t begun_ns;
    uint64_t took_ns;
    const char *wrong;

    usleep((useconds_t)(rand_r(&d->seed) % 400));
    kill(*writer, SIGKILL);
    waitpid(*writer, NULL, 0);
    begun_ns = peri_clock_monotonic_ns();
    wrong = look(d);
    took_ns = peri_clock_monotonic_ns() - begun_ns;
    d->slowest_ns = took_ns > d->slowest_ns ? took_ns : d->slowest_ns;
    *writer = start_writer(d, (unsigned)rand_r(&d->seed));
    return wrong;
}

static int finish(drill *d, const char *wrong)
{
    peri_dict_stats stats;

    peri_dict_stat(d->dict, &stats);
    printf("\nkill -9 of writers to a shared dictionary\n"
           "  kills                              %ld\n"
           "  deaths with a lock held            %llu\n"
           "  entries evicted                    %llu\n"
           "  slowest look after a death (ms)    %.1f\n",
           d->kills, (unsigned long long)stats.repaired_total,
           (unsigned long long)stats.evicted_total,
           (double)d->slowest_ns / 1e6);
    printf("  %s every shard free and whole after each%s%s\n",
           wrong == NULL ? "ok    " : "FAILED", wrong == NULL ? "" : ": ",
           wrong == NULL ? "" : wrong);
    peri_dict_close(d->dict);
    peri_regions_destroy(d->regions);
    return wrong == NULL ? 0 : 1;
}

int main(int argc, char **argv)
{
    long kills = argc > 1 ? atol(argv[1]) : 10000;
    pid_t writers[WRITERS];
    const char *wrong = NULL;
    drill d = {.seed = 42};

    d.regions = peri_regions_create(AREA_BYTES);
    if (d.regions == NULL ||
        peri_dict_open(d.regions, "drill", DICT_BYTES, &d.dict) < 0) {
        return 1;
    }
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = start_writer(&d, (unsigned)i);
    }
    while (wrong == NULL && d.kills < kills) {
        wrong = kill_one(&d, &writers[d.kills % WRITERS]);
        d.kills++;
    }
    for (int i = 0; i < WRITERS; i++) {
        kill(writers[i], SIGKILL);
        waitpid(writers[i], NULL, 0);
    }
    return finish(&d, wrong);
}
