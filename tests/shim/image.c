/* See image.h. A shadow directory is brought up to date in the order that no cut can make worse than a real
 * one: new names, then replaced ones, then removed ones. */
#include "image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char image_root[1024];

int sys_open(const char *path, int flags, mode_t mode)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int sys_close(int fd)
{
    return (int)syscall(SYS_close, fd);
}

ssize_t sys_write(int fd, const void *data, size_t size)
{
    return syscall(SYS_write, fd, data, size);
}

ssize_t sys_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

int sys_unlink(const char *path)
{
    return (int)syscall(SYS_unlink, path);
}

int sys_rename(const char *from, const char *to)
{
    return (int)syscall(SYS_rename, from, to);
}

static void image_fail(const char *what, const char *path)
{
    fprintf(stderr, "wp_powercut: %s \"%s\": %s\n", what, path, strerror(errno));
    abort();
}

int image_stat(int directory_fd, const char *path, struct image_stat *ret_stat)
{
    struct statx found;
    int flags = AT_SYMLINK_NOFOLLOW | (path[0] == '\0' ? AT_EMPTY_PATH : 0);
    if (syscall(SYS_statx, directory_fd, path, flags, STATX_BASIC_STATS | STATX_BTIME, &found) != 0) {
        return -1;
    }
    /* Inode numbers are used again; with the birth time they are not. */
    snprintf(ret_stat->key, sizeof ret_stat->key, "%llu-%llu.%09u", (unsigned long long)found.stx_ino,
        (unsigned long long)found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
    ret_stat->mode = found.stx_mode;
    ret_stat->size = found.stx_size;
    ret_stat->links = found.stx_nlink;
    return 0;
}

static void inode_path(char path[IMAGE_PATH_SIZE], const char *key)
{
    snprintf(path, IMAGE_PATH_SIZE, "%s/inodes/%s", image_root, key);
}

static void directory_path(char path[IMAGE_PATH_SIZE], const char *key)
{
    snprintf(path, IMAGE_PATH_SIZE, "%s/dirs/%s", image_root, key);
}

static void make_directory(const char *path)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        image_fail("cannot make directory", path);
    }
}

/* The shadow of a file, empty when nothing of it was synced yet. */
static int inode_open(const char *key)
{
    char path[IMAGE_PATH_SIZE];
    inode_path(path, key);
    int fd = sys_open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        image_fail("cannot open shadow", path);
    }
    return fd;
}

static void copy_range(int from_fd, int to_fd, uint64_t from, uint64_t to)
{
    char block[65536];
    while (from < to) {
        size_t size = to - from < sizeof block ? (size_t)(to - from) : sizeof block;
        ssize_t count = pread(from_fd, block, size, (off_t)from);
        if (count <= 0) {
            return; /* cut shorter meanwhile: those bytes are not there to be kept */
        }
        if (sys_pwrite(to_fd, block, (size_t)count, (off_t)from) != count) {
            image_fail("cannot write shadow in", image_root);
        }
        from += (uint64_t)count;
    }
}

/* Bytes beyond `to` that nobody marked yet were written after the sync began: the shadow does not grow for
 * them. */
static void shadow_resize(int to_fd, uint64_t to, uint64_t size)
{
    struct stat stats;
    if (fstat(to_fd, &stats) != 0) {
        image_fail("cannot examine a shadow in", image_root);
    }
    uint64_t reached = (uint64_t)stats.st_size > to ? (uint64_t)stats.st_size : to;
    if (ftruncate(to_fd, (off_t)(size < reached ? size : reached)) != 0) {
        image_fail("cannot set the size of a shadow in", image_root);
    }
}

void image_file_synced(int fd, const char *key, uint64_t from, uint64_t to, uint64_t size)
{
    int kept = errno;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd); /* the descriptor may be write-only */
    int from_fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
    int to_fd = inode_open(key);
    if (from_fd < 0) {
        image_fail("cannot read", path);
    }
    shadow_resize(to_fd, to, size);
    copy_range(from_fd, to_fd, from, to < size ? to : size);
    sys_close(from_fd);
    sys_close(to_fd);
    errno = kept;
}

struct image_name {
    char name[256];
    char key[IMAGE_KEY_SIZE];
    mode_t mode;
};

struct image_listing {
    size_t count;
    size_t capacity;
    struct image_name *names;
};

static void listing_add(struct image_listing *listing, const char *name, const struct image_stat *stat)
{
    if (listing->count == listing->capacity) {
        listing->capacity = listing->capacity ? 2 * listing->capacity : 32;
        listing->names = realloc(listing->names, listing->capacity * sizeof *listing->names);
        if (listing->names == NULL) {
            image_fail("cannot list", name);
        }
    }
    struct image_name *row = &listing->names[listing->count++];
    snprintf(row->name, sizeof row->name, "%s", name);
    memcpy(row->key, stat->key, sizeof row->key);
    row->mode = stat->mode;
}

struct image_listing *image_listing_take(int directory_fd)
{
    int kept = errno;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", directory_fd);
    DIR *directory = opendir(path);
    struct image_listing *listing = calloc(1, sizeof *listing);
    if (directory == NULL || listing == NULL) {
        image_fail("cannot list", path);
    }
    struct dirent *row;
    while ((row = readdir(directory)) != NULL) {
        struct image_stat stat;
        if (strcmp(row->d_name, ".") == 0 || strcmp(row->d_name, "..") == 0) {
            continue;
        }
        if (image_stat(dirfd(directory), row->d_name, &stat) != 0) {
            continue; /* removed meanwhile */
        }
        if (S_ISREG(stat.mode) || S_ISDIR(stat.mode)) {
            listing_add(listing, row->d_name, &stat);
        }
    }
    closedir(directory);
    errno = kept;
    return listing;
}

void image_listing_free(struct image_listing *listing)
{
    free(listing->names);
    free(listing);
}

/* What a name in a shadow directory stands for; "" when there is no such name. */
static void shadow_target(const char *path, char target[IMAGE_PATH_SIZE])
{
    struct stat stats;
    target[0] = '\0';
    if (lstat(path, &stats) != 0) {
        return;
    }
    if (S_ISLNK(stats.st_mode)) {
        ssize_t size = readlink(path, target, IMAGE_PATH_SIZE - 1);
        target[size > 0 ? size : 0] = '\0';
    } else {
        snprintf(target, IMAGE_PATH_SIZE, "inode %llu", (unsigned long long)stats.st_ino);
    }
}

static void wanted_target(const struct image_name *name, char target[IMAGE_PATH_SIZE])
{
    char path[IMAGE_PATH_SIZE];
    if (S_ISDIR(name->mode)) {
        directory_path(path, name->key);
        make_directory(path);
        snprintf(target, IMAGE_PATH_SIZE, "../%s", name->key);
        return;
    }
    struct stat stats;
    sys_close(inode_open(name->key));
    inode_path(path, name->key);
    if (stat(path, &stats) != 0) {
        image_fail("cannot find shadow", path);
    }
    snprintf(target, IMAGE_PATH_SIZE, "inode %llu", (unsigned long long)stats.st_ino);
}

static void shadow_put(const char *path, const struct image_name *name, const char *target)
{
    char temporary[IMAGE_PATH_SIZE];
    snprintf(temporary, sizeof temporary, "%s/new-%ld", image_root, (long)syscall(SYS_gettid));
    sys_unlink(temporary);
    int result;
    if (S_ISDIR(name->mode)) {
        result = symlink(target, temporary);
    } else {
        char inode[IMAGE_PATH_SIZE];
        inode_path(inode, name->key);
        result = link(inode, temporary);
    }
    if (result != 0 || sys_rename(temporary, path) != 0) {
        image_fail("cannot put shadow", path);
    }
    sys_unlink(temporary); /* a rename between links of one file leaves both */
}

static void shadow_remove_others(const char *directory, const struct image_listing *listing)
{
    DIR *names = opendir(directory);
    if (names == NULL) {
        image_fail("cannot list shadow", directory);
    }
    struct dirent *row;
    while ((row = readdir(names)) != NULL) {
        bool wanted = strcmp(row->d_name, ".") == 0 || strcmp(row->d_name, "..") == 0;
        for (size_t i = 0; i < listing->count && !wanted; i++) {
            wanted = strcmp(listing->names[i].name, row->d_name) == 0;
        }
        if (!wanted) {
            char path[IMAGE_PATH_SIZE + 257];
            snprintf(path, sizeof path, "%s/%s", directory, row->d_name);
            sys_unlink(path);
        }
    }
    closedir(names);
}

static void shadow_update(const char *directory, const struct image_name *name, bool replace)
{
    char path[IMAGE_PATH_SIZE + 257];
    char there[IMAGE_PATH_SIZE];
    char wanted[IMAGE_PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", directory, name->name);
    shadow_target(path, there);
    if ((there[0] != '\0') != replace) {
        return;
    }
    wanted_target(name, wanted);
    if (strcmp(there, wanted) != 0) {
        shadow_put(path, name, wanted);
    }
}

void image_directory_synced(const char *key, struct image_listing *listing)
{
    int kept = errno;
    char directory[IMAGE_PATH_SIZE];
    directory_path(directory, key);
    make_directory(directory);
    for (size_t i = 0; i < listing->count; i++) {
        shadow_update(directory, &listing->names[i], false);
    }
    for (size_t i = 0; i < listing->count; i++) {
        shadow_update(directory, &listing->names[i], true);
    }
    shadow_remove_others(directory, listing);
    image_listing_free(listing);
    errno = kept;
}

void image_file_gone(const char *key)
{
    int kept = errno;
    char path[IMAGE_PATH_SIZE];
    inode_path(path, key);
    sys_unlink(path);
    errno = kept;
}

static void import(const char *path);

static void import_name(const char *directory, const struct image_name *name)
{
    char path[IMAGE_PATH_SIZE];
    if (snprintf(path, sizeof path, "%s/%s", directory, name->name) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        image_fail("cannot import", directory);
    }
    if (S_ISDIR(name->mode)) {
        import(path);
        return;
    }
    int fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
    struct image_stat found;
    if (fd < 0 && errno == ENOENT) {
        return; /* whoever started this process renames files of its own beside ours */
    }
    if (fd < 0 || image_stat(fd, "", &found) != 0) {
        image_fail("cannot import", path);
    }
    image_file_synced(fd, found.key, 0, found.size, found.size);
    sys_close(fd);
}

/* Everything below the directory as durable. */
static void import(const char *path)
{
    int fd = sys_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    struct image_stat stat;
    if (fd < 0 || image_stat(fd, "", &stat) != 0) {
        image_fail("cannot import", path);
    }
    struct image_listing *listing = image_listing_take(fd);
    sys_close(fd);
    for (size_t i = 0; i < listing->count; i++) {
        import_name(path, &listing->names[i]);
    }
    image_directory_synced(stat.key, listing);
}

static void image_begin(const char *directory)
{
    char path[IMAGE_PATH_SIZE];
    snprintf(path, sizeof path, "%s/inodes", image_root);
    make_directory(path);
    snprintf(path, sizeof path, "%s/dirs", image_root);
    make_directory(path);
    import(directory);
    struct image_stat root;
    if (image_stat(AT_FDCWD, directory, &root) != 0) {
        image_fail("cannot examine", directory);
    }
    char target[IMAGE_KEY_SIZE + 8];
    snprintf(target, sizeof target, "dirs/%s", root.key);
    snprintf(path, sizeof path, "%s/tree", image_root);
    if (symlink(target, path) != 0) {
        image_fail("cannot make", path);
    }
}

void image_open(const char *image, const char *directory)
{
    char path[IMAGE_PATH_SIZE];
    make_directory(image);
    if (realpath(image, path) == NULL ||
        strlen(path) >= sizeof image_root) { /* the program may change its directory */
        image_fail("cannot use image", image);
    }
    memcpy(image_root, path, strlen(path) + 1);
    snprintf(path, sizeof path, "%s/lock", image_root);
    int lock = sys_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) != 0) {
        image_fail("cannot lock", path);
    }
    struct stat stats;
    snprintf(path, sizeof path, "%s/tree", image_root);
    if (lstat(path, &stats) != 0) {
        image_begin(directory);
    }
    sys_close(lock);
}
