/* Any bytes as a message between replicas: decode never reads beyond them, what it accepts encodes to the
 * same bytes, and a replica that is given it, as a follower and as a leader, keeps every invariant or
 * refuses. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "cluster/replica.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct wp_membership members = {
    3, {{1, WP_MEMBER_VOTER}, {2, WP_MEMBER_VOTER}, {3, WP_MEMBER_VOTER}}};

static void check_canonical(const struct wp_rpc *rpc, struct wp_slice bytes)
{
    struct wp_log_entry *entries = calloc(rpc->entry_count + 1, sizeof *entries);
    struct wp_slice rest = rpc->entries;
    WP_ASSERT(entries);
    for (uint32_t i = 0; i < rpc->entry_count; i++) {
        struct wp_rpc_entry entry;
        WP_ASSERT(wp_rpc_entry_next(&rest, &entry));
        entries[i] = (struct wp_log_entry){.term = entry.term, .kind = entry.kind};
        entries[i].data = wp_bytes_copy(entry.data.data, entry.data.size);
        WP_ASSERT(entries[i].data);
    }
    struct wp_bytes *again = wp_rpc_encode(rpc, entries);
    WP_ASSERT(again && wp_slice_equal(wp_slice(again->data, again->size), bytes));
    wp_bytes_release(&again);
    for (uint32_t i = 0; i < rpc->entry_count; i++) {
        wp_bytes_release(&entries[i].data);
    }
    free(entries);
}

static struct wp_bytes *simple(
    enum wp_rpc_type type, uint8_t flags, uint64_t term, uint64_t a, uint64_t b, uint64_t c)
{
    struct wp_rpc rpc = {.type = type, .flags = flags, .term = term, .words = {a, b, c}};
    struct wp_bytes *bytes = wp_rpc_encode(&rpc, NULL);
    WP_ASSERT(bytes);
    return bytes;
}

static int give(struct wp_replica *replica, uint64_t now_ms, uint64_t from, struct wp_slice message)
{
    struct wp_replica_update update;
    int error = wp_replica_receive(replica, now_ms, from, message, &update);
    if (error == WP_OK && wp_replica_last_write(replica) > 0) {
        error = wp_replica_persisted(replica, now_ms, wp_replica_last_write(replica), &update);
    }
    return error;
}

static void give_own(struct wp_replica *replica, uint64_t now_ms, uint64_t from, struct wp_bytes *bytes)
{
    WP_ASSERT(give(replica, now_ms, from, wp_slice(bytes->data, bytes->size)) == WP_OK);
    wp_bytes_release(&bytes);
}

/* A follower of replica 2 in term 2, or the leader of term 2. */
static struct wp_replica *replica_open(bool leader)
{
    struct wp_replica_config config = {
        .id = 1, .seed = 1, .election_ms = 500, .heartbeat_ms = 100, .inflight_entries = 8};
    struct wp_log_entry first = {.index = 1, .term = 1, .kind = WP_ENTRY_CHANGE};
    struct wp_replica *replica;
    struct wp_replica_update update;
    first.data = wp_membership_encode(&members);
    struct wp_replica_start start = {.hard = {.term = 1}, .entries = &first, .entry_count = 1};
    WP_ASSERT(first.data && wp_replica_create(&config, &replica) == WP_OK);
    WP_ASSERT(wp_replica_start(replica, 0, &start, &update) == WP_OK);
    wp_bytes_release(&first.data);
    if (!leader) {
        give_own(replica, 1, 2, simple(WP_RPC_APPEND, 0, 2, 1, 1, 1));
        return replica;
    }
    WP_ASSERT(wp_replica_tick(replica, 1000, &update) == WP_OK);
    give_own(replica, 1000, 2, simple(WP_RPC_VOTE_RESULT, WP_RPC_GRANTED | WP_RPC_PRE_VOTE, 2, 0, 0, 0));
    give_own(replica, 1000, 2, simple(WP_RPC_VOTE_RESULT, WP_RPC_GRANTED, 2, 0, 0, 0));
    WP_ASSERT(wp_replica_role(replica) == WP_REPLICA_LEADER);
    return replica;
}

/* The message twice (it may arrive twice), then time goes by. */
static void check_replica(bool leader, struct wp_slice bytes)
{
    struct wp_replica *replica = replica_open(leader);
    struct wp_replica_update update;
    int error = WP_OK;
    for (int i = 0; i < 2 && error == WP_OK; i++) {
        error = give(replica, 1100, 2, bytes);
    }
    for (uint64_t now_ms = 1200; now_ms < 4000 && error == WP_OK && !wp_replica_parked(replica);
         now_ms += 400) {
        error = wp_replica_tick(replica, now_ms, &update);
    }
    /* A contradiction of what is committed ends the process; nothing else may. */
    WP_ASSERT(error == WP_OK || error == WP_E_MALFORMED || error == WP_E_VERSION || error == WP_E_ENGINE);
    wp_replica_destroy(&replica);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wp_slice bytes = wp_slice(data, size);
    struct wp_rpc rpc;
    int error = wp_rpc_decode(bytes, &rpc);
    if (error == WP_OK) {
        check_canonical(&rpc, bytes);
    } else {
        WP_ASSERT(error == WP_E_MALFORMED || error == WP_E_VERSION);
    }
    check_replica(false, bytes);
    check_replica(true, bytes);
    return 0;
}
