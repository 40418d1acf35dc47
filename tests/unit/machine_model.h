/* The state machine said again, as plainly as possible: every message has a line for every device, every rule
 * is a loop over all of them. Slow, small and obviously what router/README.md and architecture.md say. */
#ifndef WP_TESTS_UNIT_MACHINE_MODEL_H
#define WP_TESTS_UNIT_MACHINE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "router/machine.h"

#define MODEL_USERS 6u   /* who may exist in the shard */
#define MODEL_PEOPLE 11u /* they, and others of other shards */
#define MODEL_TEAMS 3u
#define MODEL_SHARDS 4u
#define MODEL_SHARD 3u
#define MODEL_ITEMS 4096u /* per destination, at a time */
#define MODEL_DEVICES 64u /* numbers ever given out per user */
#define MODEL_MESSAGES 200000u
#define MODEL_IDS 200000u
#define MODEL_STREAMS 64u

struct model_owing {
    bool owed;
    bool set_aside;
    uint32_t attempts;
};

struct model_message {
    uint32_t user; /* index */
    uint32_t lane;
    uint64_t sequence;
    uint64_t expires_ms;
    uint64_t size;
    uint64_t body; /* number of the body that it shares; 0 = none */
    bool kept;
    bool acknowledged;
    uint8_t id[16];
    uint32_t told; /* person who hears how it ends; of a receipt: whose end it tells */
    uint32_t state;
    int error;
    uint32_t idle_device;      /* of a receipt about an idle device */
    struct model_owing *owing; /* MODEL_DEVICES, by number */
};

/* What a receipt says, or will say. */
struct model_end {
    uint32_t sender; /* person */
    uint32_t person;
    uint32_t idle_device;
    uint8_t id[16];
    uint32_t state;
    int error;
    uint64_t time_ms;
};

/* A message for members, as it travels. */
struct model_fan {
    uint8_t id[16];
    uint32_t sender;
    uint32_t lane;
    uint64_t accepted_ms;
    uint64_t expires_ms;
    uint64_t envelope_size;
    uint32_t recipients; /* bits of people */
    uint64_t body;       /* number of what its copies here share; 0 = no copy yet */
};

struct model_item {
    uint64_t sequence;
    bool team;
    struct model_fan fan;
    struct model_end *ends;
    uint32_t end_count;
};

struct model_peer {
    uint64_t last, watermark, taken;
    struct model_item *items; /* pending, in order */
    uint32_t item_count;
};

struct model_team {
    bool exists;
    uint64_t epoch;
    uint32_t members; /* bits of people */
};

struct model_appended {
    uint32_t user;
    uint32_t lane;
    uint64_t sequence;
};

struct model_device {
    bool exists;
    bool inactive;
    bool subscribed;
    bool receipts;
    bool warned;
    char name[8];
    uint64_t epoch;
    uint64_t active_ms;
    uint64_t sent[WP_SEQUENCE_COUNT];
    uint64_t overdue[WP_SEQUENCE_COUNT];
};

struct model_user {
    bool exists;
    uint64_t mailbox;
    uint64_t epoch_floor;
    uint32_t next_device;
    uint64_t tail[WP_SEQUENCE_COUNT];
    struct model_device devices[MODEL_DEVICES]; /* by number */
};

struct model_id {
    uint32_t sender; /* stream index */
    uint8_t id[16];
    uint64_t accepted_ms;
    uint32_t bucket;
};

struct model_bucket {
    uint64_t opened_ms, last_ms, newest_ms, count;
    bool dropped;
};

struct model_stream {
    uint64_t epoch, sequence;
};

struct model_rate {
    bool used;
    uint64_t tokens, time_ms;
};

struct model {
    struct wp_machine_limits limits;
    uint64_t limits_version; /* 0 = never told */
    uint64_t time_ms;
    uint64_t mailboxes;
    struct model_user users[MODEL_USERS];
    struct model_message *messages;
    uint32_t message_first; /* none kept below */
    uint32_t message_count;
    uint64_t bodies;      /* shared ones ever made */
    struct model_id *ids; /* every id ever accepted */
    uint32_t id_count;
    struct model_bucket *buckets;
    uint32_t bucket_count;
    uint64_t floor_ms;
    struct model_stream streams[MODEL_STREAMS];
    struct model_rate rates[MODEL_STREAMS]; /* by sender user */
    const char *const *people;              /* names */
    struct model_team teams[MODEL_TEAMS];
    struct model_peer peers[MODEL_SHARDS + 1]; /* by shard */
    uint32_t (*shard_of)(const void *context, uint32_t person);
    const void *context;
    /* What the entry did. */
    struct model_end ends[4096];
    uint32_t end_count;
    struct wp_removal removals[4096];
    uint32_t removal_count;
    struct model_appended appended[4096];
    uint32_t appended_count;
    uint32_t copy_count; /* of them: of messages to teams */
    uint32_t idle_count;
};

struct model_submit {
    uint32_t stream;
    uint32_t sender_user;
    uint64_t epoch, sequence;
    uint32_t recipient; /* index of the user, or of the team */
    bool to_team;
    uint32_t sender; /* person */
    uint32_t lane;
    uint64_t ttl_ms;
    uint64_t body_size;
    uint64_t envelope_size;
    const uint8_t *id;
};

struct model_submit_result {
    int error;
    bool duplicate;
    uint64_t accepted_ms, resend_from, expires_ms, sequence;
};

struct model_attach_result {
    int error;
    uint32_t device;
    uint64_t epoch;
    bool session_present;
    uint32_t set_aside;
};

/* LIMITS; what it answers. `version` is not 0. */
int model_limits(struct model *model, uint64_t version, const struct wp_machine_limits *limits);
void model_init(struct model *model, const struct wp_machine_limits *limits, uint64_t time_ms);
void model_fini(struct model *model);

/* An entry begins: time, and nothing done yet. */
void model_time(struct model *model, uint64_t given_ms);
/* The entry ends: who is told what. */
void model_close(struct model *model);
struct model_submit_result model_submit(struct model *model, const struct model_submit *submit);
int model_user_add(struct model *model, uint32_t user);
int model_device_add(
    struct model *model, uint32_t user, const char *name, bool from_oldest, uint32_t *ret_number);
int model_device_remove(struct model *model, uint32_t user, const char *name);
struct model_attach_result model_attach(
    struct model *model, uint32_t user, const char *name, bool clean_start);
int model_subscribe(
    struct model *model, uint32_t user, const char *name, uint64_t epoch, bool inbox, bool receipts);
int model_team_add(struct model *model, uint32_t team);
int model_team_remove(struct model *model, uint32_t team);
/* Bits of people come or go; *ret_changed counts those that did. */
int model_team_members(struct model *model, uint32_t team, uint32_t people, bool add, uint32_t *ret_changed);
/* One item of the outbox of `source`. */
void model_take(struct model *model, uint32_t source, uint64_t sequence, const struct model_item *item);
void model_advance(struct model *model, uint32_t destination, uint64_t watermark);
void model_idle_check(struct model *model);
/* One CursorAdvance: the device shows itself, then positions, then what was sent (0 = nothing). */
void model_cursor(struct model *model, uint64_t mailbox, uint32_t device, uint32_t lane,
    const uint64_t *positions, uint32_t count, uint64_t sent, bool overdue);
void model_expire(struct model *model, uint32_t limit, uint32_t *ret_expired, bool *ret_more);

/* Next message pending as in wp_machine_next_pending; NULL when there is none. */
const struct model_message *model_next_pending(const struct model *model, uint32_t user, uint32_t device,
    uint32_t lane, uint64_t after, uint64_t now_ms);
uint64_t model_pending_count(const struct model *model, uint32_t user, uint32_t device, uint32_t lane);
/* Messages kept, and receipts. */
uint64_t model_kept(const struct model *model, uint64_t *ret_bytes, uint64_t *ret_receipts);
/* Shared bodies that a message kept needs, and how many such messages there are. */
uint64_t model_bodies(const struct model *model, uint64_t *ret_copies);
struct model_device *model_device(struct model *model, uint32_t user, const char *name, uint32_t *ret_number);

#endif
