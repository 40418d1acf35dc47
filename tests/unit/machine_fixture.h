/* A machine on the simulated store, entries built command by command, and short ways to say common things.
 *
 *     fixture_begin(&f);              one entry ...
 *     fixture_user_add(&f, "bob");
 *     fixture_apply(&f);              ... applied at f.index + 1 and f.time_ms; results in f.applied
 *
 * A failed step ends the test (cmocka assertions), so steps return what the test wants to look at. */
#ifndef WP_TESTS_UNIT_MACHINE_FIXTURE_H
#define WP_TESTS_UNIT_MACHINE_FIXTURE_H

#include "base/prng.h"
#include "router/machine.h"

#define FIXTURE_SHARD 3u
#define FIXTURE_START_MS 1700000000000u
#define MINUTE_MS 60000u
#define HOUR_MS 3600000u
#define DAY_MS 86400000u

struct fixture {
    struct wp_store *store;
    struct wp_machine *machine;
    struct wp_machine_limits limits;
    uint64_t index;
    uint64_t time_ms;
    struct wp_prng prng;
    struct wp_buffer entry;
    struct wp_arena arena;
    struct wp_applied applied;
    struct wp_bytes **log; /* every entry applied; [0] has index 1 */
    size_t log_count;
    size_t log_capacity;
};

/* A sender device with its stream. */
struct sender {
    const char *user;
    const char *device;
    uint64_t epoch;
    uint64_t sequence; /* last one used */
};

struct message {
    const char *recipient;
    Wp__Lane lane;
    uint64_t ttl_ms;
    size_t body_size;
    bool to_team;   /* `recipient` is a team */
    uint8_t id[16]; /* all zero: a fresh one is made and stands here afterwards */
};

void fixture_init(struct fixture *f);
void fixture_fini(struct fixture *f);
/* From now on the shard is one of `shard_count`, hashed with a key of zeros (fixture_shard_of). */
void fixture_ring(struct fixture *f, uint32_t shard_count);
uint32_t fixture_shard_of(const struct fixture *f, const char *name);
/* Destroys the machine and loads it again from the store. */
void fixture_restart(struct fixture *f);
/* Power cut: state falls back to an earlier batch, the machine loads that and applies the entries after it
 * again. */
void fixture_crash(struct fixture *f, uint64_t seed);

void fixture_begin(struct fixture *f);
void fixture_user_add(struct fixture *f, const char *user);
void fixture_device_add(struct fixture *f, const char *user, const char *device);
void fixture_device_remove(struct fixture *f, const char *user, const char *device);
void fixture_attach(struct fixture *f, const char *user, const char *device, bool clean_start);
void fixture_subscribe(struct fixture *f, const char *user, const char *device, uint64_t epoch, bool inbox);
void fixture_subscribe_receipts(
    struct fixture *f, const char *user, const char *device, uint64_t epoch, bool inbox, bool receipts);
void fixture_device_add_from(struct fixture *f, const char *user, const char *device, bool from_oldest);
void fixture_team_add(struct fixture *f, const char *team);
void fixture_team_remove(struct fixture *f, const char *team);
void fixture_members_add(struct fixture *f, const char *team, const char *const *users, size_t count);
void fixture_members_remove(struct fixture *f, const char *team, const char *const *users, size_t count);
void fixture_transfer(
    struct fixture *f, uint32_t source, uint64_t first, const struct wp_slice *items, size_t count);
void fixture_advance(struct fixture *f, uint32_t destination, uint64_t watermark);
void fixture_idle_check(struct fixture *f);
/* LIMITS: those of `limits` that a command can change. */
void fixture_limits(struct fixture *f, uint64_t version, const struct wp_machine_limits *limits);
/* Submits under the sender's epoch and next sequence. */
void fixture_submit(struct fixture *f, struct sender *sender, struct message *message);
/* Submits exactly this (epoch, sequence). */
void fixture_submit_at(struct fixture *f, const struct sender *sender, uint64_t epoch, uint64_t sequence,
    struct message *message);
/* Submits these envelope bytes. */
void fixture_submit_raw(struct fixture *f, struct sender *sender, struct wp_slice envelope);
void fixture_acknowledge(struct fixture *f, uint64_t mailbox, uint32_t device, Wp__Lane lane,
    const uint64_t *positions, size_t count);
void fixture_sent(
    struct fixture *f, uint64_t mailbox, uint32_t device, Wp__Lane lane, uint64_t sequence, bool overdue);
void fixture_expire(struct fixture *f, uint32_t limit);
/* Applies the entry and returns its last result; NULL when it had none. */
const struct wp_result *fixture_apply(struct fixture *f);

/* One-command entries; they return the result. */
const struct wp_result *fixture_send(struct fixture *f, struct sender *sender, struct message *message);
const struct wp_result *fixture_attach_now(struct fixture *f, const char *user, const char *device);
const struct wp_result *fixture_acknowledge_one(
    struct fixture *f, uint64_t mailbox, uint32_t device, Wp__Lane lane, uint64_t position);
const struct wp_result *fixture_expire_now(struct fixture *f, uint32_t limit);
/* User with devices "d1" .. "dN"; the mailbox number. */
uint64_t fixture_user(struct fixture *f, const char *user, uint32_t devices);
/* Sends `count` messages of 100 bytes that must be accepted. */
void fixture_fill(
    struct fixture *f, struct sender *sender, const char *recipient, Wp__Lane lane, uint32_t count);

/* Packs an envelope; every part of the header can be set by the caller first. */
void fixture_envelope(const struct fixture *f, const struct sender *sender, const struct message *message,
    struct wp_buffer *out);
void fixture_id(struct fixture *f, uint64_t time_ms, uint8_t ret_id[16]);

/* Pending positions of a device as "1,2,5"; in a static buffer. */
const char *fixture_pending(const struct fixture *f, uint64_t mailbox, uint32_t device, Wp__Lane lane);
uint64_t fixture_messages(const struct fixture *f);
uint64_t fixture_hash(struct fixture *f);
/* The id in the record of a pending message, its own or the shared one; false when the store has none. */
bool fixture_record_id(const struct fixture *f, uint64_t mailbox, Wp__Lane lane,
    const struct wp_pending *pending, uint8_t ret_id[16]);
/* Rows of the store under a key tag. */
uint64_t fixture_rows(const struct fixture *f, uint8_t tag);

#endif
