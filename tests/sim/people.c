/* See people.h. */
#include "tests/sim/people.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "client/connection.h"
#include "proto/address.h"
#include "proto/frame.h"
#include "router/machine.h"
#include "tests/sim/cluster.h"
#include "tests/sim/edge.h"
#include "tests/sim/history.h"

#define USERS_MAX 12u
#define TEAMS_MAX 3u
#define LANES 3u
#define OPEN_MAX 256u
#define STEP_US 15000u
#define RECIPIENTS_MAX (USERS_MAX + TEAMS_MAX)

struct device {
    uint32_t index;
    uint32_t user;
    char username[32];
    char secret[24];
    struct wp_connection *connection;
    struct sim_wire *wire;
    uint32_t gateway;
    uint64_t online_from_us; /* does not connect before */
    bool subscribed;         /* once, ever */
    bool subscribing;
    bool known; /* the cluster took it */
    uint64_t numbers[RECIPIENTS_MAX][LANES];
};

struct order {               /* of the operator */
    struct wp_answer answer; /* first */
    uint8_t command;
    uint32_t subject;
    bool done, asked;
    uint64_t asked_us;
};

static struct {
    uint32_t user_count, team_count, device_count;
    char users[USERS_MAX][16];
    char teams[TEAMS_MAX][16];
    uint64_t user_devices[USERS_MAX];
    uint32_t team_members[TEAMS_MAX]; /* bits of users */
    struct device devices[SIM_DEVICES_MAX];
    struct order orders[USERS_MAX + SIM_DEVICES_MAX + 2 * TEAMS_MAX];
    uint32_t order_count;
    bool active;
    uint64_t rate; /* one in so many steps of a device sends */
} people;

/* --- the operator --- */

static void order_answered(struct wp_answer *answer, uint32_t item, int error)
{
    struct order *order = (struct order *)answer;
    (void)item;
    order->asked = false;
    order->done = order->done || error == WP_OK || error == WP_E_EXISTS;
}

static char *order_subject_name(const struct order *order)
{
    switch (order->command) {
    case WP_COMMAND_USER_ADD:
        return people.users[order->subject];
    case WP_COMMAND_DEVICE_ADD:
        return people.users[people.devices[order->subject].user];
    default:
        return people.teams[order->subject];
    }
}

static int order_propose(struct wp_reactor *reactor, struct order *order, uint32_t shard)
{
    struct device *device = &people.devices[order->subject];
    Wp__CommandUserAdd user = WP__COMMAND_USER_ADD__INIT;
    Wp__CommandDeviceAdd add = WP__COMMAND_DEVICE_ADD__INIT;
    Wp__CommandTeamAdd team = WP__COMMAND_TEAM_ADD__INIT;
    Wp__CommandTeamMemberAdd members = WP__COMMAND_TEAM_MEMBER_ADD__INIT;
    char *names[USERS_MAX];
    uint8_t hash[WP_SECRET_HASH_SIZE];
    const ProtobufCMessage *message = &user.base;
    user.user = order_subject_name(order);
    if (order->command == WP_COMMAND_DEVICE_ADD) {
        add.user = user.user;
        add.device = strchr(device->username, '/') + 1;
        wp_machine_secret_hash(
            sim_cluster.secret_key, wp_slice(device->secret, strlen(device->secret)), hash);
        add.secret_hash = (ProtobufCBinaryData){sizeof hash, hash};
        message = &add.base;
    } else if (order->command == WP_COMMAND_TEAM_ADD) {
        team.team = user.user;
        message = &team.base;
    } else if (order->command == WP_COMMAND_TEAM_MEMBER_ADD) {
        members.team = user.user;
        members.users = names;
        for (uint32_t i = 0; i < people.user_count; i++) {
            if (people.team_members[order->subject] & (1u << i)) {
                names[members.n_users++] = people.users[i];
            }
        }
        message = &members.base;
    }
    return wp_reactor_propose(reactor, shard, order->command, message, &order->answer, 0);
}

static void order_fire(void *context, uint64_t router)
{
    struct order *order = context;
    uint32_t shard = wp_shard_of(sim_cluster.hash_key, SIM_SHARDS, order_subject_name(order));
    struct wp_reactor *reactor = sim_cluster.routers[router].reactors[(shard - 1) % SIM_REACTORS];
    order->asked = order_propose(reactor, order, shard) == WP_OK;
}

/* One after the other; a router that died meanwhile never answers. */
static void operator_step(void *context, uint64_t argument)
{
    (void)context;
    (void)argument;
    bool open = false;
    for (uint32_t i = 0; i < people.order_count && !open; i++) {
        struct order *order = &people.orders[i];
        open = !order->done;
        if (open && (!order->asked || sim_now_us() > order->asked_us + 5000000)) {
            uint32_t router = (uint32_t)sim_random(sim_cluster.router_count);
            order->asked = true;
            order->asked_us = sim_now_us();
            if (sim_cluster.routers[router].process.alive) {
                sim_after(10, &sim_cluster.routers[router].process, order_fire, order, router);
            }
        }
    }
    if (open) {
        sim_after(20000, NULL, operator_step, NULL, 0);
        return;
    }
    for (uint32_t i = 0; i < people.device_count; i++) {
        people.devices[i].known = true;
    }
}

static void order_add(uint8_t command, uint32_t subject)
{
    people.orders[people.order_count++] =
        (struct order){.answer.answered = order_answered, .command = command, .subject = subject};
}

/* --- a device --- */

static void wire_write(struct device *device)
{
    if (device->wire) {
        sim_wire_write(device->wire, wp_connection_output(device->connection));
    }
}

static void go_offline(struct device *device, uint64_t for_us)
{
    sim_trace("device %u goes offline", device->index);
    sim_wire_cut(&device->wire);
    wp_connection_lost(device->connection);
    device->subscribing = false;
    device->online_from_us = sim_now_us() + for_us;
}

static void connection_create(struct device *device)
{
    const struct wp_connection_config config = {
        .username = device->username, .secret = device->secret, .keep_alive_s = 10, .receive_maximum = 8};
    int error = wp_connection_create(&config, &device->connection);
    WP_ASSERT(error == WP_OK);
}

/* The program ends and starts again: what it had not been answered it does not know any more; what it showed
 * it knows (client/seen.h). */
static void device_crash(struct device *device)
{
    go_offline(device, sim_random(500000));
    wp_connection_destroy(&device->connection);
    connection_create(device);
    sim_trace("device %u crashes", device->index);
}

static bool on_message(struct device *device, const struct wp_connection_message *message)
{
    struct sim_message *known = message->has_id ? sim_history_find(message->id) : NULL;
    bool seen = known && (known->surfaced & (UINT64_C(1) << device->index));
    if (!seen) {
        sim_trace("device %u shows %d dup=%d", device->index, known ? (int)known->place : -1, message->dup);
        sim_history_show(device->index, message->id, message->accepted_ms, message->dup);
    }
    if (sim_chance(people.active ? 5 : 0)) {
        return false; /* dies before it acknowledges */
    }
    wp_connection_acknowledge(device->connection, message->packet_id);
    return true;
}

static void on_published(const struct wp_connection_event *event)
{
    struct sim_message *message = event->user;
    char slug[24];
    snprintf(slug, sizeof slug, "%.*s", (int)event->slug.size, (const char *)event->slug.data);
    if (event->code != 0) {
        sim_trace("message %u refused code=%02x slug=%s", message->place, event->code, slug);
    }
    /* In time nobody said so: it may have been accepted (docs/protocol.md). */
    sim_trace("message %u answered code=%02x", message->place, event->code);
    bool unknown = event->code != 0 && (!strcmp(slug, "unavailable") || !strcmp(slug, "timeout"));
    if (message->state == SIM_UNKNOWN && !unknown) {
        message->state = event->code == 0 ? SIM_ACCEPTED : SIM_REFUSED;
    }
}

/* False: the device is not what it was (connection lost or made anew). */
static bool on_event(struct device *device, const struct wp_connection_event *event)
{
    switch (event->kind) {
    case WP_CONNECTION_UP:
        device->subscribing = true;
        wp_connection_subscribe(device->connection);
        wp_connection_subscribe_receipts(device->connection);
        return true;
    case WP_CONNECTION_SUBSCRIBED:
        device->subscribed = true;
        return true;
    case WP_CONNECTION_PUBLISHED:
        on_published(event);
        return true;
    case WP_CONNECTION_MESSAGE:
        if (!on_message(device, &event->message)) {
            device_crash(device);
            return false;
        }
        return true;
    case WP_CONNECTION_RECEIPT:
        if (event->receipt.has_id) {
            char state[16];
            snprintf(state, sizeof state, "%.*s", (int)event->receipt.state.size,
                (const char *)event->receipt.state.data);
            sim_history_receipt(event->receipt.id, state, event->receipt.time_ms);
        }
        wp_connection_acknowledge(device->connection, event->receipt.packet_id);
        return true;
    case WP_CONNECTION_REFUSED:
    case WP_CONNECTION_DOWN:
        sim_trace("device %u down code=%02x", device->index, event->code);
        go_offline(device, 100000 + sim_random(900000));
        return false;
    }
    return true;
}

static void on_wire_data(void *context, struct wp_slice bytes)
{
    struct device *device = context;
    struct wp_connection_event event;
    int error = wp_connection_receive(device->connection, bytes, sim_now_us() / 1000);
    WP_ASSERT(error == WP_OK);
    while (wp_connection_event(device->connection, &event)) {
        if (!on_event(device, &event)) {
            return;
        }
    }
    wire_write(device);
}

static void on_wire_lost(void *context)
{
    struct device *device = context;
    device->wire = NULL;
    go_offline(device, 50000 + sim_random(500000));
}

static void go_online(struct device *device)
{
    const struct sim_wire_owner owner = {device, on_wire_data, on_wire_lost};
    device->gateway = sim_chance(300) ? (uint32_t)sim_random(sim_cluster.gateway_count) : device->gateway;
    device->wire = sim_wire_connect(&sim_cluster.gateways[device->gateway], &owner);
    sim_trace("device %u (%s) connects to gateway-%u", device->index, device->username, device->gateway + 1);
    sim_history_sent_again(device->index);
    wp_connection_open(device->connection, sim_now_us() / 1000);
    wire_write(device);
    device->gateway = (device->gateway + 1) % sim_cluster.gateway_count; /* for the next time */
}

static void publish(struct device *device)
{
    bool to_team = people.team_count > 0 && sim_chance(200);
    uint32_t to = (uint32_t)sim_random(to_team ? people.team_count : people.user_count);
    if (to_team && !(people.team_members[to] & (1u << device->user))) {
        return; /* only members send to a team */
    }
    uint32_t lane = (uint32_t)sim_random(LANES);
    uint32_t place = to_team ? people.user_count + to : to;
    struct sim_message *message = sim_history_add();
    message->sender = device->index;
    message->stream = (device->index * RECIPIENTS_MAX + place) * LANES + lane;
    message->ttl_s = sim_chance(100) ? 1 + (uint32_t)sim_random(4) : 0;
    message->recipients = to_team ? 0 : people.user_devices[to];
    for (uint32_t i = 0; to_team && i < people.user_count; i++) {
        bool member = (people.team_members[to] & (1u << i)) && i != device->user;
        message->recipients |= member ? people.user_devices[i] : 0;
    }
    uint8_t body[2048];
    size_t size = 1 + sim_random(sim_chance(50) ? sizeof body : 64);
    memset(body, (int)device->index, size);
    const struct wp_connection_publish what = {.recipient = to_team ? people.teams[to] : people.users[to],
        .to_team = to_team,
        .lane = (Wp__Lane)lane,
        .ttl_s = message->ttl_s,
        .id = message->id,
        .body = wp_slice(body, size),
        .user = message};
    int error = wp_connection_publish(device->connection, &what);
    sim_trace("device %u sends %u stream=%u to=%s lane=%u error=%d", device->index, message->place,
        (unsigned)message->stream, what.recipient, lane, error);
    if (error) {
        message->state = SIM_REFUSED; /* it never left */
        return;
    }
    message->number = ++device->numbers[place][lane];
    wire_write(device);
}

static void device_step(void *context, uint64_t argument)
{
    struct device *device = context;
    (void)argument;
    sim_after(STEP_US / 2 + sim_random(STEP_US), NULL, device_step, device, 0);
    if (!device->known) {
        return;
    }
    if (!device->wire) {
        if (sim_now_us() >= device->online_from_us) {
            go_online(device);
        }
        return;
    }
    wp_connection_tick(device->connection, sim_now_us() / 1000);
    struct wp_connection_event event;
    while (wp_connection_event(device->connection, &event)) {
        if (!on_event(device, &event)) {
            return;
        }
    }
    if (people.active && device->subscribed && wp_connection_is_up(device->connection) &&
        sim_random(people.rate) == 0) {
        publish(device);
    }
    if (people.active && device->subscribed && sim_chance(2)) {
        if (sim_chance(300)) {
            device_crash(device);
        } else {
            go_offline(device, sim_random(sim_chance(300) ? 6000000 : 500000));
        }
        return;
    }
    wire_write(device);
}

/* --- all of them --- */

static void device_add(uint32_t user, const char *name)
{
    struct device *device = &people.devices[people.device_count];
    device->index = people.device_count++;
    device->user = user;
    device->gateway = (uint32_t)sim_random(sim_cluster.gateway_count);
    snprintf(device->username, sizeof device->username, "user-%u/%s", user, name);
    snprintf(device->secret, sizeof device->secret, "%016llx", (unsigned long long)sim_random(UINT64_MAX));
    people.user_devices[user] |= UINT64_C(1) << device->index;
    connection_create(device);
    order_add(WP_COMMAND_DEVICE_ADD, device->index);
    sim_after(STEP_US + sim_random(STEP_US), NULL, device_step, device, 0);
}

void sim_people_create(uint32_t users, uint32_t teams)
{
    WP_ASSERT(users <= USERS_MAX && teams <= TEAMS_MAX);
    memset(&people, 0, sizeof people);
    people.user_count = users;
    people.team_count = teams;
    people.rate = 4 + sim_random(20);
    for (uint32_t i = 0; i < users; i++) {
        snprintf(people.users[i], sizeof people.users[i], "user-%u", i);
        order_add(WP_COMMAND_USER_ADD, i);
        device_add(i, "phone");
        if (sim_chance(300)) {
            device_add(i, "pager");
        }
    }
    for (uint32_t i = 0; i < teams; i++) {
        snprintf(people.teams[i], sizeof people.teams[i], "team-%u", i);
        people.team_members[i] = (uint32_t)sim_random(1u << users) | 3u;
        order_add(WP_COMMAND_TEAM_ADD, i);
        order_add(WP_COMMAND_TEAM_MEMBER_ADD, i);
    }
    sim_after(100000, NULL, operator_step, NULL, 0);
}

bool sim_people_ready(void)
{
    for (uint32_t i = 0; i < people.device_count; i++) {
        if (!people.devices[i].subscribed) {
            return false;
        }
    }
    return true;
}

void sim_people_active(bool active)
{
    people.active = active;
}

bool sim_people_quiet(void)
{
    for (uint32_t i = 0; i < people.device_count; i++) {
        if (!people.devices[i].wire || wp_connection_open_publishes(people.devices[i].connection) > 0) {
            return false;
        }
    }
    return true;
}

void sim_people_free(void)
{
    for (uint32_t i = 0; i < people.device_count; i++) {
        wp_connection_destroy(&people.devices[i].connection);
    }
}
