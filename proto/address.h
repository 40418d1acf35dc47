/* Names of users and devices, and where a user lives. Pure. */
#ifndef WP_PROTO_ADDRESS_H
#define WP_PROTO_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

#define WP_NAME_SIZE_MAX 64u /* bytes, without the end mark */

/* Whether `name` matches [a-z0-9._-]{1,64}. */
int wp_address_valid(const char *name);
int wp_address_valid_n(const char *name, size_t size);

/* Splits "user/device" into two NUL-terminated names of at most WP_NAME_SIZE_MAX bytes. WP_OK or WP_E_INVALID. */
int wp_address_split(const char *text, size_t size, char user[WP_NAME_SIZE_MAX + 1], char device[WP_NAME_SIZE_MAX + 1]);

/* Shard (1..shard_count) of `user`: SipHash-2-4 under the cluster's 16-byte key. shard_count is a power of two. */
uint32_t wp_shard_of(const uint8_t key[16], uint32_t shard_count, const char *user);

#endif
