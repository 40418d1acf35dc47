/* Leadership beyond the engine: how long it is certain, how it is handed over, how it is taken up early.
 *
 * Invariants:
 *   1. a stamp counts for the lease only in the term in which this leader took it;
 *   2. from the moment an order to stand for election left, there is no lease: other voters obey it although
 *      they have a leader. When the transfer is given up the order may still be on its way. An entry appended
 *      after it and committed ends that danger: who lacks the entry is not elected, and who has it finds that
 *      the order names another end of the log. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "cluster/replica_step.h"

/* An early election begins within so many ms. It fails when others have not noticed yet, hold more of the
 * log, or ask at the same moment: it is then tried again at such distances, as often as this with the first.
 */
#define EARLY_JITTER_MS 100u
#define EARLY_AGAIN_MS 150u
#define EARLY_TRIES 4u

/* --- what is known of the term that we lead ---------------------------------------------------- */

static struct wp_lead *lead_of_term(struct wp_replica *replica)
{
    uint64_t term = replica->raft.state == RAFT_LEADER ? raft_current_term(&replica->raft) : 0;
    if (replica->lead.term != term) {
        replica->lead = (struct wp_lead){.term = term};
    }
    return &replica->lead;
}

static bool is_voter(const struct wp_replica *replica, uint64_t id)
{
    const struct wp_member *member = wp_membership_find(&replica->membership, id);
    return member && member->role == WP_MEMBER_VOTER;
}

static uint64_t echo_of(const struct wp_replica *replica, uint64_t id)
{
    for (uint32_t i = 0; i < replica->lead.echo_count; i++) {
        if (replica->lead.echoes[i].id == id) {
            return replica->lead.echoes[i].stamp_ms;
        }
    }
    return 0;
}

/* Rows of those who are no members any more make room. */
static void echoes_prune(struct wp_replica *replica)
{
    struct wp_lead *lead = &replica->lead;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < lead->echo_count; i++) {
        if (wp_membership_find(&replica->membership, lead->echoes[i].id)) {
            lead->echoes[kept++] = lead->echoes[i];
        }
    }
    lead->echo_count = kept;
}

void wp_replica_lead_echo(struct wp_replica *replica, uint64_t from, uint64_t stamp_ms)
{
    stamp_ms = WP_BUG == 20 ? replica->now_ms : stamp_ms; /* 20: a lease from the time of receipt */
    struct wp_lead *lead = lead_of_term(replica);
    if (lead->term == 0 || !wp_membership_find(&replica->membership, from)) {
        return;
    }
    for (uint32_t i = 0; i < lead->echo_count; i++) {
        if (lead->echoes[i].id == from) {
            uint64_t known = lead->echoes[i].stamp_ms;
            lead->echoes[i].stamp_ms = stamp_ms > known ? stamp_ms : known;
            return;
        }
    }
    if (lead->echo_count == WP_REPLICA_MEMBERS_MAX) {
        echoes_prune(replica);
    }
    lead->echoes[lead->echo_count].id = from;
    lead->echoes[lead->echo_count++].stamp_ms = stamp_ms;
}

static int stamp_order(const void *a, const void *b)
{
    uint64_t first = *(const uint64_t *)a;
    uint64_t second = *(const uint64_t *)b;
    return first < second ? 1 : -(first > second);
}

uint64_t wp_replica_lease_ms(const struct wp_replica *replica)
{
    const struct wp_lead *lead = &replica->lead;
    if (replica->raft.state != RAFT_LEADER || lead->term != raft_current_term(&replica->raft) ||
        lead->transfer_ordered || replica->commit_seen < lead->lease_from_index) {
        return 0;
    }
    uint64_t stamps[WP_REPLICA_MEMBERS_MAX];
    uint32_t voters = 0;
    for (uint32_t i = 0; i < replica->membership.count; i++) {
        const struct wp_member *member = &replica->membership.members[i];
        if (member->role == WP_MEMBER_VOTER) {
            bool self = member->id == replica->config.id;
            stamps[voters++] = self ? replica->now_ms : echo_of(replica, member->id);
        }
    }
    qsort(stamps, voters, sizeof stamps[0], stamp_order);
    return stamps[voters / 2]; /* voters / 2 + 1 of them are at least this */
}

/* --- transfer ---------------------------------------------------------------------------------- */

uint64_t wp_replica_transferring(const struct wp_replica *replica)
{
    return replica->lead.transfer_to;
}

const char *wp_replica_transfer_failure(const struct wp_replica *replica)
{
    return replica->lead.transfer_failure ? replica->lead.transfer_failure : "";
}

static bool ids_have(const uint64_t *ids, uint32_t count, uint64_t id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

static void transfer_give_up(struct wp_lead *lead, const char *why)
{
    lead->transfer_to = 0;
    lead->transfer_ordered = false;
    lead->transfer_failure = why;
}

uint64_t wp_replica_successor(const struct wp_replica *replica, const uint64_t *avoid, uint32_t avoid_count)
{
    uint64_t best = 0;
    uint64_t best_match = 0;
    bool best_recent = false;
    for (uint32_t i = 0; i < replica->membership.count; i++) {
        uint64_t id = replica->membership.members[i].id;
        raft_index match = 0;
        if (id == replica->config.id || !is_voter(replica, id) || ids_have(avoid, avoid_count, id) ||
            raft_match_index(&replica->raft, id, &match) != 0) {
            continue;
        }
        bool recent = echo_of(replica, id) + replica->config.election_ms > replica->now_ms;
        if (best == 0 || (recent && !best_recent) || (recent == best_recent && match > best_match)) {
            best = id;
            best_match = match;
            best_recent = recent;
        }
    }
    return best;
}

int wp_replica_transfer(
    struct wp_replica *replica, uint64_t now_ms, uint64_t to, struct wp_replica_update *ret_update)
{
    if (replica->raft.state != RAFT_LEADER || replica->parked_write != 0) {
        return WP_E_NOT_LEADER;
    }
    if (to == replica->config.id || !is_voter(replica, to)) {
        return WP_E_INVALID;
    }
    if (lead_of_term(replica)->transfer_to != 0) {
        return WP_E_UNAVAILABLE;
    }
    uint64_t commit = wp_replica_commit_index(replica);
    wp_replica_begin(replica, now_ms);
    replica->lead.transfer_to = to;
    replica->lead.transfer_until_ms = replica->now_ms + replica->config.election_ms;
    return wp_replica_finish(replica, WP_REPLICA_LEADER, commit, ret_update);
}

/* The engine gives the order with the first answer that brings the other one further, caught up or not, and
 * then never again. So it hears of the transfer only when the other one holds everything. */
static int transfer_order(struct wp_replica *replica)
{
    struct raft_event event = {.type = RAFT_TRANSFER};
    struct wp_step_source source = {0};
    int refused = 0;
    event.transfer.server_id = replica->lead.transfer_to;
    int error = wp_replica_step(replica, &event, &source, &refused);
    if (refused) {
        transfer_give_up(&replica->lead, "the engine refused it");
        return WP_OK;
    }
    replica->lead.transfer_ordered = true;
    return error;
}

int wp_replica_lead_step(struct wp_replica *replica)
{
    struct wp_lead *lead = lead_of_term(replica);
    if (lead->transfer_to == 0) {
        return WP_OK;
    }
    if (lead->transfer_ordered) {
        if (raft_transferee(&replica->raft) != 0) {
            return WP_OK;
        }
        transfer_give_up(lead, "it was told to stand for election and did not win one in time");
        lead->lease_from_index = replica->ring.next;
        return wp_replica_append_barrier(replica);
    }
    raft_index match = 0;
    bool member = raft_match_index(&replica->raft, lead->transfer_to, &match) == 0;
    if (member && is_voter(replica, lead->transfer_to) && match == wp_replica_last_index(replica)) {
        return transfer_order(replica);
    }
    if (!member || replica->now_ms >= lead->transfer_until_ms) {
        transfer_give_up(lead, member ? "it did not have the whole log in time" : "it is no member");
    }
    return WP_OK;
}

/* --- early election ---------------------------------------------------------------------------- */

void wp_replica_leader_lost(struct wp_replica *replica, uint64_t now_ms)
{
    bool follows =
        replica->raft.state == RAFT_FOLLOWER && replica->raft.follower_state.current_leader.id != 0;
    if (!follows || replica->early.at_ms != 0 || wp_replica_silent(replica) ||
        !is_voter(replica, replica->config.id)) {
        return;
    }
    now_ms = now_ms > replica->now_ms ? now_ms : replica->now_ms;
    replica->early.at_ms = now_ms + 1 + wp_prng_below(&replica->prng, EARLY_JITTER_MS);
    replica->early.term = raft_current_term(&replica->raft);
    replica->early.tries = EARLY_TRIES;
}

/* Frames of the lost leader that were still on their way here do not call it off: if it is alive, the
 * pre-vote fails at those who hear of it, and its next append makes this one a follower again. */
void wp_replica_early_election(struct wp_replica *replica)
{
    struct wp_early_election *early = &replica->early;
    if (early->at_ms == 0 || replica->now_ms < early->at_ms) {
        return;
    }
    bool first = replica->raft.state == RAFT_FOLLOWER && early->tries == EARLY_TRIES &&
                 raft_current_term(&replica->raft) == early->term;
    bool again = replica->raft.state == RAFT_CANDIDATE && early->tries > 0;
    if (!first && !again) {
        *early = (struct wp_early_election){0};
        return;
    }
    if (replica->stored < wp_replica_last_index(replica)) {
        return; /* the engine would put the election off by a whole timeout */
    }
    early->tries--;
    early->at_ms = replica->now_ms + EARLY_AGAIN_MS + wp_prng_below(&replica->prng, EARLY_JITTER_MS);
    /* Unsigned: right also in the first second of the clock. */
    replica->raft.election_timer_start -= raft_timeout(&replica->raft) - replica->now_ms;
}
