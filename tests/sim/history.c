/* See history.h. */
#include "tests/sim/history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/assert.h"
#include "base/error.h"
#include "cluster/group.h"
#include "router/reactor_state.h"
#include "tests/sim/cluster.h"
#include "tests/sim/ports.h"
#include "tests/sim/world.h"

#define MESSAGES_MAX 65536u
#define STREAMS_MAX 8192u
#define APPLIED_MAX 65536u
#define LATE_MS_MAX 1500u /* 1 s, and what the clocks that count may be apart */

static struct sim_message *messages;
static uint32_t message_count;
static uint32_t buckets[2 * MESSAGES_MAX]; /* place + 1 */
static uint64_t shown_count;
static uint64_t last_shown[SIM_DEVICES_MAX][STREAMS_MAX]; /* number + 1 of the last first delivery */

static uint32_t bucket_of(const uint8_t id[WP_UUID_SIZE])
{
    uint32_t at = (uint32_t)(XXH3_64bits(id, WP_UUID_SIZE) % (2 * MESSAGES_MAX));
    while (buckets[at] && memcmp(messages[buckets[at] - 1].id, id, WP_UUID_SIZE) != 0) {
        at = (at + 1) % (2 * MESSAGES_MAX);
    }
    return at;
}

struct sim_message *sim_history_add(void)
{
    if (!messages) {
        messages = calloc(MESSAGES_MAX, sizeof *messages);
        WP_ASSERT(messages);
    }
    WP_ASSERT(message_count < MESSAGES_MAX);
    struct sim_message *message = &messages[message_count];
    uint8_t random[10];
    sim_random_bytes(random, sizeof random);
    wp_uuid7_make(sim_wall_ms(), random, message->id);
    message->published_us = sim_now_us();
    message->place = message_count;
    buckets[bucket_of(message->id)] = ++message_count;
    return message;
}

struct sim_message *sim_history_find(const uint8_t id[WP_UUID_SIZE])
{
    uint32_t place = messages ? buckets[bucket_of(id)] : 0;
    return place ? &messages[place - 1] : NULL;
}

void sim_history_sent_again(uint32_t sender)
{
    for (uint32_t i = message_count; i > 0; i--) {
        struct sim_message *message = &messages[i - 1];
        message->again = message->again || (message->sender == sender && message->state == SIM_UNKNOWN);
    }
}

void sim_history_show(uint32_t device, const uint8_t id[WP_UUID_SIZE], uint64_t accepted_ms, bool dup)
{
    struct sim_message *message = sim_history_find(id);
    uint64_t bit = UINT64_C(1) << device;
    if (!message) {
        sim_breach("I1", "device %u shows a message that nobody sent", device);
        return;
    }
    WP_ASSERT(message->stream < STREAMS_MAX);
    if (message->state == SIM_REFUSED) {
        sim_breach(
            "I1", "device %u shows message %u, which was refused", device, (unsigned)(message - messages));
    }
    if (!(message->recipients & bit)) {
        sim_breach(
            "I4", "device %u shows message %u, which is for others", device, (unsigned)(message - messages));
    }
    if (message->surfaced & bit) {
        sim_breach("I3", "device %u shows message %u twice", device, (unsigned)(message - messages));
    }
    uint64_t *last = &last_shown[device][message->stream];
    if (!dup && !message->again && message->number + 1 < *last) {
        sim_breach("I2", "device %u shows message %u (number %llu of its stream) after number %llu", device,
            (unsigned)(message - messages), (unsigned long long)message->number,
            (unsigned long long)*last - 1);
    }
    if (message->ttl_s && sim_wall_ms() > accepted_ms + message->ttl_s * UINT64_C(1000) + LATE_MS_MAX) {
        sim_breach("I5", "device %u shows message %u %llu ms after its end", device,
            (unsigned)(message - messages),
            (unsigned long long)(sim_wall_ms() - accepted_ms - message->ttl_s * UINT64_C(1000)));
    }
    *last = message->number + 1 > *last ? message->number + 1 : *last;
    message->surfaced |= bit;
    shown_count++;
}

void sim_history_receipt(const uint8_t id[WP_UUID_SIZE], const char *state, uint64_t time_ms)
{
    const struct sim_message *message = sim_history_find(id);
    if (!message) {
        sim_breach("I1", "a receipt for a message that nobody sent");
    } else if (!strcmp(state, "delivered") && !message->surfaced) {
        sim_breach(
            "I1", "message %u is said to be delivered, and no device has it", (unsigned)(message - messages));
    } else if (!strcmp(state, "expired")) {
        uint64_t sent_ms = sim_wall_ms() - (sim_now_us() - message->published_us) / 1000;
        if (message->ttl_s == 0 || time_ms + LATE_MS_MAX < sent_ms + message->ttl_s * UINT64_C(1000)) {
            sim_breach("I5", "message %u expired early", (unsigned)(message - messages));
        }
    }
}

bool sim_history_complete(const struct sim_message **ret_missing)
{
    for (uint32_t i = 0; i < message_count; i++) {
        const struct sim_message *message = &messages[i];
        if (message->state == SIM_ACCEPTED && message->ttl_s == 0 &&
            (message->surfaced & message->recipients) != message->recipients) {
            *ret_missing = message;
            return false;
        }
    }
    return true;
}

void sim_history_counts(uint64_t *ret_sent, uint64_t *ret_accepted, uint64_t *ret_shown)
{
    *ret_sent = message_count;
    *ret_accepted = 0;
    *ret_shown = shown_count;
    for (uint32_t i = 0; i < message_count; i++) {
        *ret_accepted += messages[i].state == SIM_ACCEPTED;
    }
}

void sim_history_free(void)
{
    free(messages);
    messages = NULL;
}

/* --- what replicas apply --- */

static uint64_t applied[SIM_SHARDS + 1][APPLIED_MAX]; /* hash of the entry; 0: nobody applied it yet */
static uint64_t leader_terms[SIM_SHARDS + 1][4096];   /* raft id that led in a term */

/* For people who read traces: which messages an entry brings. */
static void entry_explain(uint32_t group, uint64_t index, uint64_t term, struct wp_slice entry)
{
    if (!sim_log_on) {
        return;
    }
    char text[256] = "";
    size_t used = 0;
    for (size_t at = 0; at + WP_UUID_SIZE <= entry.size && used < sizeof text - 16; at++) {
        const struct sim_message *message =
            entry.data[at + 6] >> 4 == 7 ? sim_history_find(entry.data + at) : NULL;
        if (message) {
            used += (size_t)snprintf(text + used, sizeof text - used, " %u", message->place);
        }
    }
    printf("%10.3f %-10s applies entry %llu of group %u, term %llu, %zu bytes, messages:%s\n",
        (double)sim_now_us() / 1000.0, sim_current()->name, (unsigned long long)index, group,
        (unsigned long long)term, entry.size, text);
}

static void applied_note(uint32_t group, uint64_t index, uint64_t term, struct wp_slice entry)
{
    WP_ASSERT(index < APPLIED_MAX);
    uint64_t hash = XXH3_64bits_withSeed(entry.data, entry.size, term) | 1;
    uint64_t *known = &applied[group][index];
    if (*known && *known != hash) {
        sim_breach("I7", "%s applies another entry %llu of group %u than others did",
            sim_current() ? sim_current()->name : "-", (unsigned long long)index, group);
    }
    *known = hash;
    entry_explain(group, index, term, entry);
}

int __real_wp_shard_apply(void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours);
int __wrap_wp_shard_apply(void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours);
int __wrap_wp_shard_apply(void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours)
{
    if (sim_effective()) {
        applied_note(((struct shard *)context)->number, index, term, entry);
    }
    return __real_wp_shard_apply(context, index, term, entry, ours);
}

int __real_wp_meta_group_apply(
    void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours);
int __wrap_wp_meta_group_apply(
    void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours);
int __wrap_wp_meta_group_apply(void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours)
{
    if (sim_effective()) {
        applied_note(WP_META_GROUP, index, term, entry);
    }
    return __real_wp_meta_group_apply(context, index, term, entry, ours);
}

static void group_look(const struct shard *shard)
{
    uint64_t term = wp_group_term(shard->group);
    if (!wp_group_leading(shard->group) || term >= 4096) {
        return;
    }
    uint64_t *leader = &leader_terms[shard->number][term];
    if (*leader && *leader != shard->replica) {
        sim_breach("I7", "two leaders of group %u in term %llu", shard->number, (unsigned long long)term);
    }
    *leader = shard->replica;
}

void sim_history_groups(void)
{
    for (uint32_t r = 0; r < sim_cluster.router_count; r++) {
        struct sim_router *router = &sim_cluster.routers[r];
        for (uint32_t i = 0; router->process.alive && router->built && i < SIM_REACTORS; i++) {
            struct wp_reactor *reactor = router->reactors[i];
            for (struct shard *shard = reactor ? wp_group_next(reactor, NULL) : NULL; shard;
                 shard = wp_group_next(reactor, shard)) {
                group_look(shard);
            }
        }
    }
}

void sim_history_states(void)
{
    for (uint32_t number = 1; number <= SIM_SHARDS; number++) {
        uint64_t known_index = 0, known_hash = 0;
        for (uint32_t r = 0; r < sim_cluster.router_count; r++) {
            struct sim_router *router = &sim_cluster.routers[r];
            struct wp_reactor *reactor = router->built ? router->reactors[(number - 1) % SIM_REACTORS] : NULL;
            struct shard *shard = reactor ? wp_reactor_shard(reactor, number) : NULL;
            uint64_t hash;
            if (!shard || wp_machine_hash(shard->machine, &hash)) {
                continue;
            }
            uint64_t index = wp_group_applied_index(shard->group);
            if (known_hash && index == known_index && hash != known_hash) {
                sim_breach("I7", "%s has another state of shard %u at entry %llu", router->process.name,
                    number, (unsigned long long)index);
            }
            known_index = index;
            known_hash = hash;
        }
    }
}
