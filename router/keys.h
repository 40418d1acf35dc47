/* Keys of everything the state machine of a shard keeps in the `state` instance.
 *
 *     key := shard:u32be tag:u8 rest         (numbers big endian, so that key order is number order)
 *
 * One shard is one contiguous range, which is what a snapshot streams. Values: proto/record.proto.
 * Pure; a key is built on the caller's stack. Tags are stored: add, never reuse. */
#ifndef WP_ROUTER_KEYS_H
#define WP_ROUTER_KEYS_H

#include <stdint.h>

#include "base/bytes.h"
#include "proto/address.h"

enum wp_key_tag {
    WP_KEY_MACHINE = 1,  /* -                            RecordMachine */
    WP_KEY_USER = 2,     /* mailbox:u64                  RecordUser */
    WP_KEY_DEVICE = 3,   /* mailbox:u64 device:u32       RecordDevice */
    WP_KEY_MAILBOX = 4,  /* mailbox:u64                  RecordMailbox */
    WP_KEY_CURSOR = 5,   /* mailbox:u64 device:u32 lane:u8  RecordCursor */
    WP_KEY_INDEX = 6,    /* mailbox:u64 lane:u8 sequence:u64  RecordIndex */
    WP_KEY_MESSAGE = 7,  /* mailbox:u64 lane:u8 sequence:u64  RecordMessage */
    WP_KEY_STREAM = 8,   /* user 0x00 device             RecordStream */
    WP_KEY_SEEN = 9,     /* bucket:u64 entry:u64         RecordSeen */
    WP_KEY_RATE = 10,    /* user                         RecordRate */
    WP_KEY_JOURNAL = 11, /* entry:u64                        RecordJournal */
    WP_KEY_TEAM = 12,    /* team                         RecordTeam */
    WP_KEY_MEMBER = 13,  /* team 0x00 user               RecordMember */
    WP_KEY_OUTBOX = 14,  /* destination:u64              RecordOutbox */
    WP_KEY_ITEM = 15,    /* destination:u64 sequence:u64  OutboxItem (command.proto) */
    WP_KEY_TAKEN = 16,   /* source:u64                   RecordWatermark */
    WP_KEY_LIMITS = 17,  /* -                            CommandLimits (command.proto) */
    WP_KEY_BODY = 18,    /* number:u64                   RecordMessage, for the rows that name it */
    WP_KEY_END = 19,     /* above every tag in use */
};

#define WP_KEY_SIZE_MAX (5u + 2u * WP_NAME_SIZE_MAX + 1u)

struct wp_key {
    uint32_t size;
    uint8_t data[WP_KEY_SIZE_MAX];
};

static inline struct wp_slice wp_key_slice(const struct wp_key *key)
{
    return wp_slice(key->data, key->size);
}

/* The part of a key that follows the shard, and back. */
#define WP_KEY_SHARD_SIZE 4u
static inline struct wp_slice wp_key_rest(const struct wp_key *key)
{
    return wp_slice(key->data + WP_KEY_SHARD_SIZE, key->size - WP_KEY_SHARD_SIZE);
}
/* WP_OK, or WP_E_CORRUPT when it is too long. */
int wp_key_join(struct wp_key *key, uint32_t shard, struct wp_slice rest);

/* First possible key of `tag`; of WP_KEY_END: the end of the range of the shard's keys. */
void wp_key_tag(struct wp_key *key, uint32_t shard, enum wp_key_tag tag);

/* Keys that are one number (USER, MAILBOX: the mailbox; OUTBOX, TAKEN: a shard; BODY: its number). */
void wp_key_mailbox(struct wp_key *key, uint32_t shard, enum wp_key_tag tag, uint64_t mailbox);
void wp_key_device(struct wp_key *key, uint32_t shard, uint64_t mailbox, uint32_t device);
void wp_key_cursor(struct wp_key *key, uint32_t shard, uint64_t mailbox, uint32_t device, uint8_t lane);
/* INDEX or MESSAGE. */
void wp_key_position(struct wp_key *key, uint32_t shard, enum wp_key_tag tag, uint64_t mailbox, uint8_t lane,
    uint64_t sequence);
/* Names are checked before: at most WP_NAME_SIZE_MAX bytes. */
/* STREAM: user and device; MEMBER: team and user. */
void wp_key_names(
    struct wp_key *key, uint32_t shard, enum wp_key_tag tag, struct wp_slice first, struct wp_slice second);
/* RATE: user; TEAM. */
void wp_key_name(struct wp_key *key, uint32_t shard, enum wp_key_tag tag, struct wp_slice name);
void wp_key_journal(struct wp_key *key, uint32_t shard, uint64_t entry);
/* SEEN: bucket and entry; ITEM: destination and sequence. */
void wp_key_pair(struct wp_key *key, uint32_t shard, enum wp_key_tag tag, uint64_t first, uint64_t second);

/* What a key read back from the store says. WP_OK, or WP_E_CORRUPT when its size is not that of the tag. */
int wp_key_parse_mailbox(struct wp_slice key, uint64_t *ret_mailbox);
int wp_key_parse_device(struct wp_slice key, uint64_t *ret_mailbox, uint32_t *ret_device);
int wp_key_parse_cursor(struct wp_slice key, uint64_t *ret_mailbox, uint32_t *ret_device, uint8_t *ret_lane);
int wp_key_parse_position(
    struct wp_slice key, uint64_t *ret_mailbox, uint8_t *ret_lane, uint64_t *ret_sequence);
int wp_key_parse_names(struct wp_slice key, struct wp_slice *ret_first, struct wp_slice *ret_second);
int wp_key_parse_name(struct wp_slice key, struct wp_slice *ret_name);
int wp_key_parse_journal(struct wp_slice key, uint64_t *ret_entry);
int wp_key_parse_pair(struct wp_slice key, uint64_t *ret_first, uint64_t *ret_second);

#endif
