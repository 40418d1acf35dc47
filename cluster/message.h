/* The Raft RPCs between replicas as bytes: pure encode and decode, with every field checked before the engine
 * sees it (the engine asserts on what it is given, and its assertions are compiled out).
 *
 *   version u8 (1) | type u8 | flags u8 | 0 u8 | term u64le | words u64le x (by type) |
 *   APPEND: count u32le | count x (term u64le | kind u8 | size u32le | data)
 *
 * Stamps: APPEND carries its leader's time of making it, and its result returns it. The follower only echoes
 * it; the leader alone compares stamps with its own clock (wp_replica_lease_ms).
 *
 * Group, cluster and sender are named by the frame around it and checked by the caller. Entries are carried
 * inline. */
#ifndef WP_CLUSTER_MESSAGE_H
#define WP_CLUSTER_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "storage/store.h"

#define WP_RPC_ENTRIES_MAX 4096u
#define WP_RPC_WORDS_MAX 4
/* Indexes and terms stay below this, so sums of an index and a count never wrap. */
#define WP_RPC_INDEX_MAX (UINT64_C(1) << 62)

enum wp_rpc_type {
    WP_RPC_APPEND = 1,
    WP_RPC_APPEND_RESULT = 2,
    WP_RPC_VOTE = 3,
    WP_RPC_VOTE_RESULT = 4,
    WP_RPC_TIMEOUT_NOW = 5,
};

enum wp_rpc_flag {
    WP_RPC_PRE_VOTE = 1 << 0,       /* VOTE, VOTE_RESULT */
    WP_RPC_DISRUPT_LEADER = 1 << 1, /* VOTE: the leader itself asked for this election */
    WP_RPC_GRANTED = 1 << 2,        /* VOTE_RESULT */
    WP_RPC_STALE = 1 << 3,          /* APPEND_RESULT: answer to an older term; says nothing about the log */
};

struct wp_rpc {
    enum wp_rpc_type type;
    uint8_t flags;
    uint64_t term;
    union {
        uint64_t words[WP_RPC_WORDS_MAX];
        struct {
            uint64_t previous_index, previous_term, commit_index, stamp_ms;
        } append;
        struct {
            uint64_t rejected_index,
                last_index; /* rejected 0: everything up to last is durable at the sender */
            uint64_t
                stamp_ms; /* of the append that is answered, or a later one of this leader; 0 with STALE */
        } append_result;
        struct {
            uint64_t candidate, last_index, last_term;
        } vote;
        struct {
            uint64_t last_index, last_term;
        } timeout_now;
    };
    uint32_t entry_count;    /* APPEND */
    struct wp_slice entries; /* APPEND, decoded: the run that wp_rpc_entry_next walks; borrowed */
};

struct wp_rpc_entry {
    uint64_t term;
    uint8_t kind; /* enum wp_entry_kind */
    struct wp_slice data;
};

/* One reference; NULL: out of memory. `rpc->entries` is ignored, `entries` (rpc->entry_count of them) is
 * encoded. */
struct wp_bytes *wp_rpc_encode(const struct wp_rpc *rpc, const struct wp_log_entry *entries);

/* Checks everything: exact size, known flags, terms that do not fall, kinds, memberships, sizes. WP_OK,
 * WP_E_VERSION or WP_E_MALFORMED. The result borrows from `bytes`. */
int wp_rpc_decode(struct wp_slice bytes, struct wp_rpc *ret_rpc);

/* Takes the next entry off `*entries`; false at the end. Only for what wp_rpc_decode accepted. */
bool wp_rpc_entry_next(struct wp_slice *entries, struct wp_rpc_entry *ret_entry);

#endif
