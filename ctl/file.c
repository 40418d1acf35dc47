/* Why this file exists: secrets must never stand in a file that others may read, not even for a moment; so
 * every file is made under another name with its final mode, and renamed when complete. */
#include "ctl/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

int ctl_folder_make(const char *path, char *ret_text, size_t text_size)
{
    char part[4096];
    if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part) {
        snprintf(ret_text, text_size, "the path \"%.60s...\" is too long", path);
        return WP_E_IO;
    }
    for (char *end = strchr(part + 1, '/'); end; end = strchr(end + 1, '/')) {
        *end = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            snprintf(ret_text, text_size, "cannot make the folder \"%s\": %s", part, strerror(errno));
            return WP_E_IO;
        }
        *end = '/';
    }
    struct stat info;
    if (mkdir(part, 0700) != 0 && (errno != EEXIST || stat(part, &info) != 0 || !S_ISDIR(info.st_mode))) {
        snprintf(ret_text, text_size, "cannot make the folder \"%s\": %s", part, strerror(errno));
        return WP_E_IO;
    }
    return WP_OK;
}

static int entry_remove(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    remove(path);
    return 0;
}

void ctl_folder_remove(const char *path)
{
    nftw(path, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static bool all_write(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t done = write(fd, data, size);
        if (done < 0 && errno != EINTR) {
            return false;
        }
        if (done > 0) {
            data += done;
            size -= (size_t)done;
        }
    }
    return true;
}

/* Writes PATH.new with exactly `mode`, synced. */
static int fresh_write(const char *path, mode_t mode, const void *data, size_t size, char *ret_fresh,
    size_t fresh_size, char *ret_text, size_t text_size)
{
    if ((size_t)snprintf(ret_fresh, fresh_size, "%s.new", path) >= fresh_size) {
        snprintf(ret_text, text_size, "the path \"%.60s...\" is too long", path);
        return WP_E_IO;
    }
    unlink(ret_fresh);
    int fd = open(ret_fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    bool good = fd >= 0 && fchmod(fd, mode) == 0 && all_write(fd, data, size) && fsync(fd) == 0;
    if (fd >= 0 && close(fd) != 0) {
        good = false;
    }
    if (!good) {
        snprintf(ret_text, text_size, "cannot write \"%s\": %s", path, strerror(errno));
        unlink(ret_fresh);
        return WP_E_IO;
    }
    return WP_OK;
}

int ctl_file_write(
    const char *path, mode_t mode, const void *data, size_t size, char *ret_text, size_t text_size)
{
    char fresh[4096];
    int error = fresh_write(path, mode, data, size, fresh, sizeof fresh, ret_text, text_size);
    if (!error && rename(fresh, path) != 0) {
        snprintf(ret_text, text_size, "cannot write \"%s\": %s", path, strerror(errno));
        unlink(fresh);
        error = WP_E_IO;
    }
    return error;
}

int ctl_file_create(
    const char *path, mode_t mode, const void *data, size_t size, char *ret_text, size_t text_size)
{
    char fresh[4096];
    int error = fresh_write(path, mode, data, size, fresh, sizeof fresh, ret_text, text_size);
    if (error) {
        return error;
    }
    /* Unlike rename, link does not replace. */
    if (link(fresh, path) != 0) {
        error = errno == EEXIST ? WP_E_EXISTS : WP_E_IO;
        snprintf(ret_text, text_size,
            error == WP_E_EXISTS ? "\"%s\" is there already and stays as it is: %s"
                                 : "cannot write \"%s\": %s",
            path, error == WP_E_EXISTS ? "a key is never overwritten" : strerror(errno));
    }
    unlink(fresh);
    return error;
}
