/* What the operator may change: users and devices, one by one or many at once. All of it is one batch of
 * commands that each reactor proposes for its shards; the entries of a batch are filled like those of a busy
 * turn, so that 10,000 users are a few dozen entries.
 *
 * Secrets are made here, answered once and never kept: the log and the state hold their keyed hash. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "proto/frame.h"
#include "router/admin_state.h"
#include "router/policy.h"
#include "router/reactor_meta.h"

#define SECRET_BYTES 32u
#define SECRET_TEXT_SIZE 44u /* base64url of 32 bytes without padding, and the end mark */
#define BATCH_ITEMS_MAX 400000u

struct item {
    uint8_t command;       /* WP_COMMAND_USER_ADD, DEVICE_ADD, DEVICE_REMOVE */
    bool exists_fine;      /* USER_ADD: an existing user is no error */
    enum device_from from; /* DEVICE_ADD */
    uint32_t shard;
    int error; /* outcome */
    char user[WP_NAME_SIZE_MAX + 1];
    char device[WP_NAME_SIZE_MAX + 1];
    char secret[SECRET_TEXT_SIZE];
};

struct batch;

/* One reactor's part of the answers. */
struct batch_part {
    struct wp_answer answer; /* first: the reactor gives it back */
    struct admin_task *task;
    uint32_t open; /* commands not answered; one more while they are proposed */
};

struct batch {
    struct item *items;
    uint32_t count;
    uint32_t capacity;
    struct batch_part *parts; /* by reactor */
};

static void batch_free(struct admin_task *task)
{
    struct batch *batch = task->data;
    sodium_memzero(batch->items, batch->count * sizeof(*batch->items));
    free(batch->items);
    free(batch->parts);
    free(batch);
}

static struct item *batch_add(
    struct wp_admin *admin, struct batch *batch, uint8_t command, const char *user, const char *device)
{
    if (batch->count == batch->capacity) {
        uint32_t capacity = batch->capacity ? 2 * batch->capacity : 16;
        struct item *items = capacity <= BATCH_ITEMS_MAX ? calloc(capacity, sizeof(*items)) : NULL;
        if (!items) {
            return NULL;
        }
        if (batch->count > 0) {
            memcpy(items, batch->items, batch->count * sizeof(*items));
            sodium_memzero(batch->items, batch->count * sizeof(*items));
        }
        free(batch->items);
        batch->items = items;
        batch->capacity = capacity;
    }
    struct item *item = &batch->items[batch->count++];
    item->command = command;
    item->shard = wp_shard_of(admin->config.hash_key, admin->config.shard_count, user);
    strncpy(item->user, user, WP_NAME_SIZE_MAX);
    strncpy(item->device, device ? device : "", WP_NAME_SIZE_MAX);
    if (command == WP_COMMAND_DEVICE_ADD) {
        uint8_t raw[SECRET_BYTES];
        randombytes_buf(raw, sizeof(raw));
        sodium_bin2base64(
            item->secret, sizeof(item->secret), raw, sizeof(raw), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        sodium_memzero(raw, sizeof(raw));
    }
    return item;
}

/* --- on the reactor's thread
 * ---------------------------------------------------------------------------------- */

static void part_close_one(struct batch_part *part)
{
    if (--part->open == 0) {
        admin_job_finish(part->task);
    }
}

static void item_answered(struct wp_answer *answer, uint32_t index, int error)
{
    struct batch_part *part = (struct batch_part *)answer;
    struct batch *batch = part->task->data;
    struct item *item = &batch->items[index];
    item->error = item->exists_fine && error == WP_E_EXISTS ? WP_OK : error;
    part_close_one(part);
}

static bool policy_oldest(const struct wp_reactor *reactor)
{
    return wp_policy_get(wp_reactor_roster(reactor), WP_POLICY_LATE_DEVICE) == WP_LATE_DEVICE_OLDEST;
}

static int item_propose(struct wp_reactor *reactor, struct wp_admin *admin, struct item *item, uint32_t index,
    struct batch_part *part)
{
    Wp__CommandUserAdd user_add = WP__COMMAND_USER_ADD__INIT;
    Wp__CommandDeviceAdd device_add = WP__COMMAND_DEVICE_ADD__INIT;
    Wp__CommandDeviceRemove device_remove = WP__COMMAND_DEVICE_REMOVE__INIT;
    uint8_t hash[WP_SECRET_HASH_SIZE];
    const ProtobufCMessage *message = &user_add.base;
    user_add.user = device_add.user = device_remove.user = item->user;
    device_add.device = device_remove.device = item->device;
    if (item->command == WP_COMMAND_DEVICE_ADD) {
        wp_machine_secret_hash(admin->config.secret_key, wp_slice(item->secret, strlen(item->secret)), hash);
        device_add.secret_hash = (ProtobufCBinaryData){sizeof(hash), hash};
        device_add.from_oldest =
            item->from == DEVICE_FROM_POLICY ? policy_oldest(reactor) : item->from == DEVICE_FROM_OLDEST;
        message = &device_add.base;
    } else if (item->command == WP_COMMAND_DEVICE_REMOVE) {
        message = &device_remove.base;
    }
    return wp_reactor_propose(reactor, item->shard, item->command, message, &part->answer, index);
}

static void batch_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    struct batch *batch = task->data;
    struct batch_part *part = &batch->parts[reactor_index];
    part->answer.answered = item_answered;
    part->task = task;
    part->open = 1;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct item *item = &batch->items[i];
        if (admin_reactor_of(task->admin, item->shard) != reactor_index) {
            continue;
        }
        const struct wp_machine *machine = wp_reactor_machine(reactor, item->shard);
        if (item->exists_fine && machine && wp_machine_user_exists(machine, item->user)) {
            continue;
        }
        part->open++;
        int error = item_propose(reactor, task->admin, item, i, part);
        if (error) {
            item->error = error;
            part->open--;
        }
    }
    part_close_one(part);
}

/* --- requests
 * ------------------------------------------------------------------------------------------------- */

static struct admin_task *batch_task(struct wp_admin *admin)
{
    struct batch *batch = calloc(1, sizeof(*batch));
    struct admin_task *task = batch ? admin_task_create(admin, batch_run, batch_free, batch) : NULL;
    if (!task) {
        free(batch);
        return NULL;
    }
    batch->parts = calloc(admin->config.reactor_count, sizeof(*batch->parts));
    return task;
}

static int batch_perform(struct wp_admin *admin, struct admin_task *task)
{
    struct batch *batch = task->data;
    uint64_t bits = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        bits |= UINT64_C(1) << admin_reactor_of(admin, batch->items[i].shard);
    }
    return batch->parts ? admin_task_perform(task, bits) : WP_E_NOMEM;
}

static struct admin_answer item_refusal(const struct item *item, int error)
{
    static const struct {
        uint8_t command;
        int error;
        const char *sentence;
    } rows[] = {
        {WP_COMMAND_USER_ADD, WP_E_EXISTS, "there is a user \"%s\" already"},
        {WP_COMMAND_DEVICE_ADD, WP_E_EXISTS, "user \"%s\" has a device \"%s\" already"},
        {WP_COMMAND_DEVICE_ADD, WP_E_NOT_FOUND, "there is no user \"%s\"; add the user first"},
        {WP_COMMAND_DEVICE_ADD, WP_E_FULL, "user \"%s\" has as many devices as a user may have"},
        {WP_COMMAND_DEVICE_REMOVE, WP_E_NOT_FOUND, "user \"%s\" has no device \"%s\""},
    };
    char message[256];
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        if (rows[i].command == item->command && rows[i].error == error) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(message, sizeof(message), rows[i].sentence, item->user, item->device);
#pragma GCC diagnostic pop
            return admin_refusal(error, "%s", message);
        }
    }
    return error == WP_E_TIMEOUT
               ? admin_refusal(error, "the shard did not answer in time; it may still do it")
               : admin_refusal(error, "not possible now: %s", wp_error_text(error));
}

static struct admin_answer added_pack(const struct item *item)
{
    if (item->command == WP_COMMAND_USER_ADD) {
        return admin_ok(201, json_pack("{s:s, s:i}", "user", item->user, "shard", (int)item->shard));
    }
    if (item->command == WP_COMMAND_DEVICE_REMOVE) {
        return admin_ok(200, json_pack("{s:s, s:s}", "user", item->user, "device", item->device));
    }
    char username[2 * WP_NAME_SIZE_MAX + 2];
    snprintf(username, sizeof(username), "%s/%s", item->user, item->device);
    return admin_ok(201, json_pack("{s:s, s:s, s:s, s:s}", "user", item->user, "device", item->device,
                             "username", username, "secret", item->secret));
}

static struct admin_answer one(
    struct wp_admin *admin, uint8_t command, const char *user, const char *device, enum device_from from)
{
    struct admin_task *task = batch_task(admin);
    if (!task) {
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    struct item *item = batch_add(admin, task->data, command, user, device);
    if (item) {
        item->from = from;
    }
    int error = item ? batch_perform(admin, task) : WP_E_NOMEM;
    struct admin_answer answer;
    if (!item) {
        answer = admin_refusal(WP_E_NOMEM, "out of memory");
    } else if (error || item->error) {
        answer = item_refusal(item, error ? error : item->error);
    } else {
        answer = added_pack(item);
    }
    admin_task_release(task);
    return answer;
}

struct admin_answer admin_user_add(struct wp_admin *admin, const char *user)
{
    return one(admin, WP_COMMAND_USER_ADD, user, NULL, DEVICE_FROM_POLICY);
}

struct admin_answer admin_device_add(
    struct wp_admin *admin, const char *user, const char *device, enum device_from from)
{
    return one(admin, WP_COMMAND_DEVICE_ADD, user, device, from);
}

struct admin_answer admin_device_remove(struct wp_admin *admin, const char *user, const char *device)
{
    return one(admin, WP_COMMAND_DEVICE_REMOVE, user, device, DEVICE_FROM_POLICY);
}

static int provision_row(struct wp_admin *admin, struct batch *batch, const json_t *row)
{
    const char *user = json_string_value(json_object_get(row, "user"));
    const json_t *devices = json_object_get(row, "devices");
    if (!user || !wp_address_valid(user) || (devices && !json_is_array(devices))) {
        return WP_E_INVALID;
    }
    struct item *item = batch_add(admin, batch, WP_COMMAND_USER_ADD, user, NULL);
    if (!item) {
        return WP_E_TOO_LARGE;
    }
    item->exists_fine = true;
    size_t i;
    const json_t *name;
    json_array_foreach(devices, i, name)
    {
        const char *device = json_string_value(name);
        if (!device || !wp_address_valid(device)) {
            return WP_E_INVALID;
        }
        if (!batch_add(admin, batch, WP_COMMAND_DEVICE_ADD, user, device)) {
            return WP_E_TOO_LARGE;
        }
    }
    return WP_OK;
}

static struct admin_answer provisioned_pack(const struct batch *batch)
{
    json_t *devices = json_array();
    json_t *errors = json_array();
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct item *item = &batch->items[i];
        char username[2 * WP_NAME_SIZE_MAX + 2];
        snprintf(username, sizeof(username), "%s%s%s", item->user, item->device[0] ? "/" : "", item->device);
        if (item->error) {
            json_array_append_new(
                errors, json_pack("{s:s, s:s}", "username", username, "error", wp_error_slug(item->error)));
        } else if (item->command == WP_COMMAND_DEVICE_ADD) {
            json_array_append_new(
                devices, json_pack("{s:s, s:s}", "username", username, "secret", item->secret));
        }
    }
    return admin_ok(200, json_pack("{s:o, s:o}", "devices", devices, "errors", errors));
}

struct admin_answer admin_provision(struct wp_admin *admin, const json_t *users)
{
    struct admin_task *task = batch_task(admin);
    if (!task) {
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    int error = WP_OK;
    size_t i;
    const json_t *row;
    json_array_foreach(users, i, row)
    {
        error = provision_row(admin, task->data, row);
        if (error) {
            break;
        }
    }
    struct admin_answer answer;
    if (error) {
        answer = admin_refusal(
            error, "\"users\" entry %zu: give {\"user\": NAME, \"devices\": [NAME]} with valid names", i);
    } else {
        error = batch_perform(admin, task);
        answer = error ? item_refusal(&(struct item){.command = WP_COMMAND_USER_ADD}, error)
                       : provisioned_pack(task->data);
    }
    admin_task_release(task);
    return answer;
}
