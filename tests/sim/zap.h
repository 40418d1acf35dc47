/* node/zap.h without a thread: the allow-list of one simulated process, which is its "ZeroMQ context" too. */
#ifndef WP_SIM_ZAP_H
#define WP_SIM_ZAP_H

#include <stdbool.h>
#include <stddef.h>

#include "node/zap.h"

/* `own_key`: the public key of the process. */
struct wp_zap *sim_zap_create(const char *own_key);
const char *sim_zap_own_key(const struct wp_zap *zap);
/* The User-Id that the handler gives the holder of the key; false: it is not let in. */
bool sim_zap_user(struct wp_zap *zap, const char *public_key, char *ret_user_id, size_t size);

#endif
