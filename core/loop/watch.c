/* Watch: a list of watched folders, and one timer. */
#include "core/loop/watch.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/alloc.h"
#include "core/base/list.h"

#define PATH_BYTES 4096
#define DEPTH_MAX 32

typedef struct watched_folder {
    peri_list link;
    uv_fs_event_t event;
    peri_watch *watch;
    int depth;   /* 0: dir itself, of which only the subs are of interest */
    char path[]; /* relative to dir; "" for itself */
} watched_folder;

struct peri_watch {
    uv_loop_t *loop;
    char *dir;
    const char *const *subs;
    bool (*ignores)(const char *name);
    uint64_t pause_ms;
    void (*changed)(void *data, const char *path);
    void *data;
    uv_timer_t timer;
    peri_list folders;
    size_t folder_count;
    size_t open_handles;
    bool closing;
    char last_path[PATH_BYTES];
};

static void release_handle(peri_watch *watch)
{
    watch->open_handles--;
    if (watch->open_handles == 0) {
        free(watch->dir);
        free(watch);
    }
}

static void on_folder_closed(uv_handle_t *handle)
{
    watched_folder *folder = handle->data;

    release_handle(folder->watch);
    free(folder);
}

static void drop_folder(watched_folder *folder)
{
    peri_list_remove(&folder->link);
    folder->watch->folder_count--;
    uv_close((uv_handle_t *)&folder->event, on_folder_closed);
}

static watched_folder *find_folder(peri_watch *watch, const char *path)
{
    for (peri_list *link = watch->folders.next; link != &watch->folders;
         link = link->next) {
        watched_folder *folder = PERI_CONTAINER(link, watched_folder, link);

        if (strcmp(folder->path, path) == 0) {
            return folder;
        }
    }
    return NULL;
}

static void on_event(uv_fs_event_t *event, const char *name, int events,
                     int status);

/* False: it is not a folder, or cannot be watched. */
static bool watch_one(peri_watch *watch, const char *path, int depth)
{
    char full[PATH_BYTES];
    size_t length = strlen(path);
    watched_folder *folder;
    struct stat info;

    snprintf(full, sizeof full, "%s/%s", watch->dir, path);
    if (watch->folder_count >= PERI_WATCH_FOLDERS_MAX ||
        stat(full, &info) < 0 || !S_ISDIR(info.st_mode)) {
        return false;
    }
    folder = peri_calloc(1, sizeof *folder + length + 1);
    memcpy(folder->path, path, length + 1);
    folder->watch = watch;
    folder->depth = depth;
    uv_fs_event_init(watch->loop, &folder->event);
    folder->event.data = folder;
    watch->open_handles++;
    watch->folder_count++;
    peri_list_append(&watch->folders, &folder->link);
    if (uv_fs_event_start(&folder->event, on_event, full, 0) < 0) {
        drop_folder(folder);
        return false;
    }
    uv_unref((uv_handle_t *)&folder->event);
    return true;
}

/* A folder and those below it; those that are watched already stay. */
static void watch_tree(peri_watch *watch, const char *path, int depth)
{
    char name[PATH_BYTES];
    struct dirent *entry;
    DIR *list;

    if (find_folder(watch, path) == NULL && !watch_one(watch, path, depth)) {
        return;
    }
    snprintf(name, sizeof name, "%s/%s", watch->dir, path);
    list = depth < DEPTH_MAX ? opendir(name) : NULL;
    if (list == NULL) {
        return;
    }
    while ((entry = readdir(list)) != NULL) {
        if ((entry->d_type == DT_DIR || entry->d_type == DT_LNK ||
             entry->d_type == DT_UNKNOWN) &&
            !watch->ignores(entry->d_name) &&
            snprintf(name, sizeof name, "%s/%s", path, entry->d_name) <
                (int)sizeof name) {
            watch_tree(watch, name, depth + 1);
        }
    }
    closedir(list);
}

static bool is_sub(const peri_watch *watch, const char *name)
{
    for (const char *const *sub = watch->subs; *sub != NULL; sub++) {
        if (strcmp(*sub, name) == 0) {
            return true;
        }
    }
    return false;
}

static void on_pause_over(uv_timer_t *timer)
{
    peri_watch *watch = timer->data;

    watch->changed(watch->data, watch->last_path);
}

/* Things have changed in there. A folder that was moved away and made again
 * has the same path and another inode: watch it anew. */
static void look_again(watched_folder *folder, const char *name)
{
    peri_watch *watch = folder->watch;
    char path[PATH_BYTES];
    char full[PATH_BYTES * 2];
    watched_folder *known;
    struct stat info;

    if (snprintf(path, sizeof path, "%s%s%s", folder->path,
                 folder->path[0] != '\0' ? "/" : "",
                 name) >= (int)sizeof path) {
        return;
    }
    snprintf(full, sizeof full, "%s/%s", watch->dir, path);
    known = find_folder(watch, path);
    if (stat(full, &info) < 0 || !S_ISDIR(info.st_mode)) {
        if (known != NULL) {
            drop_folder(known);
        }
        return;
    }
    if (known != NULL) {
        drop_folder(known);
    }
    watch_tree(watch, path, folder->depth + 1);
}

static void on_event(uv_fs_event_t *event, const char *name, int events,
                     int status)
{
    watched_folder *folder = event->data;
    peri_watch *watch = folder->watch;

    if (watch->closing || status < 0 || name == NULL) {
        return;
    }
    if (folder->depth == 0 ? !is_sub(watch, name) : watch->ignores(name)) {
        return;
    }
    snprintf(watch->last_path, sizeof watch->last_path, "%.2000s%s%.1000s",
             folder->path, folder->path[0] != '\0' ? "/" : "", name);
    if ((events & UV_RENAME) != 0) {
        look_again(folder, name); /* made, removed or renamed */
    }
    uv_timer_start(&watch->timer, on_pause_over, watch->pause_ms, 0);
}

int peri_watch_create(uv_loop_t *loop, const char *dir, const char *const *subs,
                      bool (*ignores)(const char *name), uint64_t pause_ms,
                      void (*changed)(void *data, const char *path), void *data,
                      peri_watch **out)
{
    peri_watch *watch = peri_calloc(1, sizeof *watch);

    watch->loop = loop;
    watch->dir = peri_strdup(dir);
    watch->subs = subs;
    watch->ignores = ignores;
    watch->pause_ms = pause_ms;
    watch->changed = changed;
    watch->data = data;
    peri_list_init(&watch->folders);
    uv_timer_init(loop, &watch->timer);
    uv_unref((uv_handle_t *)&watch->timer);
    watch->timer.data = watch;
    watch->open_handles = 1;
    if (!watch_one(watch, "", 0)) {
        peri_watch_destroy(watch);
        return UV_ENOSPC; /* fs.inotify.max_user_watches, most likely */
    }
    for (const char *const *sub = subs; *sub != NULL; sub++) {
        watch_tree(watch, *sub, 1);
    }
    *out = watch;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    release_handle(handle->data);
}

void peri_watch_destroy(peri_watch *watch)
{
    if (watch == NULL || watch->closing) {
        return;
    }
    watch->closing = true;
    while (!peri_list_empty(&watch->folders)) {
        drop_folder(PERI_CONTAINER(watch->folders.next, watched_folder, link));
    }
    uv_close((uv_handle_t *)&watch->timer, on_timer_closed);
}
