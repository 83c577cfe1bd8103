/* Later: calls made from the loop, once what runs now has returned.
 *
 * For callbacks that must not come from inside the call that asked for them.
 * Entries are embedded in their owners. Belongs to the loop thread. */
#ifndef PERI_LOOP_LATER_H
#define PERI_LOOP_LATER_H

#include <uv.h>

#include "core/base/list.h"

typedef struct peri_later_entry {
    peri_list link;
    void (*fn)(struct peri_later_entry *entry);
} peri_later_entry;

typedef struct peri_later {
    uv_idle_t idle; /* runs only while there is something to call */
    peri_list entries;
    void (*closed)(void *data);
    void *closed_data;
} peri_later;

void peri_later_init(peri_later *later, uv_loop_t *loop);

/* Drops what waits. closed may be NULL. */
void peri_later_close(peri_later *later, void (*closed)(void *data),
                      void *data);

static inline void peri_later_entry_init(peri_later_entry *entry,
                                         void (*fn)(peri_later_entry *entry))
{
    peri_list_init(&entry->link);
    entry->fn = fn;
}

/* Calls entry->fn in a later turn; once, however often it is asked for. */
void peri_later_call(peri_later *later, peri_later_entry *entry);

/* Takes the wish back; before the entry's memory goes. */
static inline void peri_later_cancel(peri_later_entry *entry)
{
    peri_list_remove(&entry->link);
}

#endif
