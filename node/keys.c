/* Key files are text so that an operator can compare the public half by eye; the secret half is the
 * reason for the mode check.
 *
 * 1. A key file that group or others may read is refused: it may have been copied.
 * 2. A file is never overwritten: a node that loses its key loses its place in the allow-list. */
#include "node/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "base/error.h"

#define KEY_FILE_SIZE_MAX 512

static int key_complain(char *ret_text, size_t text_size, const char *path, const char *what)
{
    snprintf(ret_text, text_size, "key file \"%s\" %s", path, what);
    return WP_E_CONFIG;
}

/* Copies the value of the line "NAME: VALUE" when it is the Z85 text of 32 bytes. */
static int key_line_find(const char *content, const char *name, char ret_value[WP_KEY_TEXT_SIZE])
{
    const char *line = strstr(content, name);
    if (!line || (line != content && line[-1] != '\n')) {
        return WP_E_MALFORMED;
    }
    line += strlen(name);
    line += strspn(line, " ");
    size_t size = strcspn(line, "\r\n");
    uint8_t raw[32];
    if (size != WP_KEY_TEXT_SIZE - 1) {
        return WP_E_MALFORMED;
    }
    char value[WP_KEY_TEXT_SIZE];
    memcpy(value, line, size);
    value[size] = '\0';
    if (!zmq_z85_decode(raw, value)) {
        return WP_E_MALFORMED;
    }
    memcpy(ret_value, value, sizeof value);
    return WP_OK;
}

static int key_file_read(int fd, char content[KEY_FILE_SIZE_MAX])
{
    size_t used = 0;
    while (used < KEY_FILE_SIZE_MAX - 1) {
        ssize_t count = read(fd, content + used, KEY_FILE_SIZE_MAX - 1 - used);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return WP_E_IO;
        }
        if (count == 0) {
            break;
        }
        used += (size_t)count;
    }
    content[used] = '\0';
    return WP_OK;
}

int wp_keypair_load(const char *path, struct wp_keypair *ret_keys, char *ret_text, size_t text_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int missing = errno == ENOENT;
        snprintf(ret_text, text_size, "key file \"%s\" cannot be opened: %s", path, strerror(errno));
        return missing ? WP_E_NOT_FOUND : WP_E_CONFIG;
    }
    struct stat info;
    char content[KEY_FILE_SIZE_MAX];
    int stat_failed = fstat(fd, &info) != 0 || !S_ISREG(info.st_mode);
    int error = stat_failed ? WP_E_IO : key_file_read(fd, content);
    close(fd);
    if (error) {
        return key_complain(ret_text, text_size, path, "cannot be read: it must be a regular file");
    }
    if (info.st_mode & (S_IRWXG | S_IRWXO)) {
        return key_complain(ret_text, text_size, path,
            "may be read by others: run chmod 600 on it, and replace the key when others had access");
    }
    struct wp_keypair keys;
    if (key_line_find(content, "public:", keys.public_text) != WP_OK ||
        key_line_find(content, "secret:", keys.secret_text) != WP_OK) {
        return key_complain(ret_text, text_size, path,
            "does not hold two lines \"public: KEY\" and \"secret: KEY\" with 40 characters of Z85 each");
    }
    char derived[WP_KEY_TEXT_SIZE];
    if (zmq_curve_public(derived, keys.secret_text) != 0 || strcmp(derived, keys.public_text) != 0) {
        return key_complain(
            ret_text, text_size, path, "holds a public key that does not belong to its secret key");
    }
    *ret_keys = keys;
    return WP_OK;
}

static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t count = write(fd, data, size);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return errno == ENOSPC ? WP_E_NO_SPACE : WP_E_IO;
        }
        data += count;
        size -= (size_t)count;
    }
    return WP_OK;
}

int wp_keypair_generate(const char *path, struct wp_keypair *ret_keys)
{
    struct wp_keypair keys;
    if (zmq_curve_keypair(keys.public_text, keys.secret_text) != 0) {
        return WP_E_UNAVAILABLE;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno == EEXIST ? WP_E_EXISTS : errno == ENOENT ? WP_E_NOT_FOUND : WP_E_IO;
    }
    char content[KEY_FILE_SIZE_MAX];
    int size =
        snprintf(content, sizeof content, "public: %s\nsecret: %s\n", keys.public_text, keys.secret_text);
    int error = write_all(fd, content, (size_t)size);
    if (!error && fsync(fd) != 0) {
        error = WP_E_IO;
    }
    if (close(fd) != 0 && !error) {
        error = WP_E_IO;
    }
    if (error) {
        unlink(path);
        return error;
    }
    *ret_keys = keys;
    return WP_OK;
}
