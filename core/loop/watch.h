/* Watch: tells when some files, or files below some folders, have changed.
 *
 * inotify through libuv, one watch a folder; folders that appear are watched
 * too, and so is the folder of each file that a link leads to. Many changes
 * close together are told once, after a pause without any. Editors' temporary
 * files are ignored. Belongs to the loop thread. */
#ifndef PERI_LOOP_WATCH_H
#define PERI_LOOP_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define PERI_WATCH_FOLDERS_MAX 4096

typedef struct peri_watch peri_watch;

/* subs: names of folders and files in dir ("scripts", ".env"), NULL-ended,
 * borrowed until destroy; they need not exist yet. ignores: whether a file of
 * that name is of no interest. changed gets the path of one of the changed
 * files, relative to dir. 0 or a libuv status. */
int peri_watch_create(uv_loop_t *loop, const char *dir, const char *const *subs,
                      bool (*ignores)(const char *name), uint64_t pause_ms,
                      void (*changed)(void *data, const char *path), void *data,
                      peri_watch **out);

/* NULL is allowed. */
void peri_watch_destroy(peri_watch *watch);

#endif
