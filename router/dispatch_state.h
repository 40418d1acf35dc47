/* The structures of dispatch, shared by its three files only (dispatch.c, dispatch_pump.c,
 * dispatch_cursors.c). */
#ifndef WP_ROUTER_DISPATCH_STATE_H
#define WP_ROUTER_DISPATCH_STATE_H

#include <sys/queue.h>

#include "router/dispatch.h"
#include "router/dispatch_map.h"

#define WP_READ_COUNT_MAX 64u /* messages of one catch-up read */

/* A delivery that is open: sent and not acknowledged. */
struct flight {
    uint64_t sequence;
    uint64_t sent_ms; /* mono */
    uint32_t size;
    uint8_t lane;
    bool open; /* false: acknowledged, its slot not yet reused */
};

/* Deliveries in the order of sending: slots [first, end), some of them closed. */
struct flights {
    struct flight *slots;
    uint32_t first;
    uint32_t end;
    uint32_t capacity;
    uint32_t open_count;
    uint64_t open_bytes;
};

struct positions {
    uint64_t *items;
    uint32_t count;
    uint32_t capacity;
};

enum place { PLACE_IDLE, PLACE_READY, PLACE_BLOCKED, PLACE_READ_WAIT, PLACE_KICKED };

struct link_state {
    struct wp_map_node node; /* in links */
    uint32_t number;
    TAILQ_HEAD(, attachment) blocked;    /* PLACE_BLOCKED */
    LIST_HEAD(, attachment) attachments; /* all of the link */
};

struct attachment {
    struct wp_map_node session_node;
    struct wp_map_node mailbox_node;
    LIST_ENTRY(attachment) of_link;
    TAILQ_ENTRY(attachment) all;
    TAILQ_ENTRY(attachment) queue; /* of the list of `place` */
    enum place place;
    struct link_state *link;
    struct device *device;
    uint64_t session;
    uint64_t epoch;
    uint32_t window;
    bool subscribed;  /* to the inbox */
    bool receipts;    /* to the receipts */
    bool catching_up; /* the backlog found at attach is not yet sent */
    bool progressed;  /* something was acknowledged */
    int kick_error;
    uint64_t touched_ms; /* last sign of life replicated */
    uint32_t burst;      /* deliveries since it came to the head of the ready list */
    struct {
        uint64_t after;        /* every position <= after was sent, skipped or is not for this device */
        bool waiting;          /* something may be pending above `after` */
        uint32_t quota;        /* left of the lane's weight in this round */
        uint64_t read_token;   /* 0: no read under way */
        struct positions skip; /* resumed: open on the connection or acknowledged already; sorted */
    } lanes[WP_SEQUENCE_COUNT];
    struct flights flights;
    char device_name[WP_NAME_SIZE_MAX + 1];
};

/* What outlives an attachment: advances not yet replicated, and the back-off. */
struct device {
    struct wp_map_node node;
    uint64_t mailbox;
    uint32_t number;
    struct attachment *attachment; /* NULL: not attached */
    TAILQ_ENTRY(device) dirty;     /* in dirty when is_dirty */
    bool is_dirty;
    uint64_t dirty_since_ms;
    struct {
        struct positions acknowledged;
        uint64_t sent;
        bool sent_changed;
        bool overdue; /* the attachment was ended for an unacknowledged delivery of this lane */
    } lanes[WP_SEQUENCE_COUNT];
    uint32_t backoff_level;   /* how often it was held back without progress in between */
    uint64_t admit_at_ms;     /* mono; 0 = no back-off */
    TAILQ_ENTRY(device) held; /* in held when admit_at_ms */
};

struct wp_dispatch {
    struct wp_dispatch_config config;
    struct wp_dispatch_index index;
    struct wp_body_cache *cache;
    uint64_t mono_ms;
    uint64_t leader_ms;
    struct wp_map sessions;  /* attachments by (link, session) */
    struct wp_map mailboxes; /* attachments by mailbox; one hash for all of a mailbox */
    struct wp_map devices;
    struct wp_map links;
    TAILQ_HEAD(, attachment) all;
    TAILQ_HEAD(, attachment) ready;
    TAILQ_HEAD(, attachment) read_wait; /* would read, but reads_max are under way */
    TAILQ_HEAD(, attachment) kicked;
    TAILQ_HEAD(, device) dirty_devices; /* oldest first */
    TAILQ_HEAD(, device) held_devices;
    uint64_t attached_count;
    uint64_t read_token_last;
    uint32_t reads_under_way;
    uint64_t timeouts_checked_ms;
    struct wp_read_shared read_shared[WP_READ_COUNT_MAX]; /* of the read asked for last */
    struct wp_buffer receipt;                             /* the one delivered last, packed */
};

/* Whether the device wants what is in `lane`. */
static inline bool wp_attachment_wants(const struct attachment *at, int lane)
{
    return lane == WP__LANE__RECEIPT ? at->receipts : at->subscribed;
}

/* dispatch.c */
void wp_attachment_free(struct attachment *attachment);

/* dispatch_pump.c */
void wp_dispatch_place(struct wp_dispatch *dispatch, struct attachment *attachment, enum place place);
void wp_dispatch_wake(struct wp_dispatch *dispatch, struct attachment *attachment);
int wp_flights_push(struct flights *flights, const struct flight *flight);
struct flight *wp_flights_find(struct flights *flights, Wp__Lane lane, uint64_t sequence);
void wp_flights_close(struct flights *flights, struct flight *flight);

/* dispatch_cursors.c */
int wp_positions_push(struct positions *positions, uint64_t sequence);
void wp_positions_sort(struct positions *positions);
bool wp_positions_have(const struct positions *sorted, uint64_t sequence);
void wp_dispatch_positions_fini(struct positions *positions);
void wp_dispatch_gather(struct wp_dispatch *dispatch, struct device *device);
/* The position was sent to the device: the cursor is to know. */
void wp_dispatch_sent(struct wp_dispatch *dispatch, struct device *device, uint32_t lane, uint64_t sequence);
/* Frees `device` when nothing holds it. */
void wp_dispatch_device_settle(struct wp_dispatch *dispatch, struct device *device);

#endif
