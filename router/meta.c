/* Life of the meta group's machine and the walk through an entry. */
#include "router/meta.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "proto/frame.h"
#include "router/meta_inner.h"

#define ARENA_MAX (1u << 20)

int wp_meta_create(struct wp_store *store, uint32_t shard_count, struct wp_meta **ret_meta)
{
    struct wp_meta *meta = calloc(1, sizeof(*meta));
    if (!meta) {
        return WP_E_NOMEM;
    }
    meta->store = store;
    meta->shard_count = shard_count;
    wp_arena_init(&meta->arena, ARENA_MAX);
    meta->batch = wp_state_batch_create(store);
    int error = meta->batch ? wp_meta_load(meta) : WP_E_NOMEM;
    if (error) {
        wp_meta_destroy(&meta);
        return error;
    }
    uint64_t term;
    wp_state_applied(store, WP_META_GROUP, &meta->applied_index, &term);
    *ret_meta = meta;
    return WP_OK;
}

void wp_meta_destroy(struct wp_meta **handle)
{
    struct wp_meta *meta = *handle;
    *handle = NULL;
    if (!meta) {
        return;
    }
    wp_roster_release(&meta->roster);
    wp_roster_release(&meta->next);
    wp_arena_fini(&meta->arena);
    wp_buffer_free(&meta->scratch);
    if (meta->batch) {
        wp_state_batch_destroy(&meta->batch);
    }
    free(meta);
}

const struct wp_roster *wp_meta_roster(const struct wp_meta *meta)
{
    return meta->roster;
}

enum wp_meta_seen wp_meta_node_check(
    const struct wp_roster *roster, uint32_t number, uint64_t directory_id, uint64_t boot, uint64_t start_id)
{
    const struct wp_roster_node *node = wp_roster_node(roster, number);
    if (!node || node->directory_id == 0) {
        return WP_META_SEEN_FIRST;
    }
    if (node->directory_id != directory_id || boot < node->boot) {
        return WP_META_SEEN_FORGOTTEN;
    }
    if (boot > node->boot) {
        return WP_META_SEEN_NEW_BOOT;
    }
    return start_id == node->start_id ? WP_META_SEEN_SAME : WP_META_SEEN_FORGOTTEN;
}

const ProtobufCMessageDescriptor *wp_meta_descriptor(uint32_t command)
{
    static const ProtobufCMessageDescriptor *const rows[] = {
#define X(name, number, message) [number] = &wp__##message##__descriptor,
        WP_META_COMMAND_TABLE(X)
#undef X
    };
    return command < sizeof(rows) / sizeof(*rows) ? rows[command] : NULL;
}

/* --- apply
 * --------------------------------------------------------------------------------------------------
 */

static int commands_count(struct wp_record_reader reader, uint32_t *ret_count)
{
    uint32_t count = 0;
    uint8_t type;
    struct wp_slice payload;
    int more;
    while ((more = wp_record_next(&reader, &type, &payload)) == 1) {
        if (!wp_meta_descriptor(type)) {
            return WP_E_CORRUPT;
        }
        count++;
    }
    *ret_count = count;
    return more ? WP_E_CORRUPT : WP_OK;
}

static int entry_run(
    struct wp_meta *meta, struct wp_slice entry, struct wp_arena *arena, struct wp_meta_applied *applied)
{
    uint64_t time_ms;
    struct wp_record_reader reader;
    uint32_t count = 0;
    if (wp_entry_open(entry, &time_ms, &reader) || commands_count(reader, &count)) {
        return WP_E_CORRUPT;
    }
    struct wp_meta_result *results = wp_arena_alloc(arena, count * sizeof(*results));
    if (!results) {
        return WP_E_NOMEM;
    }
    memset(results, 0, count * sizeof(*results));
    int error = WP_OK;
    uint8_t type;
    struct wp_slice payload;
    for (uint32_t i = 0; !error && wp_record_next(&reader, &type, &payload) == 1; i++) {
        results[i].ordinal = i;
        results[i].command = type;
        wp_arena_reset(&meta->arena);
        error = wp_meta_command_apply(meta, type, payload, &results[i]);
    }
    applied->results = results;
    applied->result_count = count;
    return error;
}

static int entry_apply(struct wp_meta *meta, uint64_t index, uint64_t term, struct wp_slice entry,
    struct wp_arena *arena, struct wp_meta_applied *applied)
{
    meta->next = meta->roster ? wp_roster_copy(meta->roster) : wp_roster_create(meta->shard_count);
    if (!meta->next) {
        return WP_E_NOMEM;
    }
    int error = entry_run(meta, entry, arena, applied);
    uint64_t version = meta->roster ? meta->roster->version : 0;
    applied->changed = !error && meta->next->version != version;
    if (applied->changed) {
        error = wp_meta_put(meta, meta->roster, meta->next);
    }
    return error ? error : wp_state_commit(meta->store, meta->batch, WP_META_GROUP, index, term);
}

int wp_meta_apply(struct wp_meta *meta, uint64_t index, uint64_t term, struct wp_slice entry,
    struct wp_arena *arena, struct wp_meta_applied *ret_applied)
{
    struct wp_meta_applied applied = {0};
    if (meta->failed) {
        return meta->failed;
    }
    if (index <= meta->applied_index) {
        *ret_applied = applied;
        return WP_OK;
    }
    int error = entry_apply(meta, index, term, entry, arena, &applied);
    if (error) {
        meta->failed = error;
        return error;
    }
    if (applied.changed) {
        wp_roster_release(&meta->roster);
        meta->roster = meta->next;
        meta->next = NULL;
    }
    wp_roster_release(&meta->next);
    meta->applied_index = index;
    *ret_applied = applied;
    return WP_OK;
}
