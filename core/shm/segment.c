/* Segment: making and mapping it. */
#include "core/shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/err.h"

#define SEGMENT_MAGIC "PERISEG1"
#define PAGE_BYTES ((size_t)4096)

/* The area for dictionaries lies behind, on pages of its own. */
#define AREA_OFFSET                                                            \
    ((sizeof(peri_segment) + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES)
#define FILE_BYTES (AREA_OFFSET + PERI_REGIONS_BYTES)

static int map_segment(int fd, peri_segment **out)
{
    void *base = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_NORESERVE, fd, 0);

    if (base == MAP_FAILED) {
        return -errno;
    }
    *out = base;
    return 0;
}

int peri_segment_create(peri_segment **out, int *out_fd)
{
    int fd = memfd_create("perigee-segment", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int rc;

    if (fd < 0) {
        return -errno;
    }
    /* Sealed in size: a truncated mapping would be a SIGBUS in every worker. */
    if (ftruncate(fd, (off_t)FILE_BYTES) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    rc = map_segment(fd, out);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    memcpy((*out)->header.magic, SEGMENT_MAGIC, sizeof(*out)->header.magic);
    (*out)->header.layout_bytes = sizeof(peri_segment);
    (*out)->header.slots = PERI_SLOTS_MAX;
    (*out)->header.master_pid = (uint32_t)getpid();
    *out_fd = fd;
    return 0;
}

int peri_segment_open(int fd, peri_segment **out)
{
    struct stat info;
    int rc;

    if (fstat(fd, &info) < 0) {
        return -errno;
    }
    if (info.st_size != (off_t)FILE_BYTES) {
        return PERI_EFORMAT;
    }
    rc = map_segment(fd, out);
    if (rc < 0) {
        return rc;
    }
    if (memcmp((*out)->header.magic, SEGMENT_MAGIC, 8) != 0 ||
        (*out)->header.layout_bytes != sizeof(peri_segment)) {
        peri_segment_close(*out);
        *out = NULL;
        return PERI_EFORMAT;
    }
    return 0;
}

void peri_segment_close(peri_segment *segment)
{
    if (segment != NULL) {
        munmap(segment, FILE_BYTES);
    }
}

void *peri_segment_area(peri_segment *segment)
{
    return (char *)segment + AREA_OFFSET;
}
