/* Attachments and what happens to them. What is sent when: dispatch_pump.c; what is replicated when:
 * dispatch_cursors.c.
 *
 * Invariants (wp_dispatch_assert)
 *   1. A position is open at most once per attachment; `after` of a lane only grows, but for a refused
 * delivery.
 *   2. Open deliveries never pass the window, but for those a gateway brought along with a resume.
 *   3. An attachment stands in exactly one list: the one of its place.
 *   4. A device has at most one attachment, the one with the newest epoch seen here.
 *   5. A position acknowledged here is gathered before its slot is forgotten. */
#include "router/dispatch.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "router/dispatch_state.h"

#define TIMEOUT_CHECK_MS 250u
/* The machine takes a device without a cursor advance for inactive after days: one that is attached but has
 * nothing to acknowledge gives a sign of life. */
#define TOUCH_MS (6u * 3600 * 1000)
#define HELD_FORGET_MS (600u * 1000)
#define RESUME_POSITIONS_MAX 65536u /* more acknowledgements than a log entry holds are delivered again */

static const uint32_t backoff_ms[] = {1000, 5000, 30000, 120000};
#define BACKOFF_LEVELS ((uint32_t)(sizeof(backoff_ms) / sizeof(*backoff_ms)))

int wp_dispatch_create(const struct wp_dispatch_config *config, const struct wp_dispatch_index *index,
    struct wp_body_cache *cache, struct wp_dispatch **ret_dispatch)
{
    struct wp_dispatch *dispatch = calloc(1, sizeof(*dispatch));
    if (!dispatch) {
        return WP_E_NOMEM;
    }
    dispatch->config = *config;
    dispatch->index = *index;
    dispatch->cache = cache;
    TAILQ_INIT(&dispatch->all);
    TAILQ_INIT(&dispatch->ready);
    TAILQ_INIT(&dispatch->read_wait);
    TAILQ_INIT(&dispatch->kicked);
    TAILQ_INIT(&dispatch->dirty_devices);
    TAILQ_INIT(&dispatch->held_devices);
    *ret_dispatch = dispatch;
    return WP_OK;
}

void wp_attachment_free(struct attachment *attachment)
{
    for (int lane = 0; lane < (int)WP_SEQUENCE_COUNT; lane++) {
        wp_dispatch_positions_fini(&attachment->lanes[lane].skip);
    }
    free(attachment->flights.slots);
    free(attachment);
}

static struct link_state *link_find(const struct wp_dispatch *dispatch, uint32_t number)
{
    struct wp_map_node *node = wp_map_find(&dispatch->links, wp_map_hash(number, 0, 0));
    for (; node; node = wp_map_find_next(node)) {
        struct link_state *link = WP_MAP_OBJECT(node, struct link_state, node);
        if (link->number == number) {
            return link;
        }
    }
    return NULL;
}

static struct link_state *link_get(struct wp_dispatch *dispatch, uint32_t number)
{
    struct link_state *link = link_find(dispatch, number);
    if (link) {
        return link;
    }
    link = calloc(1, sizeof(*link));
    if (!link || wp_map_insert(&dispatch->links, &link->node, wp_map_hash(number, 0, 0))) {
        free(link);
        return NULL;
    }
    link->number = number;
    TAILQ_INIT(&link->blocked);
    LIST_INIT(&link->attachments);
    return link;
}

static struct device *device_find(const struct wp_dispatch *dispatch, uint64_t mailbox, uint32_t number)
{
    struct wp_map_node *node = wp_map_find(&dispatch->devices, wp_map_hash(mailbox, number, 1));
    for (; node; node = wp_map_find_next(node)) {
        struct device *device = WP_MAP_OBJECT(node, struct device, node);
        if (device->mailbox == mailbox && device->number == number) {
            return device;
        }
    }
    return NULL;
}

static struct device *device_get(struct wp_dispatch *dispatch, uint64_t mailbox, uint32_t number)
{
    struct device *device = device_find(dispatch, mailbox, number);
    if (device) {
        return device;
    }
    device = calloc(1, sizeof(*device));
    if (!device || wp_map_insert(&dispatch->devices, &device->node, wp_map_hash(mailbox, number, 1))) {
        free(device);
        return NULL;
    }
    device->mailbox = mailbox;
    device->number = number;
    return device;
}

static struct attachment *session_find(const struct wp_dispatch *dispatch, uint32_t link, uint64_t session)
{
    struct wp_map_node *node = wp_map_find(&dispatch->sessions, wp_map_hash(link, session, 2));
    for (; node; node = wp_map_find_next(node)) {
        struct attachment *attachment = WP_MAP_OBJECT(node, struct attachment, session_node);
        if (attachment->session == session && attachment->link->number == link) {
            return attachment;
        }
    }
    return NULL;
}

/* A device that had messages set aside and ended a connection without acknowledging anything is held back. */
static void backoff_note(struct wp_dispatch *dispatch, const struct attachment *attachment)
{
    struct device *device = attachment->device;
    if (attachment->progressed || attachment->flights.open_count == 0 ||
        dispatch->index.set_aside(dispatch->index.context, device->mailbox, device->number) == 0) {
        return;
    }
    if (device->admit_at_ms) {
        TAILQ_REMOVE(&dispatch->held_devices, device, held);
    }
    device->admit_at_ms = dispatch->mono_ms + backoff_ms[device->backoff_level];
    device->backoff_level += device->backoff_level + 1 < BACKOFF_LEVELS;
    TAILQ_INSERT_TAIL(&dispatch->held_devices, device, held);
}

/* What is open counts as an attempt at the next attachment. A connection that merely broke does not: phones
 * lose theirs all day, and a message must not be set aside for that. */
static void overdue_note(struct wp_dispatch *dispatch, const struct attachment *attachment)
{
    const struct flights *flights = &attachment->flights;
    struct device *device = attachment->device;
    for (uint32_t i = flights->first; i < flights->end; i++) {
        const struct flight *flight = &flights->slots[i];
        if (flight->open && flight->lane < WP_SEQUENCE_COUNT) {
            device->lanes[flight->lane].overdue = true;
            if (flight->sequence > device->lanes[flight->lane].sent) {
                device->lanes[flight->lane].sent = flight->sequence;
            }
        }
    }
    wp_dispatch_gather(dispatch, device);
}

/* Takes the attachment out of all tables; it keeps its link's number for a kick. */
static void attachment_unlink(struct wp_dispatch *dispatch, struct attachment *attachment)
{
    struct device *device = attachment->device;
    wp_dispatch_place(dispatch, attachment, PLACE_IDLE);
    wp_map_remove(&dispatch->sessions, &attachment->session_node);
    wp_map_remove(&dispatch->mailboxes, &attachment->mailbox_node);
    TAILQ_REMOVE(&dispatch->all, attachment, all);
    dispatch->attached_count--;
    device->attachment = NULL;
    attachment->device = NULL;
    wp_dispatch_device_settle(dispatch, device);
}

static void attachment_end(struct wp_dispatch *dispatch, struct attachment *attachment)
{
    attachment_unlink(dispatch, attachment);
    LIST_REMOVE(attachment, of_link);
    wp_attachment_free(attachment);
}

static void attachment_kick(struct wp_dispatch *dispatch, struct attachment *attachment, int error)
{
    attachment_unlink(dispatch, attachment);
    attachment->kick_error = error;
    wp_dispatch_place(dispatch, attachment, PLACE_KICKED);
}

void wp_dispatch_destroy(struct wp_dispatch **handle)
{
    struct wp_dispatch *dispatch = *handle;
    if (!dispatch) {
        return;
    }
    for (size_t i = 0; dispatch->links.slots && i <= dispatch->links.mask; i++) {
        for (struct wp_map_node *node = dispatch->links.slots[i], *next; node; node = next) {
            next = node->next;
            struct link_state *link = WP_MAP_OBJECT(node, struct link_state, node);
            for (struct attachment *at; (at = LIST_FIRST(&link->attachments));) {
                LIST_REMOVE(at, of_link);
                wp_attachment_free(at);
            }
            free(link);
        }
    }
    for (size_t i = 0; dispatch->devices.slots && i <= dispatch->devices.mask; i++) {
        for (struct wp_map_node *node = dispatch->devices.slots[i], *next; node; node = next) {
            next = node->next;
            struct device *device = WP_MAP_OBJECT(node, struct device, node);
            for (int lane = 0; lane < (int)WP_SEQUENCE_COUNT; lane++) {
                wp_dispatch_positions_fini(&device->lanes[lane].acknowledged);
            }
            free(device);
        }
    }
    wp_map_fini(&dispatch->sessions);
    wp_map_fini(&dispatch->mailboxes);
    wp_map_fini(&dispatch->devices);
    wp_map_fini(&dispatch->links);
    wp_buffer_free(&dispatch->receipt);
    free(dispatch);
    *handle = NULL;
}

static const struct flight *flight_oldest(const struct flights *flights)
{
    for (uint32_t i = flights->first; i < flights->end; i++) {
        if (flights->slots[i].open) {
            return &flights->slots[i];
        }
    }
    return NULL;
}

void wp_dispatch_tick(struct wp_dispatch *dispatch, uint64_t mono_ms, uint64_t leader_ms)
{
    WP_ASSERT(mono_ms >= dispatch->mono_ms && leader_ms >= dispatch->leader_ms);
    dispatch->mono_ms = mono_ms;
    dispatch->leader_ms = leader_ms;
    if (mono_ms - dispatch->timeouts_checked_ms < TIMEOUT_CHECK_MS) {
        return;
    }
    dispatch->timeouts_checked_ms = mono_ms;
    struct attachment *next;
    for (struct attachment *at = TAILQ_FIRST(&dispatch->all); at; at = next) {
        next = TAILQ_NEXT(at, all);
        const struct flight *oldest = flight_oldest(&at->flights);
        if (oldest && mono_ms - oldest->sent_ms >= dispatch->config.delivery_timeout_ms) {
            backoff_note(dispatch, at);
            overdue_note(dispatch, at);
            attachment_kick(dispatch, at, WP_E_TIMEOUT);
            continue;
        }
        if (at->flights.open_count < at->window) {
            wp_dispatch_wake(dispatch, at);
        }
        if (mono_ms - at->touched_ms >= TOUCH_MS) {
            at->touched_ms = mono_ms;
            wp_dispatch_gather(dispatch, at->device);
        }
    }
    for (struct device *device = TAILQ_FIRST(&dispatch->held_devices), *after; device; device = after) {
        after = TAILQ_NEXT(device, held);
        if (mono_ms >= device->admit_at_ms + HELD_FORGET_MS) {
            TAILQ_REMOVE(&dispatch->held_devices, device, held);
            device->admit_at_ms = 0;
            device->backoff_level = 0;
            wp_dispatch_device_settle(dispatch, device);
        }
    }
}

uint64_t wp_dispatch_retry_after_ms(const struct wp_dispatch *dispatch, uint64_t mailbox, uint32_t number)
{
    const struct device *device = device_find(dispatch, mailbox, number);
    if (!device || device->admit_at_ms <= dispatch->mono_ms) {
        return 0;
    }
    return device->admit_at_ms - dispatch->mono_ms;
}

/* What the gateway still knows of the connection: open deliveries count against the window, acknowledged ones
 * advance the cursor; neither is sent again. */
static int attachment_resume(struct wp_dispatch *dispatch, struct attachment *at, const Wp__Resume *resume)
{
    int error = WP_OK;
    uint32_t taken = 0;
    for (size_t i = 0; i < resume->n_in_flight; i++) {
        const Wp__Positions *open = resume->in_flight[i];
        for (size_t j = 0; j < open->n_sequence && !error; j++) {
            if (open->lane >= WP_SEQUENCE_COUNT ||
                wp_flights_find(&at->flights, open->lane, open->sequence[j])) {
                continue;
            }
            struct flight flight = {open->sequence[j], dispatch->mono_ms, 0, (uint8_t)open->lane, true};
            error = wp_flights_push(&at->flights, &flight);
            error = error ? error : wp_positions_push(&at->lanes[open->lane].skip, open->sequence[j]);
            wp_dispatch_sent(dispatch, at->device, open->lane, open->sequence[j]);
        }
    }
    for (size_t i = 0; i < resume->n_acknowledged; i++) {
        const Wp__Positions *done = resume->acknowledged[i];
        for (size_t j = 0; j < done->n_sequence && !error; j++) {
            if (done->lane >= WP_SEQUENCE_COUNT || ++taken > RESUME_POSITIONS_MAX) {
                continue;
            }
            error = wp_positions_push(&at->device->lanes[done->lane].acknowledged, done->sequence[j]);
            error = error ? error : wp_positions_push(&at->lanes[done->lane].skip, done->sequence[j]);
            wp_dispatch_gather(dispatch, at->device);
        }
    }
    return error;
}

/* Acknowledged over an earlier attachment, but not replicated yet: not sent again. */
static int attachment_inherit(struct attachment *at)
{
    for (int lane = 0; lane < (int)WP_SEQUENCE_COUNT; lane++) {
        /* The cursor wants what was sent over this attachment; the old one's was replicated before the new
         * epoch. */
        at->device->lanes[lane].sent = 0;
        at->device->lanes[lane].sent_changed = false;
        at->device->lanes[lane].overdue = false;
        const struct positions *known = &at->device->lanes[lane].acknowledged;
        for (uint32_t i = 0; i < known->count; i++) {
            int error = wp_positions_push(&at->lanes[lane].skip, known->items[i]);
            if (error) {
                return error;
            }
        }
    }
    return WP_OK;
}

static int attachment_fill(struct wp_dispatch *dispatch, struct attachment *at, const Wp__Resume *resume)
{
    int error = attachment_inherit(at);
    if (!error && resume) {
        error = attachment_resume(dispatch, at, resume);
    }
    for (int lane = 0; lane < (int)WP_SEQUENCE_COUNT; lane++) {
        wp_positions_sort(&at->lanes[lane].skip);
        at->lanes[lane].waiting = true;
    }
    return error;
}

static int attachment_enter(struct wp_dispatch *dispatch, struct attachment *at)
{
    struct device *device = at->device;
    uint64_t session_hash = wp_map_hash(at->link->number, at->session, 2);
    if (wp_map_insert(&dispatch->sessions, &at->session_node, session_hash)) {
        return WP_E_NOMEM;
    }
    if (wp_map_insert(&dispatch->mailboxes, &at->mailbox_node, wp_map_hash(device->mailbox, 0, 3))) {
        wp_map_remove(&dispatch->sessions, &at->session_node);
        return WP_E_NOMEM;
    }
    LIST_INSERT_HEAD(&at->link->attachments, at, of_link);
    TAILQ_INSERT_TAIL(&dispatch->all, at, all);
    dispatch->attached_count++;
    device->attachment = at;
    return WP_OK;
}

/* Makes way for the attachment to come. A resume of the same connection replaces in silence: the gateway lost
 * its link, not its device. */
static int attachment_replace(struct wp_dispatch *dispatch, const struct wp_dispatch_attach *attach)
{
    struct device *device = device_find(dispatch, attach->mailbox, attach->device);
    struct attachment *old = device ? device->attachment : NULL;
    struct attachment *taken = session_find(dispatch, attach->link, attach->session);
    if (taken && taken != old) {
        return WP_E_EXISTS;
    }
    if (!old) {
        return WP_OK;
    }
    bool same_connection = taken || (attach->resume && old->epoch == attach->epoch);
    if (same_connection) {
        attachment_end(dispatch, old);
    } else {
        attachment_kick(dispatch, old, WP_E_STALE_EPOCH);
    }
    return WP_OK;
}

int wp_dispatch_attached(struct wp_dispatch *dispatch, const struct wp_dispatch_attach *attach)
{
    int error = attachment_replace(dispatch, attach);
    if (error) {
        return error;
    }
    struct link_state *link = link_get(dispatch, attach->link);
    struct device *device = device_get(dispatch, attach->mailbox, attach->device);
    struct attachment *at = calloc(1, sizeof(*at));
    if (!link || !device || !at) {
        error = WP_E_NOMEM;
        goto fail;
    }
    uint32_t window = attach->window < 1 ? 1 : attach->window;
    at->window = window > WP_WINDOW_MAX ? WP_WINDOW_MAX : window;
    at->link = link;
    at->device = device;
    at->session = attach->session;
    at->epoch = attach->epoch;
    at->subscribed = attach->subscribed;
    at->receipts = attach->receipts;
    at->catching_up = true;
    at->touched_ms = dispatch->mono_ms;
    strncpy(at->device_name, attach->device_name, WP_NAME_SIZE_MAX);
    error = attachment_fill(dispatch, at, attach->resume);
    if (!error) {
        error = attachment_enter(dispatch, at);
    }
    if (error) {
        goto fail;
    }
    wp_dispatch_wake(dispatch, at);
    return WP_OK;
fail:
    if (at) {
        wp_attachment_free(at);
    }
    if (device) {
        wp_dispatch_device_settle(dispatch, device);
    }
    return error;
}

int wp_dispatch_detached(struct wp_dispatch *dispatch, uint32_t link, uint64_t session)
{
    struct attachment *at = session_find(dispatch, link, session);
    if (!at) {
        return WP_E_NOT_FOUND;
    }
    attachment_end(dispatch, at);
    return WP_OK;
}

void wp_dispatch_kick(struct wp_dispatch *dispatch, uint64_t mailbox, uint32_t number, int error)
{
    struct device *device = device_find(dispatch, mailbox, number);
    if (device && device->attachment) {
        attachment_kick(dispatch, device->attachment, error);
    }
}

void wp_dispatch_kick_all(struct wp_dispatch *dispatch, int error)
{
    for (struct attachment *at; (at = TAILQ_FIRST(&dispatch->all));) {
        attachment_kick(dispatch, at, error);
    }
}

void wp_dispatch_subscribed(
    struct wp_dispatch *dispatch, uint64_t mailbox, uint32_t number, bool inbox, bool receipts)
{
    struct device *device = device_find(dispatch, mailbox, number);
    if (device && device->attachment) {
        device->attachment->subscribed = inbox;
        device->attachment->receipts = receipts;
        wp_dispatch_wake(dispatch, device->attachment);
    }
}

void wp_dispatch_link_down(struct wp_dispatch *dispatch, uint32_t number)
{
    struct link_state *link = link_find(dispatch, number);
    if (!link) {
        return;
    }
    for (struct attachment *at; (at = LIST_FIRST(&link->attachments));) {
        if (at->place == PLACE_KICKED) {
            wp_dispatch_place(dispatch, at, PLACE_IDLE);
            LIST_REMOVE(at, of_link);
            wp_attachment_free(at);
        } else {
            attachment_end(dispatch, at);
        }
    }
    wp_map_remove(&dispatch->links, &link->node);
    free(link);
}

void wp_dispatch_link_writable(struct wp_dispatch *dispatch, uint32_t number)
{
    struct link_state *link = link_find(dispatch, number);
    if (!link) {
        return;
    }
    for (struct attachment *at; (at = TAILQ_FIRST(&link->blocked));) {
        wp_dispatch_place(dispatch, at, PLACE_READY);
    }
}

/* Progress ends the back-off: the device works again. */
static void device_progressed(struct wp_dispatch *dispatch, struct attachment *at)
{
    struct device *device = at->device;
    at->progressed = true;
    device->backoff_level = 0;
    if (device->admit_at_ms) {
        TAILQ_REMOVE(&dispatch->held_devices, device, held);
        device->admit_at_ms = 0;
    }
}

int wp_dispatch_acknowledged(struct wp_dispatch *dispatch, uint32_t link, uint64_t session,
    Wp__Positions *const *positions, size_t count, uint32_t *ret_known, uint32_t *ret_unknown)
{
    struct attachment *at = session_find(dispatch, link, session);
    if (!at) {
        return WP_E_NOT_FOUND;
    }
    uint32_t known = 0;
    uint32_t unknown = 0;
    int error = WP_OK;
    for (size_t i = 0; i < count && !error; i++) {
        const Wp__Positions *lane = positions[i];
        for (size_t j = 0; j < lane->n_sequence && !error; j++) {
            struct flight *flight = lane->lane < WP_SEQUENCE_COUNT
                                        ? wp_flights_find(&at->flights, lane->lane, lane->sequence[j])
                                        : NULL;
            if (!flight) {
                unknown++;
                continue;
            }
            error = wp_positions_push(&at->device->lanes[lane->lane].acknowledged, lane->sequence[j]);
            if (!error) {
                wp_flights_close(&at->flights, flight);
                known++;
            }
        }
    }
    if (known > 0) {
        device_progressed(dispatch, at);
        wp_dispatch_gather(dispatch, at->device);
        wp_dispatch_wake(dispatch, at);
    }
    *ret_known = known;
    *ret_unknown = unknown;
    return error;
}

void wp_dispatch_skipped(struct wp_dispatch *dispatch, uint32_t link, uint64_t session,
    Wp__Positions *const *positions, size_t count)
{
    struct attachment *at = session_find(dispatch, link, session);
    for (size_t i = 0; at && i < count; i++) {
        const Wp__Positions *lane = positions[i];
        for (size_t j = 0; j < lane->n_sequence; j++) {
            struct flight *flight = lane->lane < WP_SEQUENCE_COUNT
                                        ? wp_flights_find(&at->flights, lane->lane, lane->sequence[j])
                                        : NULL;
            if (flight) {
                wp_flights_close(&at->flights, flight);
            }
        }
    }
    if (at) {
        wp_dispatch_wake(dispatch, at);
    }
}

void wp_dispatch_expired(struct wp_dispatch *dispatch, uint64_t mailbox, Wp__Lane lane, uint64_t sequence)
{
    /* A shared body stays until it is the oldest: others may be about to get it. */
    struct wp_body_key key = wp_body_key(dispatch->config.shard, mailbox, lane, sequence, 0);
    wp_body_cache_drop(dispatch->cache, &key);
}

bool wp_dispatch_device_attached(const struct wp_dispatch *dispatch, uint64_t mailbox, uint32_t number)
{
    const struct device *device = device_find(dispatch, mailbox, number);
    return device && device->attachment;
}

bool wp_dispatch_session_find(const struct wp_dispatch *dispatch, uint32_t link, uint64_t session,
    struct wp_dispatch_session *ret_session)
{
    const struct attachment *at = session_find(dispatch, link, session);
    if (!at) {
        return false;
    }
    *ret_session = (struct wp_dispatch_session){
        .mailbox = at->device->mailbox,
        .device = at->device->number,
        .epoch = at->epoch,
        .device_name = at->device_name,
    };
    return true;
}

uint64_t wp_dispatch_attached_count(const struct wp_dispatch *dispatch)
{
    return dispatch->attached_count;
}

static void attachment_assert(const struct attachment *at)
{
    uint32_t open = 0;
    uint64_t bytes = 0;
    const struct flights *flights = &at->flights;
    for (uint32_t i = flights->first; i < flights->end; i++) {
        const struct flight *flight = &flights->slots[i];
        open += flight->open;
        bytes += flight->open ? flight->size : 0;
        for (uint32_t j = i + 1; flight->open && j < flights->end; j++) {
            const struct flight *other = &flights->slots[j];
            WP_ASSERT(!other->open || other->lane != flight->lane || other->sequence != flight->sequence);
        }
    }
    WP_ASSERT(open == flights->open_count && bytes == flights->open_bytes);
    WP_ASSERT(at->device && at->device->attachment == at && at->place != PLACE_KICKED);
}

void wp_dispatch_assert(const struct wp_dispatch *dispatch)
{
    uint64_t count = 0;
    const struct attachment *at;
    TAILQ_FOREACH(at, &dispatch->all, all)
    {
        attachment_assert(at);
        count++;
    }
    WP_ASSERT(count == dispatch->attached_count && count == dispatch->sessions.count);
    WP_ASSERT(count == dispatch->mailboxes.count && dispatch->reads_under_way <= dispatch->config.reads_max);
}
