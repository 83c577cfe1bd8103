/* Traces, for other bindings: what the running task is at. */
#ifndef PERILUA_BIND_TRACE_H
#define PERILUA_BIND_TRACE_H

#include "bindings/task.h"
#include "core/http/exchange.h"
#include "core/http/tracer.h"

/* The running task's span, or that of its request; NULL: it is not traced.
 * Borrowed. */
static inline peri_trace_span *perilua_trace_current(const perilua_vm *vm)
{
    const perilua_task *task = vm->current;
    const peri_exchange *ex;

    if (task == NULL) {
        return NULL;
    }
    ex = task->context;
    return task->span != NULL ? task->span : ex != NULL ? ex->trace : NULL;
}

/* A span of kind client below the current one, for an operation that C times
 * itself; NULL: nobody records. Ended with peri_trace_end, let go of with
 * peri_trace_unref. */
static inline peri_trace_span *perilua_trace_call(const perilua_vm *vm,
                                                  peri_slice name)
{
    peri_trace_span *current = perilua_trace_current(vm);

    return current != NULL && current->recording
               ? peri_trace_child(current, name, PERI_SPAN_CLIENT)
               : NULL;
}

#endif
