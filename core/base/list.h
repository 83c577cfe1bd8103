/* List: doubly linked, the links embedded in the members.
 *
 * The head is a link too; an empty list's head points at itself. A member
 * that may be removed twice is re-initialised by remove. */
#ifndef PERI_BASE_LIST_H
#define PERI_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct peri_list {
    struct peri_list *next;
    struct peri_list *prev;
} peri_list;

/* The struct of the given type whose member is this link. */
#define PERI_CONTAINER(link, type, member)                                     \
    ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void peri_list_init(peri_list *link)
{
    link->next = link;
    link->prev = link;
}

static inline bool peri_list_empty(const peri_list *head)
{
    return head->next == head;
}

/* Adds before head, which is at the end of head's list. */
static inline void peri_list_append(peri_list *head, peri_list *link)
{
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

static inline void peri_list_prepend(peri_list *head, peri_list *link)
{
    peri_list_append(head->next, link);
}

static inline void peri_list_remove(peri_list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    peri_list_init(link);
}

#endif
