/* Framing shared by the fabric and the log: records of (type, payload) packed one after the other.
 *
 *     batch := head record*          record := type:u8 size:u32le payload[size]
 *     fabric head := 'W' 'P' version:u8 flags:u8 cluster:u64le source_incarnation:u64le destination:u64le   (28 bytes)
 *     entry head  := version:u8 reserved:u8[3] time_ms:u64le                                              (12 bytes)
 *
 * `destination` is the incarnation of the receiver as learned from its Hello, 0 while unknown.
 * Pure; no allocation but in wp_buffer. A reader never reads past what it was given. */
#ifndef WP_PROTO_FRAME_H
#define WP_PROTO_FRAME_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"

#define WP_FABRIC_VERSION 1
#define WP_ENTRY_VERSION 1
/* Feature levels that this build can work at (docs/cluster.md). A build may raise the upper one to try a step up. */
#define WP_FEATURE_LEVEL_MIN 1u
#ifndef WP_FEATURE_LEVEL_MAX
#define WP_FEATURE_LEVEL_MAX 1u
#endif
#define WP_FABRIC_HEAD_SIZE 28u
#define WP_ENTRY_HEAD_SIZE 12u
#define WP_RECORD_HEAD_SIZE 5u
#define WP_CHUNK_SIZE_MAX (64u * 1024)        /* a frame above it crosses a link in Chunk frames */
#define WP_FRAME_SIZE_MAX (2u * 1024 * 1024)  /* a whole frame, reassembled */
#define WP_BATCH_SIZE_MAX (512u * 1024)       /* one ZeroMQ message; a sender closes a batch at 128 KiB */
#define WP_ENTRY_SIZE_MAX (2u * 1024 * 1024)

/* Frame types of the fabric (fabric.proto). X(name, number, message, gateway to router?, router to gateway?, router to router?) */
#define WP_FRAME_TABLE(X)                                                                                   \
    X(HELLO, 1, hello, 1, 1, 1)                                                                             \
    X(SHARD_MAP, 2, shard_map, 0, 1, 0)                                                                     \
    X(ATTACH, 3, attach, 1, 0, 0)                                                                           \
    X(ATTACH_REPLY, 4, attach_reply, 0, 1, 0)                                                               \
    X(DETACH, 5, detach, 1, 0, 0)                                                                           \
    X(SUBSCRIBE, 6, subscribe, 1, 0, 0)                                                                     \
    X(SUBSCRIBE_REPLY, 7, subscribe_reply, 0, 1, 0)                                                         \
    X(SUBMIT, 8, submit, 1, 0, 0)                                                                           \
    X(SUBMIT_REPLY, 9, submit_reply, 0, 1, 0)                                                               \
    X(DELIVER, 10, deliver, 0, 1, 0)                                                                        \
    X(ACK, 11, ack, 1, 0, 0)                                                                                \
    X(KICK, 12, kick, 0, 1, 0)                                                                              \
    X(CREDIT, 13, credit, 1, 1, 1)                                                                          \
    X(CHUNK, 14, chunk, 1, 1, 1)                                                                            \
    X(LEASE, 15, lease, 1, 0, 0)                                                                            \
    X(LEASE_REPLY, 16, lease_reply, 0, 1, 0)                                                                \
    X(RAFT, 17, raft, 0, 0, 1)                                                                              \
    X(NODE_STATE, 18, node_state, 0, 0, 1)                                                                  \
    X(PROPOSE, 19, propose, 0, 0, 1)                                                                        \
    X(PROPOSE_REPLY, 20, propose_reply, 0, 0, 1)                                                            \
    X(TRANSFER, 21, transfer, 0, 0, 1)                                                                      \
    X(TRANSFER_REPLY, 22, transfer_reply, 0, 0, 1)                                                          \
    X(SNAPSHOT_OFFER, 23, snapshot_offer, 0, 0, 1)                                                          \
    X(SNAPSHOT_PULL, 24, snapshot_pull, 0, 0, 1)                                                            \
    X(SNAPSHOT_CHUNK, 25, snapshot_chunk, 0, 0, 1)                                                          \
    X(DELIVER_MANY, 26, deliver_many, 0, 1, 0)

enum wp_frame_type {
#define X(name, number, message, up, down, peer) WP_FRAME_##name = number,
    WP_FRAME_TABLE(X)
#undef X
};

/* Command types of the log (command.proto). */
#define WP_COMMAND_TABLE(X)                                                                                  \
    X(SUBMIT, 1, command_submit)                                                                             \
    X(ATTACH, 2, command_attach)                                                                             \
    X(SUBSCRIBE, 3, command_subscribe)                                                                       \
    X(CURSORS, 4, command_cursors)                                                                           \
    X(EXPIRE, 5, command_expire)                                                                             \
    X(USER_ADD, 6, command_user_add)                                                                         \
    X(DEVICE_ADD, 7, command_device_add)                                                                     \
    X(DEVICE_REMOVE, 8, command_device_remove)                                                               \
    X(TEAM_ADD, 9, command_team_add)                                                                         \
    X(TEAM_REMOVE, 10, command_team_remove)                                                                  \
    X(TEAM_MEMBER_ADD, 11, command_team_member_add)                                                          \
    X(TEAM_MEMBER_REMOVE, 12, command_team_member_remove)                                                    \
    X(TRANSFER_IN, 13, command_transfer_in)                                                                  \
    X(OUTBOX_ADVANCE, 14, command_outbox_advance)                                                            \
    X(IDLE_CHECK, 15, command_idle_check)                                                                    \
    X(LIMITS, 16, command_limits)

enum wp_command_type {
#define X(name, number, message) WP_COMMAND_##name = number,
    WP_COMMAND_TABLE(X)
#undef X
};

struct wp_fabric_head {
    uint64_t cluster_id;
    uint64_t source;      /* incarnation of the sender */
    uint64_t destination; /* incarnation of the receiver, 0 = unknown */
};

/* Appends a fabric head / an entry head to an empty buffer. WP_OK or WP_E_NOMEM. */
int wp_fabric_head_encode(const struct wp_fabric_head *head, struct wp_buffer *out);
int wp_entry_head_encode(uint64_t time_ms, struct wp_buffer *out);

/* Rewrites the time in an encoded entry head. */
void wp_entry_head_set_time(struct wp_buffer *entry, uint64_t time_ms);

/* Appends one record. WP_OK or WP_E_NOMEM. */
int wp_record_append(struct wp_buffer *out, uint8_t type, struct wp_slice payload);

/* Room for a record of `size` payload bytes to be packed in place: returns where the payload goes (already counted
 * in out->size), NULL when out of memory. */
uint8_t *wp_record_append_space(struct wp_buffer *out, uint8_t type, size_t size);

/* Iterates the records of a batch. */
struct wp_record_reader {
    struct wp_slice rest;
};

/* Reads the head of a batch: WP_OK, WP_E_TRUNCATED, WP_E_MALFORMED (magic) or WP_E_VERSION. */
int wp_fabric_batch_open(struct wp_slice batch, struct wp_fabric_head *ret_head, struct wp_record_reader *ret_reader);
int wp_entry_open(struct wp_slice entry, uint64_t *ret_time_ms, struct wp_record_reader *ret_reader);

/* Next record: 1 with *ret_type and *ret_payload (borrowed from the batch), 0 at the end, WP_E_TRUNCATED when the
 * size runs over the end. */
int wp_record_next(struct wp_record_reader *reader, uint8_t *ret_type, struct wp_slice *ret_payload);

#endif
