/* What people experienced, and what must be true of it (invariants of docs/reliability.md). */
#ifndef WP_SIM_HISTORY_H
#define WP_SIM_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/envelope.pb-c.h"
#include "proto/uuid.h"

#define SIM_DEVICES_MAX 32u

struct sim_message {
    uint8_t id[WP_UUID_SIZE];
    uint32_t sender;     /* device */
    uint64_t recipients; /* devices that must get it */
    uint64_t stream;     /* what its order is kept within: sender, addressee, lane */
    uint64_t number;     /* in the order of sending within the stream */
    uint32_t ttl_s;      /* 0: the default, which outlives every run */
    uint64_t published_us;
    enum { SIM_UNKNOWN, SIM_ACCEPTED, SIM_REFUSED } state;
    bool again;        /* its sender had to send it over another connection: order is not promised any more */
    uint64_t surfaced; /* devices that showed it */
    uint32_t place;    /* in the order of sending */
};

struct sim_message *sim_history_add(void);
/* NULL: nobody sent it. */
struct sim_message *sim_history_find(const uint8_t id[WP_UUID_SIZE]);
/* The device sends everything again that it has no answer to. */
void sim_history_sent_again(uint32_t sender);
/* A device shows a message for the first time. */
void sim_history_show(uint32_t device, const uint8_t id[WP_UUID_SIZE], uint64_t accepted_ms, bool dup);
/* A sender is told how a message ended for a person. */
void sim_history_receipt(const uint8_t id[WP_UUID_SIZE], const char *state, uint64_t time_ms);
/* At the end: whether every accepted message is where it must be; false with the first that is missing. */
bool sim_history_complete(const struct sim_message **ret_missing);
void sim_history_counts(uint64_t *ret_sent, uint64_t *ret_accepted, uint64_t *ret_shown);
void sim_history_free(void);

/* --- Raft and state machines --- */

/* What every replica applies is compared by the wrapped callbacks in history.c. */

/* Looks at the groups of all routers: one leader in a term. */
void sim_history_groups(void);
/* At the end: replicas that applied as much have the same state. */
void sim_history_states(void);

#endif
