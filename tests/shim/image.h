/* The image of wp_powercut: what a disk would hold if the power failed now, kept beside the real files.
 *
 *     IMAGE/inodes/KEY    bytes of one file as of its last completed sync (KEY = inode number and birth time)
 *     IMAGE/dirs/KEY/     names of one directory as of its last completed sync: hard links into inodes/, and
 *                         symbolic links to other directories below dirs/
 *     IMAGE/tree          symbolic link to the shadow of WP_POWERCUT_DIR: start a program here
 *
 * So the bytes of a file and its name become durable each in its own time, as they do on a disk, and a rename
 * is nothing special: it is what the next listing says. Any thread; errno is kept. */
#ifndef WP_TESTS_SHIM_IMAGE_H
#define WP_TESTS_SHIM_IMAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define IMAGE_KEY_SIZE 48
#define IMAGE_PATH_SIZE 4096

/* Calls of the kernel that the shim's own functions shadow. -1 and errno, as ever. */
int sys_open(const char *path, int flags, mode_t mode);
int sys_close(int fd);
ssize_t sys_write(int fd, const void *data, size_t size);
ssize_t sys_pwrite(int fd, const void *data, size_t size, off_t offset);
int sys_unlink(const char *path);
int sys_rename(const char *from, const char *to);

/* What the shim needs to know of a file. */
struct image_stat {
    char key[IMAGE_KEY_SIZE];
    mode_t mode;
    uint64_t size;
    uint32_t links;
};
/* Of PATH relative to `directory_fd` (not following a link), or of the descriptor itself when path is "". */
int image_stat(int directory_fd, const char *path, struct image_stat *ret_stat);

/* Takes over what is below `directory` as durable, unless an earlier process did. What fails ends the process
 * with a sentence, here and below: a test without its image proves nothing. */
void image_open(const char *image, const char *directory);

/* The bytes [from, to) of the open file, up to `size`, became durable, and a size that reaches them. */
void image_file_synced(int fd, const char *key, uint64_t from, uint64_t to, uint64_t size);

/* A listing, taken before the sync of the directory begins. */
struct image_listing;
struct image_listing *image_listing_take(int directory_fd);
/* The listing became durable. Frees it. */
void image_directory_synced(const char *key, struct image_listing *listing);
void image_listing_free(struct image_listing *listing);

/* The last name of a file went away: its shadow is not needed for anything new. */
void image_file_gone(const char *key);

#endif
