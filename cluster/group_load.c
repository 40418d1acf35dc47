/* The start of a group: durable applied index, its membership, and the log above it become a synthetic
 * snapshot (raft.md, rule 15). Everything that cannot be true together is refused here, before the engine
 * starts. */
#include "cluster/group_load.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "base/error.h"

#define GROUP_KEY_TAG 0x00 /* below the tags of the machine */
#define GROUP_KEY_MEMBERSHIP 'm'

void wp_group_membership_key(uint32_t shard, uint8_t ret_key[WP_GROUP_KEY_SIZE])
{
    wp_put_u32be(ret_key, shard);
    ret_key[4] = GROUP_KEY_TAG;
    ret_key[5] = GROUP_KEY_MEMBERSHIP;
}

int wp_group_membership_put(
    struct wp_state_batch *batch, uint32_t shard, uint64_t index, struct wp_slice encoded_membership)
{
    struct wp_buffer value = WP_BUFFER_INIT;
    uint8_t key[WP_GROUP_KEY_SIZE];
    uint8_t head[8];
    wp_group_membership_key(shard, key);
    wp_put_u64le(head, index);
    int error = wp_buffer_append(&value, head, sizeof head);
    if (!error) {
        error = wp_buffer_append(&value, encoded_membership.data, encoded_membership.size);
    }
    if (!error) {
        wp_state_put(batch, wp_slice(key, sizeof key), wp_slice(value.data, value.size));
    }
    wp_buffer_free(&value);
    return error;
}

static int membership_get(struct wp_store *store, uint32_t shard, struct wp_replica_start *start)
{
    struct wp_buffer value = WP_BUFFER_INIT;
    uint8_t key[WP_GROUP_KEY_SIZE];
    wp_group_membership_key(shard, key);
    int error = wp_state_get(store, wp_slice(key, sizeof key), &value);
    if (error == WP_E_NOT_FOUND || (!error && value.size < 8)) {
        error = WP_E_CORRUPT; /* entry 1 is a membership, so every applied state has one */
    }
    if (!error) {
        start->membership_index = wp_get_u64le(value.data);
        int malformed = wp_membership_decode(wp_slice(value.data + 8, value.size - 8), &start->membership);
        error = malformed ? WP_E_CORRUPT : WP_OK;
    }
    wp_buffer_free(&value);
    return error;
}

static int found_add(void *context, const struct wp_log_entry *entry)
{
    struct wp_group_found *found = context;
    if (found->entry_count == found->entry_capacity) {
        uint32_t capacity = found->entry_capacity ? found->entry_capacity * 2 : 64;
        struct wp_log_entry *entries = realloc(found->entries, capacity * sizeof *entries);
        if (!entries) {
            return WP_E_NOMEM;
        }
        found->entries = entries;
        found->entry_capacity = capacity;
    }
    struct wp_log_entry *kept = &found->entries[found->entry_count++];
    *kept = *entry;
    kept->data = entry->index > found->start.snapshot_index ? wp_bytes_retain(entry->data) : NULL;
    return WP_OK;
}

void wp_group_found_free(struct wp_group_found *found)
{
    for (uint32_t i = 0; i < found->entry_count; i++) {
        wp_bytes_release(&found->entries[i].data);
    }
    free(found->entries);
    *found = (struct wp_group_found){0};
}

/* The log must reach from at or below the applied index to at or above it, with the same term there. */
static int log_check(
    struct wp_store *store, const struct wp_group_config *config, uint64_t last, struct wp_group_found *found)
{
    struct wp_replica_start *start = &found->start;
    uint64_t applied = start->snapshot_index;
    if (last < applied) {
        if (!config->accept_loss) {
            return WP_E_FORGOTTEN;
        }
        found->log_lost = true;
        found->log_first = applied + 1;
        if (start->hard.term < start->snapshot_term) {
            start->hard.term = start->snapshot_term;
            start->hard.voted_for = 0;
        }
        return WP_OK;
    }
    if (found->log_first > applied + 1) {
        return WP_E_CORRUPT;
    }
    uint64_t term;
    if (applied > 0 && found->log_first <= applied) {
        int error = wp_log_term(store, config->shard, applied, &term);
        if (error && error != WP_E_NOT_FOUND) {
            return error;
        }
        if (error || term != start->snapshot_term) {
            return WP_E_CORRUPT;
        }
    }
    return WP_OK;
}

/* Peers may need entries below the applied index: the engine must know their terms. A sole member has no
 * peers. */
static int load_for_peers(struct wp_store *store, const struct wp_group_config *config,
    struct wp_group_found *found, uint64_t first)
{
    struct wp_replica_start start = found->start;
    uint64_t last;
    wp_group_found_free(found);
    found->start = start;
    return wp_log_load(store, config->shard, first - 1, &found->start.hard, found_add, found, &first, &last);
}

static int load(struct wp_store *store, const struct wp_group_config *config, struct wp_group_found *found)
{
    struct wp_replica_start *start = &found->start;
    wp_state_applied(store, config->shard, &start->snapshot_index, &start->snapshot_term);
    if (start->snapshot_index > 0) {
        int error = membership_get(store, config->shard, start);
        if (error) {
            return error;
        }
    }
    uint64_t first = 0;
    uint64_t last = 0;
    int error = wp_log_load(
        store, config->shard, start->snapshot_index, &start->hard, found_add, found, &first, &last);
    if (error) {
        return error;
    }
    if (start->hard.replica != 0 && start->hard.replica != config->replica_id) {
        return WP_E_INVALID;
    }
    if (start->membership.count > 1 && last > 0 && first <= start->snapshot_index) {
        error = load_for_peers(store, config, found, first);
        if (error) {
            return error;
        }
    }
    found->log_first = last > 0 ? first : start->snapshot_index + 1;
    error = log_check(store, config, last, found);
    if (error) {
        return error;
    }
    if (found->log_lost) {
        struct wp_replica_start kept = *start;
        wp_group_found_free(found);
        found->start = kept;
        found->log_lost = true;
        found->log_first = kept.snapshot_index + 1;
    }
    start->entries = found->entries;
    start->entry_count = found->entry_count;
    start->fresh = start->snapshot_index == 0 && last == 0 && start->hard.term == 0 &&
                   start->hard.replica == 0 &&
                   config->bootstrap.count > 0; /* a replica that was wiped is no founder */
    if (start->fresh) {
        start->membership = config->bootstrap;
    }
    return WP_OK;
}

int wp_group_load(
    struct wp_store *store, const struct wp_group_config *config, struct wp_group_found *ret_found)
{
    struct wp_group_found found = {0};
    int error = load(store, config, &found);
    if (error) {
        wp_group_found_free(&found);
        return error;
    }
    *ret_found = found;
    return WP_OK;
}
