/* What the operator may look at. The reactors copy what is asked for into memory of the task; the HTTP thread
 * makes JSON of it. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "cluster/group.h"
#include "router/admin_state.h"
#include "router/dispatch.h"

static const char *const lane_names[WP_LANE_COUNT] = {
    [WP__LANE__STAT] = "stat", [WP__LANE__URGENT] = "urgent", [WP__LANE__ROUTINE] = "routine"};

static uint64_t every_reactor(const struct wp_admin *admin)
{
    return admin->config.reactor_count >= 64 ? UINT64_MAX : (UINT64_C(1) << admin->config.reactor_count) - 1;
}

static struct admin_answer task_refusal(int error)
{
    return error == WP_E_TIMEOUT
               ? admin_refusal(error, "the router did not answer within 5 seconds; it may still do it")
               : admin_refusal(error, "the router takes no requests now, try again");
}

/* In the order in which they are served. */
static json_t *lanes_pack(const uint64_t counts[WP_LANE_COUNT])
{
    json_t *lanes = json_object();
    for (int lane = (int)WP_LANE_COUNT - 1; lane >= 0; lane--) {
        json_object_set_new(lanes, lane_names[lane], json_integer((json_int_t)counts[lane]));
    }
    return lanes;
}

/* --- status
 * ------------------------------------------------------------------------------------------------- */

struct shard_row {
    bool leading;
    uint64_t term;
    uint64_t applied;
    struct wp_machine_totals totals;
};

struct status_data {
    struct shard_row *shards; /* by number - 1; each written by its reactor */
    uint8_t *gateways_up;     /* [reactor][gateway] */
};

static void status_free(struct admin_task *task)
{
    struct status_data *data = task->data;
    free(data->shards);
    free(data->gateways_up);
    free(data);
}

struct gateway_search {
    const struct wp_admin_config *config;
    uint8_t *up;
};

static void gateway_each(void *context, const char *node)
{
    struct gateway_search *search = context;
    for (uint32_t i = 0; i < search->config->gateway_count; i++) {
        if (!strcmp(search->config->gateways[i], node)) {
            search->up[i] = 1;
        }
    }
}

static void status_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    struct status_data *data = task->data;
    const struct wp_admin_config *config = &task->admin->config;
    for (uint32_t s = wp_reactor_shard_first(reactor); s; s = wp_reactor_shard_next(reactor, s)) {
        struct shard_row *row = &data->shards[s - 1];
        const struct wp_group *group = wp_reactor_group(reactor, s);
        row->leading = wp_group_leading(group);
        row->term = wp_group_term(group);
        row->applied = wp_group_applied_index(group);
        wp_machine_totals(wp_reactor_machine(reactor, s), &row->totals);
    }
    struct gateway_search search = {
        config, data->gateways_up + (size_t)reactor_index * config->gateway_count};
    wp_reactor_peers_each(reactor, gateway_each, &search);
    admin_job_finish(task);
}

static json_t *shards_pack(const struct wp_admin *admin, const struct status_data *data)
{
    json_t *shards = json_array();
    for (uint32_t i = 0; i < admin->config.shard_count; i++) {
        const struct shard_row *row = &data->shards[i];
        json_array_append_new(
            shards, json_pack("{s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "shard", (int)i + 1, "role",
                        row->leading ? "leader" : "follower", "term", (json_int_t)row->term, "applied",
                        (json_int_t)row->applied, "users", (json_int_t)row->totals.users, "devices",
                        (json_int_t)row->totals.devices, "messages", (json_int_t)row->totals.messages,
                        "bytes", (json_int_t)row->totals.bytes));
    }
    return shards;
}

static json_t *gateways_pack(const struct wp_admin *admin, const struct status_data *data)
{
    json_t *gateways = json_array();
    for (uint32_t i = 0; i < admin->config.gateway_count; i++) {
        bool up = false;
        for (uint32_t r = 0; r < admin->config.reactor_count; r++) {
            up = up || data->gateways_up[(size_t)r * admin->config.gateway_count + i];
        }
        json_array_append_new(gateways, json_pack("{s:s, s:b}", "node", admin->config.gateways[i], "up", up));
    }
    return gateways;
}

static struct admin_answer status_pack(const struct wp_admin *admin, const struct status_data *data)
{
    const struct wp_admin_config *config = &admin->config;
    bool ready = true;
    for (uint32_t i = 0; i < config->reactor_count; i++) {
        ready = ready && wp_reactor_ready(config->reactors[i]);
    }
    struct wp_store_disk disk;
    wp_store_disk(config->store, &disk);
    return admin_ok(
        200, json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:o, s:{s:I, s:I, s:b, s:s}, s:o}", "node",
                 config->node, "version", WP_VERSION, "cluster_id", config->cluster_id, "boot",
                 (json_int_t)wp_store_boot(config->store), "uptime_s",
                 (json_int_t)((wp_clock_boot_ms() - admin->started_ms) / 1000), "ready", ready, "shards",
                 shards_pack(admin, data), "disk", "free_bytes", (json_int_t)disk.free_bytes, "reserve_bytes",
                 (json_int_t)disk.reserve_bytes, "full", disk.full, "file_system", disk.file_system,
                 "gateways", gateways_pack(admin, data)));
}

struct admin_answer admin_status(struct wp_admin *admin)
{
    struct status_data *data = calloc(1, sizeof(*data));
    struct admin_task *task = data ? admin_task_create(admin, status_run, status_free, data) : NULL;
    if (!task) {
        free(data);
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    data->shards = calloc(admin->config.shard_count, sizeof(*data->shards));
    data->gateways_up = calloc((size_t)admin->config.reactor_count * admin->config.gateway_count + 1, 1);
    int error =
        data->shards && data->gateways_up ? admin_task_perform(task, every_reactor(admin)) : WP_E_NOMEM;
    struct admin_answer answer = error ? task_refusal(error) : status_pack(admin, data);
    admin_task_release(task);
    return answer;
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
    struct users_part *parts; /* by reactor */
};

static void users_free(struct admin_task *task)
{
    struct users_data *data = task->data;
    for (uint32_t i = 0; data->parts && i < task->admin->config.reactor_count; i++) {
        free(data->parts[i].rows);
    }
    free(data->parts);
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
        json_array_append_new(
            users, json_pack("{s:s, s:i, s:i, s:o, s:I, s:I}", "user", all[i].user, "shard",
                       (int)all[i].shard, "devices", (int)all[i].devices, "queued", lanes_pack(all[i].queued),
                       "bytes", (json_int_t)all[i].bytes, "created_ms", (json_int_t)all[i].created_ms));
    }
    free(all);
    return admin_ok(200, json_pack("{s:o, s:b}", "users", users, "more", count > data->limit));
}

struct admin_answer admin_users(struct wp_admin *admin, const char *after, uint32_t limit)
{
    struct users_data *data = calloc(1, sizeof(*data));
    struct admin_task *task = data ? admin_task_create(admin, users_run, users_free, data) : NULL;
    if (!task) {
        free(data);
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    strncpy(data->after, after, WP_NAME_SIZE_MAX);
    data->limit = limit;
    data->parts = calloc(admin->config.reactor_count, sizeof(*data->parts));
    int error = data->parts ? admin_task_perform(task, every_reactor(admin)) : WP_E_NOMEM;
    struct admin_answer answer = error ? task_refusal(error) : users_pack(admin, data);
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
    bool attached;
    uint64_t pending[WP_LANE_COUNT];
    uint64_t set_aside;
};

struct devices_data {
    char user[WP_NAME_SIZE_MAX + 1];
    uint32_t shard;
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
    row->set_aside = detail->set_aside;
    memcpy(row->pending, detail->pending, sizeof(row->pending));
}

static void devices_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    (void)reactor_index;
    struct devices_data *data = task->data;
    const struct wp_machine *machine = wp_reactor_machine(reactor, data->shard);
    if (!machine) {
        data->error = WP_E_UNAVAILABLE;
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

static struct admin_answer devices_pack(const struct devices_data *data)
{
    if (data->error == WP_E_UNAVAILABLE) {
        return admin_refusal(data->error, "this router has no replica of the user's shard");
    }
    if (data->error) {
        return admin_refusal(data->error, "there is no user \"%s\"", data->user);
    }
    json_t *devices = json_array();
    for (uint32_t i = 0; i < data->count; i++) {
        const struct device_row *row = &data->rows[i];
        json_array_append_new(
            devices, json_pack("{s:s, s:I, s:I, s:b, s:b, s:o, s:I}", "device", row->device, "created_ms",
                         (json_int_t)row->created_ms, "epoch", (json_int_t)row->epoch, "subscribed",
                         row->subscribed, "attached", row->attached, "pending", lanes_pack(row->pending),
                         "set_aside", (json_int_t)row->set_aside));
    }
    return admin_ok(200, json_pack("{s:s, s:o}", "user", data->user, "devices", devices));
}

struct admin_answer admin_devices(struct wp_admin *admin, const char *user)
{
    struct devices_data *data = calloc(1, sizeof(*data));
    struct admin_task *task = data ? admin_task_create(admin, devices_run, devices_free, data) : NULL;
    if (!task) {
        free(data);
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    strncpy(data->user, user, WP_NAME_SIZE_MAX);
    data->shard = wp_shard_of(admin->config.hash_key, admin->config.shard_count, user);
    int error = admin_task_perform(task, UINT64_C(1) << admin_reactor_of(admin, data->shard));
    struct admin_answer answer = error ? task_refusal(error) : devices_pack(data);
    admin_task_release(task);
    return answer;
}
