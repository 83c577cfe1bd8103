/* Process info: see the header. */
#include "core/cluster/proc_info.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool read_file(int pid, const char *name, char *out, size_t out_bytes)
{
    char path[64];
    FILE *file;
    size_t n;

    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    n = fread(out, 1, out_bytes - 1, file);
    out[n] = '\0';
    fclose(file);
    return n > 0;
}

static uint64_t boot_time(void)
{
    char text[64];
    unsigned long long boot = 0;
    FILE *file = fopen("/proc/stat", "re");
    char line[256];

    if (file == NULL) {
        return 0;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "btime %60s", text) == 1) {
            boot = strtoull(text, NULL, 10);
            break;
        }
    }
    fclose(file);
    return boot;
}

void peri_process_info_read(int pid, peri_process_info *out)
{
    char text[512];
    unsigned long long size = 0;
    unsigned long long resident = 0;
    unsigned long long data = 0;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    memset(out, 0, sizeof *out);
    if (read_file(pid, "statm", text, sizeof text) &&
        sscanf(text, "%llu %llu %*u %*u %*u %llu", &size, &resident, &data) ==
            3) {
        out->virtual_bytes = size * page;
        out->rss_bytes = resident * page;
        out->data_bytes = data * page;
    }
}

static uint64_t count_fds(int pid)
{
    char path[64];
    struct dirent *entry;
    uint64_t count = 0;
    DIR *list;

    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    list = opendir(path);
    if (list == NULL) {
        return 0;
    }
    while ((entry = readdir(list)) != NULL) {
        count += entry->d_name[0] != '.';
    }
    closedir(list);
    return count;
}

static uint64_t fd_limit(int pid)
{
    char text[2048];
    const char *line;

    if (!read_file(pid, "limits", text, sizeof text)) {
        return 0;
    }
    line = strstr(text, "Max open files");
    return line != NULL ? strtoull(line + 14, NULL, 10) : 0;
}

void peri_process_info_read_all(int pid, peri_process_info *out)
{
    char text[1024];
    const char *rest;
    unsigned long long user = 0;
    unsigned long long system = 0;
    unsigned long long start = 0;
    uint64_t ticks = (uint64_t)sysconf(_SC_CLK_TCK);

    peri_process_info_read(pid, out);
    /* The name, in parentheses, may hold anything. */
    if (read_file(pid, "stat", text, sizeof text) &&
        (rest = strrchr(text, ')')) != NULL &&
        sscanf(rest + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d "
               "%*d %*d %*d %*d %*d %llu",
               &user, &system, &start) == 3) {
        out->user_us = user * 1000000u / ticks;
        out->system_us = system * 1000000u / ticks;
        out->started_unix = boot_time() + start / ticks;
    }
    out->open_fds = count_fds(pid);
    out->max_fds = fd_limit(pid);
}
