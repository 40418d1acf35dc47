/* The simulated log: submitted writes are frames in a WAL buffer; a sync moves them, decoded from those same
 * bytes, to the ordered map that reads see. Decoding on the normal path keeps the path of recovery exercised.
 */
#include <string.h>

#include "base/error.h"
#include "storage/sim/frame.h"
#include "storage/sim/sim_store.h"

static void entry_map_key(uint8_t key[SIM_LOG_KEY_SIZE], uint32_t shard, uint64_t index)
{
    key[0] = SIM_ENTRIES;
    wp_entry_key(key + 1, shard, index);
}

static void hard_map_key(uint8_t key[1 + WP_HARD_KEY_SIZE], uint32_t shard, enum wp_hard_tag tag)
{
    key[0] = SIM_HARD;
    wp_hard_key(key + 1, shard, tag);
}

int sim_log_submit(struct wp_store *base, const struct wp_log_write *write)
{
    struct sim_store *store = (struct sim_store *)base;
    int error = wp_store_failure(base);
    if (error != WP_OK) {
        return error;
    }
    struct wp_log_position before = store->positions[write->shard];
    struct wp_log_position after;
    error = wp_log_position_after(&before, write, &after);
    if (error != WP_OK) {
        return error;
    }
    struct sim_frame frame = {.shard = write->shard, .entry_count = write->entry_count};
    if (write->truncate_from != 0 && write->truncate_from <= before.last) {
        frame.cut_from = write->truncate_from;
        frame.cut_to = before.last + 1;
    }
    if (write->hard != NULL) {
        frame.has_hard = true;
        frame.hard = *write->hard;
    }
    if (after.floor != before.floor) {
        frame.floor = after.floor;
        frame.floor_term = after.term;
    }
    size_t wal_size = store->wal.size;
    error = sim_frame_encode(&frame, write->entries, &store->wal);
    if (error != WP_OK) {
        return error;
    }
    struct sim_pending pending = {store->wal.size - wal_size, write->done, write->context, write->tag, false};
    if (wp_buffer_append(&store->pending, &pending, sizeof pending) != WP_OK) {
        store->wal.size = wal_size;
        return WP_E_NOMEM;
    }
    store->positions[write->shard] = after;
    return WP_OK;
}

static void put_pair(struct sim_node **log, uint32_t shard, enum wp_hard_tag tag,
    enum wp_record_family family, uint64_t first, uint64_t second)
{
    uint8_t key[1 + WP_HARD_KEY_SIZE];
    hard_map_key(key, shard, tag);
    struct wp_bytes *record = sim_bytes_create(WP_FLOOR_RECORD_SIZE);
    wp_pair_seal(family, wp_slice(key + 1, WP_HARD_KEY_SIZE), first, second, record->data);
    sim_map_put(log, wp_slice(key, sizeof key), record);
    wp_bytes_release(&record);
}

void sim_log_put_hard(struct sim_node **log, uint32_t shard, const struct wp_log_hard_state *hard)
{
    uint8_t key[1 + WP_HARD_KEY_SIZE];
    hard_map_key(key, shard, WP_HARD_STATE);
    struct wp_bytes *record = sim_bytes_create(WP_HARD_RECORD_SIZE);
    wp_hard_seal(wp_slice(key + 1, WP_HARD_KEY_SIZE), hard, record->data);
    sim_map_put(log, wp_slice(key, sizeof key), record);
    wp_bytes_release(&record);
}

void sim_log_put_marker(struct sim_node **log, uint32_t shard, const struct wp_marker *marker)
{
    uint8_t key[1 + WP_HARD_KEY_SIZE];
    hard_map_key(key, shard, WP_HARD_INSTALLING);
    struct wp_bytes *record = sim_bytes_create(WP_MARKER_RECORD_SIZE);
    wp_marker_seal(wp_slice(key + 1, WP_HARD_KEY_SIZE), marker, record->data);
    sim_map_put(log, wp_slice(key, sizeof key), record);
    wp_bytes_release(&record);
}

bool sim_log_marker(const struct sim_node *log, uint32_t shard, struct wp_marker *ret_marker)
{
    uint8_t key[1 + WP_HARD_KEY_SIZE];
    hard_map_key(key, shard, WP_HARD_INSTALLING);
    const struct sim_node *node = sim_map_find(log, wp_slice(key, sizeof key));
    return node != NULL &&
           wp_marker_open(wp_slice(key + 1, WP_HARD_KEY_SIZE), sim_node_value(node), ret_marker) == WP_OK;
}

static void delete_entries(struct sim_node **log, uint32_t shard, uint64_t from, uint64_t to)
{
    uint8_t first[SIM_LOG_KEY_SIZE];
    uint8_t end[SIM_LOG_KEY_SIZE];
    entry_map_key(first, shard, from);
    entry_map_key(end, shard, to);
    sim_map_delete_range(log, wp_slice(first, sizeof first), wp_slice(end, sizeof end));
}

static void put_entry(struct sim_node **log, uint32_t shard, const struct wp_log_entry *entry)
{
    uint8_t key[SIM_LOG_KEY_SIZE];
    entry_map_key(key, shard, entry->index);
    struct wp_bytes *record = sim_bytes_create(WP_ENTRY_HEAD_SIZE + entry->data->size);
    wp_entry_seal(entry, key + 1, record->data);
    memcpy(record->data + WP_ENTRY_HEAD_SIZE, entry->data->data, entry->data->size);
    sim_map_put(log, wp_slice(key, sizeof key), record);
    wp_bytes_release(&record);
}

static int frame_apply(struct sim_node **log, struct sim_frame *frame)
{
    if (frame->cut_from != 0) {
        delete_entries(log, frame->shard, frame->cut_from, frame->cut_to);
    }
    for (uint32_t i = 0; i < frame->entry_count; i++) {
        struct wp_log_entry entry;
        int error = sim_frame_next_entry(frame, &entry);
        if (error != WP_OK) {
            return error;
        }
        put_entry(log, frame->shard, &entry);
        wp_bytes_release(&entry.data);
    }
    if (frame->has_hard) {
        sim_log_put_hard(log, frame->shard, &frame->hard);
    }
    if (frame->floor != 0) {
        delete_entries(log, frame->shard, 0, frame->floor);
        put_pair(log, frame->shard, WP_HARD_FLOOR, WP_RECORD_FLOOR, frame->floor, frame->floor_term);
    }
    return WP_OK;
}

size_t sim_log_replay(struct sim_node **log, struct wp_slice wal)
{
    size_t size = wal.size;
    struct sim_frame frame;
    while (sim_frame_decode(&wal, &frame) == WP_OK && frame_apply(log, &frame) == WP_OK) {
    }
    return size - wal.size;
}

/* Zeros when there is no such record. */
static int get_pair(struct sim_store *store, uint32_t shard, enum wp_hard_tag tag,
    enum wp_record_family family, uint64_t *ret_first, uint64_t *ret_second)
{
    uint8_t key[1 + WP_HARD_KEY_SIZE];
    hard_map_key(key, shard, tag);
    *ret_first = 0;
    *ret_second = 0;
    const struct sim_node *node = sim_map_find(store->log, wp_slice(key, sizeof key));
    if (node != NULL && wp_pair_open(family, wp_slice(key + 1, WP_HARD_KEY_SIZE), sim_node_value(node),
                            ret_first, ret_second) != WP_OK) {
        return wp_store_note(&store->base, WP_E_CORRUPT,
            "instance log, family hard, shard %u: the floor fails its checksum", shard);
    }
    return WP_OK;
}

int sim_log_hard(struct sim_store *store, uint32_t shard, struct wp_log_hard_state *ret_hard)
{
    uint8_t key[1 + WP_HARD_KEY_SIZE];
    hard_map_key(key, shard, WP_HARD_STATE);
    *ret_hard = (struct wp_log_hard_state){0};
    const struct sim_node *node = sim_map_find(store->log, wp_slice(key, sizeof key));
    if (node != NULL &&
        wp_hard_open(wp_slice(key + 1, WP_HARD_KEY_SIZE), sim_node_value(node), ret_hard) != WP_OK) {
        return wp_store_note(&store->base, WP_E_CORRUPT,
            "instance log, family hard, shard %u: the hard state fails its checksum", shard);
    }
    return WP_OK;
}

void sim_log_reset(struct sim_node **log, uint32_t shard, const struct wp_log_hard_state *hard,
    uint64_t floor, uint64_t floor_term)
{
    uint8_t key[1 + WP_HARD_KEY_SIZE];
    delete_entries(log, shard, 0, UINT64_MAX);
    hard_map_key(key, shard, WP_HARD_FLOOR);
    sim_map_delete(log, wp_slice(key, sizeof key));
    hard_map_key(key, shard, WP_HARD_INSTALLING);
    sim_map_delete(log, wp_slice(key, sizeof key));
    sim_log_put_hard(log, shard, hard);
    if (floor != 0) {
        put_pair(log, shard, WP_HARD_FLOOR, WP_RECORD_FLOOR, floor, floor_term);
    }
}

/* First retained entry of the shard at or after `index`; NULL when there is none. */
static const struct sim_node *entry_from(const struct sim_store *store, uint32_t shard, uint64_t index)
{
    uint8_t key[SIM_LOG_KEY_SIZE];
    entry_map_key(key, shard, index);
    const struct sim_node *node = sim_map_first_from(store->log, wp_slice(key, sizeof key));
    return node != NULL && node->key_size == SIM_LOG_KEY_SIZE && memcmp(node->key, key, 5) == 0 ? node : NULL;
}

static struct wp_slice entry_key(const struct sim_node *node)
{
    return wp_slice(node->key + 1, node->key_size - 1);
}

static uint64_t entry_index(const struct sim_node *node)
{
    return wp_get_u64be(node->key + 5);
}

int sim_log_load(struct wp_store *base, uint32_t shard, uint64_t after, struct wp_log_hard_state *ret_hard,
    int (*each)(void *context, const struct wp_log_entry *entry), void *context, uint64_t *ret_first,
    uint64_t *ret_last)
{
    struct sim_store *store = (struct sim_store *)base;
    struct wp_log_loader loader = {.shard = shard, .after = after, .each = each, .context = context};
    struct wp_log_hard_state hard;
    uint64_t floor_term;
    int error = sim_log_hard(store, shard, &hard);
    if (error == WP_OK) {
        error = get_pair(store, shard, WP_HARD_FLOOR, WP_RECORD_FLOOR, &loader.floor, &floor_term);
    }
    const struct sim_node *node = entry_from(store, shard, loader.floor);
    while (error == WP_OK && node != NULL) {
        error = wp_log_loader_take(base, &loader, entry_key(node), sim_node_value(node));
        node = entry_from(store, shard, entry_index(node) + 1);
    }
    if (error == WP_OK) {
        error = wp_log_loader_finish(base, &loader);
    }
    if (error != WP_OK) {
        return error;
    }
    *ret_hard = hard;
    bool empty = loader.last == 0 && loader.floor > 0;
    *ret_first = empty ? loader.floor : loader.first;
    *ret_last = empty ? loader.floor - 1 : loader.last;
    return WP_OK;
}

static int entry_read(struct sim_store *store, uint32_t shard, uint64_t index, struct wp_log_entry *ret_entry,
    struct wp_slice *ret_data)
{
    const struct sim_node *node = entry_from(store, shard, index);
    if (node == NULL || entry_index(node) != index) {
        return WP_E_NOT_FOUND;
    }
    if (wp_entry_record_open(entry_key(node), sim_node_value(node), ret_entry, ret_data) != WP_OK) {
        return wp_store_note(&store->base, WP_E_CORRUPT,
            "instance log, family entries, shard %u, index %llu: the record fails its checksum", shard,
            (unsigned long long)index);
    }
    return WP_OK;
}

int sim_log_read(struct wp_store *base, uint32_t shard, uint64_t first, uint32_t count,
    struct wp_log_entry *ret_entries, uint32_t *ret_count)
{
    struct sim_store *store = (struct sim_store *)base;
    uint32_t done = 0;
    int error = WP_OK;
    while (error == WP_OK && done < count) {
        struct wp_slice data;
        error = entry_read(store, shard, first + done, &ret_entries[done], &data);
        if (error == WP_OK) {
            ret_entries[done].data = sim_memory(wp_bytes_copy(data.data, data.size));
            done++;
        }
    }
    if (error == WP_OK || (error == WP_E_NOT_FOUND && done > 0)) {
        *ret_count = done;
        return WP_OK;
    }
    for (uint32_t i = 0; i < done; i++) {
        wp_bytes_release(&ret_entries[i].data);
    }
    return error;
}

int sim_log_term(struct wp_store *base, uint32_t shard, uint64_t index, uint64_t *ret_term)
{
    struct wp_log_entry entry;
    struct wp_slice data;
    int error = entry_read((struct sim_store *)base, shard, index, &entry, &data);
    if (error == WP_OK) {
        *ret_term = entry.term;
    }
    return error;
}

/* Takes what one record says of its shard's position. */
static void position_take(struct sim_store *store, const struct sim_node *node)
{
    uint32_t shard = wp_get_u32be(node->key + 1);
    struct wp_log_position *position = &store->positions[shard];
    uint64_t term = 0;
    if (node->key[0] == SIM_ENTRIES) {
        struct wp_log_entry entry = {0};
        struct wp_slice data;
        position->last = entry_index(node);
        if (wp_entry_record_open(entry_key(node), sim_node_value(node), &entry, &data) == WP_OK) {
            term = entry.term;
        }
    } else if (node->key[5] == WP_HARD_FLOOR) {
        wp_pair_open(WP_RECORD_FLOOR, wp_slice(node->key + 1, WP_HARD_KEY_SIZE), sim_node_value(node),
            &position->floor, &term);
        position->last = position->last < position->floor ? position->floor - 1 : position->last;
    } else if (node->key[5] == WP_HARD_STATE) {
        struct wp_log_hard_state hard = {0};
        wp_hard_open(wp_slice(node->key + 1, WP_HARD_KEY_SIZE), sim_node_value(node), &hard);
        term = hard.term;
    }
    position->term = term > position->term ? term : position->term;
}

void sim_log_positions(struct sim_store *store)
{
    /* Entries ('e') come before hard records ('h') and in the order of their indexes. */
    const struct sim_node *node = sim_map_first_from(store->log, wp_slice(NULL, 0));
    while (node != NULL) {
        position_take(store, node);
        node = sim_map_first_after(store->log, sim_node_key(node));
    }
}
