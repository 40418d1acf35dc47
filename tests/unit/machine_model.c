#include "tests/unit/machine_model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "proto/uuid.h"

#define WINDOW_MS (24ull * 3600 * 1000)
#define TEN_MINUTES_MS (10ull * 60 * 1000)

int model_limits(struct model *model, uint64_t version, const struct wp_machine_limits *limits)
{
    if (version <= model->limits_version) {
        return WP_E_UNAVAILABLE;
    }
    model->limits = *limits;
    model->limits_version = version;
    return WP_OK;
}

void model_init(struct model *model, const struct wp_machine_limits *limits, uint64_t time_ms)
{
    *model = (struct model){.limits = *limits, .time_ms = time_ms};
    model->messages = calloc(MODEL_MESSAGES, sizeof *model->messages);
    model->ids = calloc(MODEL_IDS, sizeof *model->ids);
    model->buckets = calloc(MODEL_IDS, sizeof *model->buckets);
}

void model_fini(struct model *model)
{
    for (uint32_t i = 0; i < model->message_count; i++) {
        free(model->messages[i].owing);
    }
    for (uint32_t shard = 1; shard <= MODEL_SHARDS; shard++) {
        for (uint32_t i = 0; i < model->peers[shard].item_count; i++) {
            free(model->peers[shard].items[i].ends);
        }
        free(model->peers[shard].items);
    }
    free(model->messages);
    free(model->ids);
    free(model->buckets);
}

static void message_drop(struct model_message *message)
{
    message->kept = false;
    free(message->owing);
    message->owing = NULL;
}

static bool holds(const struct model *model, const struct model_message *message)
{
    const struct model_user *user = &model->users[message->user];
    for (uint32_t d = 1; d < user->next_device; d++) {
        const struct model_owing *owing = &message->owing[d];
        bool wants = message->lane != WP__LANE__RECEIPT || user->devices[d].receipts;
        if (user->devices[d].exists && wants && !user->devices[d].inactive && owing->owed &&
            !owing->set_aside) {
            return true;
        }
    }
    return false;
}

static void sweep(struct model *model, uint32_t user)
{
    for (uint32_t i = model->message_first; i < model->message_count; i++) {
        struct model_message *message = &model->messages[i];
        if (message->kept && message->user == user && message->acknowledged && !holds(model, message)) {
            message_drop(message);
        }
    }
    while (model->message_first < model->message_count && !model->messages[model->message_first].kept) {
        model->message_first++;
    }
}

static void touch(struct model *model, uint32_t user)
{
    for (uint32_t d = 1; d < model->users[user].next_device; d++) {
        struct model_device *device = &model->users[user].devices[d];
        if (device->exists && model->time_ms >= device->active_ms + model->limits.inactive_ms) {
            device->inactive = true;
        }
    }
    sweep(model, user);
}

static void show(struct model *model, struct model_device *device)
{
    if (device->inactive || device->warned ||
        model->time_ms - device->active_ms >= model->limits.inactive_ms / 168) {
        device->active_ms = model->time_ms;
    }
    device->inactive = false;
    device->warned = false;
}

static struct model_end *end_add(struct model *model, uint32_t sender, uint32_t person, const uint8_t *id,
    Wp__ReceiptState state, int error)
{
    assert(model->end_count < 4096);
    struct model_end *end = &model->ends[model->end_count++];
    *end = (struct model_end){.sender = sender,
        .person = person,
        .state = (uint32_t)state,
        .error = error,
        .time_ms = model->time_ms};
    if (id) {
        memcpy(end->id, id, 16);
    }
    return end;
}

static void removal_add(struct model *model, const struct model_message *message)
{
    assert(model->removal_count < 4096);
    model->removals[model->removal_count++] =
        (struct wp_removal){.mailbox = model->users[message->user].mailbox,
            .lane = (Wp__Lane)message->lane,
            .sequence = message->sequence};
}

static void bucket_drop(struct model *model, uint32_t bucket)
{
    model->buckets[bucket].dropped = true;
    if (model->buckets[bucket].newest_ms + 1 > model->floor_ms) {
        model->floor_ms = model->buckets[bucket].newest_ms + 1;
    }
}

void model_time(struct model *model, uint64_t given_ms)
{
    model->time_ms = given_ms > model->time_ms ? given_ms : model->time_ms;
    model->end_count = 0;
    model->removal_count = 0;
    model->appended_count = 0;
    model->copy_count = 0;
    model->idle_count = 0;
    for (uint32_t b = 0; b < model->bucket_count; b++) {
        if (!model->buckets[b].dropped && model->time_ms - model->buckets[b].last_ms >= WINDOW_MS) {
            bucket_drop(model, b);
        }
    }
}

static uint64_t ids_kept(const struct model *model)
{
    uint64_t count = 0;
    for (uint32_t b = 0; b < model->bucket_count; b++) {
        count += model->buckets[b].dropped ? 0 : model->buckets[b].count;
    }
    return count;
}

static const struct model_id *id_find(const struct model *model, uint32_t sender, const uint8_t *id)
{
    for (uint32_t i = model->id_count; i > 0; i--) {
        const struct model_id *seen = &model->ids[i - 1];
        if (seen->sender == sender && memcmp(seen->id, id, 16) == 0) {
            return model->buckets[seen->bucket].dropped ? NULL : seen;
        }
    }
    return NULL;
}

/* Drops what must go for one more id when `really`; whether that is allowed. */
static bool make_room(struct model *model, bool really)
{
    uint64_t count = ids_kept(model);
    uint64_t floor_ms = model->floor_ms;
    for (uint32_t b = 0; count >= model->limits.seen_ids_max; b++) {
        const struct model_bucket *bucket = &model->buckets[b];
        if (bucket->dropped) {
            continue;
        }
        floor_ms = bucket->newest_ms + 1 > floor_ms ? bucket->newest_ms + 1 : floor_ms;
        if (floor_ms + TEN_MINUTES_MS > model->time_ms) {
            return false;
        }
        count -= bucket->count;
        if (really) {
            bucket_drop(model, b);
        }
    }
    return true;
}

static void id_add(struct model *model, uint32_t sender, const uint8_t *id)
{
    uint64_t bucket_max = model->limits.seen_ids_max >= 64 ? model->limits.seen_ids_max / 64 : 1;
    struct model_bucket *last = model->bucket_count ? &model->buckets[model->bucket_count - 1] : NULL;
    if (!last || last->dropped || last->count >= bucket_max ||
        model->time_ms - last->opened_ms >= TEN_MINUTES_MS) {
        last = &model->buckets[model->bucket_count++];
        *last = (struct model_bucket){.opened_ms = model->time_ms};
    }
    last->count++;
    last->last_ms = model->time_ms;
    uint64_t made_ms = wp_uuid7_time_ms(id);
    last->newest_ms = made_ms > last->newest_ms ? made_ms : last->newest_ms;
    assert(model->id_count < MODEL_IDS);
    struct model_id *added = &model->ids[model->id_count++];
    *added =
        (struct model_id){.sender = sender, .accepted_ms = model->time_ms, .bucket = model->bucket_count - 1};
    memcpy(added->id, id, 16);
}

static uint64_t rate_tokens(const struct model *model, uint32_t user)
{
    const struct model_rate *rate = &model->rates[user];
    uint64_t full = model->limits.stat_per_minute_max * 60000;
    uint64_t passed_ms = model->time_ms - rate->time_ms;
    uint64_t tokens =
        rate->used && passed_ms < 60000 ? rate->tokens + passed_ms * model->limits.stat_per_minute_max : full;
    return tokens < full ? tokens : full;
}

static bool mailbox_has_room(const struct model *model, uint32_t user, uint64_t size)
{
    const struct model_user *found = &model->users[user];
    uint64_t least = UINT64_MAX;
    uint64_t least_bytes = UINT64_MAX;
    uint64_t all = 0;
    uint64_t all_bytes = 0;
    for (uint32_t d = 0; d < found->next_device; d++) {
        bool counts = d > 0 && found->devices[d].exists && !found->devices[d].inactive;
        uint64_t messages = 0;
        uint64_t bytes = 0;
        for (uint32_t i = model->message_first; i < model->message_count; i++) {
            const struct model_message *message = &model->messages[i];
            if (message->kept && message->user == user && message->lane < WP_LANE_COUNT &&
                (d == 0 || message->owing[d].owed)) {
                messages++;
                bytes += message->size;
            }
        }
        if (d == 0) {
            all = messages;
            all_bytes = bytes;
        } else if (counts) {
            least = messages < least ? messages : least;
            least_bytes = bytes < least_bytes ? bytes : least_bytes;
        }
    }
    least = least == UINT64_MAX ? all : least;
    least_bytes = least_bytes == UINT64_MAX ? all_bytes : least_bytes;
    return least < model->limits.mailbox_messages_max &&
           least_bytes + size <= model->limits.mailbox_bytes_max;
}

static int submit_refusal(
    struct model *model, const struct model_submit *submit, struct model_submit_result *result)
{
    if (submit->body_size > model->limits.body_bytes_max) {
        return WP_E_BODY_TOO_LARGE;
    }
    const struct model_team *team = submit->to_team ? &model->teams[submit->recipient] : NULL;
    if (!(team ? team->exists : model->users[submit->recipient].exists)) {
        return WP_E_UNKNOWN_RECIPIENT;
    }
    uint64_t ttl_ms = submit->ttl_ms ? submit->ttl_ms : model->limits.ttl_default_ms;
    if (ttl_ms > model->limits.ttl_max_ms) {
        return WP_E_EXPIRY_TOO_LONG;
    }
    result->expires_ms = model->time_ms + ttl_ms;
    const struct model_id *seen = id_find(model, submit->stream, submit->id);
    if (seen) {
        result->duplicate = true;
        result->accepted_ms = seen->accepted_ms;
        return WP_OK;
    }
    uint64_t made_ms = wp_uuid7_time_ms(submit->id);
    if (made_ms < model->floor_ms || made_ms + WINDOW_MS < model->time_ms) {
        return WP_E_ID_TOO_OLD;
    }
    if (made_ms > model->time_ms + TEN_MINUTES_MS) {
        return WP_E_ID_IN_FUTURE;
    }
    if (!make_room(model, false)) {
        return WP_E_SEEN_FULL;
    }
    bool limited = submit->lane == WP__LANE__STAT && model->limits.stat_per_minute_max > 0;
    if (limited && rate_tokens(model, submit->sender_user) < 60000) {
        return WP_E_RATE;
    }
    if (team) {
        return team->members >> submit->sender & 1 ? WP_OK : WP_E_DENIED;
    }
    touch(model, submit->recipient);
    return mailbox_has_room(model, submit->recipient, submit->envelope_size) ? WP_OK : WP_E_MAILBOX_FULL;
}

static struct model_message *message_add(
    struct model *model, uint32_t recipient, uint32_t lane, uint64_t expires_ms, uint64_t size)
{
    struct model_user *user = &model->users[recipient];
    assert(model->message_count < MODEL_MESSAGES);
    struct model_message *message = &model->messages[model->message_count++];
    *message = (struct model_message){
        .user = recipient,
        .lane = lane,
        .sequence = ++user->tail[lane],
        .expires_ms = expires_ms,
        .size = size,
        .kept = true,
        .owing = calloc(MODEL_DEVICES, sizeof *message->owing),
    };
    for (uint32_t d = 1; d < user->next_device; d++) {
        message->owing[d].owed = user->devices[d].exists;
    }
    return message;
}

static void appended_add(struct model *model, const struct model_message *message)
{
    assert(model->appended_count < 4096);
    model->appended[model->appended_count++] =
        (struct model_appended){message->user, message->lane, message->sequence};
}

static void trim(struct model *model, uint32_t user)
{
    for (;;) {
        uint64_t messages = 0;
        uint64_t bytes = 0;
        struct model_message *first = NULL;
        for (uint32_t i = model->message_first; i < model->message_count; i++) {
            struct model_message *message = &model->messages[i];
            if (!message->kept || message->user != user || message->lane >= WP_LANE_COUNT) {
                continue;
            }
            messages++;
            bytes += message->size;
            if (message->acknowledged && (!first || message->lane < first->lane)) {
                first = message;
            }
        }
        bool over =
            messages > 4 * model->limits.mailbox_messages_max || bytes > 4 * model->limits.mailbox_bytes_max;
        if (!over || !first) {
            return;
        }
        removal_add(model, first);
        message_drop(first);
    }
}

/* A message for members of a team arrives at one of them. */
static void fan_take(struct model *model, struct model_fan *fan, uint32_t person)
{
    bool exists = person < MODEL_USERS && model->users[person].exists;
    if (exists && fan->expires_ms <= model->time_ms) {
        end_add(model, fan->sender, person, fan->id, WP__RECEIPT_STATE__EXPIRED, WP_OK);
        return;
    }
    int refusal = WP_E_UNKNOWN_RECIPIENT;
    if (exists) {
        touch(model, person);
        refusal = mailbox_has_room(model, person, fan->envelope_size) ? WP_OK : WP_E_MAILBOX_FULL;
    }
    if (refusal) {
        end_add(model, fan->sender, person, fan->id, WP__RECEIPT_STATE__REFUSED, refusal);
        return;
    }
    struct model_message *message =
        message_add(model, person, fan->lane, fan->expires_ms, fan->envelope_size);
    message->told = fan->sender;
    memcpy(message->id, fan->id, 16);
    fan->body = fan->body ? fan->body : ++model->bodies;
    message->body = fan->body;
    appended_add(model, message);
    model->copy_count++;
    trim(model, person);
}

/* Who comes before whom by name. */
static uint32_t person_next(const struct model *model, uint32_t left)
{
    uint32_t first = MODEL_PEOPLE;
    for (uint32_t person = 0; person < MODEL_PEOPLE; person++) {
        if (left >> person & 1 &&
            (first == MODEL_PEOPLE || strcmp(model->people[person], model->people[first]) < 0)) {
            first = person;
        }
    }
    return first;
}

static struct model_item *item_add(struct model *model, uint32_t destination)
{
    struct model_peer *peer = &model->peers[destination];
    if (!peer->items) {
        peer->items = calloc(MODEL_ITEMS, sizeof *peer->items);
    }
    assert(peer->item_count < MODEL_ITEMS);
    struct model_item *item = &peer->items[peer->item_count++];
    *item = (struct model_item){.sequence = ++peer->last};
    return item;
}

static void team_send(struct model *model, const struct model_submit *submit, uint64_t expires_ms)
{
    struct model_fan fan = {.sender = submit->sender,
        .lane = submit->lane,
        .accepted_ms = model->time_ms,
        .expires_ms = expires_ms,
        .envelope_size = submit->envelope_size};
    memcpy(fan.id, submit->id, 16);
    uint32_t all = model->teams[submit->recipient].members & ~(1u << submit->sender);
    for (uint32_t left = all, person; (person = person_next(model, left)) < MODEL_PEOPLE;) {
        left &= ~(1u << person);
        if (model->shard_of(model->context, person) == MODEL_SHARD) {
            fan_take(model, &fan, person);
        }
    }
    fan.body = 0;
    for (uint32_t shard = 1; shard <= MODEL_SHARDS; shard++) {
        fan.recipients = 0;
        for (uint32_t person = 0; person < MODEL_PEOPLE; person++) {
            bool there = all >> person & 1 && model->shard_of(model->context, person) == shard;
            fan.recipients |= there ? 1u << person : 0;
        }
        if (fan.recipients && shard != MODEL_SHARD) {
            struct model_item *item = item_add(model, shard);
            item->team = true;
            item->fan = fan;
        }
    }
}

static bool receipts_wanted(const struct model *model, uint32_t user)
{
    for (uint32_t d = 1; d < model->users[user].next_device; d++) {
        if (model->users[user].devices[d].exists && model->users[user].devices[d].receipts) {
            return true;
        }
    }
    return false;
}

static void receipt_take(struct model *model, const struct model_end *end)
{
    uint32_t user = end->sender;
    if (user >= MODEL_USERS || !model->users[user].exists || !receipts_wanted(model, user)) {
        return;
    }
    touch(model, user);
    for (;;) {
        uint32_t count = 0;
        struct model_message *first = NULL;
        for (uint32_t i = model->message_first; i < model->message_count; i++) {
            struct model_message *message = &model->messages[i];
            if (message->kept && message->user == user && message->lane == WP__LANE__RECEIPT) {
                count++;
                first = first ? first : message;
            }
        }
        if (count < WP_RECEIPTS_MAX) {
            break;
        }
        removal_add(model, first);
        message_drop(first);
    }
    struct model_message *row =
        message_add(model, user, WP__LANE__RECEIPT, end->time_ms + WP_RECEIPT_LIFE_MS, 0);
    row->told = end->person;
    row->state = end->state;
    row->error = end->error;
    row->idle_device = end->idle_device;
    memcpy(row->id, end->id, 16);
    appended_add(model, row);
}

void model_close(struct model *model)
{
    for (uint32_t shard = 1; shard <= MODEL_SHARDS; shard++) {
        struct model_item *item = NULL;
        for (uint32_t i = 0; i < model->end_count; i++) {
            const struct model_end *end = &model->ends[i];
            if (model->shard_of(model->context, end->sender) != shard) {
                continue;
            }
            if (shard == MODEL_SHARD) {
                receipt_take(model, end);
                continue;
            }
            if (!item) {
                item = item_add(model, shard);
                item->ends = calloc(model->end_count, sizeof *item->ends);
            }
            item->ends[item->end_count++] = *end;
        }
    }
}

void model_take(struct model *model, uint32_t source, uint64_t sequence, const struct model_item *item)
{
    if (sequence != model->peers[source].taken + 1) {
        return;
    }
    model->peers[source].taken++;
    struct model_fan fan = item->fan;
    for (uint32_t person = 0; item->team && person < MODEL_USERS; person++) {
        if (fan.recipients >> person & 1) {
            fan_take(model, &fan, person);
        }
    }
    for (uint32_t i = 0; i < item->end_count; i++) {
        receipt_take(model, &item->ends[i]);
    }
}

void model_advance(struct model *model, uint32_t destination, uint64_t watermark)
{
    struct model_peer *peer = &model->peers[destination];
    if (watermark <= peer->watermark) {
        return;
    }
    peer->watermark = watermark;
    peer->last = watermark > peer->last ? watermark : peer->last;
    uint32_t gone = 0;
    while (gone < peer->item_count && peer->items[gone].sequence <= watermark) {
        free(peer->items[gone++].ends);
    }
    peer->item_count -= gone;
    if (peer->item_count > 0) {
        memmove(peer->items, peer->items + gone, peer->item_count * sizeof *peer->items);
    }
}

int model_team_add(struct model *model, uint32_t team)
{
    if (model->teams[team].exists) {
        return WP_E_EXISTS;
    }
    model->teams[team] = (struct model_team){.exists = true, .epoch = 1};
    return WP_OK;
}

int model_team_remove(struct model *model, uint32_t team)
{
    int error = model->teams[team].exists ? WP_OK : WP_E_NOT_FOUND;
    model->teams[team].exists = false;
    return error;
}

int model_team_members(struct model *model, uint32_t team, uint32_t people, bool add, uint32_t *ret_changed)
{
    struct model_team *found = &model->teams[team];
    if (!found->exists) {
        return WP_E_NOT_FOUND;
    }
    uint32_t after = add ? found->members | people : found->members & ~people;
    *ret_changed = (uint32_t)__builtin_popcount(after ^ found->members);
    found->epoch += after != found->members;
    found->members = after;
    return add || *ret_changed > 0 ? WP_OK : WP_E_UNKNOWN_RECIPIENT;
}

void model_idle_check(struct model *model)
{
    for (uint64_t mailbox = 1; mailbox <= model->mailboxes; mailbox++) {
        uint32_t user = 0;
        while (!model->users[user].exists || model->users[user].mailbox != mailbox) {
            user++;
        }
        for (uint32_t d = 1; d < model->users[user].next_device; d++) {
            struct model_device *device = &model->users[user].devices[d];
            if (device->exists && !device->warned &&
                model->time_ms >= device->active_ms + model->limits.inactive_ms / 7 * 5) {
                device->warned = true;
                model->idle_count++;
                end_add(model, user, 0, NULL, WP__RECEIPT_STATE__IDLE, WP_OK)->idle_device = d;
            }
        }
    }
}

struct model_submit_result model_submit(struct model *model, const struct model_submit *submit)
{
    struct model_submit_result result = {0};
    struct model_stream *stream = &model->streams[submit->stream];
    if (submit->epoch < stream->epoch) {
        result.error = WP_E_STALE_EPOCH;
        return result;
    }
    uint64_t expected = submit->epoch > stream->epoch ? 1 : stream->sequence + 1;
    if (submit->sequence != expected) {
        const struct model_id *seen = submit->epoch == stream->epoch && submit->sequence < expected
                                          ? id_find(model, submit->stream, submit->id)
                                          : NULL;
        bool past = submit->epoch == stream->epoch && submit->sequence < expected;
        result.error = seen ? WP_OK : past ? WP_E_TIMEOUT : WP_E_RESEND;
        result.duplicate = seen != NULL;
        result.accepted_ms = seen ? seen->accepted_ms : 0;
        result.resend_from = result.error == WP_E_RESEND ? expected : 0;
        return result;
    }
    stream->epoch = submit->epoch;
    stream->sequence = submit->sequence;
    result.error = submit_refusal(model, submit, &result);
    if (result.error || result.duplicate) {
        return result;
    }
    make_room(model, true);
    id_add(model, submit->stream, submit->id);
    if (submit->lane == WP__LANE__STAT && model->limits.stat_per_minute_max > 0) {
        uint64_t tokens = rate_tokens(model, submit->sender_user);
        model->rates[submit->sender_user] =
            (struct model_rate){.used = true, .tokens = tokens - 60000, .time_ms = model->time_ms};
    }
    result.accepted_ms = model->time_ms;
    if (submit->to_team) {
        team_send(model, submit, result.expires_ms);
        return result;
    }
    struct model_message *message =
        message_add(model, submit->recipient, submit->lane, result.expires_ms, submit->envelope_size);
    message->told = submit->sender;
    memcpy(message->id, submit->id, 16);
    result.sequence = message->sequence;
    appended_add(model, message);
    trim(model, submit->recipient);
    return result;
}

int model_user_add(struct model *model, uint32_t user)
{
    if (model->users[user].exists) {
        return WP_E_EXISTS;
    }
    model->users[user].exists = true;
    model->users[user].mailbox = ++model->mailboxes;
    model->users[user].next_device = 1;
    return WP_OK;
}

struct model_device *model_device(struct model *model, uint32_t user, const char *name, uint32_t *ret_number)
{
    for (uint32_t d = 1; d < model->users[user].next_device; d++) {
        struct model_device *device = &model->users[user].devices[d];
        if (device->exists && strcmp(device->name, name) == 0) {
            *ret_number = d;
            return device;
        }
    }
    return NULL;
}

static uint32_t device_count(const struct model_user *user)
{
    uint32_t count = 0;
    for (uint32_t d = 1; d < user->next_device; d++) {
        count += user->devices[d].exists;
    }
    return count;
}

int model_device_add(
    struct model *model, uint32_t user, const char *name, bool from_oldest, uint32_t *ret_number)
{
    struct model_user *found = &model->users[user];
    if (!found->exists) {
        return WP_E_NOT_FOUND;
    }
    touch(model, user);
    if (model_device(model, user, name, ret_number)) {
        return WP_E_EXISTS;
    }
    uint32_t others = device_count(found);
    if (others == WP_DEVICES_MAX) {
        return WP_E_FULL;
    }
    *ret_number = found->next_device++;
    assert(found->next_device <= MODEL_DEVICES);
    struct model_device *device = &found->devices[*ret_number];
    *device = (struct model_device){.exists = true, .epoch = found->epoch_floor, .active_ms = model->time_ms};
    strcpy(device->name, name);
    for (uint32_t i = model->message_first; i < model->message_count; i++) {
        if (model->messages[i].kept && model->messages[i].user == user) {
            model->messages[i].owing[*ret_number].owed = others == 0 || from_oldest;
        }
    }
    return WP_OK;
}

static void adopt(const struct model_user *user, struct model_message *message)
{
    for (uint32_t d = 1; d < user->next_device; d++) {
        if (user->devices[d].exists && message->owing[d].owed) {
            return;
        }
    }
    for (uint32_t d = 1; d < user->next_device; d++) {
        message->owing[d] = (struct model_owing){.owed = user->devices[d].exists};
    }
}

int model_device_remove(struct model *model, uint32_t user, const char *name)
{
    uint32_t number;
    struct model_device *device = model_device(model, user, name, &number);
    if (!device) {
        return WP_E_NOT_FOUND;
    }
    touch(model, user);
    struct model_user *found = &model->users[user];
    found->epoch_floor = device->epoch > found->epoch_floor ? device->epoch : found->epoch_floor;
    device->exists = false;
    for (uint32_t i = model->message_first; i < model->message_count; i++) {
        struct model_message *message = &model->messages[i];
        if (message->kept && message->user == user && !message->acknowledged) {
            adopt(found, message);
        }
    }
    sweep(model, user);
    return WP_OK;
}

struct model_attach_result model_attach(
    struct model *model, uint32_t user, const char *name, bool clean_start)
{
    struct model_attach_result result = {.error = WP_E_NOT_FOUND};
    struct model_device *device = model_device(model, user, name, &result.device);
    if (!device) {
        return result;
    }
    touch(model, user);
    show(model, device);
    result.error = WP_OK;
    result.epoch = ++device->epoch;
    device->subscribed = device->subscribed && !clean_start;
    device->receipts = device->receipts && !clean_start;
    result.session_present = device->subscribed || device->receipts;
    for (uint32_t i = model->message_first; i < model->message_count; i++) {
        struct model_message *message = &model->messages[i];
        struct model_owing *owing =
            message->kept && message->user == user ? &message->owing[result.device] : NULL;
        if (!owing || !owing->owed) {
            continue;
        }
        if (owing->set_aside) {
            owing->set_aside = false;
        } else if (message->sequence <= device->overdue[message->lane]) {
            owing->set_aside = ++owing->attempts >= WP_SET_ASIDE_ATTEMPTS;
        }
    }
    memset(device->overdue, 0, sizeof device->overdue);
    sweep(model, user);
    for (uint32_t i = model->message_first; i < model->message_count; i++) {
        const struct model_message *message = &model->messages[i];
        result.set_aside += message->kept && message->user == user && message->owing[result.device].set_aside;
    }
    return result;
}

int model_subscribe(
    struct model *model, uint32_t user, const char *name, uint64_t epoch, bool inbox, bool receipts)
{
    uint32_t number;
    struct model_device *device = model_device(model, user, name, &number);
    if (!device) {
        return WP_E_NOT_FOUND;
    }
    if (device->epoch != epoch) {
        return WP_E_STALE_EPOCH;
    }
    touch(model, user);
    device->subscribed = inbox;
    device->receipts = receipts;
    sweep(model, user);
    return WP_OK;
}

static void acknowledge(struct model *model, uint32_t user, uint32_t number, uint32_t lane, uint64_t sequence)
{
    struct model_device *device = &model->users[user].devices[number];
    if (sequence > model->users[user].tail[lane]) {
        return;
    }
    device->sent[lane] = sequence > device->sent[lane] ? sequence : device->sent[lane];
    for (uint32_t i = model->message_first; i < model->message_count; i++) {
        struct model_message *message = &model->messages[i];
        if (message->kept && message->user == user && message->lane == lane &&
            message->sequence == sequence && message->owing[number].owed) {
            if (!message->acknowledged && lane < WP_LANE_COUNT) {
                end_add(model, message->told, user, message->id, WP__RECEIPT_STATE__DELIVERED, WP_OK);
            }
            message->owing[number] = (struct model_owing){0};
            message->acknowledged = true;
        }
    }
}

void model_cursor(struct model *model, uint64_t mailbox, uint32_t device, uint32_t lane,
    const uint64_t *positions, uint32_t count, uint64_t sent, bool overdue)
{
    uint32_t user = 0;
    while (user < MODEL_USERS && (!model->users[user].exists || model->users[user].mailbox != mailbox)) {
        user++;
    }
    if (user == MODEL_USERS || device >= MODEL_DEVICES || !model->users[user].devices[device].exists) {
        return;
    }
    struct model_device *found = &model->users[user].devices[device];
    touch(model, user);
    show(model, found);
    for (uint32_t i = 0; i < count; i++) {
        acknowledge(model, user, device, lane, positions[i]);
    }
    sweep(model, user);
    uint64_t tail = model->users[user].tail[lane];
    sent = sent < tail ? sent : tail;
    found->sent[lane] = sent > found->sent[lane] ? sent : found->sent[lane];
    if (overdue && sent > found->overdue[lane]) {
        found->overdue[lane] = sent;
    }
}

static bool due_before(
    const struct model *model, const struct model_message *a, const struct model_message *b)
{
    uint64_t mailbox_a = model->users[a->user].mailbox;
    uint64_t mailbox_b = model->users[b->user].mailbox;
    if (a->expires_ms != b->expires_ms) {
        return a->expires_ms < b->expires_ms;
    }
    if (mailbox_a != mailbox_b) {
        return mailbox_a < mailbox_b;
    }
    return a->lane != b->lane ? a->lane < b->lane : a->sequence < b->sequence;
}

void model_expire(struct model *model, uint32_t limit, uint32_t *ret_expired, bool *ret_more)
{
    *ret_expired = 0;
    *ret_more = false;
    for (uint32_t removed = 0;; removed++) {
        struct model_message *first = NULL;
        for (uint32_t i = model->message_first; i < model->message_count; i++) {
            struct model_message *message = &model->messages[i];
            if (message->kept && message->expires_ms <= model->time_ms &&
                (!first || due_before(model, message, first))) {
                first = message;
            }
        }
        *ret_more = first && removed == limit;
        if (!first || *ret_more) {
            return;
        }
        removal_add(model, first);
        if (!first->acknowledged && first->lane < WP_LANE_COUNT) {
            ++*ret_expired;
            end_add(model, first->told, first->user, first->id, WP__RECEIPT_STATE__EXPIRED, WP_OK);
        }
        message_drop(first);
    }
}

const struct model_message *model_next_pending(
    const struct model *model, uint32_t user, uint32_t device, uint32_t lane, uint64_t after, uint64_t now_ms)
{
    const struct model_message *next = NULL;
    for (uint32_t i = model->message_first; i < model->message_count; i++) {
        const struct model_message *message = &model->messages[i];
        if (message->kept && message->user == user && message->lane == lane && message->sequence > after &&
            message->expires_ms > now_ms && message->owing[device].owed &&
            !message->owing[device].set_aside && (!next || message->sequence < next->sequence)) {
            next = message;
        }
    }
    return next;
}

uint64_t model_pending_count(const struct model *model, uint32_t user, uint32_t device, uint32_t lane)
{
    uint64_t count = 0;
    for (uint32_t i = model->message_first; i < model->message_count; i++) {
        const struct model_message *message = &model->messages[i];
        count +=
            message->kept && message->user == user && message->lane == lane && message->owing[device].owed;
    }
    return count;
}

uint64_t model_kept(const struct model *model, uint64_t *ret_bytes, uint64_t *ret_receipts)
{
    uint64_t count = 0;
    *ret_bytes = 0;
    *ret_receipts = 0;
    for (uint32_t i = model->message_first; i < model->message_count; i++) {
        bool receipt = model->messages[i].lane == WP__LANE__RECEIPT;
        *ret_receipts += model->messages[i].kept && receipt;
        count += model->messages[i].kept && !receipt;
        *ret_bytes += model->messages[i].kept ? model->messages[i].size : 0;
    }
    return count;
}

uint64_t model_bodies(const struct model *model, uint64_t *ret_copies)
{
    uint8_t *needed = calloc(model->bodies + 1, 1);
    assert(needed);
    *ret_copies = 0;
    for (uint32_t i = model->message_first; i < model->message_count; i++) {
        const struct model_message *message = &model->messages[i];
        if (message->kept && message->body) {
            needed[message->body] = 1;
            ++*ret_copies;
        }
    }
    uint64_t count = 0;
    for (uint64_t body = 1; body <= model->bodies; body++) {
        count += needed[body];
    }
    free(needed);
    return count;
}
