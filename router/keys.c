#include "router/keys.h"

#include "base/assert.h"
#include "base/error.h"

#define HEAD_SIZE 5u

static void key_bytes(struct wp_key *key, const void *data, size_t size)
{
    WP_ASSERT(size <= WP_KEY_SIZE_MAX - key->size);
    memcpy(key->data + key->size, data, size);
    key->size += (uint32_t)size;
}

static void key_u8(struct wp_key *key, uint8_t v)
{
    key->data[key->size++] = v;
}

static void key_u32(struct wp_key *key, uint32_t v)
{
    wp_put_u32be(key->data + key->size, v);
    key->size += 4;
}

static void key_u64(struct wp_key *key, uint64_t v)
{
    wp_put_u64be(key->data + key->size, v);
    key->size += 8;
}

void wp_key_tag(struct wp_key *key, uint32_t shard, enum wp_key_tag tag)
{
    key->size = 0;
    key_u32(key, shard);
    key_u8(key, (uint8_t)tag);
}

void wp_key_mailbox(struct wp_key *key, uint32_t shard, enum wp_key_tag tag, uint64_t mailbox)
{
    wp_key_tag(key, shard, tag);
    key_u64(key, mailbox);
}

void wp_key_device(struct wp_key *key, uint32_t shard, uint64_t mailbox, uint32_t device)
{
    wp_key_mailbox(key, shard, WP_KEY_DEVICE, mailbox);
    key_u32(key, device);
}

void wp_key_cursor(struct wp_key *key, uint32_t shard, uint64_t mailbox, uint32_t device, uint8_t lane)
{
    wp_key_mailbox(key, shard, WP_KEY_CURSOR, mailbox);
    key_u32(key, device);
    key_u8(key, lane);
}

void wp_key_position(struct wp_key *key, uint32_t shard, enum wp_key_tag tag, uint64_t mailbox, uint8_t lane,
    uint64_t sequence)
{
    wp_key_mailbox(key, shard, tag, mailbox);
    key_u8(key, lane);
    key_u64(key, sequence);
}

void wp_key_names(
    struct wp_key *key, uint32_t shard, enum wp_key_tag tag, struct wp_slice first, struct wp_slice second)
{
    wp_key_tag(key, shard, tag);
    key_bytes(key, first.data, first.size);
    key_u8(key, 0);
    key_bytes(key, second.data, second.size);
}

void wp_key_name(struct wp_key *key, uint32_t shard, enum wp_key_tag tag, struct wp_slice name)
{
    wp_key_tag(key, shard, tag);
    key_bytes(key, name.data, name.size);
}

void wp_key_pair(struct wp_key *key, uint32_t shard, enum wp_key_tag tag, uint64_t first, uint64_t second)
{
    wp_key_mailbox(key, shard, tag, first);
    key_u64(key, second);
}

void wp_key_journal(struct wp_key *key, uint32_t shard, uint64_t entry)
{
    wp_key_mailbox(key, shard, WP_KEY_JOURNAL, entry);
}

int wp_key_join(struct wp_key *key, uint32_t shard, struct wp_slice rest)
{
    if (rest.size == 0 || rest.size > WP_KEY_SIZE_MAX - WP_KEY_SHARD_SIZE) {
        return WP_E_CORRUPT;
    }
    key->size = 0;
    key_u32(key, shard);
    key_bytes(key, rest.data, rest.size);
    return WP_OK;
}

int wp_key_parse_journal(struct wp_slice key, uint64_t *ret_entry)
{
    return wp_key_parse_mailbox(key, ret_entry);
}

int wp_key_parse_mailbox(struct wp_slice key, uint64_t *ret_mailbox)
{
    if (key.size != HEAD_SIZE + 8) {
        return WP_E_CORRUPT;
    }
    *ret_mailbox = wp_get_u64be(key.data + HEAD_SIZE);
    return WP_OK;
}

int wp_key_parse_device(struct wp_slice key, uint64_t *ret_mailbox, uint32_t *ret_device)
{
    if (key.size != HEAD_SIZE + 12) {
        return WP_E_CORRUPT;
    }
    *ret_mailbox = wp_get_u64be(key.data + HEAD_SIZE);
    *ret_device = wp_get_u32be(key.data + HEAD_SIZE + 8);
    return WP_OK;
}

int wp_key_parse_cursor(struct wp_slice key, uint64_t *ret_mailbox, uint32_t *ret_device, uint8_t *ret_lane)
{
    if (key.size != HEAD_SIZE + 13) {
        return WP_E_CORRUPT;
    }
    *ret_mailbox = wp_get_u64be(key.data + HEAD_SIZE);
    *ret_device = wp_get_u32be(key.data + HEAD_SIZE + 8);
    *ret_lane = key.data[HEAD_SIZE + 12];
    return WP_OK;
}

int wp_key_parse_position(
    struct wp_slice key, uint64_t *ret_mailbox, uint8_t *ret_lane, uint64_t *ret_sequence)
{
    if (key.size != HEAD_SIZE + 17) {
        return WP_E_CORRUPT;
    }
    *ret_mailbox = wp_get_u64be(key.data + HEAD_SIZE);
    *ret_lane = key.data[HEAD_SIZE + 8];
    *ret_sequence = wp_get_u64be(key.data + HEAD_SIZE + 9);
    return WP_OK;
}

int wp_key_parse_names(struct wp_slice key, struct wp_slice *ret_first, struct wp_slice *ret_second)
{
    if (key.size <= HEAD_SIZE) {
        return WP_E_CORRUPT;
    }
    const uint8_t *names = key.data + HEAD_SIZE;
    size_t size = key.size - HEAD_SIZE;
    const uint8_t *mark = memchr(names, 0, size);
    if (!mark) {
        return WP_E_CORRUPT;
    }
    size_t first_size = (size_t)(mark - names);
    size_t second_size = size - first_size - 1;
    if (first_size > WP_NAME_SIZE_MAX || second_size > WP_NAME_SIZE_MAX) {
        return WP_E_CORRUPT;
    }
    *ret_first = wp_slice(names, first_size);
    *ret_second = wp_slice(mark + 1, second_size);
    return WP_OK;
}

int wp_key_parse_name(struct wp_slice key, struct wp_slice *ret_name)
{
    if (key.size <= HEAD_SIZE || key.size > HEAD_SIZE + WP_NAME_SIZE_MAX) {
        return WP_E_CORRUPT;
    }
    *ret_name = wp_slice(key.data + HEAD_SIZE, key.size - HEAD_SIZE);
    return WP_OK;
}

int wp_key_parse_pair(struct wp_slice key, uint64_t *ret_first, uint64_t *ret_second)
{
    if (key.size != HEAD_SIZE + 16) {
        return WP_E_CORRUPT;
    }
    *ret_first = wp_get_u64be(key.data + HEAD_SIZE);
    *ret_second = wp_get_u64be(key.data + HEAD_SIZE + 8);
    return WP_OK;
}
