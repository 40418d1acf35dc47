/* Who this device is and where its gateways are: from a playground directory or from options. */
#ifndef WP_CLIENT_PROFILE_H
#define WP_CLIENT_PROFILE_H

#include <stdbool.h>
#include <stddef.h>

#define WP_PROFILE_GATEWAYS_MAX 16u

struct wp_profile_gateway {
    char host[256];
    char port[8];
};

struct wp_profile {
    char username[160];   /* "user/device" */
    char secret[256];
    bool tls;
    char ca_path[1024];   /* empty = the system's roots */
    char seen_path[1024]; /* file of shown message ids; empty = none */
    unsigned gateway_count;
    struct wp_profile_gateway gateways[WP_PROFILE_GATEWAYS_MAX];
};

/* Fills gateways, ca and, when it is stored there, the secret of `username` from the playground in `dir`.
 * WP_OK; WP_E_NOT_FOUND / WP_E_CONFIG / WP_E_INVALID with a sentence in ret_text. */
int wp_profile_from_playground(const char *dir, const char *username, bool tls, struct wp_profile *ret_profile, char *ret_text,
    size_t text_size);

/* Reads a secret (first line of a file that others may not read). Errors as above. */
int wp_profile_secret_load(const char *path, struct wp_profile *profile, char *ret_text, size_t text_size);

/* Adds "HOST:PORT" (an IPv6 address in brackets). WP_E_INVALID, WP_E_FULL. */
int wp_profile_gateway_add(struct wp_profile *profile, const char *text);

#endif
