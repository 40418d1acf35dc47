/* Users and devices: the records, their place in memory, and the commands that add, remove, attach and
 * subscribe.
 *
 * 1. Mailbox numbers are 1, 2, 3 ... in the order of USER_ADD; users are never removed.
 * 2. Device numbers of a mailbox grow and are never reused, nor is an attach epoch of a device name: a
 * removed device leaves its epoch behind as the floor for later ones, so that streams in other shards keep
 * their order. */
#include "router/machine_inner.h"

#include <stdlib.h>

#include "base/error.h"
#include "proto/address.h"

struct wp_slice wp_mailbox_key(const void *mailbox)
{
    const struct wp_mailbox *self = mailbox;
    return wp_slice(self->user, self->user_size);
}

struct wp_mailbox *wp_machine_mailbox(const struct wp_machine *machine, uint64_t number)
{
    return number >= 1 && number <= machine->mailbox_count ? machine->mailboxes[number - 1] : NULL;
}

struct wp_mailbox *wp_machine_user(const struct wp_machine *machine, struct wp_slice user)
{
    return wp_names_find(&machine->users, user, wp_names_hash(user));
}

static struct wp_mailbox *user_find(const struct wp_machine *machine, const char *user)
{
    return wp_machine_user(machine, wp_slice(user, strlen(user)));
}

struct wp_device *wp_mailbox_device(const struct wp_mailbox *mailbox, uint64_t number)
{
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        if (mailbox->devices[i]->number == number) {
            return mailbox->devices[i];
        }
    }
    return NULL;
}

struct wp_device *wp_mailbox_device_named(const struct wp_mailbox *mailbox, const char *name)
{
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        if (strcmp(mailbox->devices[i]->name, name) == 0) {
            return mailbox->devices[i];
        }
    }
    return NULL;
}

static int mailboxes_reserve(struct wp_machine *machine)
{
    if (machine->mailbox_count < machine->mailbox_capacity) {
        return WP_OK;
    }
    uint32_t capacity = machine->mailbox_capacity ? machine->mailbox_capacity * 2 : 64;
    struct wp_mailbox **mailboxes = realloc(machine->mailboxes, capacity * sizeof(struct wp_mailbox *));
    if (!mailboxes) {
        return WP_E_NOMEM;
    }
    machine->mailboxes = mailboxes;
    machine->mailbox_capacity = capacity;
    return WP_OK;
}

struct wp_mailbox *wp_machine_mailbox_add(struct wp_machine *machine, struct wp_slice user)
{
    if (machine->mailbox_count == WP_EXPIRY_MAILBOX_MAX || mailboxes_reserve(machine)) {
        return NULL;
    }
    struct wp_mailbox *mailbox = calloc(1, sizeof *mailbox + user.size + 1);
    if (!mailbox) {
        return NULL;
    }
    memcpy(mailbox->user, user.data, user.size);
    mailbox->user_size = (uint8_t)user.size;
    mailbox->number = machine->mailbox_count + 1;
    mailbox->next_device = 1;
    if (wp_names_insert(&machine->users, mailbox, wp_names_hash(user))) {
        free(mailbox);
        return NULL;
    }
    machine->mailboxes[machine->mailbox_count++] = mailbox;
    return mailbox;
}

static void device_destroy(struct wp_device *device)
{
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT; lane++) {
        wp_cursor_fini(&device->cursors[lane]);
    }
    free(device);
}

void wp_mailbox_destroy(struct wp_mailbox *mailbox)
{
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        device_destroy(mailbox->devices[i]);
    }
    free(mailbox->devices);
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT; lane++) {
        wp_lane_fini(&mailbox->lanes[lane]);
    }
    free(mailbox);
}

struct wp_device *wp_machine_device_add(
    struct wp_machine *machine, struct wp_mailbox *mailbox, const char *name, uint32_t number)
{
    struct wp_device **devices =
        realloc(mailbox->devices, (mailbox->device_count + 1) * sizeof(struct wp_device *));
    if (!devices) {
        return NULL;
    }
    mailbox->devices = devices;
    struct wp_device *device = calloc(1, sizeof *device + strlen(name) + 1);
    if (!device) {
        return NULL;
    }
    strcpy(device->name, name);
    device->number = number;
    mailbox->devices[mailbox->device_count++] = device;
    machine->devices++;
    return device;
}

static int command_decode(struct wp_machine *machine, const ProtobufCMessageDescriptor *descriptor,
    struct wp_slice payload, ProtobufCMessage **ret_command)
{
    return wp_schema_decode(descriptor, payload, &machine->arena, ret_command) ? WP_E_CORRUPT : WP_OK;
}

int wp_apply_user_add(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    Wp__CommandUserAdd *command;
    int error =
        command_decode(machine, &wp__command_user_add__descriptor, payload, (ProtobufCMessage **)&command);
    if (error) {
        return error;
    }
    if (!wp_address_valid(command->user)) {
        result->error = WP_E_INVALID;
        return WP_OK;
    }
    struct wp_mailbox *mailbox = user_find(machine, command->user);
    if (mailbox) {
        result->error = WP_E_EXISTS;
        result->admin.mailbox = mailbox->number;
        return WP_OK;
    }
    if (machine->mailbox_count == WP_EXPIRY_MAILBOX_MAX) {
        result->error = WP_E_FULL;
        return WP_OK;
    }
    mailbox = wp_machine_mailbox_add(machine, wp_slice(command->user, strlen(command->user)));
    if (!mailbox) {
        return WP_E_NOMEM;
    }
    mailbox->created_ms = machine->time_ms;
    mailbox->dirty_user = true;
    mailbox->dirty_record = true;
    wp_machine_mailbox_dirty(machine, mailbox);
    result->admin.mailbox = mailbox->number;
    return WP_OK;
}

/* Where a new device begins: the first one of a user gets everything kept, a later one what comes from now
 * on unless it is to begin at the oldest. */
static void cursors_begin(struct wp_mailbox *mailbox, struct wp_device *device, bool from_oldest)
{
    bool all = from_oldest || mailbox->device_count == 1;
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT; lane++) {
        struct wp_cursor *cursor = &device->cursors[lane];
        cursor->passed = all ? 0 : mailbox->lanes[lane].tail;
        wp_cursor_recount(cursor, &mailbox->lanes[lane]);
        device->dirty |= WP_DEVICE_DIRTY_CURSOR(lane);
    }
}

static int device_add_check(const struct wp_mailbox *mailbox, const Wp__CommandDeviceAdd *command)
{
    if (!wp_address_valid(command->device) || command->secret_hash.len != WP_SECRET_HASH_SIZE) {
        return WP_E_INVALID;
    }
    if (wp_mailbox_device_named(mailbox, command->device)) {
        return WP_E_EXISTS;
    }
    return mailbox->device_count < WP_DEVICES_MAX && mailbox->next_device < UINT32_MAX ? WP_OK : WP_E_FULL;
}

int wp_apply_device_add(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    Wp__CommandDeviceAdd *command;
    int error =
        command_decode(machine, &wp__command_device_add__descriptor, payload, (ProtobufCMessage **)&command);
    if (error) {
        return error;
    }
    struct wp_mailbox *mailbox = user_find(machine, command->user);
    if (!mailbox) {
        result->error = WP_E_NOT_FOUND;
        return WP_OK;
    }
    wp_mailbox_touch(machine, mailbox);
    result->admin.mailbox = mailbox->number;
    result->error = device_add_check(mailbox, command);
    if (result->error) {
        return WP_OK;
    }
    struct wp_device *device = wp_machine_device_add(machine, mailbox, command->device, mailbox->next_device);
    if (!device) {
        return WP_E_NOMEM;
    }
    mailbox->next_device++;
    mailbox->dirty_user = true;
    device->created_ms = machine->time_ms;
    device->epoch = mailbox->epoch_floor;
    memcpy(device->secret_hash, command->secret_hash.data, WP_SECRET_HASH_SIZE);
    device->active_ms = machine->time_ms;
    wp_mailbox_device_active(machine, mailbox, device);
    cursors_begin(mailbox, device, command->from_oldest);
    wp_machine_device_dirty(machine, mailbox, device, WP_DEVICE_DIRTY_RECORD);
    result->admin.device = device->number;
    return WP_OK;
}

/* Messages that only the removed device would still have got go to the ones that stay: adding a new phone and
 * then removing the lost one must not leave anything behind. */
static int orphans_adopt(
    struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane, const struct wp_row *row)
{
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        if (wp_cursor_owing(&mailbox->devices[i]->cursors[lane], row->sequence) != WP_SETTLED) {
            return WP_OK;
        }
    }
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        struct wp_device *device = mailbox->devices[i];
        int error = wp_cursor_owe(&device->cursors[lane], row);
        if (error) {
            return error;
        }
        wp_machine_device_dirty(machine, mailbox, device, WP_DEVICE_DIRTY_CURSOR(lane));
    }
    return WP_OK;
}

static int device_removed(struct wp_machine *machine, struct wp_mailbox *mailbox)
{
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT; lane++) {
        for (uint32_t index = 0; index < mailbox->lanes[lane].count; index++) {
            const struct wp_row *row = wp_lane_row(&mailbox->lanes[lane], index);
            int error = row->acknowledged ? WP_OK : orphans_adopt(machine, mailbox, lane, row);
            if (error) {
                return error;
            }
        }
    }
    wp_mailbox_sweep(machine, mailbox);
    return WP_OK;
}

static void device_delete_rows(
    struct wp_machine *machine, const struct wp_mailbox *mailbox, const struct wp_device *device)
{
    struct wp_key key;
    wp_key_device(&key, machine->shard, mailbox->number, device->number);
    wp_state_delete(machine->batch, wp_key_slice(&key));
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT; lane++) {
        wp_key_cursor(&key, machine->shard, mailbox->number, device->number, (uint8_t)lane);
        wp_state_delete(machine->batch, wp_key_slice(&key));
    }
}

int wp_apply_device_remove(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    Wp__CommandDeviceRemove *command;
    int error = command_decode(
        machine, &wp__command_device_remove__descriptor, payload, (ProtobufCMessage **)&command);
    if (error) {
        return error;
    }
    struct wp_mailbox *mailbox = user_find(machine, command->user);
    struct wp_device *device = mailbox ? wp_mailbox_device_named(mailbox, command->device) : NULL;
    if (!device) {
        result->error = WP_E_NOT_FOUND;
        return WP_OK;
    }
    wp_mailbox_touch(machine, mailbox);
    result->admin.mailbox = mailbox->number;
    result->admin.device = device->number;
    if (device->epoch > mailbox->epoch_floor && WP_BUG != 36) { /* 36: epochs begin anew with a new device */
        mailbox->epoch_floor = device->epoch;
    }
    mailbox->dirty_user = true;
    wp_machine_mailbox_dirty(machine, mailbox);
    device_delete_rows(machine, mailbox, device);
    uint32_t index = 0;
    while (mailbox->devices[index] != device) {
        index++;
    }
    mailbox->device_count--;
    memmove(&mailbox->devices[index], &mailbox->devices[index + 1],
        (mailbox->device_count - index) * sizeof(struct wp_device *));
    device_destroy(device);
    machine->devices--;
    return device_removed(machine, mailbox);
}

/* What is set aside counts as passed, so an acknowledged message may be free to go now. */
static int lane_attach(struct wp_machine *machine, struct wp_mailbox *mailbox, struct wp_device *device,
    uint32_t lane, uint32_t *set_aside)
{
    struct wp_cursor *cursor = &device->cursors[lane];
    uint32_t count;
    int error = wp_cursor_attach(cursor, &mailbox->lanes[lane], WP_SET_ASIDE_ATTEMPTS, &count);
    if (error) {
        return error;
    }
    wp_machine_device_dirty(machine, mailbox, device, WP_DEVICE_DIRTY_CURSOR(lane));
    *set_aside += count;
    for (uint32_t i = cursor->owed_count; i > 0 && count > 0; i--) {
        const struct wp_owed *owed = &cursor->owed[i - 1];
        if (owed->set_aside) {
            uint32_t index = wp_lane_find(&mailbox->lanes[lane], owed->sequence);
            *set_aside -= wp_mailbox_drop_if_free(machine, mailbox, lane, index);
        }
    }
    return WP_OK;
}

/* A device that does not want receipts holds none. */
static void subscribe_receipts(
    struct wp_machine *machine, struct wp_mailbox *mailbox, struct wp_device *device, bool receipts)
{
    bool ended = device->receipts_subscribed && !receipts;
    device->receipts_subscribed = receipts;
    if (ended) {
        wp_mailbox_sweep(machine, mailbox);
    }
}

int wp_apply_attach(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    Wp__CommandAttach *command;
    int error =
        command_decode(machine, &wp__command_attach__descriptor, payload, (ProtobufCMessage **)&command);
    if (error) {
        return error;
    }
    struct wp_mailbox *mailbox = user_find(machine, command->user);
    struct wp_device *device = mailbox ? wp_mailbox_device_named(mailbox, command->device) : NULL;
    if (!device) {
        result->error = WP_E_NOT_FOUND;
        return WP_OK;
    }
    wp_mailbox_touch(machine, mailbox);
    wp_mailbox_device_active(machine, mailbox, device);
    device->epoch++;
    device->inbox_subscribed = device->inbox_subscribed && !command->clean_start;
    subscribe_receipts(machine, mailbox, device, device->receipts_subscribed && !command->clean_start);
    result->attach.session_present = device->inbox_subscribed || device->receipts_subscribed;
    wp_machine_device_dirty(machine, mailbox, device, WP_DEVICE_DIRTY_RECORD);
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT && !error; lane++) {
        error = lane_attach(machine, mailbox, device, lane, &result->attach.set_aside);
    }
    result->attach.mailbox = mailbox->number;
    result->attach.device = device->number;
    result->attach.epoch = device->epoch;
    result->attach.inbox_subscribed = device->inbox_subscribed;
    result->attach.receipts_subscribed = device->receipts_subscribed;
    return error;
}

int wp_apply_subscribe(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    Wp__CommandSubscribe *command;
    int error =
        command_decode(machine, &wp__command_subscribe__descriptor, payload, (ProtobufCMessage **)&command);
    if (error) {
        return error;
    }
    struct wp_mailbox *mailbox = user_find(machine, command->user);
    struct wp_device *device = mailbox ? wp_mailbox_device_named(mailbox, command->device) : NULL;
    if (!device) {
        result->error = WP_E_NOT_FOUND;
        return WP_OK;
    }
    result->admin.mailbox = mailbox->number;
    result->admin.device = device->number;
    if (command->epoch != device->epoch) {
        result->error = WP_E_STALE_EPOCH;
        return WP_OK;
    }
    wp_mailbox_touch(machine, mailbox);
    device->inbox_subscribed = command->inbox;
    subscribe_receipts(machine, mailbox, device, command->receipts);
    wp_machine_device_dirty(machine, mailbox, device, WP_DEVICE_DIRTY_RECORD);
    return WP_OK;
}
