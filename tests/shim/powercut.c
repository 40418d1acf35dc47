/* wp_powercut.so: a preload library that knows what a power cut would leave.
 *
 * SIGKILL does not test durability: the page cache survives it. This library keeps, beside the files below
 * WP_POWERCUT_DIR, an image of what completed fsync, fdatasync and O_DSYNC writes covered (files and
 * directories). Kill the program, start it again on the image: that was a power cut.
 *
 *     WP_POWERCUT_DIR        directory to follow; must exist, is durable as found
 *     WP_POWERCUT_IMAGE      where the image goes (same file system); start again on IMAGE/tree
 *     WP_POWERCUT_FAIL_SYNC  n: from the n-th sync of a followed file whose name ends in
 * WP_POWERCUT_FAIL_NAME (default ".log"), fsync and fdatasync fail with EIO and nothing becomes durable
 *     WP_POWERCUT_SLOW_MS    a slow disk: each sync of a followed file takes so much longer
 *
 * Strict where disks are only sometimes kind: a new file's name needs the sync of its directory;
 * sync_file_range, sync and syncfs make nothing durable; bytes written while a sync runs are not covered by
 * it.
 *
 * A write marks its range; a sync takes the marks, lets the kernel sync, copies the marked bytes. A file that
 * somebody may have changed unseen (stdio, mmap, splice) is copied whole. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "image.h"

#define FD_COUNT 65536
#define FILE_BUCKETS 1024u

/* One file below the directory, known by its inode. Never freed: a closed file may still have unsynced bytes.
 */
struct file {
    struct file *next;
    char key[IMAGE_KEY_SIZE];
    pthread_mutex_t syncing; /* one copy at a time */
    /* under table_guard */
    uint64_t from;
    uint64_t to;
    bool whole;  /* nothing of it is known to be in the image yet, or it was changed unseen */
    bool mapped; /* may be changed unseen at any time */
};

static char followed[PATH_MAX]; /* "" = the library does nothing */
static size_t followed_size;
static struct file *buckets[FILE_BUCKETS];
static struct file *fds[FD_COUNT]; /* atomic; NULL = not looked at yet */
static struct file elsewhere;      /* the entry of descriptors that are none of ours */
static pthread_mutex_t table_guard = PTHREAD_MUTEX_INITIALIZER;
static uint64_t fail_from; /* 0 = never */
static uint64_t fail_count;
static const char *fail_name = ".log";
static long slow_ms;
static int (*next_fclose)(FILE *stream);

static void init(void) __attribute__((constructor));
static void init(void)
{
    const char *directory = getenv("WP_POWERCUT_DIR");
    const char *image = getenv("WP_POWERCUT_IMAGE");
    void *symbol = dlsym(RTLD_NEXT, "fclose");
    memcpy(&next_fclose, &symbol, sizeof symbol);
    if (directory == NULL || image == NULL) {
        return;
    }
    char path[PATH_MAX];
    if (realpath(directory, path) == NULL) {
        fprintf(stderr, "wp_powercut: WP_POWERCUT_DIR \"%s\": %s\n", directory, strerror(errno));
        abort();
    }
    if (getenv("WP_POWERCUT_FAIL_SYNC") != NULL) {
        fail_from = strtoull(getenv("WP_POWERCUT_FAIL_SYNC"), NULL, 10);
    }
    if (getenv("WP_POWERCUT_FAIL_NAME") != NULL) {
        fail_name = getenv("WP_POWERCUT_FAIL_NAME");
    }
    if (getenv("WP_POWERCUT_SLOW_MS") != NULL) {
        slow_ms = strtol(getenv("WP_POWERCUT_SLOW_MS"), NULL, 10);
    }
    image_open(image, path);
    memcpy(followed, path, sizeof followed);
    followed_size = strlen(path);
}

/* Whether the descriptor's file is in the followed directory, by the kernel's own name for it. */
static bool fd_followed(int fd, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size <= 0) {
        return false;
    }
    path[size] = '\0';
    return strncmp(path, followed, followed_size) == 0 &&
           (path[followed_size] == '/' || path[followed_size] == '\0');
}

static struct file *file_find(const char *key)
{
    unsigned hash = 5381;
    for (const char *p = key; *p != '\0'; p++) {
        hash = hash * 33 + (unsigned char)*p;
    }
    struct file **bucket = &buckets[hash % FILE_BUCKETS];
    pthread_mutex_lock(&table_guard);
    struct file *file = *bucket;
    while (file != NULL && strcmp(file->key, key) != 0) {
        file = file->next;
    }
    if (file == NULL) {
        file = calloc(1, sizeof *file);
        if (file == NULL) {
            abort();
        }
        snprintf(file->key, sizeof file->key, "%s", key);
        pthread_mutex_init(&file->syncing, NULL);
        file->whole = true;
        file->next = *bucket;
        *bucket = file;
    }
    pthread_mutex_unlock(&table_guard);
    return file;
}

/* The file behind the descriptor; NULL when it is none of ours. */
static struct file *fd_file(int fd)
{
    if (followed_size == 0 || fd < 0 || fd >= FD_COUNT) {
        return NULL;
    }
    struct file *file = __atomic_load_n(&fds[fd], __ATOMIC_ACQUIRE);
    if (file == NULL) {
        int kept = errno;
        char path[PATH_MAX];
        struct image_stat stat;
        file = &elsewhere;
        if (fd_followed(fd, path) && image_stat(fd, "", &stat) == 0 && S_ISREG(stat.mode)) {
            file = file_find(stat.key);
        }
        __atomic_store_n(&fds[fd], file, __ATOMIC_RELEASE);
        errno = kept;
    }
    return file == &elsewhere ? NULL : file;
}

static void fd_forget(int fd)
{
    if (fd >= 0 && fd < FD_COUNT) {
        __atomic_store_n(&fds[fd], NULL, __ATOMIC_RELEASE);
    }
}

static void file_mark(struct file *file, uint64_t from, uint64_t to)
{
    pthread_mutex_lock(&table_guard);
    if (file->from == file->to) {
        file->from = from;
        file->to = to;
    } else {
        file->from = from < file->from ? from : file->from;
        file->to = to > file->to ? to : file->to;
    }
    pthread_mutex_unlock(&table_guard);
}

static void file_mark_whole(struct file *file)
{
    pthread_mutex_lock(&table_guard);
    file->whole = true;
    pthread_mutex_unlock(&table_guard);
}

static bool sync_fails(const char *path)
{
    size_t size = strlen(path);
    size_t tail = strlen(fail_name);
    return fail_from != 0 && size >= tail && strcmp(path + size - tail, fail_name) == 0 &&
           __atomic_add_fetch(&fail_count, 1, __ATOMIC_SEQ_CST) >= fail_from;
}

/* Syncs by `call` (0: the kernel has synced already), then brings the image up to date. */
static int file_sync(int fd, struct file *file, long call)
{
    pthread_mutex_lock(&file->syncing);
    pthread_mutex_lock(&table_guard);
    uint64_t from = file->whole ? 0 : file->from;
    uint64_t to = file->whole ? UINT64_MAX : file->to;
    file->whole = file->mapped;
    file->from = 0;
    file->to = 0;
    pthread_mutex_unlock(&table_guard);
    struct image_stat stat; /* after the marks: what is marked is within its size */
    bool there = image_stat(fd, "", &stat) == 0 && stat.links > 0;
    if (slow_ms > 0) {
        nanosleep(&(struct timespec){.tv_sec = slow_ms / 1000, .tv_nsec = slow_ms % 1000 * 1000000}, NULL);
    }
    int result = call == 0 ? 0 : (int)syscall(call, fd);
    if (result == 0 && there) {
        image_file_synced(fd, file->key, from, to, stat.size);
    } else if (result != 0 && to > from) {
        int kept = errno;
        file_mark(file, from, to);
        errno = kept;
    }
    pthread_mutex_unlock(&file->syncing);
    return result;
}

static int directory_sync(int fd, const struct image_stat *stat, long call)
{
    struct image_listing *listing = image_listing_take(fd);
    int result = (int)syscall(call, fd);
    if (result == 0) {
        image_directory_synced(stat->key, listing);
    } else {
        image_listing_free(listing);
    }
    return result;
}

static int sync_fd(int fd, long call)
{
    char path[PATH_MAX];
    struct image_stat stat;
    if (followed_size == 0 || !fd_followed(fd, path) || image_stat(fd, "", &stat) != 0) {
        return (int)syscall(call, fd);
    }
    if (S_ISDIR(stat.mode)) {
        return directory_sync(fd, &stat, call);
    }
    if (!S_ISREG(stat.mode)) {
        return (int)syscall(call, fd);
    }
    if (sync_fails(path)) {
        errno = EIO;
        return -1;
    }
    bool seen = fd < FD_COUNT && __atomic_load_n(&fds[fd], __ATOMIC_ACQUIRE) != NULL;
    struct file *file = fd_file(fd);
    if (!seen || file == NULL || strcmp(file->key, stat.key) != 0) {
        /* Opened or written behind our back (stdio does). */
        file = file_find(stat.key);
        file_mark_whole(file);
    }
    return file_sync(fd, file, call);
}

int fsync(int fd)
{
    return sync_fd(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return sync_fd(fd, SYS_fdatasync);
}

/* After `count` bytes were written up to where the descriptor stands, or at `offset` when that is not -1. */
static void written(int fd, ssize_t count, off_t offset)
{
    struct file *file = count > 0 ? fd_file(fd) : NULL;
    if (file == NULL) {
        return;
    }
    int kept = errno;
    long flags = syscall(SYS_fcntl, fd, F_GETFL);
    struct image_stat stat;
    uint64_t end = offset >= 0 ? (uint64_t)(offset + count) : (uint64_t)lseek(fd, 0, SEEK_CUR);
    if (offset >= 0 && (flags & O_APPEND) != 0 && image_stat(fd, "", &stat) == 0) {
        end = stat.size; /* Linux appends with pwrite too */
    }
    file_mark(file, end - (uint64_t)count, end);
    if ((flags & O_DSYNC) != 0) {
        file_sync(fd, file, 0);
    }
    errno = kept;
}

ssize_t write(int fd, const void *data, size_t size)
{
    ssize_t count = sys_write(fd, data, size);
    written(fd, count, -1);
    return count;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    ssize_t count = sys_pwrite(fd, data, size, offset);
    written(fd, count, offset);
    return count;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    return pwrite(fd, data, size, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int part_count)
{
    ssize_t count = syscall(SYS_writev, fd, parts, part_count);
    written(fd, count, -1);
    return count;
}

ssize_t pwritev(int fd, const struct iovec *parts, int part_count, off_t offset)
{
    ssize_t count = syscall(SYS_pwritev, fd, parts, part_count, offset, 0);
    written(fd, count, offset);
    return count;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int part_count, off64_t offset)
{
    return pwritev(fd, parts, part_count, offset);
}

int ftruncate(int fd, off_t size)
{
    int result = (int)syscall(SYS_ftruncate, fd, size);
    struct file *file = result == 0 ? fd_file(fd) : NULL;
    if (file != NULL) {
        /* The size goes with every sync; what lies between a cut and a later growth must become zeros. */
        file_mark(file, (uint64_t)size, UINT64_MAX);
    }
    return result;
}

int ftruncate64(int fd, off64_t size)
{
    return ftruncate(fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    int result = (int)syscall(SYS_fallocate, fd, mode, offset, size);
    struct file *file = result == 0 && mode != FALLOC_FL_KEEP_SIZE ? fd_file(fd) : NULL;
    if (file != NULL) {
        file_mark(file, (uint64_t)offset, (uint64_t)(offset + size));
    }
    return result;
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    return fallocate(fd, mode, offset, size);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    return fallocate(fd, 0, offset, size) == 0 ? 0 : errno;
}

int posix_fallocate64(int fd, off64_t offset, off64_t size)
{
    return posix_fallocate(fd, offset, size);
}

/* Changes that are not followed in detail. */
static void changed_somewhere(int fd)
{
    struct file *file = fd_file(fd);
    if (file != NULL) {
        file_mark_whole(file);
    }
}

ssize_t copy_file_range(
    int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size, unsigned flags)
{
    ssize_t count = syscall(SYS_copy_file_range, from, from_offset, to, to_offset, size, flags);
    changed_somewhere(to);
    return count;
}

ssize_t sendfile(int to, int from, off_t *offset, size_t size)
{
    ssize_t count = syscall(SYS_sendfile, to, from, offset, size);
    changed_somewhere(to);
    return count;
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t size)
{
    return sendfile(to, from, offset, size);
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    if ((flags & MAP_ANONYMOUS) == 0 && (flags & MAP_SHARED) != 0 && (protection & PROT_WRITE) != 0) {
        struct file *file = fd_file(fd);
        if (file != NULL) {
            pthread_mutex_lock(&table_guard);
            file->mapped = true;
            file->whole = true;
            pthread_mutex_unlock(&table_guard);
        }
    }
    long result = syscall(SYS_mmap, address, size, protection, flags, fd, offset);
    void *mapped;
    memcpy(&mapped, &result, sizeof mapped);
    return mapped;
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset)
{
    return mmap(address, size, protection, flags, fd, offset);
}

/* Descriptors: a number that is given out again must be looked at again. A file that was opened for writing
 * is looked at now, so that a sync can tell it from one that was opened behind our back. */

static int opened(int fd, int flags)
{
    fd_forget(fd);
    if (fd >= 0 && (flags & O_ACCMODE) != O_RDONLY) {
        struct file *file = fd_file(fd);
        if (file != NULL && (flags & O_TRUNC) != 0) {
            file_mark(file, 0, UINT64_MAX);
        }
    }
    return fd;
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    return opened(sys_open(path, flags, mode), flags);
}

int openat(int directory_fd, const char *path, int flags, ...)
{
    mode_t mode = 0;
    if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    return opened((int)syscall(SYS_openat, directory_fd, path, flags, mode), flags);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int openat64(int directory_fd, const char *path, int flags, ...) __attribute__((alias("openat")));

int creat(const char *path, mode_t mode)
{
    int flags = O_WRONLY | O_CREAT | O_TRUNC;
    return opened(sys_open(path, flags, mode), flags);
}

int creat64(const char *path, mode_t mode) __attribute__((alias("creat")));

int close(int fd)
{
    fd_forget(fd);
    return sys_close(fd);
}

int fclose(FILE *stream)
{
    int fd = fileno(stream);
    changed_somewhere(fd);
    fd_forget(fd);
    return next_fclose(stream);
}

int dup2(int from, int to)
{
    if (from == to) {
        return syscall(SYS_fcntl, from, F_GETFD) < 0 ? -1 : to;
    }
    fd_forget(to);
    return (int)syscall(SYS_dup3, from, to, 0);
}

int dup3(int from, int to, int flags)
{
    fd_forget(to);
    return (int)syscall(SYS_dup3, from, to, flags);
}

/* Names: only needed to let go of shadows; what is durable comes from the listings. */

static bool last_name(int directory_fd, const char *path, char key[IMAGE_KEY_SIZE])
{
    struct image_stat stat;
    int kept = errno;
    bool last = followed_size > 0 && image_stat(directory_fd, path, &stat) == 0 && S_ISREG(stat.mode) &&
                stat.links == 1;
    if (last) {
        memcpy(key, stat.key, IMAGE_KEY_SIZE);
    }
    errno = kept;
    return last;
}

int unlinkat(int directory_fd, const char *path, int flags)
{
    char key[IMAGE_KEY_SIZE];
    bool last = last_name(directory_fd, path, key);
    int result = (int)syscall(SYS_unlinkat, directory_fd, path, flags);
    if (result == 0 && last) {
        image_file_gone(key);
    }
    return result;
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    char key[IMAGE_KEY_SIZE];
    bool last = last_name(to_fd, to, key);
    int result = (int)syscall(SYS_renameat, from_fd, from, to_fd, to);
    if (result == 0 && last) {
        image_file_gone(key);
    }
    return result;
}

int rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}
