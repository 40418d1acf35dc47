/* Keys and records of both instances, the same for every body. Numbers in keys are big endian: byte order is
 * key order.
 *
 * log, family entries:  shard(4) index(8)  -> header | kind(1) term(8) | data
 * log, family hard:     shard(4) 1         -> header | term(8) voted_for(8) replica(8) lost_index(8)
 * lost_term(8) shard(4) 2         -> header | floor(8): every entry below was dropped on purpose | term(8)
 *                       shard(4) 3         -> header | kind(8) index(8) term(8) leader_term(8) file_count(8):
 * the shard is being wiped or installed state:                0 shard(4)         -> header | applied index(8)
 * applied term(8) 1 key of the machine -> header | value of the machine
 *
 * Pure. */
#ifndef WP_STORAGE_LAYOUT_H
#define WP_STORAGE_LAYOUT_H

#include <stdint.h>

#include "base/bytes.h"
#include "storage/record.h"
#include "storage/store.h"

#define WP_ENTRY_KEY_SIZE 12u
#define WP_ENTRY_META_SIZE 9u
#define WP_ENTRY_HEAD_SIZE (WP_RECORD_HEADER_SIZE + WP_ENTRY_META_SIZE)
#define WP_HARD_KEY_SIZE 5u
#define WP_HARD_RECORD_SIZE (WP_RECORD_HEADER_SIZE + 40u)
#define WP_MARKER_RECORD_SIZE (WP_RECORD_HEADER_SIZE + 40u)
#define WP_FLOOR_RECORD_SIZE (WP_RECORD_HEADER_SIZE + 16u)
#define WP_APPLIED_KEY_SIZE 5u
#define WP_APPLIED_RECORD_SIZE (WP_RECORD_HEADER_SIZE + 16u)

#define WP_STATE_SHARD_SIZE 4u /* the shard in front of each key of the machine, u32be */

enum wp_hard_tag { WP_HARD_STATE = 1, WP_HARD_FLOOR = 2, WP_HARD_INSTALLING = 3 };
enum wp_state_tag { WP_STATE_APPLIED = 0, WP_STATE_USER = 1 };

static inline void wp_entry_key(uint8_t key[WP_ENTRY_KEY_SIZE], uint32_t shard, uint64_t index)
{
    wp_put_u32be(key, shard);
    wp_put_u64be(key + 4, index);
}

static inline void wp_hard_key(uint8_t key[WP_HARD_KEY_SIZE], uint32_t shard, enum wp_hard_tag tag)
{
    wp_put_u32be(key, shard);
    key[4] = (uint8_t)tag;
}

static inline void wp_applied_key(uint8_t key[WP_APPLIED_KEY_SIZE], uint32_t shard)
{
    key[0] = WP_STATE_APPLIED;
    wp_put_u32be(key + 1, shard);
}

/* Everything of an entry's record but its data, which follows it unchanged. */
void wp_entry_seal(
    const struct wp_log_entry *entry, const uint8_t key[WP_ENTRY_KEY_SIZE], uint8_t head[WP_ENTRY_HEAD_SIZE]);
/* Verifies; the entry gets index, term and kind (data is not touched), *ret_data points into `record`.
 * WP_E_CORRUPT. */
int wp_entry_record_open(
    struct wp_slice key, struct wp_slice record, struct wp_log_entry *ret_entry, struct wp_slice *ret_data);

void wp_hard_seal(
    struct wp_slice key, const struct wp_log_hard_state *hard, uint8_t record[WP_HARD_RECORD_SIZE]);
/* WP_E_CORRUPT. */
int wp_hard_open(struct wp_slice key, struct wp_slice record, struct wp_log_hard_state *ret_hard);

/* What is being done with a shard, and how it ends. */
enum wp_marker_kind {
    WP_MARKER_WIPE_SAME = 1, /* the replica goes on under its id: what its log holds will be lost */
    WP_MARKER_WIPE_NEW = 2,
    WP_MARKER_INSTALL = 3,
};
struct wp_marker {
    uint64_t kind;
    uint64_t index; /* INSTALL: what wp_state_install_commit was given */
    uint64_t term;
    uint64_t leader_term;
    uint64_t file_count;
};
void wp_marker_seal(
    struct wp_slice key, const struct wp_marker *marker, uint8_t record[WP_MARKER_RECORD_SIZE]);
/* WP_E_CORRUPT. */
int wp_marker_open(struct wp_slice key, struct wp_slice record, struct wp_marker *ret_marker);

/* The two-number records: floor and applied position. */
void wp_pair_seal(enum wp_record_family family, struct wp_slice key, uint64_t first, uint64_t second,
    uint8_t record[WP_RECORD_HEADER_SIZE + 16]);
int wp_pair_open(enum wp_record_family family, struct wp_slice key, struct wp_slice record,
    uint64_t *ret_first, uint64_t *ret_second);

#endif
