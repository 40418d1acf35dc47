#include "tests/unit/router_fixture.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "proto/address.h"
#include "router/policy.h"

#define WAIT_MS 5000u

static const uint8_t hash_key[16] = "router-test-key";

static void keys_make(const struct router *router, const char *name, struct wp_keypair *ret_keys)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", router->dir, name);
    assert_int_equal(wp_keypair_generate(path, ret_keys), WP_OK);
}

void router_init(struct router *router)
{
    *router =
        (struct router){.shard_count = 4, .reactor_count = 2, .node_count = 1, .delivery_timeout_ms = 30000};
    const char *base = getenv("TMPDIR");
    snprintf(
        router->dir, sizeof(router->dir), "%s/wp-router-XXXXXX", base && strlen(base) < 30 ? base : "/tmp");
    assert_non_null(mkdtemp(router->dir));
    assert_true(sodium_init() >= 0);
    keys_make(router, "router.key", &router->keys);
    keys_make(router, "gateway.key", &router->gateway_keys);
    assert_int_equal(wp_fabric_context_create(&router->zmq_context), WP_OK);
    assert_int_equal(wp_zap_create(router->zmq_context, &router->zap), WP_OK);
    assert_int_equal(
        wp_zap_allow(router->zap, router->gateway_keys.public_text, "gateway-1", WP__ROLE__ROLE_GATEWAY),
        WP_OK);
    for (uint32_t i = 0; i < 2; i++) {
        char name[16];
        snprintf(name, sizeof(name), "router-%u", i + 2);
        keys_make(router, name, &router->peer_keys[i]);
        assert_int_equal(
            wp_zap_allow(router->zap, router->peer_keys[i].public_text, name, WP__ROLE__ROLE_ROUTER), WP_OK);
    }
}

static void on_fatal(void *context, int error, const char *text)
{
    fprintf(stderr, "fatal: %s\n", text);
    ((struct router *)context)->fatal_error = error;
    abort();
}

void router_up(struct router *router)
{
    char text[512] = "";
    char data[128];
    snprintf(data, sizeof(data), "%s/data", router->dir);
    const struct wp_store_config store = {
        .path = data,
        .disk_reserve_bytes = router->disk_reserve_bytes ? router->disk_reserve_bytes : 256u << 20,
        .log_wal_bytes_max = 48u << 20,
        .write_buffer_bytes = 16u << 20,
        .compaction_bytes_max = 64u << 20,
        .allow_volatile = true,
    };
    int error = wp_store_open_rocks(&store, &router->store, text, sizeof(text));
    if (error) {
        fail_msg("%s", text);
    }
    struct wp_roster *roster = wp_roster_create(router->shard_count);
    assert_non_null(roster);
    roster->node_count = 1;
    roster->nodes[0] = (struct wp_roster_node){.number = 1,
        .name = "router-1",
        .endpoint = "tcp://127.0.0.1:7401",
        .reactors = router->reactor_count};
    memcpy(roster->nodes[0].key, router->keys.public_text, sizeof(roster->nodes[0].key));
    memcpy(roster->nodes[0].key, router->keys.public_text, sizeof(roster->nodes[0].key));
    for (; roster->node_count < router->node_count; roster->node_count++) {
        struct wp_roster_node *node = &roster->nodes[roster->node_count];
        *node = roster->nodes[0];
        node->number = roster->node_count + 1;
        snprintf(node->name, sizeof(node->name), "router-%u", node->number);
        snprintf(
            node->endpoint, sizeof(node->endpoint), "tcp://127.0.0.1:%u", node->number); /* nobody there */
        memcpy(node->key, router->peer_keys[node->number - 2].public_text, sizeof(node->key));
        node->directory_id = node->number == 2 ? router->peer_directory_id : 0;
        node->counts_from = node->number == 2 ? router->peer_counts_from : 0;
    }
    roster->replication = router->node_count;
    wp_roster_place_first(roster);
    wp_policy_put(roster, WP_POLICY_ttl_default_s, "86400");
    for (uint32_t i = 0; i < router->reactor_count; i++) {
        struct wp_reactor_config config = {
            .index = i,
            .reactor_count = router->reactor_count,
            .shard_count = router->shard_count,
            .node = "router-1",
            .self = 1,
            .roster = roster,
            .listen = "tcp://127.0.0.1:*",
            .cluster_id = CLUSTER_ID,
            .incarnation = wp_store_boot(router->store),
            .store = router->store,
            .zmq_context = router->zmq_context,
            .zap = router->zap,
            .keys = &router->keys,
            .delivery_timeout_ms = router->delivery_timeout_ms,
            .body_cache_bytes = 4u << 20,
            .context = router,
            .fatal = on_fatal,
        };
        memcpy(config.hash_key, hash_key, sizeof(config.hash_key));
        memset(config.secret_key, 7, sizeof(config.secret_key));
        if (wp_reactor_create(&config, &router->reactors[i], text, sizeof(text))) {
            fail_msg("%s", text);
        }
    }
    wp_roster_release(&roster);
    for (uint32_t i = 0; i < router->reactor_count; i++) {
        assert_int_equal(wp_reactor_start(router->reactors[i]), WP_OK);
    }
    static const char *const gateways[] = {"gateway-1"};
    struct wp_admin_config admin = {
        .node = "router-1",
        .cluster_id = "1122334455667788",
        .store = router->store,
        .shard_count = router->shard_count,
        .reactors = router->reactors,
        .reactor_count = router->reactor_count,
        .gateways = gateways,
        .gateway_count = 1,
    };
    memcpy(admin.hash_key, hash_key, sizeof(admin.hash_key));
    memset(admin.secret_key, 7, sizeof(admin.secret_key));
    assert_int_equal(wp_admin_create(&admin, &router->admin), WP_OK);
    uint64_t until_us = wp_clock_mono_us() + WAIT_MS * 1000;
    for (uint32_t i = 0; i < router->reactor_count; i++) {
        while (router->node_count == 1 && !wp_reactor_ready(router->reactors[i])) {
            assert_true(wp_clock_mono_us() < until_us);
            usleep(1000);
        }
    }
}

void router_down(struct router *router)
{
    for (uint32_t i = 0; i < router->reactor_count; i++) {
        wp_reactor_stop(router->reactors[i]);
    }
    assert_true(wp_reactor_log_drain(router->store, 1, WAIT_MS));
    for (uint32_t i = 0; i < router->reactor_count; i++) {
        wp_reactor_destroy(&router->reactors[i]);
    }
    wp_admin_destroy(&router->admin);
    wp_store_close(&router->store);
}

void router_fini(struct router *router)
{
    wp_zap_destroy(&router->zap);
    wp_fabric_context_destroy(&router->zmq_context);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", router->dir);
    assert_int_equal(system(command), 0);
}

json_t *router_request(
    struct router *router, int status, const char *method, const char *path, const char *body)
{
    struct wp_buffer out = WP_BUFFER_INIT;
    const struct wp_management_request request = {
        .method = method, .path = path, .body = wp_slice(body, body ? strlen(body) : 0)};
    int got = wp_admin_handle(router->admin, &request, &out);
    if (got != status) {
        fail_msg("%s %s: status %d, not %d: %.*s", method, path, got, status, (int)out.size,
            (const char *)out.data);
    }
    json_t *answer = json_loadb((const char *)out.data, out.size, 0, NULL);
    assert_non_null(answer);
    wp_buffer_free(&out);
    return answer;
}

void router_device(struct router *router, const char *user, const char *device, char ret_secret[64])
{
    char body[256];
    snprintf(body, sizeof(body), "{\"users\":[{\"user\":\"%s\",\"devices\":[\"%s\"]}]}", user, device);
    json_t *answer = router_request(router, 200, "POST", "/v1/provision", body);
    const json_t *row = json_array_get(json_object_get(answer, "devices"), 0);
    const char *secret = json_string_value(json_object_get(row, "secret"));
    assert_non_null(secret);
    assert_int_equal(strlen(secret), 43);
    snprintf(ret_secret, 64, "%s", secret);
    json_decref(answer);
}

uint32_t router_shard(const struct router *router, const char *user)
{
    return wp_shard_of(hash_key, router->shard_count, user);
}

static uint64_t pending_now(struct router *router, const char *user, const char *device)
{
    char path[200];
    snprintf(path, sizeof(path), "/v1/users/%s/devices", user);
    json_t *answer = router_request(router, 200, "GET", path, NULL);
    uint64_t sum = UINT64_MAX;
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(answer, "devices"), i, row)
    {
        if (!strcmp(json_string_value(json_object_get(row, "device")), device)) {
            const json_t *pending = json_object_get(row, "pending");
            sum = (uint64_t)(json_integer_value(json_object_get(pending, "stat")) +
                             json_integer_value(json_object_get(pending, "urgent")) +
                             json_integer_value(json_object_get(pending, "routine")));
        }
    }
    json_decref(answer);
    return sum;
}

uint64_t router_pending(struct router *router, const char *user, const char *device, uint64_t wanted)
{
    uint64_t until_us = wp_clock_mono_us() + 3000000;
    uint64_t found;
    while ((found = pending_now(router, user, device)) != wanted && wp_clock_mono_us() < until_us) {
        usleep(5000);
    }
    return found;
}

/* --- the gateway
 * ---------------------------------------------------------------------------------------------- */

static uint32_t link_index(const struct gateway *gateway, const struct wp_link *link)
{
    for (uint32_t i = 0; i < gateway->router->reactor_count; i++) {
        if (gateway->links[i] == link) {
            return i;
        }
    }
    fail_msg("a frame of an unknown link");
    return 0;
}

static void on_up(void *context, struct wp_link *link)
{
    (void)context;
    (void)link;
}

static void on_down(void *context, struct wp_link *link, int error)
{
    (void)context;
    (void)link;
    (void)error;
}

static void on_nothing(void *context)
{
    (void)context;
}

static void on_writable(void *context, struct wp_link *link)
{
    (void)context;
    (void)link;
}

static void deliver_copy(struct arrival *arrival, const Wp__Deliver *deliver)
{
    arrival->session = deliver->session;
    arrival->number = deliver->sequence;
    arrival->lane = deliver->lane;
    arrival->dup = deliver->dup;
    arrival->drained = deliver->drained;
    arrival->remaining_ms = deliver->remaining_ms;
    assert_int_equal(
        wp_buffer_append(&arrival->envelope, deliver->envelope.data, deliver->envelope.len), WP_OK);
}

static void arrival_fill(struct arrival *arrival, struct wp_slice payload, struct wp_arena *arena)
{
    ProtobufCMessage *message = NULL;
    int error = WP_OK;
    switch (arrival->type) {
    case WP_FRAME_SHARD_MAP:
        error = wp_schema_decode(&wp__shard_map__descriptor, payload, arena, &message);
        assert_int_equal(error, WP_OK);
        arrival->shard_count = ((Wp__ShardMap *)message)->shard_count;
        break;
    case WP_FRAME_ATTACH_REPLY: {
        error = wp_schema_decode(&wp__attach_reply__descriptor, payload, arena, &message);
        assert_int_equal(error, WP_OK);
        const Wp__AttachReply *reply = (Wp__AttachReply *)message;
        arrival->session = reply->session;
        arrival->error = reply->error;
        arrival->epoch = reply->epoch;
        arrival->retry_after_ms = reply->retry_after_ms;
        arrival->session_present = reply->session_present;
        arrival->inbox_subscribed = reply->inbox_subscribed;
        break;
    }
    case WP_FRAME_LEASE_REPLY:
        error = wp_schema_decode(&wp__lease_reply__descriptor, payload, arena, &message);
        assert_int_equal(error, WP_OK);
        arrival->number = ((Wp__LeaseReply *)message)->stamp_ms;
        arrival->shard_count = (uint32_t)((Wp__LeaseReply *)message)->n_shards;
        arrival->leader_ms = ((Wp__LeaseReply *)message)->time_ms;
        break;
    case WP_FRAME_SUBSCRIBE_REPLY: {
        error = wp_schema_decode(&wp__subscribe_reply__descriptor, payload, arena, &message);
        assert_int_equal(error, WP_OK);
        const Wp__SubscribeReply *reply = (Wp__SubscribeReply *)message;
        arrival->session = reply->session;
        arrival->number = reply->request;
        arrival->error = reply->error;
        break;
    }
    case WP_FRAME_SUBMIT_REPLY: {
        error = wp_schema_decode(&wp__submit_reply__descriptor, payload, arena, &message);
        assert_int_equal(error, WP_OK);
        const Wp__SubmitReply *reply = (Wp__SubmitReply *)message;
        arrival->number = reply->ticket;
        arrival->error = reply->error;
        arrival->duplicate = reply->duplicate;
        arrival->resend_from = reply->resend_from;
        break;
    }
    case WP_FRAME_KICK:
        error = wp_schema_decode(&wp__kick__descriptor, payload, arena, &message);
        assert_int_equal(error, WP_OK);
        arrival->session = ((Wp__Kick *)message)->session;
        arrival->error = ((Wp__Kick *)message)->error;
        break;
    case WP_FRAME_DELIVER:
        error = wp_schema_decode(&wp__deliver__descriptor, payload, arena, &message);
        assert_int_equal(error, WP_OK);
        deliver_copy(arrival, (Wp__Deliver *)message);
        break;
    default:
        fail_msg("a frame of type %d", (int)arrival->type);
    }
}

static void on_frame(void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload)
{
    struct gateway *gateway = context;
    gateway->arrivals = realloc(gateway->arrivals, (gateway->arrival_count + 1) * sizeof(*gateway->arrivals));
    assert_non_null(gateway->arrivals);
    struct arrival *arrival = &gateway->arrivals[gateway->arrival_count++];
    *arrival = (struct arrival){.type = type, .reactor = link_index(gateway, link)};
    struct wp_arena arena;
    wp_arena_init(&arena, 8u << 20);
    arrival_fill(arrival, payload, &arena);
    wp_arena_fini(&arena);
    if (type == WP_FRAME_DELIVER && gateway->keep_credit) {
        gateway->kept += payload.size + WP_RECORD_HEAD_SIZE;
    } else if (type == WP_FRAME_DELIVER) {
        wp_link_credit_return(link, payload.size + WP_RECORD_HEAD_SIZE);
    }
}

static void on_deadline(uv_timer_t *timer)
{
    ((struct gateway *)timer->data)->timed_out = true;
}

void gateway_up(struct gateway *gateway, struct router *router)
{
    *gateway = (struct gateway){.router = router, .next_ticket = 1};
    assert_int_equal(uv_loop_init(&gateway->loop), 0);
    uv_timer_init(&gateway->loop, &gateway->deadline);
    gateway->deadline.data = gateway;
    static uint64_t incarnation = 0;
    const struct wp_fabric_config config = {
        .loop = &gateway->loop,
        .zmq_context = router->zmq_context,
        .node = "gateway-1",
        .role = WP__ROLE__ROLE_GATEWAY,
        .cluster_id = CLUSTER_ID,
        .incarnation = ++incarnation,
        .keys = &router->gateway_keys,
    };
    const struct wp_fabric_callbacks callbacks = {gateway, on_up, on_down, on_frame, on_nothing, on_writable};
    assert_int_equal(wp_fabric_create(&config, &callbacks, &gateway->fabric), WP_OK);
    for (uint32_t i = 0; i < router->reactor_count; i++) {
        assert_int_equal(wp_fabric_connect(gateway->fabric, wp_reactor_endpoint(router->reactors[i]),
                             router->keys.public_text, &gateway->links[i]),
            WP_OK);
    }
    for (uint32_t i = 0; i < router->reactor_count; i++) {
        assert_int_equal(gateway_next(gateway, WP_FRAME_SHARD_MAP)->shard_count, router->shard_count);
    }
}

void gateway_down(struct gateway *gateway)
{
    wp_fabric_destroy(&gateway->fabric);
    uv_close((uv_handle_t *)&gateway->deadline, NULL);
    uv_run(&gateway->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&gateway->loop), 0);
    for (uint32_t i = 0; i < gateway->arrival_count; i++) {
        wp_buffer_free(&gateway->arrivals[i].envelope);
    }
    free(gateway->arrivals);
}

/* Index of the first untaken arrival of `type`, UINT32_MAX when there is none. A taken one has type 0. */
static uint32_t arrival_find(const struct gateway *gateway, int type)
{
    for (uint32_t i = gateway->taken; i < gateway->arrival_count; i++) {
        if (gateway->arrivals[i].type != 0 && (type == 0 || (int)gateway->arrivals[i].type == type)) {
            return i;
        }
    }
    return UINT32_MAX;
}

static uint32_t run_until(struct gateway *gateway, int type, uint32_t ms)
{
    uint32_t found;
    gateway->timed_out = false;
    uv_timer_start(&gateway->deadline, on_deadline, ms, 0);
    while ((found = arrival_find(gateway, type)) == UINT32_MAX && !gateway->timed_out) {
        uv_run(&gateway->loop, UV_RUN_ONCE);
    }
    uv_timer_stop(&gateway->deadline);
    return found;
}

struct arrival *gateway_next(struct gateway *gateway, int type)
{
    uint32_t found = run_until(gateway, type, WAIT_MS);
    if (found == UINT32_MAX) {
        fail_msg("no frame of type %d came", type);
    }
    /* Kept until the end, so that the pointer stays good while nothing else arrives. */
    static struct arrival copy;
    copy = gateway->arrivals[found];
    gateway->arrivals[found].type = 0;
    while (gateway->taken < gateway->arrival_count && gateway->arrivals[gateway->taken].type == 0) {
        gateway->taken++;
    }
    return &copy;
}

void gateway_quiet(struct gateway *gateway, int type, uint32_t ms)
{
    uint32_t found = run_until(gateway, type, ms);
    if (found != UINT32_MAX) {
        fail_msg("a frame of type %d came: session %llu number %llu", type,
            (unsigned long long)gateway->arrivals[found].session,
            (unsigned long long)gateway->arrivals[found].number);
    }
}

static struct wp_link *shard_link(const struct gateway *gateway, uint32_t shard)
{
    return gateway->links[(shard - 1) % gateway->router->reactor_count];
}

static void link_send(struct gateway *gateway, uint32_t shard, enum wp_link_lane lane,
    enum wp_frame_type type, const ProtobufCMessage *message)
{
    assert_int_equal(wp_link_send(shard_link(gateway, shard), lane, type, message), WP_OK);
    wp_fabric_flush(gateway->fabric);
}

static char *text(const char *value)
{
    char *copy;
    memcpy(&copy, &value, sizeof(copy)); /* protobuf-c has no const strings; packing only reads */
    return copy;
}

struct arrival *gateway_attach(struct gateway *gateway, const struct attach *attach)
{
    Wp__Attach message = WP__ATTACH__INIT;
    message.session = attach->session;
    message.shard = router_shard(gateway->router, attach->user);
    message.user = text(attach->user);
    message.device = text(attach->device);
    message.secret.data = (uint8_t *)text(attach->secret ? attach->secret : "");
    message.secret.len = attach->secret ? strlen(attach->secret) : 0;
    message.clean_start = attach->clean_start;
    message.window = attach->window ? attach->window : 64;
    message.resume = attach->resume;
    link_send(gateway, message.shard, WP_LINK_CONTROL, WP_FRAME_ATTACH, &message.base);
    struct arrival *reply = gateway_next(gateway, WP_FRAME_ATTACH_REPLY);
    assert_int_equal(reply->session, attach->session);
    return reply;
}

void gateway_detach(struct gateway *gateway, const char *user, uint64_t session, uint64_t epoch)
{
    Wp__Detach message = WP__DETACH__INIT;
    message.session = session;
    message.shard = router_shard(gateway->router, user);
    message.epoch = epoch;
    link_send(gateway, message.shard, WP_LINK_CONTROL, WP_FRAME_DETACH, &message.base);
}

struct arrival *gateway_subscribe(
    struct gateway *gateway, const char *user, uint64_t session, uint64_t epoch, bool inbox)
{
    Wp__Subscribe message = WP__SUBSCRIBE__INIT;
    message.session = session;
    message.shard = router_shard(gateway->router, user);
    message.epoch = epoch;
    message.request = 77;
    message.inbox = inbox;
    link_send(gateway, message.shard, WP_LINK_CONTROL, WP_FRAME_SUBSCRIBE, &message.base);
    struct arrival *reply = gateway_next(gateway, WP_FRAME_SUBSCRIBE_REPLY);
    assert_int_equal(reply->number, 77);
    return reply;
}

uint64_t gateway_join(struct gateway *gateway, const struct attach *attach)
{
    const struct arrival *reply = gateway_attach(gateway, attach);
    assert_int_equal(reply->error, WP_OK);
    uint64_t epoch = reply->epoch;
    assert_int_equal(gateway_subscribe(gateway, attach->user, attach->session, epoch, true)->error, WP_OK);
    return epoch;
}

uint64_t gateway_submit(struct gateway *gateway, const struct submit *submit)
{
    uint8_t id[WP_UUID_SIZE];
    uint8_t random[10];
    randombytes_buf(random, sizeof(random));
    wp_uuid7_make(wp_clock_wall_ms(), random, id);
    Wp__Header header = WP__HEADER__INIT;
    header.version = 1;
    header.message_id = (ProtobufCBinaryData){sizeof(id), id};
    if (submit->id) {
        memcpy(id, submit->id, sizeof(id));
    }
    header.sender = text(submit->user);
    header.sender_device = text(submit->device);
    header.recipient = text(submit->to);
    header.to_team = submit->to_team;
    header.lane = submit->lane;
    header.ttl_ms = submit->ttl_ms;
    Wp__KeyPart parts[8];
    Wp__KeyPart *pointers[8];
    char names[8][16];
    assert_true(submit->key_parts <= 8);
    for (uint32_t i = 0; i < submit->key_parts; i++) {
        wp__key_part__init(&parts[i]);
        snprintf(names[i], sizeof(names[i]), "d%u", i);
        parts[i].device = names[i];
        parts[i].part = (ProtobufCBinaryData){4, (uint8_t *)text("part")};
        pointers[i] = &parts[i];
    }
    Wp__Envelope envelope = WP__ENVELOPE__INIT;
    envelope.header = &header;
    envelope.n_key_parts = submit->key_parts;
    envelope.key_parts = pointers;
    envelope.body = (ProtobufCBinaryData){submit->body_size, (uint8_t *)text(submit->body)};
    size_t size = wp__envelope__get_packed_size(&envelope);
    uint8_t *packed = malloc(size);
    assert_non_null(packed);
    wp__envelope__pack(&envelope, packed);
    Wp__Submit message = WP__SUBMIT__INIT;
    message.ticket = gateway->next_ticket++;
    message.shard = submit->shard ? submit->shard : router_shard(gateway->router, submit->to);
    message.user = text(submit->user);
    message.device = text(submit->device);
    message.epoch = submit->epoch;
    message.sequence = submit->sequence;
    message.envelope = (ProtobufCBinaryData){size, packed};
    link_send(gateway, message.shard, (enum wp_link_lane)submit->lane, WP_FRAME_SUBMIT, &message.base);
    free(packed);
    return message.ticket;
}

void gateway_acknowledge(
    struct gateway *gateway, const char *user, uint64_t session, Wp__Lane lane, uint64_t from, uint64_t to)
{
    uint64_t sequences[1024];
    Wp__Positions positions = WP__POSITIONS__INIT;
    Wp__Positions *pointer = &positions;
    positions.lane = lane;
    positions.sequence = sequences;
    for (uint64_t s = from; s <= to; s++) {
        assert_true(positions.n_sequence < 1024);
        sequences[positions.n_sequence++] = s;
    }
    Wp__Ack message = WP__ACK__INIT;
    message.session = session;
    message.shard = router_shard(gateway->router, user);
    message.positions = &pointer;
    message.n_positions = 1;
    link_send(gateway, message.shard, WP_LINK_CONTROL, WP_FRAME_ACK, &message.base);
}
