/* Small whole files: keys, certificates, configuration. Errors carry a sentence that names the file. */
#ifndef WP_CTL_FILE_H
#define WP_CTL_FILE_H

#include <stddef.h>
#include <sys/types.h>

/* Makes `path` and its parents with mode 0700; a folder that is there already is fine. WP_E_IO. */
int ctl_folder_make(const char *path, char *ret_text, size_t text_size);

/* Removes the folder with everything in it, as far as that goes. */
void ctl_folder_remove(const char *path);

/* Writes a file whole, with exactly `mode` from its first byte on, and syncs it. An old file is replaced.
 * WP_E_IO. */
int ctl_file_write(
    const char *path, mode_t mode, const void *data, size_t size, char *ret_text, size_t text_size);

/* The same, but refuses a `path` that is there already and leaves it as it is: WP_E_EXISTS. */
int ctl_file_create(
    const char *path, mode_t mode, const void *data, size_t size, char *ret_text, size_t text_size);

#endif
