/* The gateway between its two sides: clients (one per device connection) and routers.
 *
 * The edge opens a client per connection, gives it bytes and takes bytes from client->out; the routing gives
 * frames and takes frames. Sessions and streams decide; here they are only brought together (gateway.c shows
 * the whole flow). One thread, that of the loop. */
#ifndef WP_GATEWAY_GATEWAY_H
#define WP_GATEWAY_GATEWAY_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buffer.h"
#include "gateway/holdback.h"
#include "gateway/routing.h"
#include "gateway/session.h"
#include "gateway/submits.h"

#define WP_WRITE_AHEAD_MAX                                                                                   \
    (48u * 1024) /* bytes of the two lower lanes written ahead, before the kernel's 16 KiB */
#define WP_SHARD_WAITING_MAX                                                                                 \
    (1024u * 1024) /* bytes waiting for a shard's link, then its senders are not read */
#define WP_HELD_BYTES_MAX ((uint64_t)256 * 1024 * 1024) /* deliveries held for slow sockets, all together */

struct wp_gateway;

enum wp_client_attach {
    WP_CLIENT_DETACHED, /* nothing asked for yet, or the session is over */
    WP_CLIENT_WAITING, /* an Attach (or Resume) is to be sent when the shard is up and not before attach_at_ms
                        */
    WP_CLIENT_ASKED,
    WP_CLIENT_ATTACHED,
};

struct wp_client {
    struct wp_session session;
    struct wp_gateway *gateway;
    void *connection; /* the edge's */
    uint64_t number;  /* of the session, in frames */
    uint32_t shard;   /* of the user; 0 = not known yet */
    enum wp_client_attach attach;
    bool attached_once;    /* the next Attach carries a Resume */
    bool asked_once;       /* an Attach was sent: the next one need not wait when a leader is found */
    bool subscribe_waits;  /* the Subscribe of the session's request is to be sent */
    bool starved;          /* input was left although it may have been whole packets: resume when unblocked */
    bool dirty;            /* in the list of clients that the end of the turn looks at */
    bool ended;            /* the end was logged */
    uint32_t paused_shard; /* publishes into a shard that takes no more; 0 = none */
    uint64_t attach_at_ms;
    uint64_t attached_boot_ms; /* when the shard took the session last */
    uint64_t repeats_until_ms; /* after a Resume: a delivery may be of what was acknowledged already */
    uint64_t subscribe_at_ms;
    struct wp_buffer secret;    /* until attached */
    struct wp_stream **streams; /* [shard - 1]; NULL before the first PUBLISH */
    struct wp_holdback held;    /* deliveries for which the socket has no room, or the shard no lease */
    struct wp_buffer out;       /* bytes for the device; the edge takes them */
    size_t wire_bytes;          /* set by the edge: taken, not yet in the kernel */
    struct wp_client *waiting_next, *waiting_previous;
    struct wp_client *dirty_next;
};

struct wp_gateway_setup {
    struct wp_session_policy policy;
    struct wp_routing_config routing;
    uint32_t connections_max;
    void *context;
    /* client->out has bytes, or the session is closed: write, then close. Called at the end of each turn. */
    void (*output)(void *context, struct wp_client *client);
    /* A client that was not read (wp_client_blocked) may be read again: offer what is there. */
    void (*resume)(void *context, struct wp_client *client);
};

/* Errors of wp_routing_create. `config` is copied; its pointers are borrowed. */
int wp_gateway_create(const struct wp_gateway_setup *config, struct wp_gateway **ret_gateway);
/* Every client must be closed before. */
void wp_gateway_destroy(struct wp_gateway **gateway);

struct wp_routing *wp_gateway_routing(struct wp_gateway *gateway);
uint64_t wp_gateway_sessions(const struct wp_gateway *gateway);
/* Shards whose deliveries may be written to devices now. */
uint32_t wp_gateway_leases(const struct wp_gateway *gateway);

/* A new connection. WP_E_FULL: over connections_max; WP_E_NOMEM. */
int wp_client_open(struct wp_gateway *gateway, void *connection, struct wp_client **ret_client);
/* The connection is gone (or its session over and everything written). */
void wp_client_close(struct wp_client **client);

/* Bytes from the device; returns how many were taken. The rest is to be offered again, with more behind it,
 * when more came or `resume` was called. */
size_t wp_client_input(struct wp_client *client, struct wp_slice input);
/* Whether reading makes no sense now. */
bool wp_client_blocked(const struct wp_client *client);
/* The socket took bytes: held deliveries may follow into client->out. */
void wp_client_writable(struct wp_client *client);

/* Ends the turn: brings gathered output to the edge. The edge calls it after its own events. */
void wp_gateway_turn(struct wp_gateway *gateway);

/* Clean stop: every session is told and ends; the edge writes what is left. */
void wp_gateway_stop(struct wp_gateway *gateway);

#endif
