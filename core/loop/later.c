/* Later: an idle handle keeps the loop from sleeping while calls wait. */
#include "core/loop/later.h"

#include <stddef.h>

static void on_idle(uv_idle_t *idle)
{
    peri_later *later = idle->data;
    peri_list work;

    if (peri_list_empty(&later->entries)) {
        uv_idle_stop(idle);
        return;
    }
    /* What is asked for meanwhile waits for the next turn. */
    work = later->entries;
    work.next->prev = &work;
    work.prev->next = &work;
    peri_list_init(&later->entries);
    while (!peri_list_empty(&work)) {
        peri_later_entry *entry =
            PERI_CONTAINER(work.next, peri_later_entry, link);

        peri_list_remove(&entry->link);
        entry->fn(entry);
    }
    if (peri_list_empty(&later->entries)) {
        uv_idle_stop(idle);
    }
}

void peri_later_init(peri_later *later, uv_loop_t *loop)
{
    uv_idle_init(loop, &later->idle);
    later->idle.data = later;
    later->closed = NULL;
    peri_list_init(&later->entries);
}

void peri_later_call(peri_later *later, peri_later_entry *entry)
{
    if (!peri_list_empty(&entry->link) ||
        uv_is_closing((const uv_handle_t *)&later->idle)) {
        return;
    }
    peri_list_append(&later->entries, &entry->link);
    uv_idle_start(&later->idle, on_idle);
}

static void on_closed(uv_handle_t *handle)
{
    peri_later *later = handle->data;

    if (later->closed != NULL) {
        later->closed(later->closed_data);
    }
}

void peri_later_close(peri_later *later, void (*closed)(void *data), void *data)
{
    while (!peri_list_empty(&later->entries)) {
        peri_list_remove(later->entries.next);
    }
    later->closed = closed;
    later->closed_data = data;
    uv_close((uv_handle_t *)&later->idle, on_closed);
}
