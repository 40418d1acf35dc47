/* One number for all replicated state: every row of the store in key order, and the memory built from them,
 * so that a machine whose memory has drifted from its store differs from one that was just loaded. */
#include "router/machine_inner.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/error.h"

static void hash_u64(XXH3_state_t *state, uint64_t value)
{
    XXH3_64bits_update(state, &value, sizeof value);
}

static void hash_bytes(XXH3_state_t *state, struct wp_slice bytes)
{
    hash_u64(state, bytes.size);
    XXH3_64bits_update(state, bytes.data, bytes.size);
}

static int hash_store(const struct wp_machine *machine, XXH3_state_t *state)
{
    struct wp_key from, to;
    wp_key_tag(&from, machine->shard, 0);
    wp_key_tag(&to, machine->shard, WP_KEY_END);
    struct wp_state_iter *iter = wp_state_iter_create(machine->store, wp_key_slice(&from), wp_key_slice(&to));
    if (!iter) {
        return WP_E_NOMEM;
    }
    for (; wp_state_iter_valid(iter); wp_state_iter_next(iter)) {
        hash_bytes(state, wp_state_iter_key(iter));
        hash_bytes(state, wp_state_iter_value(iter));
    }
    int error = wp_state_iter_error(iter);
    wp_state_iter_destroy(&iter);
    return error;
}

static void hash_cursor(XXH3_state_t *state, const struct wp_cursor *cursor)
{
    hash_u64(state, cursor->passed);
    hash_u64(state, cursor->sent);
    hash_u64(state, cursor->overdue);
    hash_u64(state, cursor->pending);
    hash_u64(state, cursor->pending_bytes);
    for (uint32_t i = 0; i < cursor->owed_count; i++) {
        hash_u64(state, cursor->owed[i].sequence);
        hash_u64(state, cursor->owed[i].attempts);
        hash_u64(state, cursor->owed[i].set_aside);
    }
}

static void hash_device(XXH3_state_t *state, const struct wp_device *device)
{
    hash_bytes(state, wp_slice(device->name, strlen(device->name)));
    hash_bytes(state, wp_slice(device->secret_hash, WP_SECRET_HASH_SIZE));
    hash_u64(state, device->number);
    hash_u64(state, device->created_ms);
    hash_u64(state, device->active_ms);
    hash_u64(state, device->epoch);
    hash_u64(state, device->inbox_subscribed);
    hash_u64(state, device->receipts_subscribed);
    hash_u64(state, device->warned);
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT; lane++) {
        hash_cursor(state, &device->cursors[lane]);
    }
}

static void hash_lane(XXH3_state_t *state, const struct wp_intern *intern, const struct wp_lane *lane)
{
    hash_u64(state, lane->tail);
    hash_u64(state, lane->count);
    for (uint32_t i = 0; i < lane->count; i++) {
        const struct wp_row *row = wp_lane_row(lane, i);
        hash_u64(state, row->sequence);
        hash_u64(state, row->expires_ms);
        hash_u64(state, row->size);
        hash_u64(state, row->body);
        hash_u64(state, row->acknowledged);
        hash_u64(state, row->receipt_state);
        hash_u64(state, (uint64_t)row->receipt_error);
        hash_bytes(state, wp_slice(row->id, sizeof row->id));
        hash_bytes(state, wp_intern_name(intern, row->sender));
    }
}

static void hash_mailbox(
    XXH3_state_t *state, const struct wp_intern *intern, const struct wp_mailbox *mailbox)
{
    hash_bytes(state, wp_slice(mailbox->user, mailbox->user_size));
    hash_u64(state, mailbox->created_ms);
    hash_u64(state, mailbox->next_device);
    hash_u64(state, mailbox->epoch_floor);
    hash_u64(state, mailbox->bytes);
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT; lane++) {
        hash_lane(state, intern, &mailbox->lanes[lane]);
    }
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        hash_device(state, mailbox->devices[i]);
    }
}

/* Sums of the tables, whose order is not replicated. */
static uint64_t streams_sum(const struct wp_names *streams)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < streams->capacity; i++) {
        const struct wp_stream *stream = streams->slots[i].object;
        if (stream) {
            const uint64_t row[] = {stream->hash, stream->epoch, stream->sequence};
            sum += XXH3_64bits(row, sizeof row);
        }
    }
    return sum;
}

static uint64_t rates_sum(const struct wp_names *rates)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < rates->capacity; i++) {
        const struct wp_rate *rate = rates->slots[i].object;
        if (rate) {
            const uint64_t row[] = {rates->slots[i].hash, rate->tokens, rate->time_ms};
            sum += XXH3_64bits(row, sizeof row);
        }
    }
    return sum;
}

static uint64_t team_hash(const struct wp_machine *machine, const struct wp_team *team)
{
    const uint64_t head[] = {wp_names_hash(wp_team_key(team)), team->epoch, team->created_ms};
    uint64_t hash = XXH3_64bits(head, sizeof head);
    for (uint32_t i = 0; i < team->member_count; i++) {
        struct wp_slice name = wp_intern_name(&machine->intern, team->members[i]);
        hash = XXH3_64bits_withSeed(name.data, name.size, hash);
    }
    return hash;
}

static uint64_t teams_sum(const struct wp_machine *machine)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < machine->teams.capacity; i++) {
        const struct wp_team *team = machine->teams.slots[i].object;
        sum += team ? team_hash(machine, team) : 0;
    }
    return sum;
}

static void hash_outbox(XXH3_state_t *state, const struct wp_outbox *outbox)
{
    hash_u64(state, outbox->bytes);
    hash_u64(state, outbox->items);
    for (uint32_t i = 0; i < outbox->peer_count; i++) {
        const struct wp_outbox_peer *peer = &outbox->peers[i];
        hash_u64(state, peer->last);
        hash_u64(state, peer->watermark);
        hash_u64(state, peer->taken);
        for (uint32_t k = 0; k < peer->count; k++) {
            const struct wp_outbox_item *item = &peer->items[peer->start + k];
            hash_u64(state, item->sequence);
            hash_u64(state, item->receipts);
            hash_bytes(state, wp_slice(item->data->data, item->data->size));
        }
    }
}

static void hash_limits(XXH3_state_t *state, const struct wp_machine *machine)
{
    const struct wp_machine_limits *limits = &machine->limits;
    hash_u64(state, machine->limits_known);
    hash_u64(state, machine->limits_version);
    hash_u64(state, limits->mailbox_messages_max);
    hash_u64(state, limits->mailbox_bytes_max);
    hash_u64(state, limits->body_bytes_max);
    hash_u64(state, limits->ttl_default_ms);
    hash_u64(state, limits->ttl_max_ms);
    hash_u64(state, limits->seen_ids_max);
    hash_u64(state, limits->stat_per_minute_max);
}

static uint64_t bodies_sum(const struct wp_bodies *bodies)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < bodies->capacity; i++) {
        const struct wp_bodies_slot *slot = &bodies->slots[i];
        const uint64_t row[] = {slot->number, slot->holders};
        sum += slot->number ? XXH3_64bits(row, sizeof row) : 0;
    }
    return sum;
}

static void hash_memory(const struct wp_machine *machine, XXH3_state_t *state)
{
    hash_u64(state, machine->time_ms);
    hash_limits(state, machine);
    hash_u64(state, machine->messages);
    hash_u64(state, machine->bytes);
    hash_u64(state, machine->devices);
    hash_u64(state, machine->receipts);
    hash_u64(state, machine->body_last);
    hash_u64(state, bodies_sum(&machine->bodies));
    hash_u64(state, teams_sum(machine));
    hash_outbox(state, &machine->outbox);
    for (uint32_t i = 0; i < machine->mailbox_count; i++) {
        hash_mailbox(state, &machine->intern, machine->mailboxes[i]);
    }
    hash_u64(state, streams_sum(&machine->streams));
    hash_u64(state, rates_sum(&machine->rates));
    hash_u64(state, wp_seen_hash(machine->seen));
}

int wp_machine_hash(struct wp_machine *machine, uint64_t *ret_hash)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) {
        return WP_E_NOMEM;
    }
    XXH3_64bits_reset(state);
    hash_memory(machine, state);
    int error = hash_store(machine, state);
    if (!error) {
        *ret_hash = XXH3_64bits_digest(state);
    }
    XXH3_freeState(state);
    return error;
}
