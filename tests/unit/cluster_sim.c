/* See cluster_sim.h. Time goes in steps of one millisecond; each node acts through the product's group alone.
 */
#include "tests/unit/cluster_sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/prng.h"
#include "cluster/group.h"
#include "tests/unit/cluster_disk.h"

#define SIM_SHARD 0u
#define SIM_NODES_MAX 5u
#define SIM_INDEXES 8192u
#define SIM_TERMS 4096u
#define SIM_NAMES 65536u /* power of two */
#define SIM_ELECTION_MS 60u
#define SIM_HEARTBEAT_MS 12u
#define SIM_TICK_MS 5u
#define SIM_HEAL_MS 6000u

struct sim;

struct sim_message {
    uint64_t due_ms;
    uint64_t order;
    uint32_t from, to;
    struct wp_bytes *bytes;
};

/* A snapshot on its way to a node. */
struct sim_pull {
    uint64_t due_ms; /* 0 = none */
    uint32_t from;
    uint64_t term;
};

struct sim_node {
    struct sim *sim;
    uint32_t number; /* raft id - 1 */
    struct wp_store *disk;
    struct wp_state_batch *batch;
    struct wp_group *group; /* NULL while down */
    uint64_t restart_ms;
    uint64_t paused_until_ms; /* stopped and then resumed: what comes meanwhile waits */
    uint64_t woken_tag;
    uint64_t reported_tag;
    uint64_t sync_due_ms;
    uint64_t commit_index; /* highest seen in this process */
    uint64_t applied_index;
    uint64_t chain;              /* hash of all commands applied, kept in state */
    uint64_t terms[SIM_INDEXES]; /* of the log as handed out, by index */
    struct sim_pull pull;
    uint64_t led_term;
    uint64_t seen_term; /* when faults last looked */
};

struct sim_name {
    uint64_t index, term, content, previous_term;
};

struct sim {
    struct sim_options options;
    struct sim_result *result;
    struct wp_prng prng;
    uint64_t now_ms;
    bool healed;
    bool leased;           /* somebody held a lease in this step */
    uint32_t loss, repeat; /* per mille */
    uint32_t crash_electing;
    uint32_t delay_ms_max;
    uint32_t disk_ms_max;
    struct sim_node nodes[SIM_NODES_MAX];
    bool blocked[SIM_NODES_MAX][SIM_NODES_MAX];
    struct sim_message *messages;
    uint32_t message_count, message_capacity;
    uint64_t message_order;
    uint64_t proposal;
    /* The oracle. */
    uint32_t leader_of[SIM_TERMS]; /* number + 1 */
    struct sim_name names[SIM_NAMES];
    struct {
        uint64_t term, content, chain;
        uint64_t by_term; /* committed in this term or before: the term of the node where it was seen first */
        uint8_t kind;
        struct wp_membership membership;
    } committed[SIM_INDEXES];
    uint64_t committed_last;
};

static void breach(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void breach(struct sim *sim, const char *format, ...)
{
    if (sim->result->breach[0]) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sim->result->breach, sizeof sim->result->breach, format, arguments);
    va_end(arguments);
    sim->result->at_ms = sim->now_ms;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ (hash >> 29);
}

static uint64_t hash_bytes(const uint8_t *data, size_t size)
{
    uint64_t hash = size + 1;
    for (size_t i = 0; i < size; i++) {
        hash = mix(hash, data[i]);
    }
    return hash;
}

static void trace(struct sim *sim, uint64_t what, uint64_t a, uint64_t b)
{
    sim->result->trace = mix(mix(mix(sim->result->trace, what), a), b);
}

static uint64_t below(struct sim *sim, uint64_t bound)
{
    return wp_prng_below(&sim->prng, bound);
}

static bool chance(struct sim *sim, uint32_t per_mille)
{
    return below(sim, 1000) < per_mille;
}

/* --- the oracle -------------------------------------------------------------------------------- */

static struct sim_name *name_find(struct sim *sim, uint64_t index, uint64_t term)
{
    uint64_t slot = mix(mix(1, index), term) & (SIM_NAMES - 1);
    while (sim->names[slot].term != 0 && (sim->names[slot].index != index || sim->names[slot].term != term)) {
        slot = (slot + 1) & (SIM_NAMES - 1);
    }
    return &sim->names[slot];
}

/* Same index and term, same content and same predecessor: by induction, same log up to there. */
static void observe_entry(struct sim_node *node, const struct wp_log_entry *entry)
{
    struct sim *sim = node->sim;
    if (entry->index >= SIM_INDEXES) {
        breach(sim, "the run is too long for its tables");
        return;
    }
    uint64_t content = mix(entry->kind, hash_bytes(entry->data->data, entry->data->size));
    uint64_t previous = node->terms[entry->index - 1];
    struct sim_name *name = name_find(sim, entry->index, entry->term);
    node->terms[entry->index] = entry->term;
    trace(sim, 1, entry->index, entry->term);
    if (name->term == 0) {
        *name = (struct sim_name){entry->index, entry->term, content, previous};
        return;
    }
    if (name->content != content || name->previous_term != previous) {
        breach(sim, "log matching: entry %llu of term %llu differs on node %u",
            (unsigned long long)entry->index, (unsigned long long)entry->term, node->number + 1);
    }
}

static struct sim *the_sim;

/* Linked in place of wp_log_submit (--wrap), to see what is handed over before it is synced. */
int __real_wp_log_submit(struct wp_store *store, const struct wp_log_write *write);
int __wrap_wp_log_submit(struct wp_store *store, const struct wp_log_write *write);
int __wrap_wp_log_submit(struct wp_store *store, const struct wp_log_write *write)
{
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        for (uint32_t j = 0; the_sim->nodes[i].disk == store && j < write->entry_count; j++) {
            observe_entry(&the_sim->nodes[i], &write->entries[j]);
        }
    }
    return __real_wp_log_submit(store, write);
}

static void observe_committed(struct sim_node *node, const struct wp_log_entry *entry)
{
    struct sim *sim = node->sim;
    uint64_t content = mix(entry->kind, hash_bytes(entry->data->data, entry->data->size));
    if (entry->index <= sim->committed_last) {
        if (sim->committed[entry->index].term != entry->term ||
            sim->committed[entry->index].content != content) {
            breach(sim, "state machine safety: node %u has another entry committed at %llu", node->number + 1,
                (unsigned long long)entry->index);
        }
        return;
    }
    if (entry->index != sim->committed_last + 1) {
        breach(sim, "node %u commits %llu with a gap", node->number + 1, (unsigned long long)entry->index);
        return;
    }
    sim->committed_last = entry->index;
    sim->committed[entry->index].term = entry->term;
    sim->committed[entry->index].content = content;
    sim->committed[entry->index].kind = entry->kind;
    sim->committed[entry->index].by_term = wp_group_term(node->group);
    if (entry->kind == WP_ENTRY_CHANGE) {
        sim->result->changes++;
        struct wp_slice data = wp_slice(entry->data->data, entry->data->size);
        if (wp_membership_decode(data, &sim->committed[entry->index].membership) != WP_OK) {
            breach(sim, "a committed membership does not decode");
        }
    }
}

static void check_leader(struct sim_node *node, const struct wp_replica *replica)
{
    struct sim *sim = node->sim;
    uint64_t term = wp_replica_term(replica);
    if (term >= SIM_TERMS) {
        breach(sim, "more elections than the tables hold");
        return;
    }
    if (sim->leader_of[term] != 0 && sim->leader_of[term] != node->number + 1) {
        breach(sim, "election safety: nodes %u and %u lead term %llu", sim->leader_of[term], node->number + 1,
            (unsigned long long)term);
    }
    sim->leader_of[term] = node->number + 1;
    if (node->led_term != term) {
        node->led_term = term;
        sim->result->terms++;
        trace(sim, 2, node->number, term);
        /* A leader of an older term may be the last to hear that it is one. */
        uint64_t last = sim->committed_last;
        while (last > 0 && sim->committed[last].by_term >= term) {
            last--;
        }
        if (last > 0 &&
            (wp_replica_last_index(replica) < last || node->terms[last] != sim->committed[last].term)) {
            breach(sim, "leader completeness: node %u leads term %llu without committed entry %llu",
                node->number + 1, (unsigned long long)term, (unsigned long long)last);
        }
    }
}

/* What was applied was committed: commands, and the barriers and changes that the group applies itself. */
static void observe_applied(struct sim_node *node, uint64_t index)
{
    for (uint64_t i = node->applied_index + 1; i <= index; i++) {
        struct wp_log_entry entry = disk_log_entry(node->disk, SIM_SHARD, i);
        if (!entry.data) {
            breach(node->sim, "durability: node %u applies %llu, which is not on its disk", node->number + 1,
                (unsigned long long)i);
            return;
        }
        observe_committed(node, &entry);
        wp_bytes_release(&entry.data);
    }
    node->applied_index = index;
}

static void check_node(struct sim_node *node)
{
    struct sim *sim = node->sim;
    const struct wp_replica *replica = wp_group_replica(node->group);
    uint64_t commit = wp_replica_commit_index(replica);
    if (commit < node->commit_index) {
        breach(sim, "commit of node %u goes back from %llu to %llu", node->number + 1,
            (unsigned long long)node->commit_index, (unsigned long long)commit);
    }
    node->commit_index = commit;
    observe_applied(node, wp_group_applied_index(node->group));
    if (wp_replica_role(replica) == WP_REPLICA_LEADER && !wp_replica_parked(replica)) {
        check_leader(node, replica);
    }
    uint64_t index;
    const struct wp_membership *membership = wp_replica_committed_membership(replica, &index);
    if (index == 0 || index > sim->committed_last) {
        return;
    }
    const struct wp_membership *expected = &sim->committed[index].membership;
    bool same = sim->committed[index].kind == WP_ENTRY_CHANGE && expected->count == membership->count;
    for (uint32_t i = 0; same && i < expected->count; i++) {
        same = expected->members[i].id == membership->members[i].id &&
               expected->members[i].role == membership->members[i].role;
    }
    if (!same) {
        breach(sim, "node %u takes index %llu for its membership's", node->number + 1,
            (unsigned long long)index);
    }
}

static void check_error(struct sim_node *node, int error)
{
    if (error) {
        breach(node->sim, "node %u: %s: %s", node->number + 1, wp_error_text(error),
            wp_replica_breach(wp_group_replica(node->group)));
        return;
    }
    check_node(node);
}

/* --- callbacks --------------------------------------------------------------------------------- */

static const uint8_t chain_key[] = {0, 0, 0, 0, 9, 'c'};

static int node_apply(void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours)
{
    struct sim_node *node = context;
    struct sim *sim = node->sim;
    if (index <= node->applied_index) {
        breach(sim, "node %u applies %llu twice", node->number + 1, (unsigned long long)index);
        return WP_OK;
    }
    observe_applied(node, index);
    if (sim->result->breach[0]) {
        return WP_OK;
    }
    node->chain = mix(mix(node->chain, index), hash_bytes(entry.data, entry.size));
    if (sim->committed[index].chain == 0) {
        sim->committed[index].chain = node->chain;
    } else if (sim->committed[index].chain != node->chain) {
        breach(sim, "state of node %u differs at %llu", node->number + 1, (unsigned long long)index);
    }
    sim->result->commands += ours;
    trace(sim, 3, node->number, index);
    uint8_t value[8];
    wp_put_u64le(value, node->chain);
    wp_state_put(node->batch, wp_slice(chain_key, sizeof chain_key), wp_slice(value, sizeof value));
    return wp_state_commit(node->disk, node->batch, SIM_SHARD, index, term);
}

static void node_leading(void *context, bool leading)
{
    struct sim_node *node = context;
    trace(node->sim, 4, node->number, leading);
}

static void node_wake(void *context, uint32_t shard, uint64_t tag)
{
    struct sim_node *node = context;
    (void)shard;
    node->woken_tag = tag;
}

static void message_add(struct sim *sim, uint32_t from, uint32_t to, struct wp_bytes *bytes)
{
    if (sim->message_count == sim->message_capacity) {
        sim->message_capacity = sim->message_capacity ? sim->message_capacity * 2 : 64;
        sim->messages = realloc(sim->messages, sim->message_capacity * sizeof *sim->messages);
        WP_ASSERT(sim->messages);
    }
    uint64_t delay = 1 + below(sim, sim->delay_ms_max);
    sim->messages[sim->message_count++] =
        (struct sim_message){sim->now_ms + delay, sim->message_order++, from, to, wp_bytes_retain(bytes)};
}

/* No message tells of a term, and none grants a vote, that its sender could forget (Raft, figure 3.1:
 * persistent state is updated on stable storage before responding). A pre-vote promises nothing. */
static void check_message(struct sim_node *node, uint64_t to, struct wp_slice bytes)
{
    struct wp_rpc rpc;
    if (wp_rpc_decode(bytes, &rpc) != WP_OK) {
        breach(node->sim, "node %u sends what does not decode", node->number + 1);
        return;
    }
    if (rpc.flags & WP_RPC_PRE_VOTE) {
        return;
    }
    struct wp_log_hard_state hard = disk_hard(node->disk, SIM_SHARD);
    bool granted = rpc.type == WP_RPC_VOTE_RESULT && (rpc.flags & WP_RPC_GRANTED);
    if (hard.term < rpc.term || (granted && hard.voted_for != to)) {
        breach(node->sim, "persistence: node %u speaks of term %llu before it is on its disk",
            node->number + 1, (unsigned long long)rpc.term);
    }
}

static void node_send(void *context, uint64_t to, struct wp_bytes *message)
{
    struct sim_node *node = context;
    struct sim *sim = node->sim;
    check_message(node, to, wp_slice(message->data, message->size));
    trace(sim, 5, to, hash_bytes(message->data, message->size));
    if (to == 0 || to > SIM_NODES_MAX || chance(sim, sim->loss)) {
        return;
    }
    message_add(sim, node->number, (uint32_t)to - 1, message);
    if (chance(sim, sim->repeat)) {
        message_add(sim, node->number, (uint32_t)to - 1, message);
    }
}

static void node_snapshot_needed(void *context, uint64_t peer, uint64_t term, uint64_t index)
{
    struct sim_node *node = context;
    struct sim *sim = node->sim;
    (void)index;
    if (peer == 0 || peer > SIM_NODES_MAX || sim->blocked[node->number][peer - 1]) {
        return;
    }
    struct sim_pull *pull = &sim->nodes[peer - 1].pull;
    if (pull->due_ms == 0 || term > pull->term) {
        *pull = (struct sim_pull){sim->now_ms + 1 + below(sim, 80), node->number, term};
    }
}

/* --- nodes ------------------------------------------------------------------------------------- */

static void bootstrap(const struct sim *sim, uint32_t number, struct wp_membership *ret_membership)
{
    uint32_t members = sim->options.membership ? 3 : sim->options.node_count;
    *ret_membership = (struct wp_membership){0};
    if (number >= members) {
        return; /* waits to be added */
    }
    for (uint32_t i = 0; i < members; i++) {
        ret_membership->members[i] = (struct wp_member){i + 1, WP_MEMBER_VOTER};
    }
    ret_membership->count = members;
}

static void node_start(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct wp_group_config config = {
        .replica_id = node->number + 1,
        .seed = (uint32_t)wp_prng_next(&sim->prng),
        .log_keep_entries = sim->options.snapshots    ? 5
                            : sim->options.compaction ? 40
                                                      : SIM_INDEXES,
        .log_near_entries = sim->options.snapshots ? 16 : 0,
        .inflight_entries = sim->options.snapshots ? 4 : 8,
        .election_ms = SIM_ELECTION_MS,
        .heartbeat_ms = SIM_HEARTBEAT_MS,
    };
    struct wp_group_callbacks callbacks = {
        node, node_apply, node_leading, node_wake, node_send, node_snapshot_needed};
    bootstrap(sim, node->number, &config.bootstrap);
    node->batch = wp_state_batch_create(node->disk);
    WP_ASSERT(node->batch);
    struct wp_buffer chain = WP_BUFFER_INIT;
    bool known = wp_state_get(node->disk, wp_slice(chain_key, sizeof chain_key), &chain) == WP_OK;
    node->chain = known ? wp_get_u64le(chain.data) : 0;
    wp_buffer_free(&chain);
    node->woken_tag = 0;
    node->reported_tag = 0;
    node->commit_index = 0;
    node->led_term = 0;
    uint64_t applied;
    uint64_t applied_term;
    wp_state_applied(node->disk, SIM_SHARD, &applied, &applied_term);
    for (uint64_t i = 1; i <= applied; i++) {
        node->terms[i] = sim->committed[i].term; /* a snapshot brings no log */
    }
    uint64_t last = disk_log_last(node->disk, SIM_SHARD);
    for (uint64_t i = disk_log_first(node->disk, SIM_SHARD); i && i <= last; i++) {
        node->terms[i] = disk_log_term(node->disk, SIM_SHARD, i);
    }
    int error = wp_group_create(node->disk, &config, &callbacks, &node->group);
    if (error) {
        breach(sim, "node %u does not start: %s", node->number + 1, wp_error_text(error));
        return;
    }
    node->applied_index = wp_group_applied_index(node->group);
    trace(sim, 6, node->number, node->applied_index);
    check_error(node, wp_group_start(node->group, sim->now_ms));
}

/* Of the writes on their way a prefix reaches the disk without anybody hearing of it, the rest is lost or
 * torn; state falls back to any of its batches since the last flush. */
static bool forgetful(const struct sim_node *node)
{
    return disk_hard(node->disk, SIM_SHARD).lost_index != 0;
}

/* One at a time: what one forgets the others still hold. */
static void node_forget(struct sim_node *node)
{
    struct sim *sim = node->sim;
    for (uint32_t i = 0; i < sim->options.node_count; i++) {
        if (forgetful(&sim->nodes[i])) {
            return;
        }
    }
    struct wp_log_hard_state hard = disk_hard(node->disk, SIM_SHARD);
    if (hard.replica != 0) {
        WP_ASSERT(wp_store_shard_wipe(node->disk, SIM_SHARD, &hard) == WP_OK);
        sim->result->forgot++;
        trace(sim, 9, node->number, hard.term);
    }
}

static void node_crash(struct sim_node *node, uint64_t down_ms)
{
    struct sim *sim = node->sim;
    wp_state_batch_destroy(&node->batch);
    disk_crash(&node->disk, wp_prng_next(&sim->prng));
    wp_group_destroy(&node->group);
    if (sim->options.forgetting && !sim->healed && chance(sim, 60)) {
        node_forget(node);
    }
    node->restart_ms = sim->now_ms + 1 + below(sim, down_ms);
    node->paused_until_ms = 0;
    sim->result->crashes++;
    trace(sim, 7, node->number, node->restart_ms);
}

/* Rows of the source go to this node's disk, the power may fail on the way, and the node starts with what is
 * there. */
static void node_install(struct sim_node *node, struct sim_node *source)
{
    struct sim *sim = node->sim;
    uint64_t index;
    uint64_t term;
    struct wp_state_install *install;
    struct wp_state_iter *view = wp_state_view_create(source->disk, SIM_SHARD, &index, &term);
    WP_ASSERT(view && wp_state_install_begin(node->disk, SIM_SHARD, &install) == WP_OK);
    for (; wp_state_iter_valid(view); wp_state_iter_next(view)) {
        WP_ASSERT(wp_state_install_add(install, wp_state_iter_key(view), wp_state_iter_value(view)) == WP_OK);
    }
    wp_state_iter_destroy(&view);
    while (wp_sim_pending(node->disk) > 0) {
        wp_sim_sync(node->disk, 0);
    }
    bool fails = chance(sim, 300);
    wp_sim_fail_step(node->disk, fails ? 1 + (uint32_t)below(sim, 5) : 0);
    int error = wp_state_install_commit(&install, index, term, node->pull.term);
    sim->result->snapshots += error == WP_OK;
    sim->result->cut_off += error == WP_E_IO;
    trace(sim, 8, node->number, index + (uint64_t)(error != WP_OK));
    node->pull.due_ms = 0;
    if (error == WP_OK || error == WP_E_INVALID) {
        wp_state_batch_destroy(&node->batch);
        wp_group_destroy(&node->group);
        node->restart_ms = sim->now_ms + 1;
    } else {
        node_crash(node, 20);
    }
}

static void node_pull(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct sim_node *source = &sim->nodes[node->pull.from];
    if (node->pull.due_ms == 0 || sim->now_ms < node->pull.due_ms) {
        return;
    }
    uint64_t here;
    uint64_t there;
    uint64_t term;
    wp_state_applied(node->disk, SIM_SHARD, &here, &term);
    wp_state_applied(source->disk, SIM_SHARD, &there, &term);
    if (!source->group || sim->blocked[source->number][node->number] || there <= here) {
        node->pull.due_ms = 0;
        return;
    }
    node_install(node, source);
}

static void node_disk(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (wp_sim_pending(node->disk) > 0 && sim->now_ms >= node->sync_due_ms) {
        check_error(node, wp_sim_sync(node->disk, 1 + (uint32_t)below(sim, wp_sim_pending(node->disk))));
        node->sync_due_ms = sim->now_ms + below(sim, sim->disk_ms_max + 1);
    }
    if (node->woken_tag > node->reported_tag && chance(sim, 700)) {
        node->reported_tag = node->woken_tag;
        check_error(node, wp_group_persisted(node->group, sim->now_ms, node->woken_tag));
    }
    if (chance(sim, 20)) {
        check_error(node, wp_state_flush(node->disk));
    }
}

static void node_propose(struct sim_node *node)
{
    struct sim *sim = node->sim;
    char text[48];
    int size =
        snprintf(text, sizeof text, "%llu from %u", (unsigned long long)++sim->proposal, node->number + 1);
    struct wp_bytes *entry = wp_bytes_copy(text, (size_t)size);
    uint64_t index;
    WP_ASSERT(entry);
    int error = wp_group_propose(node->group, sim->now_ms, &entry, &index);
    wp_bytes_release(&entry);
    if (error != WP_E_NOT_LEADER && error != WP_E_FULL) {
        check_error(node, error);
    }
}

/* One step away from the present membership: add a learner, promote, demote or remove; three voters stay. */
static void node_change(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct wp_membership to = *wp_replica_membership(wp_group_replica(node->group));
    uint64_t id = 1 + below(sim, SIM_NODES_MAX);
    uint32_t at = 0;
    while (at < to.count && to.members[at].id < id) {
        at++;
    }
    bool member = at < to.count && to.members[at].id == id;
    if (!member) {
        memmove(&to.members[at + 1], &to.members[at], (to.count - at) * sizeof to.members[0]);
        to.members[at] = (struct wp_member){id, WP_MEMBER_LEARNER};
        to.count++;
    } else if (to.members[at].role == WP_MEMBER_LEARNER) {
        to.members[at].role = WP_MEMBER_VOTER;
    } else if (wp_membership_voter_count(&to) <= 3) {
        return;
    } else if (chance(sim, 500)) {
        to.members[at].role = WP_MEMBER_LEARNER;
    } else {
        to.count--;
        memmove(&to.members[at], &to.members[at + 1], (to.count - at) * sizeof to.members[0]);
    }
    uint64_t index;
    int error = wp_group_propose_change(node->group, sim->now_ms, &to, &index);
    if (error != WP_E_NOT_LEADER && error != WP_E_FULL && error != WP_E_UNAVAILABLE) {
        check_error(node, error);
    }
}

static bool paused(const struct sim_node *node)
{
    return node->sim->now_ms < node->paused_until_ms;
}

static void node_transfer(struct sim_node *node)
{
    struct sim *sim = node->sim;
    uint64_t to = below(sim, SIM_NODES_MAX + 1);
    int error = wp_group_transfer(node->group, sim->now_ms, to);
    sim->result->transfers += error == WP_OK;
    if (error != WP_E_INVALID && error != WP_E_UNAVAILABLE && error != WP_E_NOT_FOUND) {
        check_error(node, error);
    }
}

static void node_step(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (!node->group) {
        if (sim->now_ms >= node->restart_ms) {
            node_start(node);
        }
        return;
    }
    if (paused(node)) {
        return;
    }
    node_disk(node);
    if (sim->options.snapshots && !sim->result->breach[0]) {
        node_pull(node);
        if (!node->group) {
            return;
        }
    }
    if ((sim->now_ms + node->number) % SIM_TICK_MS == 0 && !sim->result->breach[0]) {
        check_error(node, wp_group_tick(node->group, sim->now_ms));
    }
    if (sim->result->breach[0] || !wp_group_leading(node->group)) {
        return;
    }
    if (chance(sim, sim->healed ? 5 : 150)) {
        node_propose(node);
    }
    /* A leader that remembers what a forgetful one once held sends it nothing more: another one must lead. */
    if ((!sim->healed && chance(sim, 4)) || (sim->options.forgetting && chance(sim, 10))) {
        node_transfer(node);
    }
    if (sim->options.membership && wp_group_leading(node->group) && !sim->healed && chance(sim, 12)) {
        node_change(node);
    }
}

/* --- world ------------------------------------------------------------------------------------- */

/* No new leader is certain of its majority while the old one still is. */
static void check_leases(struct sim *sim)
{
    uint32_t holders = 0;
    for (uint32_t i = 0; i < sim->options.node_count; i++) {
        const struct sim_node *node = &sim->nodes[i];
        uint64_t lease = node->group ? wp_group_lease_ms(node->group) : 0;
        holders += lease != 0 && sim->now_ms - lease < SIM_ELECTION_MS;
    }
    sim->leased = sim->leased || holders > 0;
    if (holders > 1 && !sim->options.early) {
        breach(sim, "%u leaders hold a lease", holders);
    }
}

/* Due messages leave in the order of their time; those of one millisecond in the order they were sent. */
static void deliver(struct sim *sim)
{
    while (!sim->result->breach[0]) {
        uint32_t best = UINT32_MAX;
        for (uint32_t i = 0; i < sim->message_count; i++) {
            const struct sim_message *message = &sim->messages[i];
            bool due = message->due_ms <= sim->now_ms && !paused(&sim->nodes[message->to]);
            if (due && (best == UINT32_MAX || message->due_ms < sim->messages[best].due_ms ||
                           (message->due_ms == sim->messages[best].due_ms &&
                               message->order < sim->messages[best].order))) {
                best = i;
            }
        }
        if (best == UINT32_MAX) {
            return;
        }
        struct sim_message message = sim->messages[best];
        sim->messages[best] = sim->messages[--sim->message_count];
        struct sim_node *node = &sim->nodes[message.to];
        if (node->group && !sim->blocked[message.from][message.to]) {
            struct wp_slice bytes = wp_slice(message.bytes->data, message.bytes->size);
            check_error(node, wp_group_receive(node->group, sim->now_ms, message.from + 1, bytes));
            check_leases(sim);
        }
        wp_bytes_release(&message.bytes);
    }
}

/* Cuts the nodes in two, or one link one way, or heals everything. */
static void repartition(struct sim *sim)
{
    memset(sim->blocked, 0, sizeof sim->blocked);
    uint64_t kind = below(sim, 4);
    if (kind == 0) {
        return;
    }
    if (kind == 1) {
        sim->blocked[below(sim, sim->options.node_count)][below(sim, sim->options.node_count)] = true;
        return;
    }
    uint64_t side = below(sim, UINT64_C(1) << sim->options.node_count);
    for (uint32_t from = 0; from < sim->options.node_count; from++) {
        for (uint32_t to = 0; to < sim->options.node_count; to++) {
            sim->blocked[from][to] = ((side >> from) & 1) != ((side >> to) & 1);
        }
    }
}

/* Whoever follows a leader that it is now cut off from, or that is down, is told so. */
static void connections_break(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->options.node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        uint64_t leader = node->group ? wp_group_leader(node->group) : 0;
        if (leader == 0 || leader > SIM_NODES_MAX) {
            continue;
        }
        if (!sim->nodes[leader - 1].group || sim->blocked[leader - 1][i] || sim->blocked[i][leader - 1]) {
            wp_group_leader_lost(node->group, sim->now_ms);
        }
    }
}

static void faults(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->options.node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (!node->group) {
            continue;
        }
        if (!sim->options.compaction && chance(sim, 1) && chance(sim, 300)) {
            node->paused_until_ms = sim->now_ms + below(sim, 5 * SIM_ELECTION_MS);
        }
        /* Terms and votes are made in the few milliseconds after a change of term: crash there more often. */
        bool electing = wp_group_term(node->group) != node->seen_term;
        if (electing && chance(sim, sim->crash_electing)) {
            node_crash(node, 3);
        } else if (chance(sim, 2)) {
            node_crash(node, !sim->options.compaction && chance(sim, 300) ? 400 : 20);
        } else if (electing && chance(sim, 200)) {
            node->seen_term = wp_group_term(node->group);
        }
    }
    if (sim->options.compaction) {
        return;
    }
    if (chance(sim, 6)) {
        repartition(sim);
    }
    if (chance(sim, 4)) {
        static const uint32_t losses[] = {0, 0, 20, 150};
        static const uint32_t crashes[] = {0, 0, 50, 300};
        static const uint32_t delays[] = {1, 5, 20, 60};
        static const uint32_t disks[] = {0, 3, 10, 50};
        sim->loss = losses[below(sim, 4)];
        sim->repeat = losses[below(sim, 4)];
        sim->crash_electing = crashes[below(sim, 4)];
        sim->delay_ms_max = delays[below(sim, 4)];
        sim->disk_ms_max = disks[below(sim, 4)];
    }
}

static struct sim_node *the_leader(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->options.node_count; i++) {
        if (sim->nodes[i].group && wp_group_leading(sim->nodes[i].group)) {
            return &sim->nodes[i];
        }
    }
    return NULL;
}

/* Every member has applied what is committed, and the leader can still commit. */
static bool converged(struct sim *sim)
{
    struct sim_node *leader = the_leader(sim);
    if (!leader || wp_group_applied_index(leader->group) < sim->committed_last) {
        return false;
    }
    const struct wp_membership *membership = wp_replica_membership(wp_group_replica(leader->group));
    for (uint32_t i = 0; i < membership->count; i++) {
        const struct sim_node *node = &sim->nodes[membership->members[i].id - 1];
        if (!node->group || wp_group_applied_index(node->group) != wp_group_applied_index(leader->group)) {
            return false;
        }
    }
    return true;
}

static void heal(struct sim *sim)
{
    sim->healed = true;
    sim->loss = 0;
    sim->repeat = 0;
    sim->delay_ms_max = 3;
    sim->disk_ms_max = 1;
    for (uint32_t i = 0; i < sim->options.node_count; i++) {
        sim->nodes[i].paused_until_ms = 0;
    }
    memset(sim->blocked, 0, sizeof sim->blocked);
}

static void step(struct sim *sim)
{
    sim->now_ms++;
    if (!sim->healed) {
        faults(sim);
    }
    if (sim->options.early) {
        connections_break(sim);
    }
    sim->leased = false;
    deliver(sim);
    sim->result->leases += sim->leased;
    for (uint32_t i = 0; i < sim->options.node_count && !sim->result->breach[0]; i++) {
        node_step(&sim->nodes[i]);
    }
}

static void run(struct sim *sim)
{
    while (sim->now_ms < sim->options.duration_ms && !sim->result->breach[0]) {
        step(sim);
    }
    if (sim->result->breach[0]) {
        return;
    }
    heal(sim);
    uint64_t commands = sim->result->commands;
    uint64_t limit = sim->now_ms + SIM_HEAL_MS;
    while (!sim->result->breach[0] && (sim->result->commands < commands + 3 || !converged(sim))) {
        if (sim->now_ms >= limit) {
            breach(sim, "no progress %u ms after the network was healed", SIM_HEAL_MS);
        }
        step(sim);
    }
}

static void world_create(struct sim *sim)
{
    wp_prng_init(&sim->prng, sim->options.seed);
    sim->delay_ms_max = 5;
    sim->disk_ms_max = 3;
    for (uint32_t i = 0; i < sim->options.node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->sim = sim;
        node->number = i;
        node->disk = wp_sim_create();

        node_start(node);
    }
}

void sim_run(const struct sim_options *options, struct sim_result *ret_result)
{
    struct sim *sim = calloc(1, sizeof *sim);
    WP_ASSERT(sim && options->node_count <= SIM_NODES_MAX);
    *ret_result = (struct sim_result){0};
    sim->options = *options;
    sim->result = ret_result;
    the_sim = sim;
    world_create(sim);
    run(sim);
    for (uint32_t i = 0; i < sim->message_count; i++) {
        wp_bytes_release(&sim->messages[i].bytes);
    }
    free(sim->messages);
    for (uint32_t i = 0; i < options->node_count; i++) {
        ret_result->compacted += disk_log_first(sim->nodes[i].disk, SIM_SHARD) > 1;
        wp_group_destroy(&sim->nodes[i].group);
        wp_state_batch_destroy(&sim->nodes[i].batch);
        wp_store_close(&sim->nodes[i].disk);
    }
    free(sim);
}
