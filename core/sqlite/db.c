/* Db: opening, waiting for locks, errors. */
#include "core/sqlite/db_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/sqlite/sql.h"

#define SNIPPET_BYTES 160
#define PROGRESS_STEPS 4000   /* some 50 us */
#define OPEN_PAUSE_NS 2000000 /* between tries to switch to WAL */

void peri_sqlite_fault_set(peri_sqlite_fault *fault, int code,
                           const char *format, ...)
{
    va_list args;

    fault->code = code;
    va_start(args, format);
    vsnprintf(fault->message, sizeof fault->message, format, args);
    va_end(args);
}

peri_sqlite_db *peri_sqlite_db_create(const peri_sqlite_config *config,
                                      bool reader)
{
    peri_sqlite_db *db = peri_calloc(1, sizeof *db);

    db->config = config;
    db->reader = reader;
    db->turn_fd = -1;
    peri_sqlite_cache_init(&db->cache);
    return db;
}

void peri_sqlite_db_destroy(peri_sqlite_db *db)
{
    if (db == NULL) {
        return;
    }
    peri_sqlite_cache_fini(&db->cache);
    sqlite3_close_v2(atomic_load(&db->handle));
    if (db->turn_fd >= 0) {
        close(db->turn_fd);
    }
    free(db);
}

static void pause_ns(long ns)
{
    struct timespec t = {.tv_nsec = ns};

    nanosleep(&t, NULL);
}

/* Called by SQLite while another process holds the lock it wants, and for a
 * turn. Short naps first: most locks are held for one commit. */
static int on_busy(void *data, int tries)
{
    static const long naps_ns[] = {100000, 200000, 500000, 1000000};
    peri_sqlite_db *db = data;

    if (peri_clock_monotonic_ns() >= db->busy_until_ns ||
        (db->op != NULL && atomic_load(&db->op->cancelled))) {
        return 0;
    }
    pause_ns(tries < 3 ? naps_ns[tries] : tries < 50 ? naps_ns[3] : 5000000);
    return 1;
}

/* ---- turns ---- */

/* The processes that write take turns: whoever waits for SQLite's lock holds
 * this one, so that a busy neighbour, done with its commit, has to stand behind
 * and cannot snatch SQLite's lock again and again. Held by an open file
 * description: it is free when its process dies. */
static bool take_turn(peri_sqlite_db *db)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    int tries = 0;

    while (db->turn_fd >= 0 && fcntl(db->turn_fd, F_OFD_SETLK, &lock) < 0) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR) {
            return true; /* a file system without locks: no turns */
        }
        if (!on_busy(db, tries++)) {
            return false;
        }
    }
    return true;
}

static void pass_turn(peri_sqlite_db *db)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_len = 1};

    if (db->turn_fd >= 0) {
        fcntl(db->turn_fd, F_OFD_SETLK, &lock);
    }
}

static void open_turn(peri_sqlite_db *db)
{
    size_t size = strlen(db->config->path) + sizeof "-turn";
    char *path;

    if (db->reader || db->turn_fd >= 0 || db->config->path[0] != '/') {
        return;
    }
    path = peri_alloc(size);
    snprintf(path, size, "%s-turn", db->config->path);
    db->turn_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    free(path);
}

/* What is written to a file that was deleted, or that another has taken the
 * place of, is gone with this process: it must not be acknowledged. */
static bool has_moved(peri_sqlite_db *db)
{
    int moved = 0;

    sqlite3_file_control(atomic_load(&db->handle), "main",
                         SQLITE_FCNTL_HAS_MOVED, &moved);
    return moved != 0;
}

int peri_sqlite_db_begin(peri_sqlite_db *db, peri_sqlite_fault *fault)
{
    int rc;

    if (has_moved(db)) {
        peri_sqlite_fault_set(fault, SQLITE_READONLY_DBMOVED,
                              "sqlite %s: %s was deleted or replaced while in "
                              "use: restart the host",
                              db->config->name, db->config->path);
        return SQLITE_READONLY_DBMOVED;
    }
    if (!take_turn(db)) {
        peri_sqlite_db_explain(db, SQLITE_BUSY, peri_slice_of(NULL, 0), fault);
        return SQLITE_BUSY;
    }
    rc = peri_sqlite_db_do(db, "BEGIN IMMEDIATE", fault);
    pass_turn(db);
    return rc;
}

/* Ends a cancelled statement where sqlite3_interrupt() was not used: see
 * peri_sqlite_cancel(). */
static int on_progress(void *data)
{
    peri_sqlite_db *db = data;

    return db->op != NULL && atomic_load(&db->op->cancelled) &&
           peri_clock_monotonic_ns() >= db->patient_until_ns;
}

void peri_sqlite_db_watch(peri_sqlite_db *db, peri_sqlite_op *op,
                          uint64_t busy_until_ns, uint64_t patient_until_ns)
{
    db->op = op;
    db->busy_until_ns = busy_until_ns;
    db->patient_until_ns = patient_until_ns;
}

static void append_position(peri_sqlite_fault *fault, sqlite3 *handle,
                            peri_slice sql)
{
    int offset = sqlite3_error_offset(handle);
    size_t used = strlen(fault->message);
    size_t start = 0;
    int shown;

    if (sql.length == 0) {
        return;
    }
    if (offset >= 0 && (size_t)offset > SNIPPET_BYTES / 2) {
        start = (size_t)offset - SNIPPET_BYTES / 2;
    }
    shown = sql.length - start > SNIPPET_BYTES ? SNIPPET_BYTES
                                               : (int)(sql.length - start);
    if (offset >= 0) {
        used += (size_t)snprintf(
            fault->message + used, sizeof fault->message - used,
            " (line %d, byte %d)", peri_sqlite_line_of(sql, (size_t)offset),
            offset + 1);
    }
    if (used < sizeof fault->message) {
        snprintf(fault->message + used, sizeof fault->message - used,
                 " in: %s%.*s%s", start != 0 ? "..." : "", shown,
                 sql.data + start,
                 start + (size_t)shown < sql.length ? "..." : "");
    }
}

/* ON DELETE RESTRICT is a trigger of SQLite's own making, and fails as one. */
static int cause_of(int code, const char *text)
{
    return code == SQLITE_CONSTRAINT_TRIGGER &&
                   strcmp(text, "FOREIGN KEY constraint failed") == 0
               ? SQLITE_CONSTRAINT_FOREIGNKEY
               : code;
}

void peri_sqlite_db_explain(peri_sqlite_db *db, int code, peri_slice sql,
                            peri_sqlite_fault *fault)
{
    sqlite3 *handle = atomic_load(&db->handle);
    int primary = code & 0xff;
    const char *text;

    if (primary == SQLITE_BUSY || primary == SQLITE_LOCKED) {
        peri_sqlite_fault_set(fault, code,
                              "sqlite %s: locked by another process for longer "
                              "than %u ms (sqlite.%s.busy_timeout)",
                              db->config->name, db->config->busy_timeout_ms,
                              db->config->name);
        return;
    }
    text = handle != NULL ? sqlite3_errmsg(handle) : sqlite3_errstr(code);
    peri_sqlite_fault_set(fault, cause_of(code, text), "sqlite %s: %s",
                          db->config->name, text);
    /* Constraints speak for themselves, and their text is often shown. */
    if (handle != NULL && primary == SQLITE_ERROR) {
        append_position(fault, handle, sql);
    }
}

/* Parents of the file that are missing; var/ may not be there yet. */
static void make_folder(const char *path)
{
    char *copy = peri_strdup(path);
    char *slash = strrchr(copy, '/');

    if (slash != NULL && slash != copy) {
        *slash = '\0';
        if (mkdir(copy, 0777) < 0 && errno == ENOENT) {
            make_folder(copy);
            mkdir(copy, 0777); /* SQLite reports what is wrong */
        }
    }
    free(copy);
}

static int simple(sqlite3 *handle, const char *sql)
{
    return sqlite3_exec(handle, sql, NULL, NULL, NULL);
}

/* The switch to WAL takes an exclusive lock for which the busy handler is not
 * always asked: several workers do this at once. */
static int use_wal(peri_sqlite_db *db, sqlite3 *handle)
{
    int rc;

    do {
        rc = simple(handle, "PRAGMA journal_mode=WAL");
        if ((rc & 0xff) != SQLITE_BUSY) {
            return rc;
        }
        pause_ns(OPEN_PAUSE_NS);
    } while (peri_clock_monotonic_ns() < db->busy_until_ns);
    return rc;
}

static int configure(peri_sqlite_db *db, sqlite3 *handle)
{
    char pragma[64];
    int rc;

    sqlite3_extended_result_codes(handle, 1);
    sqlite3_busy_handler(handle, on_busy, db);
    sqlite3_progress_handler(handle, PROGRESS_STEPS, on_progress, db);
    rc = use_wal(db, handle);
    if (rc != SQLITE_OK) {
        return rc;
    }
    snprintf(pragma, sizeof pragma, "PRAGMA synchronous=%s",
             db->config->synchronous);
    rc = simple(handle, pragma);
    if (rc == SQLITE_OK) {
        rc = simple(handle, "PRAGMA foreign_keys=ON");
    }
    if (rc == SQLITE_OK && db->reader) {
        rc = simple(handle, "PRAGMA query_only=ON");
    }
    if (rc == SQLITE_OK) {
        /* Reads the file: one that is no database is found out here. */
        rc = simple(handle, "SELECT count(*) FROM sqlite_master");
    }
    return rc;
}

int peri_sqlite_db_open(peri_sqlite_db *db, peri_sqlite_fault *fault)
{
    sqlite3 *handle = NULL;
    int rc;

    if (atomic_load(&db->handle) != NULL) {
        return 0;
    }
    make_folder(db->config->path);
    rc = sqlite3_open_v2(
        db->config->path, &handle,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) {
        rc = configure(db, handle);
    }
    if (rc == SQLITE_OK) {
        open_turn(db);
        atomic_store(&db->handle, handle);
        return 0;
    }
    if (handle != NULL) {
        rc = sqlite3_extended_errcode(handle);
    }
    peri_sqlite_fault_set(fault, rc, "sqlite %s: cannot open %s: %s",
                          db->config->name, db->config->path,
                          handle != NULL ? sqlite3_errmsg(handle)
                                         : sqlite3_errstr(rc));
    sqlite3_close_v2(handle);
    return rc;
}

bool peri_sqlite_db_owes_keys(peri_sqlite_db *db)
{
    int now = 0;
    int peak = 0;

    sqlite3_db_status(atomic_load(&db->handle), SQLITE_DBSTATUS_DEFERRED_FKS,
                      &now, &peak, 0);
    return now != 0;
}

bool peri_sqlite_db_idle(peri_sqlite_db *db)
{
    sqlite3 *handle = atomic_load(&db->handle);

    return handle == NULL || sqlite3_get_autocommit(handle) != 0;
}

void peri_sqlite_db_interrupt(peri_sqlite_db *db)
{
    sqlite3 *handle = atomic_load(&db->handle);

    if (handle != NULL) {
        sqlite3_interrupt(handle);
    }
}

sqlite3 *peri_sqlite_db_handle(peri_sqlite_db *db)
{
    return atomic_load(&db->handle);
}

const peri_sqlite_config *peri_sqlite_db_config(const peri_sqlite_db *db)
{
    return db->config;
}
