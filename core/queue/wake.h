/* Wake: telling all processes that share a store that there is something new.
 *
 * Who has put something there rings: one byte written to a file that all the
 * others watch. What it was they look up. Also what is not one of the host's
 * workers can ring, such as the command line. Belongs to the loop thread. */
#ifndef PERI_QUEUE_WAKE_H
#define PERI_QUEUE_WAKE_H

#include <uv.h>

typedef struct peri_wake peri_wake;

/* Makes the file if absent. rung (may be NULL: this one only rings) is called
 * from the loop for what others and this one ring. 0, or a libuv status. */
int peri_wake_open(uv_loop_t *loop, const char *path, void (*rung)(void *data),
                   void *data, peri_wake **out);

void peri_wake_ring(peri_wake *wake);

/* rung is not called any more; memory goes when the loop has closed the handle.
 */
void peri_wake_close(peri_wake *wake);

#endif
