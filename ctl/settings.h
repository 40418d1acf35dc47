/* Configuration files of a playground's processes (router.yaml, gateway.yaml), as node/config.h describes
 * them. Written once; what a person changes in them afterwards stays. */
#ifndef WP_CTL_SETTINGS_H
#define WP_CTL_SETTINGS_H

#include <stddef.h>

#include "client/playground.h"

#define CTL_KEY_TEXT_SIZE 41u /* Z85 text of a CURVE key with its end mark */

/* Public CURVE keys of the nodes, by index in playground->nodes. */
struct ctl_keys {
    char public_text[WP_PLAYGROUND_NODES_MAX][CTL_KEY_TEXT_SIZE];
};

/* Writes the file of nodes[index]. WP_E_IO, WP_E_NOMEM, WP_E_TOO_LARGE with a sentence. */
int ctl_settings_write(const struct wp_playground *playground, unsigned index, const struct ctl_keys *keys,
    char *ret_text, size_t text_size);

/* Name of the file in the node's folder. */
const char *ctl_settings_name(const struct wp_playground_node *node);

#endif
