/* Rotation: a log file is moved aside when it is large or old, and all
 * processes open it anew, as for USR1. Lines that are written meanwhile go to
 * the old one: none is lost. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/cluster/master_state.h"

#define LOOK_MS 1000
#define PATH_BYTES 4096

typedef struct peri_rotate {
    peri_master *master;
    uv_timer_t timer;
    /* Unix time; each file's first line is about as old. */
    uint64_t began_ms[2];
} peri_rotate;

static const char *const files[2] = {"log.destination",
                                     "log.access.destination"};

static uint64_t size_max(const peri_settings *settings)
{
    return (uint64_t)peri_settings_int(settings, "log.rotate.size", 0);
}

static uint64_t age_max_ms(const peri_settings *settings)
{
    return (uint64_t)peri_settings_int(settings, "log.rotate.age", 0);
}

/* The one that is open, whatever a reload has said since. NULL: it is no file.
 */
static const char *file_of(const peri_master *master, int i)
{
    const char *to = peri_settings_str(master->logs_settings, files[i],
                                       i == 0 ? "stdout" : "");

    return to[0] != '\0' ? peri_log_sink_file(to) : NULL;
}

/* When the file was made, where its file system knows. */
static uint64_t born_ms(const char *path)
{
    struct statx info;

    if (path != NULL && statx(AT_FDCWD, path, 0, STATX_BTIME, &info) == 0 &&
        (info.stx_mask & STATX_BTIME) != 0 && info.stx_btime.tv_sec > 0) {
        return (uint64_t)info.stx_btime.tv_sec * 1000;
    }
    return peri_clock_wall_ms();
}

static int move_aside(const char *path, int64_t keep)
{
    char from[PATH_BYTES];
    char to[PATH_BYTES];

    for (int64_t i = keep; i >= 1; i--) {
        snprintf(to, sizeof to, "%s.%lld", path, (long long)i);
        if (i > 1) {
            snprintf(from, sizeof from, "%s.%lld", path, (long long)i - 1);
        } else {
            snprintf(from, sizeof from, "%s", path);
        }
        if (rename(from, to) < 0 && i == 1) {
            return -errno;
        }
    }
    return 0;
}

static bool is_due(const peri_rotate *rotate, int i, const char *path)
{
    const peri_settings *settings = rotate->master->settings;
    uint64_t size = size_max(settings);
    uint64_t age_ms = age_max_ms(settings);
    struct stat info;

    if (path == NULL || stat(path, &info) < 0 || !S_ISREG(info.st_mode) ||
        info.st_size == 0) {
        return false;
    }
    return (size != 0 && (uint64_t)info.st_size >= size) ||
           (age_ms != 0 &&
            peri_clock_wall_ms() >= rotate->began_ms[i] + age_ms);
}

static void on_look(uv_timer_t *timer)
{
    peri_rotate *rotate = timer->data;
    peri_master *master = rotate->master;
    int64_t keep = peri_settings_int(master->settings, "log.rotate.keep", 7);
    bool moved = false;

    for (int i = 0; i < 2; i++) {
        const char *path = file_of(master, i);
        int rc;

        if (!is_due(rotate, i, path)) {
            continue;
        }
        rc = move_aside(path, keep);
        rotate->began_ms[i] = peri_clock_wall_ms();
        moved |= rc == 0;
        if (rc < 0) {
            peri_log(&master->logger, PERI_LOG_ERROR,
                     "the log file cannot be moved aside: %s",
                     peri_err_text(rc));
        }
    }
    if (moved) {
        peri_reopen_logs(master, "log rotated");
    }
}

void peri_rotate_refresh(peri_master *master)
{
    const peri_settings *settings = master->settings;
    peri_rotate *rotate = master->rotate;

    if ((file_of(master, 0) == NULL && file_of(master, 1) == NULL) ||
        (size_max(settings) == 0 && age_max_ms(settings) == 0)) {
        if (rotate != NULL) {
            uv_timer_stop(&rotate->timer);
        }
        return;
    }
    if (rotate == NULL) {
        rotate = peri_calloc(1, sizeof *rotate);
        rotate->master = master;
        for (int i = 0; i < 2; i++) {
            rotate->began_ms[i] = born_ms(file_of(master, i));
        }
        uv_timer_init(&master->loop, &rotate->timer);
        rotate->timer.data = rotate;
        master->rotate = rotate;
    }
    uv_timer_start(&rotate->timer, on_look, LOOK_MS, LOOK_MS);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void peri_rotate_destroy(peri_master *master)
{
    if (master->rotate != NULL) {
        uv_close((uv_handle_t *)&master->rotate->timer, on_closed);
        master->rotate = NULL;
    }
}
