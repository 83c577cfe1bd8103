/* Recorder: which place is used next, and reading beside the writer. */
#include "core/shm/recorder.h"

#include <string.h>

static bool is_free(const peri_recorder_entry *entry, uint64_t now_ns)
{
    return entry->length == 0 ||
           now_ns > entry->ended_ns + PERI_RECORDER_KEEP_NS;
}

/* A free place, else the fastest one. */
static peri_recorder_entry *place(peri_recorder *recorder, uint64_t now_ns)
{
    peri_recorder_entry *best = &recorder->entry[0];

    for (int i = 0; i < PERI_RECORDER_ENTRIES; i++) {
        peri_recorder_entry *entry = &recorder->entry[i];

        if (is_free(entry, now_ns)) {
            return entry;
        }
        if (entry->took_ns < best->took_ns) {
            best = entry;
        }
    }
    return best;
}

static void set_floor(peri_recorder *recorder, uint64_t now_ns)
{
    uint64_t fastest = UINT64_MAX;
    uint64_t oldest = UINT64_MAX;

    for (int i = 0; i < PERI_RECORDER_ENTRIES; i++) {
        const peri_recorder_entry *entry = &recorder->entry[i];

        if (is_free(entry, now_ns)) {
            recorder->floor_ns = 0;
            recorder->floor_until_ns = UINT64_MAX;
            return;
        }
        fastest = entry->took_ns < fastest ? entry->took_ns : fastest;
        oldest = entry->ended_ns < oldest ? entry->ended_ns : oldest;
    }
    recorder->floor_ns = fastest;
    recorder->floor_until_ns = oldest + PERI_RECORDER_KEEP_NS;
}

void peri_recorder_put(peri_recorder *recorder, uint64_t took_ns,
                       uint64_t now_ns, peri_slice text)
{
    peri_recorder_entry *entry = place(recorder, now_ns);
    uint32_t version;

    if (text.length == 0 || text.length > sizeof entry->text ||
        (!is_free(entry, now_ns) && took_ns <= entry->took_ns)) {
        return;
    }
    version = atomic_load_explicit(&entry->version, memory_order_relaxed) | 1;
    atomic_store_explicit(&entry->version, version, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    entry->length = (uint32_t)text.length;
    entry->took_ns = took_ns;
    entry->ended_ns = now_ns;
    memcpy(entry->text, text.data, text.length);
    atomic_store_explicit(&entry->version, version + 1, memory_order_release);
    set_floor(recorder, now_ns);
    atomic_fetch_add_explicit(&recorder->changes, 1, memory_order_relaxed);
}

bool peri_recorder_read(const peri_recorder *recorder, int index,
                        uint64_t now_ns, peri_recorder_entry *out)
{
    const peri_recorder_entry *entry = &recorder->entry[index];
    uint32_t version =
        atomic_load_explicit(&entry->version, memory_order_acquire);

    if (version == 0 || (version & 1) != 0) {
        return false;
    }
    out->length = entry->length;
    out->took_ns = entry->took_ns;
    out->ended_ns = entry->ended_ns;
    if (out->length > sizeof out->text) {
        return false;
    }
    memcpy(out->text, entry->text, out->length);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&entry->version, memory_order_relaxed) ==
               version &&
           !is_free(out, now_ns);
}
