/* Users and devices as the operator sees them. The reactors copy what is asked for into memory of the task;
 * the HTTP thread makes JSON of it. Leaders answer for their shards: a follower may be behind, and knows
 * nobody who is connected. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cluster/group.h"
#include "router/admin_state.h"
#include "router/dispatch.h"

static const char *const lane_names[WP_LANE_COUNT] = {
    [WP__LANE__STAT] = "stat", [WP__LANE__URGENT] = "urgent", [WP__LANE__ROUTINE] = "routine"};

/* In the order in which they are served. */
json_t *admin_lanes_pack(const uint64_t counts[WP_LANE_COUNT])
{
    json_t *lanes = json_object();
    for (int lane = (int)WP_LANE_COUNT - 1; lane >= 0; lane--) {
        json_object_set_new(lanes, lane_names[lane], json_integer((json_int_t)counts[lane]));
    }
    return lanes;
}

/* --- users
 * -------------------------------------------------------------------------------------------------- */

struct user_row {
    char user[WP_NAME_SIZE_MAX + 1];
    uint32_t shard;
    uint32_t devices;
    uint64_t queued[WP_LANE_COUNT];
    uint64_t bytes;
    uint64_t created_ms;
};

/* One reactor's part; nobody else writes it. */
struct users_part {
    struct user_row *rows;
    size_t count;
    size_t capacity;
    bool failed;
};

struct users_data {
    char after[WP_NAME_SIZE_MAX + 1];
    uint32_t limit;
    bool any;
    struct users_part *parts; /* by reactor */
    bool *covered;            /* by shard - 1; each written by its reactor */
};

static void users_free(struct admin_task *task)
{
    struct users_data *data = task->data;
    for (uint32_t i = 0; data->parts && i < task->admin->config.reactor_count; i++) {
        free(data->parts[i].rows);
    }
    free(data->parts);
    free(data->covered);
    free(data);
}

struct users_walk {
    const struct users_data *data;
    struct users_part *part;
    uint32_t shard;
    uint32_t taken;
};

static void user_each(void *context, const struct wp_user_view *view)
{
    struct users_walk *walk = context;
    struct users_part *part = walk->part;
    /* One more than asked for tells whether there are more. */
    if (walk->taken > walk->data->limit || part->failed || strcmp(view->user, walk->data->after) <= 0) {
        return;
    }
    if (part->count == part->capacity) {
        size_t capacity = part->capacity ? 2 * part->capacity : 256;
        struct user_row *rows = realloc(part->rows, capacity * sizeof(*rows));
        if (!rows) {
            part->failed = true;
            return;
        }
        part->rows = rows;
        part->capacity = capacity;
    }
    struct user_row *row = &part->rows[part->count++];
    *row = (struct user_row){.shard = walk->shard, .devices = view->devices, .bytes = view->queued_bytes};
    row->created_ms = view->created_ms;
    memcpy(row->queued, view->queued, sizeof(row->queued));
    strncpy(row->user, view->user, WP_NAME_SIZE_MAX);
    walk->taken++;
}

static void users_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    struct users_data *data = task->data;
    for (uint32_t s = wp_reactor_shard_first(reactor); s; s = wp_reactor_shard_next(reactor, s)) {
        struct users_walk walk = {.data = data, .part = &data->parts[reactor_index], .shard = s};
        if (!data->any && !wp_group_leading(wp_reactor_group(reactor, s))) {
            continue;
        }
        data->covered[s - 1] = true;
        wp_machine_users_each(wp_reactor_machine(reactor, s), user_each, &walk);
    }
    admin_job_finish(task);
}

static int user_compare(const void *a, const void *b)
{
    return strcmp(((const struct user_row *)a)->user, ((const struct user_row *)b)->user);
}

static struct admin_answer users_pack(const struct wp_admin *admin, const struct users_data *data)
{
    size_t count = 0;
    bool failed = false;
    for (uint32_t i = 0; i < admin->config.reactor_count; i++) {
        count += data->parts[i].count;
        failed = failed || data->parts[i].failed;
    }
    struct user_row *all = calloc(count + 1, sizeof(*all));
    if (!all || failed) {
        free(all);
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    size_t at = 0;
    for (uint32_t i = 0; i < admin->config.reactor_count; i++) {
        const struct users_part *part = &data->parts[i];
        if (part->count > 0) {
            memcpy(all + at, part->rows, part->count * sizeof(*all));
        }
        at += part->count;
    }
    qsort(all, count, sizeof(*all), user_compare);
    json_t *users = json_array();
    for (size_t i = 0; i < count && i < data->limit; i++) {
        json_array_append_new(users,
            json_pack("{s:s, s:i, s:i, s:o, s:I, s:I}", "user", all[i].user, "shard", (int)all[i].shard,
                "devices", (int)all[i].devices, "queued", admin_lanes_pack(all[i].queued), "bytes",
                (json_int_t)all[i].bytes, "created_ms", (json_int_t)all[i].created_ms));
    }
    free(all);
    json_t *shards = json_array();
    for (uint32_t i = 0; i < admin->config.shard_count; i++) {
        if (data->covered[i]) {
            json_array_append_new(shards, json_integer((json_int_t)i + 1));
        }
    }
    return admin_ok(200, json_pack("{s:s, s:o, s:o, s:b}", "node", admin->config.node, "shards", shards,
                             "users", users, "more", count > data->limit));
}

struct admin_answer admin_users(struct wp_admin *admin, const char *after, uint32_t limit, bool any)
{
    struct users_data *data = calloc(1, sizeof(*data));
    struct admin_task *task = data ? admin_task_create(admin, users_run, users_free, data) : NULL;
    if (!task) {
        free(data);
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    strncpy(data->after, after, WP_NAME_SIZE_MAX);
    data->limit = limit;
    data->any = any;
    data->parts = calloc(admin->config.reactor_count, sizeof(*data->parts));
    data->covered = calloc(admin->config.shard_count, sizeof(*data->covered));
    int error =
        data->parts && data->covered ? admin_task_perform(task, admin_every_reactor(admin)) : WP_E_NOMEM;
    struct admin_answer answer = error ? admin_task_refusal(error) : users_pack(admin, data);
    admin_task_release(task);
    return answer;
}

/* --- devices
 * ------------------------------------------------------------------------------------------------ */

struct device_row {
    char device[WP_NAME_SIZE_MAX + 1];
    uint32_t number;
    uint64_t created_ms;
    uint64_t epoch;
    bool subscribed;
    bool receipts;
    bool attached;
    uint64_t active_ms;
    uint64_t pending[WP_LANE_COUNT];
    uint64_t set_aside;
};

struct devices_data {
    char user[WP_NAME_SIZE_MAX + 1];
    uint32_t shard;
    bool any;
    bool leading;
    int error;
    struct device_row rows[WP_DEVICES_MAX];
    uint32_t count;
};

static void devices_free(struct admin_task *task)
{
    free(task->data);
}

static void device_each(void *context, const struct wp_device_detail *detail)
{
    struct devices_data *data = context;
    if (data->count == WP_DEVICES_MAX) {
        return;
    }
    struct device_row *row = &data->rows[data->count++];
    strncpy(row->device, detail->device, WP_NAME_SIZE_MAX);
    row->number = detail->number;
    row->created_ms = detail->created_ms;
    row->epoch = detail->epoch;
    row->subscribed = detail->inbox_subscribed;
    row->receipts = detail->receipts_subscribed;
    row->active_ms = detail->active_ms;
    row->set_aside = detail->set_aside;
    memcpy(row->pending, detail->pending, sizeof(row->pending));
}

static void devices_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    (void)reactor_index;
    struct devices_data *data = task->data;
    const struct wp_machine *machine = wp_reactor_machine(reactor, data->shard);
    data->leading = machine && wp_group_leading(wp_reactor_group(reactor, data->shard));
    if (!machine || (!data->leading && !data->any)) {
        data->error = WP_E_NOT_LEADER;
        admin_job_finish(task);
        return;
    }
    data->error = wp_machine_devices_each(machine, data->user, device_each, data);
    for (uint32_t i = 0; i < data->count; i++) {
        struct wp_device_view view;
        data->rows[i].attached =
            wp_machine_device_find(machine, data->user, data->rows[i].device, &view) == WP_OK &&
            wp_dispatch_device_attached(wp_reactor_dispatch(reactor, data->shard), view.mailbox, view.device);
    }
    admin_job_finish(task);
}

static struct admin_answer devices_pack(struct wp_admin *admin, const struct devices_data *data)
{
    if (data->error == WP_E_NOT_LEADER) {
        return admin_not_leader(admin, data->shard);
    }
    if (data->error) {
        return admin_refusal(data->error, "there is no user \"%s\"", data->user);
    }
    json_t *devices = json_array();
    for (uint32_t i = 0; i < data->count; i++) {
        const struct device_row *row = &data->rows[i];
        json_array_append_new(
            devices, json_pack("{s:s, s:I, s:I, s:I, s:b, s:b, s:o, s:o, s:I}", "device", row->device,
                         "created_ms", (json_int_t)row->created_ms, "seen_ms", (json_int_t)row->active_ms,
                         "epoch", (json_int_t)row->epoch, "subscribed", row->subscribed, "receipts",
                         row->receipts, "attached", data->leading ? json_boolean(row->attached) : json_null(),
                         "pending", admin_lanes_pack(row->pending), "set_aside", (json_int_t)row->set_aside));
    }
    return admin_ok(
        200, json_pack("{s:s, s:s, s:i, s:s, s:o}", "user", data->user, "node", admin->config.node, "shard",
                 (int)data->shard, "role", data->leading ? "leader" : "follower", "devices", devices));
}

struct admin_answer admin_devices(struct wp_admin *admin, const char *user, bool any)
{
    struct devices_data *data = calloc(1, sizeof(*data));
    struct admin_task *task = data ? admin_task_create(admin, devices_run, devices_free, data) : NULL;
    if (!task) {
        free(data);
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    strncpy(data->user, user, WP_NAME_SIZE_MAX);
    data->any = any;
    data->shard = wp_shard_of(admin->config.hash_key, admin->config.shard_count, user);
    int error = admin_task_perform(task, UINT64_C(1) << admin_reactor_of(admin, data->shard));
    struct admin_answer answer = error ? admin_task_refusal(error) : devices_pack(admin, data);
    admin_task_release(task);
    return answer;
}
