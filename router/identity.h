/* Who the cluster is: its id, its number of shards and its key. A data directory belongs to one cluster for
 * ever. */
#ifndef WP_ROUTER_IDENTITY_H
#define WP_ROUTER_IDENTITY_H

#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"

struct wp_identity {
    uint64_t cluster_id;
    uint32_t shard_count;
    uint8_t hash_key[16];   /* crypto_kdf id 1, context "wpshards": where users live */
    uint8_t secret_key[32]; /* crypto_kdf id 2, context "wpsecret": hash of device secrets */
    uint8_t key_check[16];  /* id 3, context "wpverify": recognises the key without telling it */
};

/* `id_text`: 16 hex digits. `key_file`: 64 hex digits, readable by its owner only. WP_E_CONFIG with a
 * sentence. */
int wp_identity_load(const char *id_text, uint32_t shard_count, const char *key_file,
    struct wp_identity *ret_identity, char *ret_text, size_t text_size);

/* Records the identity in a new data directory, or checks that it is this one. WP_E_CONFIG with a sentence
 * that names what differs, or the store's error. */
int wp_identity_claim(
    struct wp_store *store, const struct wp_identity *identity, char *ret_text, size_t text_size);

#endif
