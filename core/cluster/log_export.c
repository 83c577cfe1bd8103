/* Logs by OTLP: the master reads along (log_tail.h) and sends what all
 * processes log; they notice nothing of it. */
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/log_record.h"
#include "core/cluster/log_tail.h"
#include "core/cluster/master_state.h"
#include "core/http/client.h"
#include "core/http/exporter.h"

#define LAST_RECORDS_MS 2000 /* for a collector, at the end */

struct peri_log_export {
    peri_log_tail *tail;
    peri_client *client;
    peri_exporter *exporter;
    char *configured; /* what it was made from */
    peri_master *master;
    peri_log_record record;
};

static void send_line(struct peri_log_export *it, peri_slice line)
{
    peri_buf *out = peri_exporter_begin(it->exporter, 1);

    if (out != NULL) {
        peri_log_record_read(&it->record, line);
        peri_otlp_append_log(out, peri_exporter_format(it->exporter),
                             &it->record);
        peri_exporter_commit(it->exporter, 1);
    }
}

static bool on_lines(void *data, peri_slice lines)
{
    const char *end;

    while (lines.length > 0 &&
           (end = memchr(lines.data, '\n', lines.length)) != NULL) {
        size_t length = (size_t)(end - lines.data);

        send_line(data, peri_slice_of(lines.data, length));
        lines.data += length + 1;
        lines.length -= length + 1;
    }
    return true;
}

static bool on_missed(void *data, uint64_t lines)
{
    const struct peri_log_export *it = data;

    it->master->log_records[PERI_RECORDS_MISSED] += (double)lines;
    return true;
}

static void apply_limits(peri_attributes *to, const peri_settings *settings)
{
    to->count_max = (uint32_t)peri_settings_int(
        settings, "log.otlp.limits.attributes", PERI_ATTRIBUTES_MAX);
    to->value_max = (uint32_t)peri_settings_int(
        settings, "log.otlp.limits.attribute_length", PERI_ATTRIBUTE_VALUE_MAX);
}

/* Takes what it is made from. */
static void begin(peri_master *master, char *configured)
{
    struct peri_log_export *it = peri_calloc(1, sizeof *it);
    const peri_exporter_counts counts = {
        .exported = &master->log_records[PERI_RECORDS_EXPORTED],
        .dropped = &master->log_records[PERI_RECORDS_DROPPED],
        .failed = &master->log_records[PERI_RECORDS_FAILED]};

    it->master = master;
    it->client = peri_client_create(&master->loop);
    it->exporter = peri_exporter_configured(
        &master->loop, it->client, &master->logger, master->settings,
        "log.otlp", PERI_OTLP_LOGS, &counts);
    if (it->exporter == NULL) {
        peri_client_close(it->client, NULL, NULL);
        free(configured);
        free(it);
        return;
    }
    it->configured = configured;
    peri_log_record_init(&it->record);
    apply_limits(&it->record.attributes, master->settings);
    it->tail = peri_log_tail_create(master, 0, on_lines, on_missed, it);
    master->log_export = it;
    peri_log_tail_read(it->tail); /* what is to come begins here */
}

static void on_closed(void *data)
{
    struct peri_log_export *it = data;

    peri_client_close(it->client, NULL, NULL);
    peri_log_record_fini(&it->record);
    free(it->configured);
    free(it);
}

void peri_log_export_destroy(peri_master *master)
{
    struct peri_log_export *it = master->log_export;

    if (it != NULL) {
        master->log_export = NULL;
        peri_log_tail_read(it->tail);
        peri_log_tail_destroy(it->tail);
        peri_exporter_close(it->exporter, LAST_RECORDS_MS, on_closed, it);
    }
}

void peri_log_export_refresh(peri_master *master)
{
    static const char *const decisive[] = {"log.otlp.", "trace.resource.",
                                           "trace.service_name", NULL};
    const struct peri_log_export *it = master->log_export;
    bool wanted =
        peri_settings_bool(master->settings, "log.otlp.enabled", false);
    char *text = peri_settings_text(master->settings, decisive);

    if (it != NULL && wanted && strcmp(text, it->configured) == 0) {
        free(text); /* what waits for a collector goes on waiting */
        return;
    }
    peri_log_export_destroy(master); /* what it has yet to send, it sends */
    if (wanted) {
        begin(master, text);
    } else {
        free(text);
    }
}
