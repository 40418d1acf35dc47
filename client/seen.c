/* Why: delivery is at least once; the person must see a message once.
 *
 * Invariants:
 *   1. The file is a plain run of 16-byte ids, oldest first; a size that is no multiple of 16 is a torn append.
 *   2. `ids` is a ring of the newest WP_SEEN_IDS_MAX ids; `slots` maps each of them (open addressing, rebuilt when the
 *      ring drops ids, so that no tombstones are needed). */
#include "client/seen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

#define SLOT_COUNT 65536u /* power of two, above 2 * 2 * WP_SEEN_IDS_MAX / 3 */
#define RING_SIZE (2u * WP_SEEN_IDS_MAX)

struct wp_seen {
    int fd;
    uint32_t count;                        /* ids in `ids`, at most RING_SIZE */
    uint8_t ids[RING_SIZE][WP_UUID_SIZE];
    uint32_t slots[SLOT_COUNT];            /* index in ids + 1; 0 = empty */
};

static uint32_t slot_of(const uint8_t id[WP_UUID_SIZE])
{
    /* The last eight bytes of a version 7 id are random. */
    return (uint32_t)(wp_get_u64le(id + 8) * 0x9e3779b97f4a7c15u >> 48) & (SLOT_COUNT - 1);
}

static void slot_insert(struct wp_seen *seen, uint32_t index)
{
    uint32_t slot = slot_of(seen->ids[index]);
    while (seen->slots[slot] != 0) {
        slot = (slot + 1) & (SLOT_COUNT - 1);
    }
    seen->slots[slot] = index + 1;
}

/* Keeps the newest WP_SEEN_IDS_MAX ids and writes the file anew. */
static int seen_shrink(struct wp_seen *seen)
{
    memmove(seen->ids, seen->ids[seen->count - WP_SEEN_IDS_MAX], (size_t)WP_SEEN_IDS_MAX * WP_UUID_SIZE);
    seen->count = WP_SEEN_IDS_MAX;
    memset(seen->slots, 0, sizeof seen->slots);
    for (uint32_t i = 0; i < seen->count; i++) {
        slot_insert(seen, i);
    }
    size_t size = (size_t)seen->count * WP_UUID_SIZE;
    if (pwrite(seen->fd, seen->ids, size, 0) != (ssize_t)size || ftruncate(seen->fd, (off_t)size) != 0) {
        return WP_E_IO;
    }
    return fsync(seen->fd) == 0 ? WP_OK : WP_E_IO;
}

static int seen_load(struct wp_seen *seen)
{
    struct stat info;
    if (fstat(seen->fd, &info) != 0) {
        return WP_E_IO;
    }
    off_t whole = info.st_size - info.st_size % (off_t)WP_UUID_SIZE;
    off_t start = whole > (off_t)(WP_SEEN_IDS_MAX * WP_UUID_SIZE) ? whole - (off_t)(WP_SEEN_IDS_MAX * WP_UUID_SIZE) : 0;
    size_t size = (size_t)(whole - start);
    if (pread(seen->fd, seen->ids, size, start) != (ssize_t)size || ftruncate(seen->fd, whole) != 0) {
        return WP_E_IO;
    }
    seen->count = (uint32_t)(size / WP_UUID_SIZE);
    for (uint32_t i = 0; i < seen->count; i++) {
        slot_insert(seen, i);
    }
    return start > 0 ? seen_shrink(seen) : WP_OK;
}

int wp_seen_open(const char *path, struct wp_seen **ret_seen)
{
    struct wp_seen *seen = calloc(1, sizeof *seen);
    if (!seen) {
        return WP_E_NOMEM;
    }
    int error = WP_OK;
    seen->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (seen->fd < 0) {
        error = WP_E_IO;
    } else if (flock(seen->fd, LOCK_EX | LOCK_NB) != 0) {
        error = errno == EWOULDBLOCK ? WP_E_BUSY : WP_E_IO;
    } else {
        error = seen_load(seen);
    }
    if (error) {
        wp_seen_close(&seen);
        return error;
    }
    *ret_seen = seen;
    return WP_OK;
}

void wp_seen_close(struct wp_seen **seen)
{
    struct wp_seen *taken = *seen;
    *seen = NULL;
    if (taken) {
        if (taken->fd >= 0) {
            close(taken->fd);
        }
        free(taken);
    }
}

bool wp_seen_has(const struct wp_seen *seen, const uint8_t id[WP_UUID_SIZE])
{
    for (uint32_t slot = slot_of(id); seen->slots[slot] != 0; slot = (slot + 1) & (SLOT_COUNT - 1)) {
        if (memcmp(seen->ids[seen->slots[slot] - 1], id, WP_UUID_SIZE) == 0) {
            return true;
        }
    }
    return false;
}

int wp_seen_add(struct wp_seen *seen, const uint8_t id[WP_UUID_SIZE])
{
    if (seen->count == RING_SIZE) {
        int error = seen_shrink(seen);
        if (error) {
            return error;
        }
    }
    off_t place = (off_t)seen->count * WP_UUID_SIZE;
    if (pwrite(seen->fd, id, WP_UUID_SIZE, place) != WP_UUID_SIZE) {
        return WP_E_IO;
    }
    memcpy(seen->ids[seen->count], id, WP_UUID_SIZE);
    slot_insert(seen, seen->count);
    seen->count++;
    return WP_OK;
}

int wp_seen_sync(struct wp_seen *seen)
{
    return fdatasync(seen->fd) == 0 ? WP_OK : WP_E_IO;
}
