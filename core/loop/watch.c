/* Watch: a list of watched folders, and one timer. */
#include "core/loop/watch.h"

#include <dirent.h>
#include <limits.h>
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
    char *only;  /* path is a link to this name in the folder; else NULL */
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
    free(folder->only);
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

/* full: the folder to watch for what goes by path; only as in the struct,
 * copied. False: it cannot be watched. */
static bool watch_one(peri_watch *watch, const char *path, const char *full,
                      const char *only, int depth)
{
    size_t length = strlen(path);
    watched_folder *folder;

    if (watch->folder_count >= PERI_WATCH_FOLDERS_MAX) {
        return false;
    }
    folder = peri_calloc(1, sizeof *folder + length + 1);
    memcpy(folder->path, path, length + 1);
    folder->watch = watch;
    folder->only = only != NULL ? peri_strdup(only) : NULL;
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

/* A file that lies elsewhere is changed there: its folder is watched, since
 * editors put another file in its place. */
static void watch_link(peri_watch *watch, const char *path, const char *full,
                       int depth)
{
    char real[PATH_MAX];
    struct stat info;
    char *slash;

    if (lstat(full, &info) < 0 || !S_ISLNK(info.st_mode) ||
        realpath(full, real) == NULL) {
        return;
    }
    slash = strrchr(real, '/');
    *slash = '\0';
    watch_one(watch, path, slash == real ? "/" : real, slash + 1, depth);
}

/* A folder and those below it, or a file behind a link; what is watched
 * already stays. */
static void watch_tree(peri_watch *watch, const char *path, int depth)
{
    bool known = find_folder(watch, path) != NULL;
    char name[PATH_BYTES];
    struct dirent *entry;
    struct stat info;
    DIR *list;

    if (snprintf(name, sizeof name, "%s/%s", watch->dir, path) >=
            (int)sizeof name ||
        stat(name, &info) < 0) {
        return;
    }
    if (!S_ISDIR(info.st_mode)) {
        if (!known) {
            watch_link(watch, path, name, depth);
        }
        return;
    }
    if (!known && !watch_one(watch, path, name, NULL, depth)) {
        return;
    }
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

/* All that is watched below a folder. */
static void drop_below(peri_watch *watch, const char *path)
{
    size_t length = strlen(path);
    peri_list *next;

    for (peri_list *link = watch->folders.next; link != &watch->folders;
         link = next) {
        watched_folder *folder = PERI_CONTAINER(link, watched_folder, link);

        next = link->next;
        if (strncmp(folder->path, path, length) == 0 &&
            folder->path[length] == '/') {
            drop_folder(folder);
        }
    }
}

/* A folder that was moved away and made again has the same path and another
 * inode, as have those below it: watch all anew. */
static void look_again(watched_folder *folder, const char *name)
{
    peri_watch *watch = folder->watch;
    char path[PATH_BYTES];
    watched_folder *known;

    if (snprintf(path, sizeof path, "%s%s%s", folder->path,
                 folder->path[0] != '\0' ? "/" : "",
                 name) >= (int)sizeof path) {
        return;
    }
    known = find_folder(watch, path);
    if (known != NULL) {
        drop_folder(known);
        drop_below(watch, path);
    }
    watch_tree(watch, path, folder->depth + 1);
}

/* Files of a folder may all be links through one hidden link, which is changed
 * to change them at once (as Kubernetes does): true when name is such a link.
 */
static bool links_moved(watched_folder *folder, const char *name)
{
    peri_watch *watch = folder->watch;
    char full[PATH_BYTES];
    struct stat info;

    if (name[0] != '.' ||
        snprintf(full, sizeof full, "%s/%s/%s", watch->dir, folder->path,
                 name) >= (int)sizeof full ||
        lstat(full, &info) < 0 || !S_ISLNK(info.st_mode) ||
        stat(full, &info) < 0 || !S_ISDIR(info.st_mode)) {
        return false;
    }
    drop_below(watch, folder->path);
    watch_tree(watch, folder->path, folder->depth);
    return true;
}

static bool of_interest(watched_folder *folder, const char *name)
{
    if (folder->only != NULL) {
        return strcmp(folder->only, name) == 0;
    }
    if (folder->depth == 0) {
        return is_sub(folder->watch, name);
    }
    return !folder->watch->ignores(name) || links_moved(folder, name);
}

static void on_event(uv_fs_event_t *event, const char *name, int events,
                     int status)
{
    watched_folder *folder = event->data;
    peri_watch *watch = folder->watch;

    if (watch->closing || status < 0 || name == NULL) {
        return;
    }
    if (!of_interest(folder, name)) {
        return;
    }
    if (folder->only != NULL) {
        snprintf(watch->last_path, sizeof watch->last_path, "%s", folder->path);
    } else {
        snprintf(watch->last_path, sizeof watch->last_path, "%.2000s%s%.1000s",
                 folder->path, folder->path[0] != '\0' ? "/" : "", name);
    }
    if (folder->only == NULL && (events & UV_RENAME) != 0) {
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
    if (!watch_one(watch, "", dir, NULL, 0)) {
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
