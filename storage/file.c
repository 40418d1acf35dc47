/* Invariant: a name that a caller was told about survives a power cut, so every function that adds or
 * replaces a name syncs the directory before it returns. */
#include "storage/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

int wp_file_error(int error_number)
{
    switch (error_number) {
    case ENOSPC:
    case EDQUOT:
        return WP_E_NO_SPACE;
    case ENOENT:
        return WP_E_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return WP_E_DENIED;
    default:
        return WP_E_IO;
    }
}

static int write_error(void)
{
    int error = wp_file_error(errno);
    return error == WP_E_NOT_FOUND ? WP_E_IO : error;
}

static int file_write_all(int fd, struct wp_slice content)
{
    size_t done = 0;
    while (done < content.size) {
        ssize_t count = write(fd, content.data + done, content.size - done);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return write_error();
        }
        done += (size_t)count;
    }
    return fsync(fd) == 0 ? WP_OK : write_error();
}

/* Closes without losing the errno that the caller wants to name. */
static void file_close(int fd)
{
    int error_number = errno;
    close(fd);
    errno = error_number;
}

static int file_replace_in(int directory_fd, const char *name, struct wp_slice content)
{
    char temporary[NAME_MAX + 1];
    if (snprintf(temporary, sizeof temporary, ".%s.new", name) >= (int)sizeof temporary) {
        errno = ENAMETOOLONG;
        return WP_E_IO;
    }
    int fd = openat(directory_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return write_error();
    }
    int error = file_write_all(fd, content);
    file_close(fd);
    if (error != WP_OK) {
        return error;
    }
    if (renameat(directory_fd, temporary, directory_fd, name) != 0 || fsync(directory_fd) != 0) {
        return write_error();
    }
    return WP_OK;
}

int wp_file_replace(const char *directory, const char *name, struct wp_slice content)
{
    int directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory_fd < 0) {
        return write_error();
    }
    int error = file_replace_in(directory_fd, name, content);
    file_close(directory_fd);
    return error;
}

static int file_read_all(int fd, size_t size_max, struct wp_buffer *out)
{
    size_t total = 0;
    for (;;) {
        uint8_t *room = wp_buffer_reserve(out, 4096);
        if (room == NULL) {
            return WP_E_NOMEM;
        }
        ssize_t count = read(fd, room, 4096);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return WP_E_IO;
        }
        if (count == 0) {
            return WP_OK;
        }
        total += (size_t)count;
        if (total > size_max) {
            return WP_E_TOO_LARGE;
        }
        out->size += (size_t)count;
    }
}

int wp_file_read(const char *directory, const char *name, size_t size_max, struct wp_buffer *out)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return WP_E_IO;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return wp_file_error(errno);
    }
    int error = file_read_all(fd, size_max, out);
    file_close(fd);
    return error;
}

int wp_directory_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return write_error();
    }
    int error = fsync(fd) == 0 ? WP_OK : write_error();
    file_close(fd);
    return error;
}

static int directory_sync_parent(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return wp_directory_sync(".");
    }
    if (slash == path) {
        return wp_directory_sync("/");
    }
    *slash = '\0';
    int error = wp_directory_sync(path);
    *slash = '/';
    return error;
}

/* The last level's parent is synced also when the directory is there already: an earlier start may have been
 * killed between the two steps. Levels above that exist are not ours to sync. */
static int directory_make_level(char *path, bool last)
{
    if (mkdir(path, 0700) == 0) {
        return directory_sync_parent(path);
    }
    struct stat stats;
    if (errno != EEXIST || stat(path, &stats) != 0) {
        return write_error();
    }
    if (!S_ISDIR(stats.st_mode)) {
        errno = ENOTDIR;
        return WP_E_IO;
    }
    return last ? directory_sync_parent(path) : WP_OK;
}

int wp_directory_make(const char *path)
{
    char copy[PATH_MAX];
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') {
        size--;
    }
    if (size == 0 || size >= sizeof copy) {
        errno = ENAMETOOLONG;
        return WP_E_IO;
    }
    memcpy(copy, path, size);
    copy[size] = '\0';
    for (char *p = copy + 1; *p != '\0'; p++) {
        if (*p != '/') {
            continue;
        }
        *p = '\0';
        int error = directory_make_level(copy, false);
        *p = '/';
        if (error != WP_OK) {
            return error;
        }
    }
    return directory_make_level(copy, true);
}
