/* CPUs: affinity and control groups. */
#include "core/cluster/cpus.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define TEXT_BYTES 8192

static int quota_cpus(long long quota, long long period)
{
    long long cpus;

    if (quota <= 0 || period <= 0) {
        return 0;
    }
    cpus = (quota + period - 1) / period;
    return cpus > 4096 ? 4096 : (int)cpus;
}

int peri_cpus_parse_max(const char *text)
{
    char *end;
    long long quota = strtoll(text, &end, 10);

    return end == text ? 0 : quota_cpus(quota, strtoll(end, NULL, 10));
}

/* False when it cannot be read. */
static bool read_text(const char *path, char *out, size_t out_bytes)
{
    FILE *file = fopen(path, "re");
    size_t n;

    if (file == NULL) {
        return false;
    }
    n = fread(out, 1, out_bytes - 1, file);
    out[n] = '\0';
    fclose(file);
    return true;
}

static int lesser(int a, int b)
{
    if (a == 0 || b == 0) {
        return a + b;
    }
    return a < b ? a : b;
}

static int group_quota_v2(const char *root, const char *group)
{
    char path[PATH_BYTES];
    char text[128];

    snprintf(path, sizeof path, "%s/sys/fs/cgroup%s/cpu.max", root, group);
    return read_text(path, text, sizeof text) ? peri_cpus_parse_max(text) : 0;
}

static int group_quota_v1(const char *root, const char *group)
{
    static const char *const mounts[] = {"cpu", "cpu,cpuacct"};
    char path[PATH_BYTES];
    char quota[64];
    char period[64];

    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/sys/fs/cgroup/%s%s/cpu.cfs_quota_us",
                 root, mounts[i], group);
        if (!read_text(path, quota, sizeof quota)) {
            continue;
        }
        snprintf(path, sizeof path, "%s/sys/fs/cgroup/%s%s/cpu.cfs_period_us",
                 root, mounts[i], group);
        if (read_text(path, period, sizeof period)) {
            return quota_cpus(atoll(quota), atoll(period));
        }
    }
    return 0;
}

/* The least quota of a group and those above it; without a namespace of its
 * own, a container sees a path that is not there: then the root's counts. */
static int walk_up(const char *root, char *group,
                   int (*quota_of)(const char *root, const char *group))
{
    int least = quota_of(root, "");

    while (group[0] != '\0' && strcmp(group, "/") != 0) {
        char *slash;

        least = lesser(least, quota_of(root, group));
        slash = strrchr(group, '/');
        if (slash == NULL) {
            break;
        }
        *slash = '\0';
    }
    return least;
}

static bool has_word(const char *list, size_t length, const char *word)
{
    size_t n = strlen(word);

    for (size_t at = 0; at + n <= length; at++) {
        if ((at == 0 || list[at - 1] == ',') &&
            strncmp(list + at, word, n) == 0 &&
            (at + n == length || list[at + n] == ',')) {
            return true;
        }
    }
    return false;
}

int peri_cpus_quota(const char *root)
{
    char path[PATH_BYTES];
    char text[TEXT_BYTES];
    char *rest = NULL;
    int least = 0;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!read_text(path, text, sizeof text)) {
        return 0;
    }
    /* "0::/group" is v2, "4:cpu,cpuacct:/group" v1. */
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char *kind = strchr(line, ':');
        char *group = kind != NULL ? strchr(kind + 1, ':') : NULL;

        if (group == NULL) {
            continue;
        }
        kind++;
        group++;
        if (strncmp(line, "0::", 3) == 0) {
            least = lesser(least, walk_up(root, group, group_quota_v2));
        } else if (has_word(kind, (size_t)(group - 1 - kind), "cpu")) {
            least = lesser(least, walk_up(root, group, group_quota_v1));
        }
    }
    return least;
}

static int affinity_cpus(void)
{
    cpu_set_t set;
    long online = sysconf(_SC_NPROCESSORS_ONLN);

    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return CPU_COUNT(&set);
    }
    return online > 0 ? (int)online : 1; /* more CPUs than cpu_set_t holds */
}

int peri_cpus_allowed(void)
{
    int cpus = lesser(affinity_cpus(), peri_cpus_quota(""));

    return cpus > 0 ? cpus : 1;
}
