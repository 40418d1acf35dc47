#include "proto/address.h"

#include <sodium.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/error.h"

int wp_address_valid_n(const char *name, size_t size)
{
    if (size < 1 || size > WP_NAME_SIZE_MAX) {
        return 0;
    }
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-')) {
            return 0;
        }
    }
    return 1;
}

int wp_address_valid(const char *name)
{
    return wp_address_valid_n(name, strnlen(name, WP_NAME_SIZE_MAX + 1));
}

int wp_address_split(const char *text, size_t size, char user[WP_NAME_SIZE_MAX + 1], char device[WP_NAME_SIZE_MAX + 1])
{
    const char *slash = memchr(text, '/', size);
    if (!slash) {
        return WP_E_INVALID;
    }
    size_t user_size = (size_t)(slash - text);
    size_t device_size = size - user_size - 1;
    if (!wp_address_valid_n(text, user_size) || !wp_address_valid_n(slash + 1, device_size)) {
        return WP_E_INVALID;
    }
    memcpy(user, text, user_size);
    user[user_size] = '\0';
    memcpy(device, slash + 1, device_size);
    device[device_size] = '\0';
    return WP_OK;
}

uint32_t wp_shard_of(const uint8_t key[16], uint32_t shard_count, const char *user)
{
    _Static_assert(crypto_shorthash_KEYBYTES == 16 && crypto_shorthash_BYTES == 8, "SipHash-2-4");
    WP_ASSERT(shard_count > 0 && (shard_count & (shard_count - 1)) == 0);
    uint8_t hash[8];
    crypto_shorthash(hash, (const uint8_t *)user, strlen(user), key);
    return 1 + (uint32_t)(wp_get_u64le(hash) & (shard_count - 1));
}
