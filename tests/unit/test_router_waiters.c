/* What those who wait for a command are told when its leader is none any more, and for what their entry
 * waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/error.h"
#include "router/reactor_state.h"

struct asked {
    struct wp_answer answer; /* first */
    int errors[3];           /* by item; 1 = not answered */
};

static void asked_answered(struct wp_answer *answer, uint32_t item, int error)
{
    struct asked *asked = (struct asked *)answer;
    assert_int_equal(asked->errors[item], 1);
    asked->errors[item] = error;
}

static struct waiters waiters_of(struct asked *asked, uint32_t item)
{
    struct waiters waiters = {.items = calloc(1, sizeof(*waiters.items)), .count = 1, .capacity = 1};
    assert_non_null(waiters.items);
    waiters.items[0] = (struct waiter){.kind = WAIT_ANSWER, .number = item, .answer = &asked->answer};
    return waiters;
}

static void proposal_add(struct proposals *list, struct asked *asked, uint32_t item)
{
    struct proposal *proposal = calloc(1, sizeof(*proposal));
    assert_non_null(proposal);
    proposal->waiters = waiters_of(asked, item);
    STAILQ_INSERT_TAIL(list, proposal, next);
}

/* A command in flight may still be committed: who hears "not leader" would give it again, and a device that
 * was added would exist with a secret that nobody knows. */
static void test_only_what_never_left_is_said_to_be_refused(void **state)
{
    (void)state;
    enum { IN_FLIGHT, SEALED, OPEN };
    struct asked asked = {.answer.answered = asked_answered, .errors = {1, 1, 1}};
    struct shard shard = {.number = 1};
    STAILQ_INIT(&shard.sealed);
    STAILQ_INIT(&shard.in_flight);
    proposal_add(&shard.in_flight, &asked, IN_FLIGHT);
    shard.in_flight_count = 1;
    proposal_add(&shard.sealed, &asked, SEALED);
    shard.open_waiters = waiters_of(&asked, OPEN);
    wp_shard_refuse_all(&shard, WP_E_NOT_LEADER);
    assert_int_equal(asked.errors[IN_FLIGHT], WP_E_TIMEOUT);
    assert_int_equal(asked.errors[SEALED], WP_E_NOT_LEADER);
    assert_int_equal(asked.errors[OPEN], WP_E_NOT_LEADER);
    assert_int_equal(shard.in_flight_count, 0);
    free(shard.open_waiters.items);
}

/* Under load entries become larger, not more: every replica pays for each. An idle shard waits for nothing.
 */
static void test_a_small_entry_waits_while_others_are_in_flight(void **state)
{
    (void)state;
    struct shard shard = {.number = 1, .open.size = 100};
    for (shard.in_flight_count = 0; shard.in_flight_count < 2; shard.in_flight_count++) {
        assert_false(wp_shard_gathers(&shard));
    }
    assert_true(wp_shard_gathers(&shard));
    shard.open.size = 16 * 1024;
    assert_false(wp_shard_gathers(&shard));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_never_left_is_said_to_be_refused),
        cmocka_unit_test(test_a_small_entry_waits_while_others_are_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
