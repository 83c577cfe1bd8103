/* Bundle: building the memory file, and reading it.
 *
 * Layout: header, index sorted by name, names, data; offsets count from the
 * start. Every name and every entry's data is followed by a NUL. */
#include "core/base/bundle.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/base/fd.h"

#define BUNDLE_MAGIC "PERIBND1"
#define PATH_BYTES 4096
#define TREE_DEPTH_MAX 32 /* a link that points upwards ends here */

typedef struct bundle_header {
    char magic[8];
    uint64_t count;
    uint64_t size_bytes;
} bundle_header;

typedef struct bundle_index {
    uint64_t name_offset;
    uint64_t name_length;
    uint64_t data_offset;
    uint64_t data_length;
} bundle_index;

typedef struct built_entry {
    char *name;
    char *data;
    size_t length;
} built_entry;

struct peri_bundle_builder {
    built_entry *entries; /* sorted by name */
    size_t count;
    size_t capacity;
    size_t bytes; /* names and data, with their NULs */
};

struct peri_bundle {
    const char *base;
    size_t size_bytes;
    const bundle_index *index;
    size_t count;
};

peri_bundle_builder *peri_bundle_builder_create(void)
{
    return peri_calloc(1, sizeof(peri_bundle_builder));
}

void peri_bundle_builder_destroy(peri_bundle_builder *builder)
{
    if (builder == NULL) {
        return;
    }
    for (size_t i = 0; i < builder->count; i++) {
        free(builder->entries[i].name);
        free(builder->entries[i].data);
    }
    free(builder->entries);
    free(builder);
}

/* Where name stands or would stand. */
static size_t builder_position(const peri_bundle_builder *builder,
                               const char *name)
{
    size_t low = 0;
    size_t high = builder->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(builder->entries[middle].name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Takes data (of length bytes and a NUL) only on success. */
static int builder_take(peri_bundle_builder *builder, const char *name,
                        char *data, size_t length)
{
    size_t at = builder_position(builder, name);
    size_t need = strlen(name) + length + 2;

    if (at < builder->count && strcmp(builder->entries[at].name, name) == 0) {
        return PERI_EEXISTS;
    }
    if (builder->count >= PERI_BUNDLE_FILES_MAX ||
        need > PERI_BUNDLE_BYTES_MAX - builder->bytes) {
        return PERI_ELIMIT;
    }
    if (builder->count == builder->capacity) {
        builder->capacity = builder->capacity == 0 ? 64 : builder->capacity * 2;
        builder->entries = peri_realloc(
            builder->entries, builder->capacity * sizeof(built_entry));
    }
    memmove(builder->entries + at + 1, builder->entries + at,
            (builder->count - at) * sizeof(built_entry));
    builder->entries[at] = (built_entry){peri_strdup(name), data, length};
    builder->count++;
    builder->bytes += need;
    return 0;
}

int peri_bundle_add(peri_bundle_builder *builder, const char *name,
                    peri_slice data)
{
    char *copy;
    int rc;

    if (data.length >= PERI_BUNDLE_BYTES_MAX) {
        return PERI_ELIMIT;
    }
    copy = data.length != 0 ? peri_strndup(data.data, data.length)
                            : peri_strdup("");
    rc = builder_take(builder, name, copy, data.length);
    if (rc < 0) {
        free(copy);
    }
    return rc;
}

bool peri_bundle_skips(const char *file_name)
{
    static const char *const endings[] = {"~",    ".swp", ".swo",
                                          ".swx", ".tmp", ".bak"};
    size_t length = strlen(file_name);

    /* 4913: vim's probe whether it may write. #x#: emacs. */
    if (file_name[0] == '.' || file_name[0] == '#' ||
        strcmp(file_name, "4913") == 0 || length == 0) {
        return true;
    }
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t n = strlen(endings[i]);

        if (length > n && strcmp(file_name + length - n, endings[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- from a folder ---- */

typedef struct tree_walk {
    peri_bundle_builder *builder;
    char *why;
    size_t why_bytes;
    const char *dir;
    char path[PATH_BYTES]; /* dir/name */
    char name[PATH_BYTES]; /* as it will be in the bundle */
} tree_walk;

__attribute__((format(printf, 3, 4))) static int
walk_fail(tree_walk *walk, int rc, const char *format, ...)
{
    va_list args;

    if (walk->why != NULL && walk->why_bytes > 0) {
        va_start(args, format);
        vsnprintf(walk->why, walk->why_bytes, format, args);
        va_end(args);
    }
    return rc;
}

/* Reads until the end, whatever the size was: the file may be growing. */
static int read_file(int fd, size_t hint_bytes, char **out, size_t *out_length)
{
    size_t capacity = hint_bytes + 2;
    size_t length = 0;
    char *data = peri_alloc(capacity);

    for (;;) {
        ssize_t n = read(fd, data + length, capacity - length - 1);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            int rc = -errno;

            free(data);
            return rc;
        }
        if (n == 0) {
            break;
        }
        length += (size_t)n;
        if (length >= PERI_BUNDLE_BYTES_MAX) {
            free(data);
            return PERI_ELIMIT;
        }
        if (capacity - length < 2) {
            capacity *= 2;
            data = peri_realloc(data, capacity);
        }
    }
    data[length] = '\0';
    *out = data;
    *out_length = length;
    return 0;
}

static int add_file(tree_walk *walk, size_t size_bytes)
{
    char *data = NULL;
    size_t length = 0;
    int rc;
    int fd;

    if (size_bytes >= PERI_BUNDLE_BYTES_MAX) {
        return walk_fail(walk, PERI_ELIMIT, "%s: the file is too big",
                         walk->name);
    }
    fd = open(walk->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        if (errno == ENOENT) {
            return 0; /* renamed away since the folder was listed */
        }
        rc = -errno;
        return walk_fail(walk, rc, "%s: %s", walk->name, strerror(-rc));
    }
    rc = read_file(fd, size_bytes, &data, &length);
    close(fd);
    if (rc < 0) {
        return walk_fail(walk, rc, "%s: %s", walk->name, peri_err_text(rc));
    }
    rc = builder_take(walk->builder, walk->name, data, length);
    if (rc < 0) {
        free(data);
        return walk_fail(walk, rc, "%s: %s", walk->name,
                         rc == PERI_EEXISTS ? "there twice"
                                            : "too many files or bytes");
    }
    return 0;
}

static int add_folder(tree_walk *walk, int depth);

/* walk->path and ->name hold the entry. */
static int add_entry(tree_walk *walk, int depth)
{
    struct stat info;

    if (stat(walk->path, &info) < 0) {
        if (errno == ENOENT || errno == ELOOP) {
            return 0; /* a dangling link, or gone */
        }
        return walk_fail(walk, -errno, "%s: %s", walk->name, strerror(errno));
    }
    if (S_ISDIR(info.st_mode)) {
        if (depth >= TREE_DEPTH_MAX) {
            return walk_fail(walk, PERI_ELIMIT,
                             "%s: folders nested too deeply (a link in a "
                             "circle?)",
                             walk->name);
        }
        return add_folder(walk, depth + 1);
    }
    return S_ISREG(info.st_mode) ? add_file(walk, (size_t)info.st_size) : 0;
}

static int push_name(char *path, size_t length, const char *name)
{
    int n = snprintf(path + length, PATH_BYTES - length, "/%s", name);

    return n < 0 || (size_t)n >= PATH_BYTES - length ? PERI_ELIMIT : 0;
}

static int add_folder(tree_walk *walk, int depth)
{
    size_t path_length = strlen(walk->path);
    size_t name_length = strlen(walk->name);
    struct dirent *entry;
    DIR *folder = opendir(walk->path);
    int rc = 0;

    if (folder == NULL) {
        if (errno == ENOENT || (errno == ENOTDIR && depth == 0)) {
            return 0;
        }
        return walk_fail(walk, -errno, "%s: %s", walk->name, strerror(errno));
    }
    while (rc == 0 && (entry = readdir(folder)) != NULL) {
        if (peri_bundle_skips(entry->d_name)) {
            continue;
        }
        if (push_name(walk->path, path_length, entry->d_name) < 0 ||
            push_name(walk->name, name_length, entry->d_name) < 0) {
            walk->name[name_length] = '\0';
            rc = walk_fail(walk, PERI_ELIMIT, "%s: a path is too long",
                           walk->name);
            break;
        }
        rc = add_entry(walk, depth);
        walk->path[path_length] = '\0';
        walk->name[name_length] = '\0';
    }
    closedir(folder);
    return rc;
}

int peri_bundle_add_tree(peri_bundle_builder *builder, const char *dir,
                         const char *sub, char *why, size_t why_bytes)
{
    tree_walk *walk = peri_calloc(1, sizeof *walk);
    int rc;

    walk->builder = builder;
    walk->why = why;
    walk->why_bytes = why_bytes;
    if (snprintf(walk->path, PATH_BYTES, "%s/%s", dir, sub) >= PATH_BYTES) {
        rc = walk_fail(walk, PERI_ELIMIT, "%s: the path is too long", sub);
    } else {
        snprintf(walk->name, PATH_BYTES, "%s", sub);
        rc = add_folder(walk, 0);
    }
    free(walk);
    return rc;
}

/* ---- the memory file ---- */

/* The whole image; the caller frees it. */
static char *build_image(const peri_bundle_builder *builder, size_t *out_size)
{
    size_t index_bytes = builder->count * sizeof(bundle_index);
    size_t size = sizeof(bundle_header) + index_bytes + builder->bytes;
    size_t at = sizeof(bundle_header) + index_bytes;
    char *image = peri_calloc(1, size);
    bundle_header header = {.count = builder->count, .size_bytes = size};

    memcpy(header.magic, BUNDLE_MAGIC, sizeof header.magic);
    memcpy(image, &header, sizeof header);
    for (size_t i = 0; i < builder->count; i++) {
        const built_entry *entry = &builder->entries[i];
        size_t name_length = strlen(entry->name);
        bundle_index index = {at, name_length, at + name_length + 1,
                              entry->length};

        memcpy(image + sizeof header + i * sizeof index, &index, sizeof index);
        memcpy(image + at, entry->name, name_length);
        memcpy(image + index.data_offset, entry->data, entry->length);
        at = index.data_offset + entry->length + 1;
    }
    assert(at == size);
    *out_size = size;
    return image;
}

int peri_bundle_finish(peri_bundle_builder *builder, int *out_fd)
{
    size_t size;
    char *image;
    int rc;
    int fd = memfd_create("perigee-bundle", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0) {
        return -errno;
    }
    image = build_image(builder, &size);
    rc = peri_fd_write(fd, peri_slice_of(image, size));
    free(image);
    if (rc == 0) {
        rc = peri_bundle_seal(fd);
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    *out_fd = fd;
    return 0;
}

int peri_bundle_seal(int fd)
{
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

    return fcntl(fd, F_ADD_SEALS, seals) < 0 ? -errno : 0;
}

/* Whether offset..offset+length and a NUL behind it lie inside. */
static bool inside(const peri_bundle *bundle, uint64_t offset, uint64_t length)
{
    return offset < bundle->size_bytes &&
           length < bundle->size_bytes - offset &&
           bundle->base[offset + length] == '\0';
}

static bool is_sound(peri_bundle *bundle)
{
    const bundle_header *header = (const void *)bundle->base;
    uint64_t room = bundle->size_bytes - sizeof *header;

    if (memcmp(header->magic, BUNDLE_MAGIC, sizeof header->magic) != 0 ||
        header->size_bytes != bundle->size_bytes ||
        header->count > PERI_BUNDLE_FILES_MAX ||
        header->count * sizeof(bundle_index) > room) {
        return false;
    }
    bundle->count = (size_t)header->count;
    bundle->index = (const void *)(bundle->base + sizeof *header);
    for (size_t i = 0; i < bundle->count; i++) {
        const bundle_index *entry = &bundle->index[i];

        if (!inside(bundle, entry->name_offset, entry->name_length) ||
            !inside(bundle, entry->data_offset, entry->data_length) ||
            (i > 0 && strcmp(peri_bundle_name(bundle, i - 1),
                             peri_bundle_name(bundle, i)) >= 0)) {
            return false;
        }
    }
    return true;
}

int peri_bundle_open(int fd, peri_bundle **out)
{
    struct stat info;
    peri_bundle *bundle;
    void *base;

    if (fstat(fd, &info) < 0) {
        return -errno;
    }
    if (info.st_size < (off_t)sizeof(bundle_header)) {
        return PERI_EFORMAT;
    }
    base = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (base == MAP_FAILED) {
        return -errno;
    }
    bundle = peri_calloc(1, sizeof *bundle);
    bundle->base = base;
    bundle->size_bytes = (size_t)info.st_size;
    if (!is_sound(bundle)) {
        peri_bundle_close(bundle);
        return PERI_EFORMAT;
    }
    *out = bundle;
    return 0;
}

void peri_bundle_close(peri_bundle *bundle)
{
    if (bundle == NULL) {
        return;
    }
    munmap((void *)(uintptr_t)bundle->base, bundle->size_bytes);
    free(bundle);
}

size_t peri_bundle_count(const peri_bundle *bundle)
{
    return bundle->count;
}

const char *peri_bundle_name(const peri_bundle *bundle, size_t index)
{
    assert(index < bundle->count);
    return bundle->base + bundle->index[index].name_offset;
}

peri_slice peri_bundle_data(const peri_bundle *bundle, size_t index)
{
    const bundle_index *entry = &bundle->index[index];

    assert(index < bundle->count);
    return (peri_slice){bundle->base + entry->data_offset,
                        (size_t)entry->data_length};
}

peri_slice peri_bundle_find(const peri_bundle *bundle, const char *name)
{
    size_t low = 0;
    size_t high = bundle->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(peri_bundle_name(bundle, middle), name);

        if (order == 0) {
            return peri_bundle_data(bundle, middle);
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return (peri_slice){NULL, 0};
}
