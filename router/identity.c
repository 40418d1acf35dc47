#include "router/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/error.h"

#define KEY_TEXT_SIZE (2u * crypto_kdf_KEYBYTES)
#define FACT_SIZE_MAX 64u

static int key_file_read(
    const char *path, uint8_t ret_key[crypto_kdf_KEYBYTES], char *ret_text, size_t text_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat file;
    if (fd < 0 || fstat(fd, &file)) {
        snprintf(ret_text, text_size, "cluster.key_file: cannot read \"%s\": %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return WP_E_CONFIG;
    }
    char text[KEY_TEXT_SIZE + 1];
    ssize_t size = read(fd, text, sizeof(text));
    close(fd);
    if (file.st_mode & 077) {
        snprintf(
            ret_text, text_size, "cluster.key_file: others may read \"%s\"; run: chmod 600 %s", path, path);
        return WP_E_CONFIG;
    }
    bool end =
        size == (ssize_t)KEY_TEXT_SIZE || (size == (ssize_t)KEY_TEXT_SIZE + 1 && text[KEY_TEXT_SIZE] == '\n');
    size_t bytes = 0;
    if (!end || sodium_hex2bin(ret_key, crypto_kdf_KEYBYTES, text, KEY_TEXT_SIZE, NULL, &bytes, NULL) ||
        bytes != crypto_kdf_KEYBYTES) {
        snprintf(
            ret_text, text_size, "cluster.key_file: \"%s\" must hold exactly 64 hexadecimal digits", path);
        return WP_E_CONFIG;
    }
    sodium_memzero(text, sizeof(text));
    return WP_OK;
}

static int id_parse(const char *text, uint64_t *ret_id)
{
    uint8_t bytes[8];
    size_t count = 0;
    if (strlen(text) != 16 || sodium_hex2bin(bytes, sizeof(bytes), text, 16, NULL, &count, NULL) ||
        count != 8) {
        return WP_E_INVALID;
    }
    *ret_id = wp_get_u64be(bytes);
    return WP_OK;
}

int wp_identity_load(const char *id_text, uint32_t shard_count, const char *key_file,
    struct wp_identity *ret_identity, char *ret_text, size_t text_size)
{
    struct wp_identity identity = {.shard_count = shard_count};
    if (id_parse(id_text, &identity.cluster_id)) {
        snprintf(ret_text, text_size, "cluster.id: \"%.40s\" must be 16 hexadecimal digits", id_text);
        return WP_E_CONFIG;
    }
    if (shard_count < 1 || (shard_count & (shard_count - 1)) || shard_count >= WP_STORE_SHARDS_MAX) {
        snprintf(ret_text, text_size, "cluster.shards: %u must be a power of two below %u", shard_count,
            WP_STORE_SHARDS_MAX);
        return WP_E_CONFIG;
    }
    uint8_t key[crypto_kdf_KEYBYTES];
    int error = key_file_read(key_file, key, ret_text, text_size);
    if (error) {
        return error;
    }
    crypto_kdf_derive_from_key(identity.hash_key, sizeof(identity.hash_key), 1, "wpshards", key);
    crypto_kdf_derive_from_key(identity.secret_key, sizeof(identity.secret_key), 2, "wpsecret", key);
    crypto_kdf_derive_from_key(identity.key_check, sizeof(identity.key_check), 3, "wpverify", key);
    sodium_memzero(key, sizeof(key));
    *ret_identity = identity;
    return WP_OK;
}

/* One fact: recorded when it is missing, compared when it is there. */
static int fact_claim(struct wp_store *store, const char *name, const char *value, const char *what,
    char *ret_text, size_t text_size)
{
    struct wp_buffer found = WP_BUFFER_INIT;
    struct wp_slice wanted = wp_slice(value, strlen(value));
    int error = wp_store_fact_get(store, name, &found);
    if (error == WP_E_NOT_FOUND) {
        error = wp_store_fact_set(store, name, wanted);
        if (error) {
            char reason[256];
            wp_store_error_text(store, reason, sizeof(reason));
            snprintf(ret_text, text_size, "cannot record the %s in the data directory: %s", what,
                reason[0] ? reason : wp_error_text(error));
        }
    } else if (error) {
        char reason[256];
        wp_store_error_text(store, reason, sizeof(reason));
        snprintf(ret_text, text_size, "cannot read the %s from the data directory: %s", what,
            reason[0] ? reason : wp_error_text(error));
    } else if (!wp_slice_equal(wp_slice(found.data, found.size), wanted)) {
        snprintf(ret_text, text_size,
            "the data directory belongs to another cluster: the %s differs from the configuration; use the "
            "right data "
            "directory or the right configuration",
            what);
        error = WP_E_CONFIG;
    }
    wp_buffer_free(&found);
    return error;
}

int wp_identity_claim(
    struct wp_store *store, const struct wp_identity *identity, char *ret_text, size_t text_size)
{
    char value[FACT_SIZE_MAX];
    snprintf(value, sizeof(value), "%016llx", (unsigned long long)identity->cluster_id);
    int error = fact_claim(store, "cluster-id", value, "cluster id", ret_text, text_size);
    if (error) {
        return error;
    }
    snprintf(value, sizeof(value), "%u", identity->shard_count);
    error = fact_claim(store, "shard-count", value, "number of shards", ret_text, text_size);
    if (error) {
        return error;
    }
    sodium_bin2hex(value, sizeof(value), identity->key_check, sizeof(identity->key_check));
    return fact_claim(store, "cluster-key-check", value, "cluster key", ret_text, text_size);
}
