/* What is done with a data directory as a whole while no store is open on it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "storage/body.h"
#include "storage/file.h"

#define NAMES_TRIED 100u

bool wp_store_damaged(const char *path)
{
    char fact[PATH_MAX];
    return snprintf(fact, sizeof fact, "%s/facts/%s", path, WP_FACT_DAMAGED) < (int)sizeof fact &&
           access(fact, F_OK) == 0;
}

static int refuse(int error, char *text, size_t text_size, const char *path, const char *problem)
{
    snprintf(text, text_size, "cannot move \"%s\" aside: %s", path, problem);
    return error;
}

/* The lock of an open store, held while the name changes; -1 when the directory has none. */
static int lock_take(const char *path, int *ret_fd)
{
    char lock[PATH_MAX + 8];
    snprintf(lock, sizeof lock, "%s/LOCK", path);
    *ret_fd = open(lock, O_RDWR | O_CLOEXEC);
    if (*ret_fd < 0) {
        return errno == ENOENT ? WP_OK : wp_file_error(errno);
    }
    return flock(*ret_fd, LOCK_EX | LOCK_NB) == 0 ? WP_OK : WP_E_BUSY;
}

/* rename(2) would replace an empty directory, so a taken name is looked for first. */
static int rename_aside(const char *path, char *ret_path, size_t path_size)
{
    time_t now = time(NULL); /* a name for people; nothing is decided by it */
    struct tm parts;
    char stamp[32];
    gmtime_r(&now, &parts);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &parts);
    for (unsigned number = 1; number <= NAMES_TRIED; number++) {
        char suffix[8] = "";
        if (number > 1) {
            snprintf(suffix, sizeof suffix, "-%u", number);
        }
        if (snprintf(ret_path, path_size, "%s.damaged-%s%s", path, stamp, suffix) >= (int)path_size) {
            errno = ENAMETOOLONG;
            return -1;
        }
        if (access(ret_path, F_OK) != 0) {
            return rename(path, ret_path);
        }
    }
    errno = EEXIST;
    return -1;
}

static int parent_sync(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return wp_directory_sync(".");
    }
    char first = path[1];
    slash[slash == path ? 1 : 0] = '\0';
    int error = wp_directory_sync(path);
    if (slash == path) {
        path[1] = first;
    } else {
        *slash = '/';
    }
    return error;
}

int wp_store_set_aside(const char *path, char *ret_path, size_t path_size, char *ret_text, size_t text_size)
{
    char plain[PATH_MAX];
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') {
        size--;
    }
    if (size == 0 || size + 64 >= sizeof plain) {
        return refuse(WP_E_IO, ret_text, text_size, path, "the path is empty or too long");
    }
    memcpy(plain, path, size);
    plain[size] = '\0';
    if (access(plain, F_OK) != 0) {
        return refuse(wp_file_error(errno), ret_text, text_size, plain, strerror(errno));
    }
    int lock_fd;
    int error = lock_take(plain, &lock_fd);
    if (error == WP_OK && rename_aside(plain, ret_path, path_size) != 0) {
        error = errno == EBUSY || errno == EXDEV ? WP_E_BUSY : wp_file_error(errno);
        refuse(error, ret_text, text_size, plain,
            error == WP_E_BUSY ? "it is a mount point; move its content away by hand" : strerror(errno));
    } else if (error != WP_OK) {
        refuse(
            error, ret_text, text_size, plain, error == WP_E_BUSY ? "a process holds it" : strerror(errno));
    } else if ((error = parent_sync(ret_path)) != WP_OK) {
        refuse(error, ret_text, text_size, plain, strerror(errno));
    }
    if (lock_fd >= 0) {
        close(lock_fd);
    }
    return error;
}
