/* Teams: who is in them, and what becomes of a message to one.
 *
 * 1. Members ascend by name, each once; `epoch` grows with every command that changes them.
 * 2. The members in the entry that accepts a message are those who get it; what happens to the team
 * afterwards changes nothing for it. */
#include "router/machine_inner.h"

#include <stdlib.h>

#include "base/error.h"
#include "proto/address.h"
#include "proto/frame.h"
#include "router/wire.h"

struct wp_slice wp_team_key(const void *team)
{
    const struct wp_team *self = team;
    return wp_slice(self->name, self->name_size);
}

struct wp_team *wp_machine_team(const struct wp_machine *machine, struct wp_slice name)
{
    return wp_names_find(&machine->teams, name, wp_names_hash(name));
}

static int slice_compare(struct wp_slice a, struct wp_slice b)
{
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static struct wp_slice member_name(
    const struct wp_machine *machine, const struct wp_team *team, uint32_t index)
{
    return wp_intern_name(&machine->intern, team->members[index]);
}

/* Index of the first member with a name >= `user`. */
static uint32_t member_lower_bound(
    const struct wp_machine *machine, const struct wp_team *team, struct wp_slice user)
{
    uint32_t low = 0;
    uint32_t high = team->member_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (slice_compare(member_name(machine, team, middle), user) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool wp_team_has(const struct wp_machine *machine, const struct wp_team *team, struct wp_slice user)
{
    uint32_t index = member_lower_bound(machine, team, user);
    return index < team->member_count && wp_slice_equal(member_name(machine, team, index), user);
}

/* --- life --------------------------------------------------------------------------------------------------
 */

static struct wp_team *team_add(struct wp_machine *machine, struct wp_slice name)
{
    struct wp_team *team = calloc(1, sizeof *team + name.size + 1);
    if (!team) {
        return NULL;
    }
    memcpy(team->name, name.data, name.size);
    team->name_size = (uint8_t)name.size;
    if (wp_names_insert(&machine->teams, team, wp_names_hash(name))) {
        free(team);
        return NULL;
    }
    return team;
}

void wp_team_destroy(struct wp_team *team)
{
    free(team->members);
    free(team);
}

static int member_insert(struct wp_machine *machine, struct wp_team *team, struct wp_slice user)
{
    uint32_t number = wp_intern_get(&machine->intern, user);
    if (team->member_count == team->member_capacity) {
        uint32_t capacity = team->member_capacity ? team->member_capacity * 2 : 8;
        uint32_t *members = realloc(team->members, capacity * sizeof *members);
        if (!members) {
            return WP_E_NOMEM;
        }
        team->members = members;
        team->member_capacity = capacity;
    }
    if (!number) {
        return WP_E_NOMEM;
    }
    uint32_t index = member_lower_bound(machine, team, user);
    memmove(&team->members[index + 1], &team->members[index],
        (team->member_count - index) * sizeof *team->members);
    team->members[index] = number;
    team->member_count++;
    return WP_OK;
}

int wp_machine_team_load(
    struct wp_machine *machine, struct wp_slice name, uint64_t epoch, uint64_t created_ms)
{
    struct wp_team *team = team_add(machine, name);
    if (!team) {
        return WP_E_NOMEM;
    }
    team->epoch = epoch;
    team->created_ms = created_ms;
    return WP_OK;
}

int wp_machine_member_load(struct wp_machine *machine, struct wp_slice name, struct wp_slice user)
{
    struct wp_team *team = wp_machine_team(machine, name);
    if (!team || !wp_address_valid_n((const char *)user.data, user.size)) {
        return WP_E_CORRUPT;
    }
    return member_insert(machine, team, user);
}

static int put_team(struct wp_machine *machine, const struct wp_team *team)
{
    Wp__RecordTeam record = WP__RECORD_TEAM__INIT;
    record.epoch = team->epoch;
    record.created_ms = team->created_ms;
    struct wp_key key;
    wp_key_name(&key, machine->shard, WP_KEY_TEAM, wp_team_key(team));
    return wp_machine_put_packed(machine, &key, &record.base);
}

static int put_member(struct wp_machine *machine, const struct wp_team *team, struct wp_slice user)
{
    Wp__RecordMember record = WP__RECORD_MEMBER__INIT;
    record.epoch = team->epoch;
    struct wp_key key;
    wp_key_names(&key, machine->shard, WP_KEY_MEMBER, wp_team_key(team), user);
    return wp_machine_put_packed(machine, &key, &record.base);
}

static void delete_member(struct wp_machine *machine, const struct wp_team *team, struct wp_slice user)
{
    struct wp_key key;
    wp_key_names(&key, machine->shard, WP_KEY_MEMBER, wp_team_key(team), user);
    wp_state_delete(machine->batch, wp_key_slice(&key));
}

/* --- commands ----------------------------------------------------------------------------------------------
 */

static void result_fill(struct wp_result *result, const struct wp_team *team, uint32_t changed)
{
    result->team.epoch = team->epoch;
    result->team.members = team->member_count;
    result->team.changed = changed;
}

static struct wp_slice text_slice(const char *text)
{
    return wp_slice(text, strlen(text));
}

int wp_apply_team_add(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    Wp__CommandTeamAdd *command;
    if (wp_schema_decode(
            &wp__command_team_add__descriptor, payload, &machine->arena, (ProtobufCMessage **)&command)) {
        return WP_E_CORRUPT;
    }
    if (!wp_address_valid(command->team)) {
        result->error = WP_E_INVALID;
        return WP_OK;
    }
    if (wp_machine_team(machine, text_slice(command->team)) || machine->teams.count >= WP_TEAMS_MAX) {
        result->error = wp_machine_team(machine, text_slice(command->team)) ? WP_E_EXISTS : WP_E_FULL;
        return WP_OK;
    }
    struct wp_team *team = team_add(machine, text_slice(command->team));
    if (!team) {
        return WP_E_NOMEM;
    }
    team->epoch = 1;
    team->created_ms = machine->time_ms;
    result_fill(result, team, 0);
    return put_team(machine, team);
}

int wp_apply_team_remove(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    Wp__CommandTeamRemove *command;
    if (wp_schema_decode(
            &wp__command_team_remove__descriptor, payload, &machine->arena, (ProtobufCMessage **)&command)) {
        return WP_E_CORRUPT;
    }
    struct wp_team *team = wp_machine_team(machine, text_slice(command->team));
    if (!team) {
        result->error = WP_E_NOT_FOUND;
        return WP_OK;
    }
    for (uint32_t i = 0; i < team->member_count; i++) {
        delete_member(machine, team, member_name(machine, team, i));
    }
    struct wp_key key;
    wp_key_name(&key, machine->shard, WP_KEY_TEAM, wp_team_key(team));
    wp_state_delete(machine->batch, wp_key_slice(&key));
    wp_names_remove(&machine->teams, team, wp_names_hash(wp_team_key(team)));
    wp_team_destroy(team);
    return WP_OK;
}

/* The team and the names of a command on members. WP_OK or the refusal. */
static int members_check(const struct wp_team *team, char *const *users, size_t count)
{
    if (!team) {
        return WP_E_NOT_FOUND;
    }
    for (size_t i = 0; i < count; i++) {
        if (!wp_address_valid(users[i])) {
            return WP_E_INVALID;
        }
    }
    return WP_OK;
}

static int team_changed(struct wp_machine *machine, struct wp_team *team, uint32_t changed)
{
    if (changed == 0) {
        return WP_OK;
    }
    team->epoch++;
    return put_team(machine, team);
}

/* Adds the names that are no members yet; true when they would be too many, then none is added. */
static int members_add(struct wp_machine *machine, struct wp_team *team, char *const *users, size_t count,
    struct wp_result *result)
{
    uint32_t before = team->member_count;
    uint32_t *old = NULL;
    if (before > 0) {
        old = malloc(before * sizeof *old);
        if (!old) {
            return WP_E_NOMEM;
        }
        memcpy(old, team->members, before * sizeof *old);
    }
    int error = WP_OK;
    for (size_t i = 0; i < count && !error && team->member_count <= WP_TEAM_MEMBERS_MAX; i++) {
        if (!wp_team_has(machine, team, text_slice(users[i]))) {
            error = member_insert(machine, team, text_slice(users[i]));
        }
    }
    if (!error && team->member_count > WP_TEAM_MEMBERS_MAX) {
        if (before > 0) {
            memcpy(team->members, old, before * sizeof *old);
        }
        team->member_count = before;
        result->error = WP_E_FULL;
    }
    free(old);
    return error;
}

int wp_apply_team_member_add(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    Wp__CommandTeamMemberAdd *command;
    if (wp_schema_decode(&wp__command_team_member_add__descriptor, payload, &machine->arena,
            (ProtobufCMessage **)&command)) {
        return WP_E_CORRUPT;
    }
    struct wp_team *team = wp_machine_team(machine, text_slice(command->team));
    result->error = members_check(team, command->users, command->n_users);
    if (result->error) {
        return WP_OK;
    }
    uint32_t before = team->member_count;
    int error = members_add(machine, team, command->users, command->n_users, result);
    uint32_t changed = team->member_count - before;
    error = error ? error : team_changed(machine, team, changed);
    /* Names that were members already are put again with the others: cheaper than to tell them apart. */
    for (size_t i = 0; i < command->n_users && changed > 0 && !error; i++) {
        error = put_member(machine, team, text_slice(command->users[i]));
    }
    result_fill(result, team, changed);
    return error;
}

int wp_apply_team_member_remove(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    Wp__CommandTeamMemberRemove *command;
    if (wp_schema_decode(&wp__command_team_member_remove__descriptor, payload, &machine->arena,
            (ProtobufCMessage **)&command)) {
        return WP_E_CORRUPT;
    }
    struct wp_team *team = wp_machine_team(machine, text_slice(command->team));
    result->error = members_check(team, command->users, command->n_users);
    if (result->error) {
        return WP_OK;
    }
    uint32_t changed = 0;
    for (size_t i = 0; i < command->n_users; i++) {
        struct wp_slice user = text_slice(command->users[i]);
        if (!wp_team_has(machine, team, user)) {
            continue;
        }
        if (WP_BUG == 44) { /* 44: who was a member in an earlier epoch gets it */
            changed++;
            continue;
        }
        uint32_t index = member_lower_bound(machine, team, user);
        team->member_count--;
        memmove(&team->members[index], &team->members[index + 1],
            (team->member_count - index) * sizeof *team->members);
        delete_member(machine, team, user);
        changed++;
    }
    int error = team_changed(machine, team, changed);
    result_fill(result, team, changed);
    /* Told apart from a team that is not there. */
    result->error = changed == 0 ? WP_E_UNKNOWN_RECIPIENT : WP_OK;
    return error;
}

/* --- messages ----------------------------------------------------------------------------------------------
 */

static int copy_append(
    struct wp_machine *machine, struct wp_mailbox *mailbox, struct wp_team_message *message)
{
    int error = message->body ? WP_OK
                              : wp_machine_body_put(machine, message->accepted_ms, message->expires_ms,
                                    message->envelope, &message->body);
    struct wp_row row = {
        .expires_ms = message->expires_ms,
        .body = message->body,
        .sender = wp_intern_get(&machine->intern, message->sender),
        .size = (uint32_t)message->envelope.size,
    };
    memcpy(row.id, message->id, WP_UUID_SIZE);
    if (error || !row.sender) {
        return WP_E_NOMEM;
    }
    error = wp_mailbox_append(machine, mailbox, message->lane, &row, message->accepted_ms, message->envelope);
    return error ? error : wp_mailbox_trim(machine, mailbox);
}

int wp_machine_team_take(struct wp_machine *machine, struct wp_team_message *message, struct wp_slice user)
{
    struct wp_mailbox *mailbox = wp_machine_user(machine, user);
    if (mailbox && message->expires_ms <= machine->time_ms) {
        machine->drops[WP_DROP_COPY_EXPIRED]++;
        return wp_machine_ended(
            machine, message->sender, message->id, user, WP__RECEIPT_STATE__EXPIRED, WP_OK);
    }
    int refusal = mailbox ? wp_mailbox_room(machine, mailbox, message->lane, message->envelope.size)
                          : WP_E_UNKNOWN_RECIPIENT;
    if (refusal) {
        machine->drops[WP_DROP_COPY_REFUSED]++;
        return wp_machine_ended(
            machine, message->sender, message->id, user, WP__RECEIPT_STATE__REFUSED, refusal);
    }
    return copy_append(machine, mailbox, message);
}

void wp_machine_team_close(struct wp_machine *machine, struct wp_team_message *message)
{
    if (message->body) {
        wp_machine_body_release(machine, message->body);
        message->body = 0;
    }
}

/* OutboxItem{team}: the names of `destinations[i] == destination`. */
static int item_pack(struct wp_machine *machine, const struct wp_team *team,
    const struct wp_team_message *message, const uint32_t *destinations, uint32_t destination)
{
    size_t names_size = 0;
    for (uint32_t i = 0; i < team->member_count; i++) {
        names_size += destinations[i] == destination ? 2 + member_name(machine, team, i).size : 0;
    }
    struct wp_buffer *item = &machine->item;
    item->size = 0;
    size_t size_max = 4 * WP_WIRE_FIELD_SIZE_MAX + message->envelope.size + names_size;
    if (!wp_buffer_reserve(item, size_max)) {
        return WP_E_NOMEM;
    }
    uint8_t *body = item->data + WP_WIRE_FIELD_SIZE_MAX;
    uint8_t *p = wp_wire_put_bytes_head(body, 1, message->envelope.size);
    memcpy(p, message->envelope.data, message->envelope.size);
    p = wp_wire_put_u64(p + message->envelope.size, 2, message->accepted_ms);
    p = wp_wire_put_u64(p, 3, message->expires_ms);
    for (uint32_t i = 0; i < team->member_count; i++) {
        if (destinations[i] == destination) {
            struct wp_slice name = member_name(machine, team, i);
            p = wp_wire_put_bytes_head(p, 4, name.size);
            memcpy(p, name.data, name.size);
            p += name.size;
        }
    }
    uint8_t head[WP_WIRE_FIELD_SIZE_MAX];
    size_t body_size = (size_t)(p - body);
    size_t head_size = (size_t)(wp_wire_put_bytes_head(head, 1, body_size) - head);
    memcpy(body - head_size, head, head_size);
    return wp_machine_outbox_add(
        machine, destination, wp_slice(body - head_size, head_size + body_size), 0, true);
}

int wp_machine_team_send(
    struct wp_machine *machine, const struct wp_team *team, struct wp_team_message *message)
{
    uint32_t *destinations = wp_arena_alloc(&machine->arena, (team->member_count + 1) * sizeof *destinations);
    uint32_t shards = machine->limits.shard_count ? machine->limits.shard_count : machine->shard;
    bool *wanted = wp_arena_alloc(&machine->arena, (shards + 1) * sizeof *wanted);
    if (!destinations || !wanted) {
        return WP_E_NOMEM;
    }
    memset(wanted, 0, (shards + 1) * sizeof *wanted);
    int error = WP_OK;
    for (uint32_t i = 0; i < team->member_count && !error; i++) {
        struct wp_slice user = member_name(machine, team, i);
        bool own_message = wp_slice_equal(user, message->sender);
        destinations[i] = own_message ? 0 : wp_machine_shard_of(machine, user);
        wanted[destinations[i]] = true;
        if (destinations[i] == machine->shard) {
            error = wp_machine_team_take(machine, message, user);
        }
    }
    wp_machine_team_close(machine, message);
    for (uint32_t shard = 1; shard <= shards && !error; shard++) {
        if (wanted[shard] && shard != machine->shard) {
            error = item_pack(machine, team, message, destinations, shard);
        }
    }
    return error;
}

/* --- reads -------------------------------------------------------------------------------------------------
 */

void wp_machine_teams_each(const struct wp_machine *machine,
    void (*each)(void *context, const struct wp_team_view *view), void *context)
{
    uint32_t count;
    void **teams = wp_names_sorted(&machine->teams, &count);
    for (uint32_t i = 0; i < count; i++) {
        const struct wp_team *team = teams[i];
        const struct wp_team_view view = {
            .team = team->name,
            .created_ms = team->created_ms,
            .epoch = team->epoch,
            .members = team->member_count,
        };
        each(context, &view);
    }
    free(teams);
}

int wp_machine_members_each(const struct wp_machine *machine, const char *name,
    void (*each)(void *context, const char *user), void *context)
{
    const struct wp_team *team = wp_machine_team(machine, text_slice(name));
    if (!team) {
        return WP_E_NOT_FOUND;
    }
    for (uint32_t i = 0; i < team->member_count; i++) {
        each(context, (const char *)member_name(machine, team, i).data);
    }
    return WP_OK;
}
