/* The RPC and membership codecs, the ring of entries and the extent of the log: pure parts of cluster/.
 * Encodings are canonical: what is accepted is what encode makes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/prng.h"
#include "cluster/entry_ring.h"
#include "cluster/log_extent.h"
#include "cluster/message.h"
#include "cluster/replica.h"
#include "proto/frame.h"

static const struct wp_membership three = {
    3, {{1, WP_MEMBER_VOTER}, {5, WP_MEMBER_VOTER}, {9, WP_MEMBER_LEARNER}}};

static struct wp_slice slice_of(const struct wp_bytes *bytes)
{
    return wp_slice(bytes->data, bytes->size);
}

/* --- membership -------------------------------------------------------------------------------- */

static void test_membership_round_trip(void **state)
{
    (void)state;
    struct wp_bytes *bytes = wp_membership_encode(&three);
    struct wp_membership out = {0};
    assert_int_equal(wp_membership_decode(slice_of(bytes), &out), WP_OK);
    assert_memory_equal(&out, &three, sizeof out);
    assert_int_equal(wp_membership_voter_count(&out), 2);
    assert_int_equal(wp_membership_find(&out, 9)->role, WP_MEMBER_LEARNER);
    assert_null(wp_membership_find(&out, 2));
    wp_bytes_release(&bytes);
}

static void test_membership_refuses(void **state)
{
    (void)state;
    struct wp_bytes *bytes = wp_membership_encode(&three);
    struct wp_membership out;
    for (size_t size = 0; size < bytes->size; size++) {
        assert_int_equal(wp_membership_decode(wp_slice(bytes->data, size), &out), WP_E_MALFORMED);
    }
    static const struct {
        size_t at;
        uint8_t value;
        int error;
    } damage[] = {
        {0, 2, WP_E_VERSION},    /* unknown version */
        {1, 0, WP_E_MALFORMED},  /* nobody */
        {1, 10, WP_E_MALFORMED}, /* more than fit */
        {2, 0, WP_E_MALFORMED},  /* id 0 */
        {2, 5, WP_E_MALFORMED},  /* twice the same id */
        {2, 6, WP_E_MALFORMED},  /* out of order */
        {10, 2, WP_E_MALFORMED}, /* unknown role */
    };
    for (size_t i = 0; i < sizeof damage / sizeof damage[0]; i++) {
        struct wp_bytes *copy = wp_bytes_copy(bytes->data, bytes->size);
        copy->data[damage[i].at] = damage[i].value;
        assert_int_equal(wp_membership_decode(slice_of(copy), &out), damage[i].error);
        wp_bytes_release(&copy);
    }
    bytes->data[10] = WP_MEMBER_LEARNER;
    bytes->data[19] = WP_MEMBER_LEARNER; /* no voter left */
    assert_int_equal(wp_membership_decode(slice_of(bytes), &out), WP_E_MALFORMED);
    wp_bytes_release(&bytes);
}

static void test_membership_steps(void **state)
{
    (void)state;
    struct wp_membership to = three;
    assert_false(wp_membership_one_step(&three, &to));
    to.members[2].role = WP_MEMBER_VOTER;
    assert_true(wp_membership_one_step(&three, &to)); /* promoted */
    to.members[1].role = WP_MEMBER_LEARNER;
    assert_false(wp_membership_one_step(&three, &to)); /* and another demoted */
    to = three;
    to.count = 2;
    assert_true(wp_membership_one_step(&three, &to)); /* removed */
    assert_true(wp_membership_one_step(&to, &three)); /* added */
    to.members[1].id = 6;
    assert_false(wp_membership_one_step(&three, &to)); /* removed two, added one */
    to = three;
    to.members[2].id = 10;
    assert_false(wp_membership_one_step(&three, &to)); /* replaced */
}

/* --- rpc --------------------------------------------------------------------------------------- */

/* What is encoded comes back, and encoding what came back makes the same bytes. */
static void check_round_trip(const struct wp_rpc *rpc, const struct wp_log_entry *entries)
{
    struct wp_bytes *bytes = wp_rpc_encode(rpc, entries);
    struct wp_rpc out;
    assert_non_null(bytes);
    assert_int_equal(wp_rpc_decode(slice_of(bytes), &out), WP_OK);
    assert_int_equal(out.type, rpc->type);
    assert_int_equal(out.flags, rpc->flags);
    assert_int_equal(out.term, rpc->term);
    assert_memory_equal(out.words, rpc->words, sizeof out.words);
    assert_int_equal(out.entry_count, rpc->entry_count);

    struct wp_log_entry again[8];
    struct wp_slice rest = out.entries;
    for (uint32_t i = 0; i < out.entry_count; i++) {
        struct wp_rpc_entry entry;
        assert_true(wp_rpc_entry_next(&rest, &entry));
        assert_int_equal(entry.term, entries[i].term);
        assert_int_equal(entry.kind, entries[i].kind);
        assert_true(wp_slice_equal(entry.data, slice_of(entries[i].data)));
        again[i] = (struct wp_log_entry){.term = entry.term, .kind = entry.kind};
        again[i].data = wp_bytes_copy(entry.data.data, entry.data.size);
    }
    assert_int_equal(rest.size, 0);
    struct wp_bytes *second = wp_rpc_encode(&out, again);
    assert_true(wp_slice_equal(slice_of(second), slice_of(bytes)));
    for (uint32_t i = 0; i < out.entry_count; i++) {
        wp_bytes_release(&again[i].data);
    }
    wp_bytes_release(&second);

    for (size_t size = 0; size < bytes->size; size++) {
        assert_int_not_equal(wp_rpc_decode(wp_slice(bytes->data, size), &out), WP_OK);
    }
    wp_bytes_release(&bytes);
}

static void test_rpc_round_trips(void **state)
{
    (void)state;
    check_round_trip(&(struct wp_rpc){.type = WP_RPC_VOTE, .term = 7, .vote = {UINT64_MAX, 12, 6}}, NULL);
    check_round_trip(
        &(struct wp_rpc){.type = WP_RPC_VOTE, .flags = WP_RPC_PRE_VOTE, .term = 1, .vote = {3, 0, 0}}, NULL);
    check_round_trip(
        &(struct wp_rpc){.type = WP_RPC_VOTE, .flags = WP_RPC_DISRUPT_LEADER, .term = 9, .vote = {3, 4, 9}},
        NULL);
    check_round_trip(
        &(struct wp_rpc){.type = WP_RPC_VOTE_RESULT, .flags = WP_RPC_GRANTED | WP_RPC_PRE_VOTE, .term = 7},
        NULL);
    check_round_trip(
        &(struct wp_rpc){.type = WP_RPC_APPEND_RESULT, .term = 7, .append_result = {0, 99}}, NULL);
    check_round_trip(
        &(struct wp_rpc){.type = WP_RPC_APPEND_RESULT, .term = 7, .append_result = {99, 98, 123456}}, NULL);
    check_round_trip(
        &(struct wp_rpc){
            .type = WP_RPC_APPEND_RESULT, .flags = WP_RPC_STALE, .term = 7, .append_result = {99, 0}},
        NULL);
    check_round_trip(&(struct wp_rpc){.type = WP_RPC_TIMEOUT_NOW, .term = 7, .timeout_now = {99, 7}}, NULL);
    check_round_trip(&(struct wp_rpc){.type = WP_RPC_APPEND, .term = 7, .append = {0, 0, 0}}, NULL);

    struct wp_log_entry entries[] = {
        {.term = 4, .kind = WP_ENTRY_COMMAND, .data = wp_bytes_copy("body", 4)},
        {.term = 4, .kind = WP_ENTRY_CHANGE, .data = wp_membership_encode(&three)},
        {.term = 6, .kind = WP_ENTRY_BARRIER, .data = wp_bytes_create(0)},
        {.term = 7, .kind = WP_ENTRY_COMMAND, .data = wp_bytes_create(0)},
    };
    check_round_trip(
        &(struct wp_rpc){.type = WP_RPC_APPEND, .term = 7, .append = {10, 3, 11, 123456}, .entry_count = 4},
        entries);
    for (int i = 0; i < 4; i++) {
        wp_bytes_release(&entries[i].data);
    }
}

/* Fields that no correct peer sends; each would be taken at its word by the engine. */
static void test_rpc_refuses(void **state)
{
    (void)state;
    const struct wp_rpc wrong[] = {
        {.type = WP_RPC_VOTE, .term = 0, .vote = {1, 0, 0}},                /* no term */
        {.type = WP_RPC_VOTE, .term = WP_RPC_INDEX_MAX, .vote = {1, 0, 0}}, /* a term that would wrap */
        {.type = WP_RPC_VOTE, .term = 5, .vote = {0, 0, 0}},                /* nobody's candidate */
        {.type = WP_RPC_VOTE, .term = 5, .vote = {1, 3, 0}},                /* an index without a term */
        {.type = WP_RPC_VOTE, .term = 5, .vote = {1, 3, 6}},                /* a log from the future */
        {.type = WP_RPC_VOTE, .flags = WP_RPC_GRANTED, .term = 5, .vote = {1, 3, 4}},
        {.type = WP_RPC_VOTE_RESULT, .flags = WP_RPC_STALE, .term = 5},
        {.type = WP_RPC_APPEND_RESULT,
            .term = 5,
            .append_result = {7, 7}}, /* a hint at or above the refusal */
        {.type = WP_RPC_APPEND_RESULT, .term = 5, .append_result = {0, WP_RPC_INDEX_MAX}},
        {.type = WP_RPC_APPEND_RESULT, .term = 5, .append_result = {0, 7, WP_RPC_INDEX_MAX}},
        {.type = WP_RPC_APPEND_RESULT,
            .flags = WP_RPC_STALE,
            .term = 5,
            .append_result = {7, 0, 1}}, /* accepts a leader whose term it refuses */
        {.type = WP_RPC_APPEND, .term = 5, .append = {0, 0, 0, WP_RPC_INDEX_MAX}},
        {.type = WP_RPC_APPEND, .term = 5, .append = {0, 1, 0}},
        {.type = WP_RPC_APPEND, .term = 5, .append = {1, 0, 0}},
        {.type = WP_RPC_APPEND, .term = 5, .append = {1, 6, 0}}, /* a predecessor newer than the leader */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct wp_bytes *bytes = wp_rpc_encode(&wrong[i], NULL);
        struct wp_rpc out;
        assert_int_equal(wp_rpc_decode(slice_of(bytes), &out), WP_E_MALFORMED);
        wp_bytes_release(&bytes);
    }
}

static void test_rpc_refuses_entries(void **state)
{
    (void)state;
    struct wp_bytes *empty = wp_bytes_create(0);
    struct wp_bytes *byte = wp_bytes_copy("x", 1);
    struct wp_bytes *large = wp_bytes_create(WP_ENTRY_SIZE_MAX + 1);
    memset(large->data, 0, large->size);
    const struct wp_log_entry wrong[] = {
        {.term = 0, .kind = WP_ENTRY_COMMAND, .data = byte}, /* no term */
        {.term = 2, .kind = WP_ENTRY_COMMAND, .data = byte}, /* older than its predecessor */
        {.term = 6, .kind = WP_ENTRY_COMMAND, .data = byte}, /* newer than the leader */
        {.term = 4, .kind = 0, .data = byte},
        {.term = 4, .kind = 4, .data = byte},
        {.term = 4, .kind = WP_ENTRY_BARRIER, .data = byte},
        {.term = 4, .kind = WP_ENTRY_CHANGE, .data = empty},
        {.term = 4, .kind = WP_ENTRY_CHANGE, .data = byte},
        {.term = 4, .kind = WP_ENTRY_COMMAND, .data = large},
    };
    struct wp_rpc rpc = {.type = WP_RPC_APPEND, .term = 5, .append = {3, 3, 0}, .entry_count = 1};
    struct wp_rpc out;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct wp_bytes *bytes = wp_rpc_encode(&rpc, &wrong[i]);
        assert_int_not_equal(wp_rpc_decode(slice_of(bytes), &out), WP_OK);
        wp_bytes_release(&bytes);
    }
    struct wp_log_entry right = {.term = 4, .kind = WP_ENTRY_COMMAND, .data = byte};
    struct wp_bytes *bytes = wp_rpc_encode(&rpc, &right);
    assert_int_equal(wp_rpc_decode(slice_of(bytes), &out), WP_OK);
    bytes->data[44] = 2; /* one entry more than there is */
    assert_int_equal(wp_rpc_decode(slice_of(bytes), &out), WP_E_MALFORMED);
    bytes->data[44] = 0; /* one entry too many */
    assert_int_equal(wp_rpc_decode(slice_of(bytes), &out), WP_E_MALFORMED);
    bytes->data[44] = 1;
    bytes->data[0] = 2;
    assert_int_equal(wp_rpc_decode(slice_of(bytes), &out), WP_E_VERSION);
    bytes->data[0] = 1;
    bytes->data[1] = 0;
    assert_int_equal(wp_rpc_decode(slice_of(bytes), &out), WP_E_MALFORMED);
    bytes->data[1] = WP_RPC_TIMEOUT_NOW + 1;
    assert_int_equal(wp_rpc_decode(slice_of(bytes), &out), WP_E_MALFORMED);
    wp_bytes_release(&bytes);
    wp_bytes_release(&large);
    wp_bytes_release(&byte);
    wp_bytes_release(&empty);
}

/* Bytes with a few wrong ones: refused, or a message that encodes to exactly these bytes. Under the
 * sanitizers this is also the check that decode reads nothing beyond its input. */
static void test_rpc_damaged_is_refused_or_canonical(void **state)
{
    (void)state;
    struct wp_prng prng;
    wp_prng_init(&prng, 42);
    struct wp_log_entry entries[] = {
        {.term = 4, .kind = WP_ENTRY_CHANGE, .data = wp_membership_encode(&three)},
        {.term = 5, .kind = WP_ENTRY_COMMAND, .data = wp_bytes_copy("command", 7)},
    };
    struct wp_rpc rpc = {.type = WP_RPC_APPEND, .term = 7, .append = {10, 3, 11}, .entry_count = 2};
    struct wp_bytes *good = wp_rpc_encode(&rpc, entries);
    uint32_t accepted = 0;
    for (int round = 0; round < 20000; round++) {
        size_t size = 1 + wp_prng_below(&prng, good->size);
        struct wp_bytes *bytes = wp_bytes_copy(good->data, round % 2 ? good->size : size);
        for (uint64_t n = wp_prng_below(&prng, 3); n > 0; n--) {
            bytes->data[wp_prng_below(&prng, bytes->size)] = (uint8_t)wp_prng_below(&prng, 8);
        }
        struct wp_rpc out;
        if (wp_rpc_decode(slice_of(bytes), &out) == WP_OK && out.type == WP_RPC_APPEND &&
            out.entry_count == 2) {
            struct wp_log_entry again[2];
            struct wp_slice rest = out.entries;
            for (int i = 0; i < 2; i++) {
                struct wp_rpc_entry entry;
                assert_true(wp_rpc_entry_next(&rest, &entry));
                again[i] = (struct wp_log_entry){.term = entry.term, .kind = entry.kind};
                again[i].data = wp_bytes_copy(entry.data.data, entry.data.size);
            }
            struct wp_bytes *second = wp_rpc_encode(&out, again);
            assert_true(wp_slice_equal(slice_of(second), slice_of(bytes)));
            wp_bytes_release(&second);
            wp_bytes_release(&again[0].data);
            wp_bytes_release(&again[1].data);
            accepted++;
        }
        wp_bytes_release(&bytes);
    }
    assert_in_range(accepted, 1000, 19000);
    wp_bytes_release(&good);
    wp_bytes_release(&entries[0].data);
    wp_bytes_release(&entries[1].data);
}

/* --- ring -------------------------------------------------------------------------------------- */

static void ring_add(struct wp_entry_ring *ring, uint64_t index, uint64_t term)
{
    struct wp_log_entry entry = {.index = index, .term = term, .data = wp_bytes_create(10)};
    assert_int_equal(wp_entry_ring_append(ring, &entry, term * 2), WP_OK);
    wp_bytes_release(&entry.data);
}

/* Append, trim and truncate in any order against a plain model. */
static void test_ring_against_a_model(void **state)
{
    (void)state;
    struct wp_prng prng;
    struct wp_entry_ring ring;
    uint64_t terms[4000] = {0};
    uint64_t first = 8;
    uint64_t next = 8;
    wp_prng_init(&prng, 7);
    wp_entry_ring_init(&ring, 8);
    for (uint64_t step = 1; step < 20000 && next < 3990; step++) {
        uint64_t what = wp_prng_below(&prng, 20);
        if (what == 0) {
            uint64_t to = first + wp_prng_below(&prng, next - first + 1);
            wp_entry_ring_trim(&ring, to);
            first = to;
        } else if (what == 1 && next > 9) {
            uint64_t back = wp_prng_below(&prng, 5);
            uint64_t to = next > back + 8 ? next - back : 8;
            wp_entry_ring_truncate(&ring, to);
            first = to < first ? to : first;
            next = to;
        } else {
            terms[next] = step;
            ring_add(&ring, next, step);
            next++;
        }
        assert_int_equal(ring.first, first);
        assert_int_equal(ring.next, next);
        assert_int_equal(ring.bytes, (next - first) * 10);
        uint64_t probe = first + wp_prng_below(&prng, 10);
        const struct wp_entry_slot *slot = wp_entry_ring_find(&ring, probe);
        assert_int_equal(slot != NULL, probe < next);
        if (slot) {
            assert_int_equal(slot->entry.index, probe);
            assert_int_equal(slot->entry.term, terms[probe]);
            assert_int_equal(slot->write, terms[probe] * 2);
        }
        assert_null(wp_entry_ring_find(&ring, first - 1));
    }
    wp_entry_ring_fini(&ring);
}

/* --- extent ------------------------------------------------------------------------------------ */

static void test_extent_finds_the_last_bytes(void **state)
{
    (void)state;
    struct wp_log_extent extent;
    wp_log_extent_init(&extent, 1, 10u << 20);
    for (uint64_t i = 1; i <= 10 * 1024; i++) {
        wp_log_extent_add(&extent, i, 1024);
        assert_int_equal(wp_log_extent_first(&extent), 1);
    }
    for (uint64_t i = 10 * 1024 + 1; i <= 100000; i++) {
        wp_log_extent_add(&extent, i, 1024);
    }
    assert_in_range(100001 - wp_log_extent_first(&extent), 10 * 1024 - 150, 10 * 1024);
    /* A truncated tail takes its marks along: the answer stays inside the log. */
    wp_log_extent_add(&extent, 85000, 1024);
    assert_true(wp_log_extent_first(&extent) <= 85000);
    for (uint64_t i = 85001; i <= 100000; i++) {
        wp_log_extent_add(&extent, i, 1024);
    }
    assert_in_range(100001 - wp_log_extent_first(&extent), 10 * 1024 - 150, 10 * 1024);
}

/* Entries larger than a mark's distance, and far more of them than the ring holds marks. */
static void test_extent_is_bounded(void **state)
{
    (void)state;
    struct wp_log_extent extent;
    wp_log_extent_init(&extent, 1, 100u << 20);
    for (uint64_t i = 1; i <= 2000; i++) {
        wp_log_extent_add(&extent, i, 1u << 20);
    }
    assert_in_range(wp_log_extent_first(&extent), 1900, 1902);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_membership_round_trip),
        cmocka_unit_test(test_membership_refuses),
        cmocka_unit_test(test_membership_steps),
        cmocka_unit_test(test_rpc_round_trips),
        cmocka_unit_test(test_rpc_refuses),
        cmocka_unit_test(test_rpc_refuses_entries),
        cmocka_unit_test(test_rpc_damaged_is_refused_or_canonical),
        cmocka_unit_test(test_ring_against_a_model),
        cmocka_unit_test(test_extent_finds_the_last_bytes),
        cmocka_unit_test(test_extent_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
