/* Message ids a device has shown, kept in a file, so that a repeated delivery is shown once also when the program
 * died between showing and acknowledging. One process at a time (the file is locked). */
#ifndef WP_CLIENT_SEEN_H
#define WP_CLIENT_SEEN_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/uuid.h"

#define WP_SEEN_IDS_MAX 20000u /* more than a mailbox can hold */

struct wp_seen;

/* Opens or creates `path`. WP_E_BUSY: another process has it; WP_E_IO; WP_E_NOMEM. A torn last id is dropped. */
int wp_seen_open(const char *path, struct wp_seen **ret_seen);
void wp_seen_close(struct wp_seen **seen);

/* Whether `id` is among the last WP_SEEN_IDS_MAX ids. */
bool wp_seen_has(const struct wp_seen *seen, const uint8_t id[WP_UUID_SIZE]);

/* Notes `id`; it survives a crash after the next wp_seen_sync. WP_OK or WP_E_IO. */
int wp_seen_add(struct wp_seen *seen, const uint8_t id[WP_UUID_SIZE]);
int wp_seen_sync(struct wp_seen *seen);

#endif
