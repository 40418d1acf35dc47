/* A meta machine on the simulated store, and its commands one by one. */
#ifndef WP_TESTS_META_FIXTURE_H
#define WP_TESTS_META_FIXTURE_H

#include "router/meta.h"

#define META_SHARDS 8u
#define META_LOG_MAX 4096u

struct meta_fixture {
    struct wp_store *store;
    struct wp_meta *meta;
    struct wp_arena arena;
    struct wp_bytes *log[META_LOG_MAX]; /* entry i at index i + 1 */
    uint64_t index;
    struct wp_meta_result last;
};

void meta_init(struct meta_fixture *f);
void meta_fini(struct meta_fixture *f);
/* One command as one entry; what came of it. */
int meta_command(struct meta_fixture *f, uint8_t type, const ProtobufCMessage *message);
/* Power failure: the state falls back to some batch, the log is applied again from there. */
void meta_crash(struct meta_fixture *f, uint64_t seed);

int meta_bootstrap(struct meta_fixture *f, uint32_t nodes, uint32_t replication);
int meta_node_add(struct meta_fixture *f, const char *name, char key);
int meta_node_state(struct meta_fixture *f, uint32_t number, uint32_t state);
int meta_node_seen(
    struct meta_fixture *f, uint32_t number, uint64_t directory, uint64_t boot, uint64_t start);
int meta_node_forgot(struct meta_fixture *f, uint32_t number, uint64_t directory, uint64_t boot);
int meta_node_replace(struct meta_fixture *f, uint32_t number, uint32_t by);
int meta_wanted_set(
    struct meta_fixture *f, uint32_t group, const struct wp_roster_wanted *wanted, uint64_t version);

const struct wp_roster *meta_roster(const struct meta_fixture *f);
/* A key of 40 times `letter`. */
void meta_key(char key[WP_KEY_TEXT_SIZE], char letter);
/* Aborts the test unless both say the same. */
void meta_assert_equal(const struct wp_roster *a, const struct wp_roster *b);

#endif
