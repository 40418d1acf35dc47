/* CURVE key pairs and the allow-list file. */
#ifndef WP_NODE_KEYS_H
#define WP_NODE_KEYS_H

#include <stddef.h>

#define WP_KEY_TEXT_SIZE 41 /* Z85 text of a 32-byte key with its end mark */

struct wp_keypair {
    char public_text[WP_KEY_TEXT_SIZE];
    char secret_text[WP_KEY_TEXT_SIZE];
};

/* Loads the key file written by wp_keypair_generate ("public: ...\nsecret: ...\n", mode 0600; a file that
 * others may read is refused). WP_E_NOT_FOUND, WP_E_CONFIG with a sentence in ret_text. */
int wp_keypair_load(const char *path, struct wp_keypair *ret_keys, char *ret_text, size_t text_size);

/* Makes a pair and writes it to `path` with mode 0600, refusing to overwrite (WP_E_EXISTS). */
int wp_keypair_generate(const char *path, struct wp_keypair *ret_keys);

#endif
