#include "tests/unit/machine_model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "proto/uuid.h"

#define WINDOW_MS (24ull * 3600 * 1000)
#define TEN_MINUTES_MS (10ull * 60 * 1000)

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
        if (user->devices[d].exists && !user->devices[d].inactive && owing->owed && !owing->set_aside) {
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
    if (device->inactive || model->time_ms - device->active_ms >= model->limits.inactive_ms / 168) {
        device->active_ms = model->time_ms;
    }
    device->inactive = false;
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
            if (message->kept && message->user == user && (d == 0 || message->owing[d].owed)) {
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
    if (!model->users[submit->recipient].exists) {
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
    touch(model, submit->recipient);
    return mailbox_has_room(model, submit->recipient, submit->envelope_size) ? WP_OK : WP_E_MAILBOX_FULL;
}

static void message_add(
    struct model *model, const struct model_submit *submit, struct model_submit_result *result)
{
    struct model_user *user = &model->users[submit->recipient];
    assert(model->message_count < MODEL_MESSAGES);
    struct model_message *message = &model->messages[model->message_count++];
    *message = (struct model_message){
        .user = submit->recipient,
        .lane = submit->lane,
        .sequence = ++user->tail[submit->lane],
        .expires_ms = result->expires_ms,
        .size = submit->envelope_size,
        .kept = true,
        .owing = calloc(MODEL_DEVICES, sizeof *message->owing),
    };
    for (uint32_t d = 1; d < user->next_device; d++) {
        message->owing[d].owed = user->devices[d].exists;
    }
    result->accepted_ms = model->time_ms;
    result->sequence = message->sequence;
}

static void trim(struct model *model, uint32_t user, struct model_submit_result *result)
{
    for (;;) {
        uint64_t messages = 0;
        uint64_t bytes = 0;
        struct model_message *first = NULL;
        for (uint32_t i = model->message_first; i < model->message_count; i++) {
            struct model_message *message = &model->messages[i];
            if (!message->kept || message->user != user) {
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
        assert(result->removal_count < 64);
        result->removals[result->removal_count++] = (struct wp_removal){.mailbox = model->users[user].mailbox,
            .lane = (Wp__Lane)first->lane,
            .sequence = first->sequence};
        message_drop(first);
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
    message_add(model, submit, &result);
    trim(model, submit->recipient, &result);
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

int model_device_add(struct model *model, uint32_t user, const char *name, uint32_t *ret_number)
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
            model->messages[i].owing[*ret_number].owed = others == 0;
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
    result.session_present = device->subscribed && !clean_start;
    device->subscribed = result.session_present;
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

int model_subscribe(struct model *model, uint32_t user, const char *name, uint64_t epoch, bool inbox)
{
    uint32_t number;
    struct model_device *device = model_device(model, user, name, &number);
    if (!device) {
        return WP_E_NOT_FOUND;
    }
    if (device->epoch != epoch) {
        return WP_E_STALE_EPOCH;
    }
    device->subscribed = inbox;
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

uint32_t model_expire(struct model *model, uint32_t limit, struct wp_removal *ret_removals,
    uint32_t *ret_expired, bool *ret_more)
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
            return removed;
        }
        ret_removals[removed] = (struct wp_removal){.mailbox = model->users[first->user].mailbox,
            .lane = (Wp__Lane)first->lane,
            .sequence = first->sequence};
        *ret_expired += !first->acknowledged;
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

uint64_t model_kept(const struct model *model, uint64_t *ret_bytes)
{
    uint64_t count = 0;
    *ret_bytes = 0;
    for (uint32_t i = model->message_first; i < model->message_count; i++) {
        count += model->messages[i].kept;
        *ret_bytes += model->messages[i].kept ? model->messages[i].size : 0;
    }
    return count;
}
