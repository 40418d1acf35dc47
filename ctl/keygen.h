/* The secrets that a cluster begins with. Each is made once, in a file that its owner alone may read, and a
 * file that is there already is never overwritten: a node that loses its key loses its place in the cluster.
 */
#ifndef WP_CTL_KEYGEN_H
#define WP_CTL_KEYGEN_H

#include <stddef.h>

#include "ctl/settings.h"

#define CTL_CLUSTER_ID_SIZE 17

/* 16 hex digits that no other cluster has. */
void ctl_cluster_id_make(char ret_id[CTL_CLUSTER_ID_SIZE]);

/* 32 random bytes as 64 hex digits, mode 0600: the shard hash and the hash of device secrets derive from
 * them. WP_E_EXISTS, WP_E_IO with a sentence. */
int ctl_cluster_key_make(const char *path, char *ret_text, size_t text_size);

/* A CURVE key pair in the format that the servers read, mode 0600; the public half in ret_public. Errors as
 * above. */
int ctl_curve_key_make(
    const char *path, char ret_public[CTL_KEY_TEXT_SIZE], char *ret_text, size_t text_size);

/* The public half of such a file. WP_E_IO with a sentence. */
int ctl_curve_key_read(
    const char *path, char ret_public[CTL_KEY_TEXT_SIZE], char *ret_text, size_t text_size);

#endif
