/* The replicated state machine of the meta group: who belongs to the cluster and which replicas are wanted.
 *
 * Its state is the roster (router/roster.h). apply is deterministic, never fails for what a command says (a
 * refusal is a result), and is the only thing that changes the roster. It sees no socket, no RocksDB, no Raft
 * and no clock. One owner thread; the rosters that it hands out may go to any. */
#ifndef WP_ROUTER_META_H
#define WP_ROUTER_META_H

#include "base/arena.h"
#include "proto/schema.h"
#include "router/roster.h"
#include "storage/store.h"

/* Command types of the meta group's log; numbers are for ever. X(name, number, message) */
#define WP_META_COMMAND_TABLE(X)                                                                             \
    X(BOOTSTRAP, 1, meta_bootstrap)                                                                          \
    X(NODE_ADD, 2, meta_node_add)                                                                            \
    X(NODE_STATE, 3, meta_node_state)                                                                        \
    X(NODE_SEEN, 4, meta_node_seen)                                                                          \
    X(NODE_FORGOT, 5, meta_node_forgot)                                                                      \
    X(NODE_REPLACE, 6, meta_node_replace)                                                                    \
    X(WANTED_SET, 7, meta_wanted_set)                                                                        \
    X(GATEWAY_ADD, 8, meta_gateway)                                                                          \
    X(GATEWAY_REVOKE, 9, meta_gateway_revoke)                                                                \
    X(FEATURE_LEVEL, 10, meta_feature_level)                                                                 \
    X(POLICY, 11, meta_policy)

enum wp_meta_command {
#define X(name, number, message) WP_META_##name = number,
    WP_META_COMMAND_TABLE(X)
#undef X
};

struct wp_meta;

/* Loads what the store has. WP_E_CORRUPT, WP_E_IO, WP_E_NOMEM. */
int wp_meta_create(struct wp_store *store, uint32_t shard_count, struct wp_meta **ret_meta);
void wp_meta_destroy(struct wp_meta **meta);

/* What came of one command, in the order of the commands.
 *
 *   any             WP_E_INVALID: a field is out of range; WP_E_NOT_FOUND: no such node, gateway or group;
 *                   WP_E_UNAVAILABLE: no roster yet
 *   BOOTSTRAP       WP_E_EXISTS: there is a roster
 *   NODE_ADD        WP_E_EXISTS: the name or the key is in use; WP_E_FULL: as many nodes as a cluster may
 * have NODE_STATE      draining: WP_E_DENIED, fewer active nodes than `replication` would remain. removed:
 *                   WP_E_DENIED, it is active; WP_E_BUSY, replicas of shards are wanted on it
 *   NODE_SEEN       WP_E_FORGOTTEN: it is another directory than the known one, or that one rolled back
 *   NODE_FORGOT     WP_E_UNAVAILABLE: the roster knows other values than the proposer compared with
 *   NODE_REPLACE    WP_E_DENIED: fewer active nodes than `replication` would remain, or `by` is not active
 *   WANTED_SET      WP_E_UNAVAILABLE: the roster changed; WP_E_DENIED: a new replica on a node that is not
 *                   active; WP_E_INVALID also: more than one replica is new or more than one goes
 *   GATEWAY_ADD     WP_E_EXISTS: the name or the key is in use; WP_E_FULL
 *   FEATURE_LEVEL   WP_E_INVALID: lower than the present one. Whether every node speaks it is checked before
 *   POLICY          WP_E_FULL
 *
 * A command that asks for what is so already succeeds and changes nothing. */
struct wp_meta_result {
    uint32_t ordinal;
    uint8_t command;
    int error;
    uint32_t number; /* NODE_ADD: of the new node */
};

struct wp_meta_applied {
    const struct wp_meta_result *results; /* in the arena */
    uint32_t result_count;
    bool changed; /* there is a new roster */
};

/* Applies the commands of one entry: one batch with the applied index. Skips indexes that are applied. An
 * error (WP_E_CORRUPT: not an entry that this version writes; WP_E_NOMEM, WP_E_IO) stops the process. */
int wp_meta_apply(struct wp_meta *meta, uint64_t index, uint64_t term, struct wp_slice entry,
    struct wp_arena *arena, struct wp_meta_applied *ret_applied);

/* The present roster; NULL while nothing was applied. Borrowed until the next apply: retain to keep. */
const struct wp_roster *wp_meta_roster(const struct wp_meta *meta);

/* What a node that shows (directory id, boot, start id) is to the roster. Pure. */
enum wp_meta_seen {
    WP_META_SEEN_SAME,      /* this very process */
    WP_META_SEEN_NEW_BOOT,  /* a later start on the same directory */
    WP_META_SEEN_FIRST,     /* never seen before */
    WP_META_SEEN_FORGOTTEN, /* another directory, or the known one as it was before */
};
enum wp_meta_seen wp_meta_node_check(
    const struct wp_roster *roster, uint32_t number, uint64_t directory_id, uint64_t boot, uint64_t start_id);

/* Fills BOOTSTRAP with `roster`; the strings are borrowed, `arena` holds the rest. NULL: out of memory. */
Wp__MetaBootstrap *wp_meta_bootstrap_fill(const struct wp_roster *roster, struct wp_arena *arena);
/* The descriptor of a command's message; NULL when there is no such command. */
const ProtobufCMessageDescriptor *wp_meta_descriptor(uint32_t command);

#endif
