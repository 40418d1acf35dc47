#include "tests/unit/meta_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "proto/frame.h"
#include "storage/sim/sim.h"

void meta_init(struct meta_fixture *f)
{
    memset(f, 0, sizeof(*f));
    wp_arena_init(&f->arena, 4u << 20);
    f->store = wp_sim_create();
    assert_int_equal(wp_meta_create(f->store, META_SHARDS, &f->meta), WP_OK);
}

void meta_fini(struct meta_fixture *f)
{
    for (uint64_t i = 0; i < f->index; i++) {
        wp_bytes_release(&f->log[i]);
    }
    wp_meta_destroy(&f->meta);
    wp_store_close(&f->store);
    wp_arena_fini(&f->arena);
}

static void apply(struct meta_fixture *f, uint64_t index)
{
    const struct wp_bytes *entry = f->log[index - 1];
    struct wp_meta_applied applied;
    wp_arena_reset(&f->arena);
    assert_int_equal(
        wp_meta_apply(f->meta, index, 1, wp_slice(entry->data, entry->size), &f->arena, &applied), WP_OK);
    if (applied.result_count > 0) {
        f->last = applied.results[0];
    }
}

int meta_command(struct meta_fixture *f, uint8_t type, const ProtobufCMessage *message)
{
    struct wp_buffer entry = WP_BUFFER_INIT;
    assert_true(f->index < META_LOG_MAX);
    assert_int_equal(wp_entry_head_encode(1, &entry), WP_OK);
    assert_int_equal(wp_schema_append(&entry, type, message), WP_OK);
    f->log[f->index++] = wp_bytes_copy(entry.data, entry.size);
    wp_buffer_free(&entry);
    apply(f, f->index);
    assert_int_equal(f->last.command, type);
    return f->last.error;
}

void meta_crash(struct meta_fixture *f, uint64_t seed)
{
    wp_meta_destroy(&f->meta);
    struct wp_store *image = wp_sim_crash(f->store, seed);
    wp_store_close(&f->store);
    f->store = image;
    assert_int_equal(wp_meta_create(f->store, META_SHARDS, &f->meta), WP_OK);
    uint64_t applied, term;
    wp_state_applied(f->store, WP_META_GROUP, &applied, &term);
    for (uint64_t index = applied + 1; index <= f->index; index++) {
        apply(f, index);
    }
}

void meta_key(char key[WP_KEY_TEXT_SIZE], char letter)
{
    memset(key, letter, WP_KEY_TEXT_SIZE - 1);
    key[WP_KEY_TEXT_SIZE - 1] = 0;
}

int meta_bootstrap(struct meta_fixture *f, uint32_t nodes, uint32_t replication)
{
    struct wp_roster *roster = wp_roster_create(META_SHARDS);
    struct wp_arena arena;
    wp_arena_init(&arena, 1u << 20);
    for (uint32_t i = 0; i < nodes; i++) {
        struct wp_roster_node *node = &roster->nodes[roster->node_count++];
        node->number = i + 1;
        node->reactors = 2;
        snprintf(node->name, sizeof(node->name), "router-%u", i + 1);
        snprintf(node->endpoint, sizeof(node->endpoint), "tcp://10.0.0.%u:7401", i + 1);
        meta_key(node->key, (char)('a' + i));
    }
    roster->replication = replication < nodes ? replication : nodes;
    wp_roster_place_first(roster);
    roster->replication = replication;
    int error = meta_command(f, WP_META_BOOTSTRAP, &wp_meta_bootstrap_fill(roster, &arena)->base);
    wp_roster_release(&roster);
    wp_arena_fini(&arena);
    return error;
}

/* Generated structs want char * where they only read. */
static char *text(const char *constant)
{
    union {
        const char *in;
        char *out;
    } cast = {.in = constant};
    return cast.out;
}

int meta_node_add(struct meta_fixture *f, const char *name, char key)
{
    char endpoint[64], key_text[WP_KEY_TEXT_SIZE];
    Wp__MetaNodeAdd command = WP__META_NODE_ADD__INIT;
    snprintf(endpoint, sizeof(endpoint), "tcp://10.0.1.%d:7401", key - 'a');
    meta_key(key_text, key);
    command.name = text(name);
    command.endpoint = endpoint;
    command.key = key_text;
    command.reactors = 2;
    return meta_command(f, WP_META_NODE_ADD, &command.base);
}

int meta_node_state(struct meta_fixture *f, uint32_t number, uint32_t state)
{
    Wp__MetaNodeState command = WP__META_NODE_STATE__INIT;
    command.number = number;
    command.state = state;
    return meta_command(f, WP_META_NODE_STATE, &command.base);
}

int meta_node_seen(struct meta_fixture *f, uint32_t number, uint64_t directory, uint64_t boot, uint64_t start)
{
    Wp__MetaNodeSeen command = WP__META_NODE_SEEN__INIT;
    command.number = number;
    command.directory_id = directory;
    command.boot = boot;
    command.start_id = start;
    return meta_command(f, WP_META_NODE_SEEN, &command.base);
}

int meta_node_forgot(struct meta_fixture *f, uint32_t number, uint64_t directory, uint64_t boot)
{
    const struct wp_roster_node *node = wp_roster_node(meta_roster(f), number);
    Wp__MetaNodeForgot command = WP__META_NODE_FORGOT__INIT;
    command.number = number;
    command.old_directory_id = node ? node->directory_id : 0;
    command.old_boot = node ? node->boot : 0;
    command.old_start_id = node ? node->start_id : 0;
    command.directory_id = directory;
    command.boot = boot;
    command.start_id = directory + boot;
    return meta_command(f, WP_META_NODE_FORGOT, &command.base);
}

int meta_node_replace(struct meta_fixture *f, uint32_t number, uint32_t by)
{
    Wp__MetaNodeReplace command = WP__META_NODE_REPLACE__INIT;
    command.number = number;
    command.by = by;
    return meta_command(f, WP_META_NODE_REPLACE, &command.base);
}

int meta_wanted_set(
    struct meta_fixture *f, uint32_t group, const struct wp_roster_wanted *wanted, uint64_t version)
{
    Wp__MetaWantedSet command = WP__META_WANTED_SET__INIT;
    struct wp_roster_wanted copy = *wanted;
    command.group = group;
    command.ids = copy.ids;
    command.n_ids = copy.count;
    command.version = version;
    return meta_command(f, WP_META_WANTED_SET, &command.base);
}

const struct wp_roster *meta_roster(const struct meta_fixture *f)
{
    return wp_meta_roster(f->meta);
}

void meta_assert_equal(const struct wp_roster *a, const struct wp_roster *b)
{
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->feature_level, b->feature_level);
    assert_int_equal(a->replication, b->replication);
    assert_int_equal(a->last_node, b->last_node);
    assert_int_equal(a->node_count, b->node_count);
    assert_int_equal(a->gateway_count, b->gateway_count);
    assert_int_equal(a->policy_count, b->policy_count);
    assert_memory_equal(a->nodes, b->nodes, sizeof(a->nodes));
    assert_memory_equal(a->gateways, b->gateways, sizeof(a->gateways));
    assert_memory_equal(a->policies, b->policies, sizeof(a->policies));
    assert_memory_equal(a->wanted, b->wanted, (META_SHARDS + 1) * sizeof(a->wanted[0]));
}
