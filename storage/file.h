/* Small files that are replaced as a whole and are on the disk when the call returns: the watermark and the
 * facts. */
#ifndef WP_STORAGE_FILE_H
#define WP_STORAGE_FILE_H

#include "base/buffer.h"
#include "base/bytes.h"

/* Writes .NAME.new in `directory`, syncs it, renames it over NAME and syncs the directory: after a crash
 * there is the old or the new content, never a mixture. WP_OK, WP_E_NO_SPACE, WP_E_DENIED, WP_E_IO (errno is
 * kept). */
int wp_file_replace(const char *directory, const char *name, struct wp_slice content);

/* Appends the content of DIRECTORY/NAME to `out`. WP_OK, WP_E_NOT_FOUND, WP_E_TOO_LARGE (over `size_max`),
 * WP_E_NOMEM, WP_E_DENIED, WP_E_IO. */
int wp_file_read(const char *directory, const char *name, size_t size_max, struct wp_buffer *out);

/* Makes `path` (and its parents) and syncs the directory that holds each new one. WP_OK, WP_E_NO_SPACE,
 * WP_E_DENIED, WP_E_IO. */
int wp_directory_make(const char *path);

/* The names in directory `path` are on the disk. WP_OK, WP_E_NO_SPACE, WP_E_DENIED, WP_E_IO. */
int wp_directory_sync(const char *path);

/* WP_E_NO_SPACE for ENOSPC and EDQUOT, WP_E_NOT_FOUND for ENOENT, WP_E_DENIED for EACCES, EPERM and EROFS,
 * else WP_E_IO. */
int wp_file_error(int error_number);

#endif
