/* Limits are state of the shard: what an entry is decided by stands in the log before it, so that the files
 * of the routers cannot make replicas differ. LIMITS brings them; until the first one, those given at create
 * hold. */
#include "router/machine_inner.h"

#include "base/error.h"

/* Far above what an operator may set, and so low that no sum or product of limits overflows. */
#define LIMIT_MAX (UINT64_C(1) << 40)

static void limits_take(struct wp_machine *machine, const Wp__CommandLimits *command)
{
    struct wp_machine_limits *limits = &machine->limits;
    machine->limits_known = true;
    machine->limits_version = command->version;
    limits->mailbox_messages_max = command->mailbox_messages_max;
    limits->mailbox_bytes_max = command->mailbox_bytes_max;
    limits->body_bytes_max = command->body_bytes_max;
    limits->ttl_default_ms = command->ttl_default_ms;
    limits->ttl_max_ms = command->ttl_max_ms;
    limits->seen_ids_max = command->seen_ids_max;
    limits->stat_per_minute_max = command->stat_per_minute_max;
}

static bool limits_valid(const Wp__CommandLimits *command)
{
    const uint64_t values[] = {command->mailbox_messages_max, command->mailbox_bytes_max,
        command->body_bytes_max, command->ttl_default_ms, command->ttl_max_ms, command->stat_per_minute_max};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        if (values[i] > LIMIT_MAX) {
            return false;
        }
    }
    return command->seen_ids_max >= 1 && command->seen_ids_max <= WP_SEEN_IDS_MAX;
}

int wp_apply_limits(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    Wp__CommandLimits *command;
    if (wp_schema_decode(
            &wp__command_limits__descriptor, payload, &machine->arena, (ProtobufCMessage **)&command)) {
        return WP_E_CORRUPT;
    }
    if (machine->limits_known && command->version <= machine->limits_version) {
        result->error = WP_E_UNAVAILABLE; /* of a leader that has an older roster than the one before it */
        return WP_OK;
    }
    if (!limits_valid(command)) {
        result->error = WP_E_INVALID;
        return WP_OK;
    }
    limits_take(machine, command);
    struct wp_key key;
    wp_key_tag(&key, machine->shard, WP_KEY_LIMITS);
    int error = wp_seen_resize(machine->seen, command->seen_ids_max);
    if (error || WP_BUG == 46) { /* 46: limits are not persisted */
        return error;
    }
    return wp_machine_put_packed(machine, &key, &command->base);
}

int wp_machine_limits_load(struct wp_machine *machine)
{
    struct wp_key key;
    Wp__CommandLimits *record;
    wp_key_tag(&key, machine->shard, WP_KEY_LIMITS);
    machine->scratch.size = 0;
    int error = wp_state_get(machine->store, wp_key_slice(&key), &machine->scratch);
    if (error) {
        return error == WP_E_NOT_FOUND ? WP_OK : error;
    }
    struct wp_slice value = wp_slice(machine->scratch.data, machine->scratch.size);
    if (wp_schema_decode(
            &wp__command_limits__descriptor, value, &machine->arena, (ProtobufCMessage **)&record) ||
        !limits_valid(record)) {
        return WP_E_CORRUPT;
    }
    limits_take(machine, record);
    return WP_OK;
}

bool wp_machine_limits_due(
    const struct wp_machine *machine, uint64_t version, const struct wp_machine_limits *limits)
{
    const struct wp_machine_limits *own = &machine->limits;
    if (machine->limits_known && version <= machine->limits_version) {
        return false;
    }
    return !machine->limits_known || own->mailbox_messages_max != limits->mailbox_messages_max ||
           own->mailbox_bytes_max != limits->mailbox_bytes_max ||
           own->body_bytes_max != limits->body_bytes_max || own->ttl_default_ms != limits->ttl_default_ms ||
           own->ttl_max_ms != limits->ttl_max_ms || own->seen_ids_max != limits->seen_ids_max ||
           own->stat_per_minute_max != limits->stat_per_minute_max;
}
