/* A link's life: made, up, down, and what its owner may ask. What is refused is counted always and logged at
 * most once a minute for each peer and reason, so a peer cannot fill the log. */
#include "node/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"

#define PEER_WINDOW_BYTES_MAX (64u * 1024 * 1024) /* more is not believed: it bounds our queue */
#define REFUSAL_LOG_INTERVAL_US 60000000u

uint64_t wp_fabric_nonce(void)
{
    uint64_t nonce = 0;
    if (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce || nonce == 0) {
        nonce = wp_clock_mono_us() |
                1; /* unique per connection is enough: the key, not the nonce, is the proof */
    }
    return nonce;
}

static uint64_t text_hash(uint64_t hash, const char *text)
{
    for (; *text; text++) {
        hash = (hash ^ (uint8_t)*text) * 0x100000001b3u;
    }
    return (hash ^ 0xff) * 0x100000001b3u;
}

void wp_fabric_refuse(
    struct wp_fabric *fabric, const char *event, const char *who, int error, const char *why)
{
    wp_metric_add(WP_M_FABRIC_REFUSED, 1);
    if (!event) {
        return;
    }
    uint64_t hash = text_hash(text_hash(0xcbf29ce484222325u, event), who) ^ (uint64_t)(-error);
    for (unsigned i = 0; i < WP_REFUSAL_COUNT; i++) {
        const struct wp_refusal *row = &fabric->refusals[i];
        if (row->hash == hash && row->logged_us != 0 &&
            fabric->now_us - row->logged_us < REFUSAL_LOG_INTERVAL_US) {
            return;
        }
    }
    fabric->refusals[fabric->refusal_next] = (struct wp_refusal){hash, fabric->now_us};
    fabric->refusal_next = (fabric->refusal_next + 1) % WP_REFUSAL_COUNT;
    char who_quoted[256], why_quoted[256];
    wp_log(WP_LOG_WARN, event, "peer=%s error=%s why=%s", wp_log_quote(who, who_quoted, sizeof who_quoted),
        wp_error_slug(error), wp_log_quote(why, why_quoted, sizeof why_quoted));
}

struct wp_link *wp_fabric_link_add(struct wp_fabric *fabric)
{
    struct wp_link *link = calloc(1, sizeof *link);
    if (!link) {
        return NULL;
    }
    link->fabric = fabric;
    link->fd = -1;
    link->turn_lane = WP_LINK_ROUTINE; /* the first round begins behind it, with STAT */
    link->next = fabric->links;
    fabric->links = link;
    return link;
}

void wp_fabric_link_up(struct wp_link *link, const Wp__Hello *hello, const char *node)
{
    struct wp_fabric *fabric = link->fabric;
    if (link->node != node) {
        snprintf(link->node, sizeof link->node, "%s", node);
    }
    link->directory_id = hello->directory_id;
    link->start_id = hello->start_id;
    link->level_max = hello->level_max;
    link->role = hello->role;
    link->incarnation = hello->incarnation;
    link->nonce = hello->nonce;
    link->peer_window =
        hello->window_bytes < PEER_WINDOW_BYTES_MAX ? hello->window_bytes : PEER_WINDOW_BYTES_MAX;
    link->credit = (int64_t)link->peer_window;
    link->heard_us = link->sent_us = fabric->now_us;
    link->logged_frame = false;
    link->state = WP_LINK_STATE_UP;
    wp_log(WP_LOG_INFO, "link_up", "peer=%s incarnation=%llu", link->node,
        (unsigned long long)link->incarnation);
    fabric->callbacks.up(fabric->callbacks.context, link);
}

void wp_fabric_link_down(struct wp_link *link, int error, uint64_t retry_us)
{
    struct wp_fabric *fabric = link->fabric;
    bool was_up = link->state == WP_LINK_STATE_UP;
    if (link->state == WP_LINK_STATE_GONE || link->state == WP_LINK_STATE_WAITING) {
        return;
    }
    link->state = link->listener ? WP_LINK_STATE_GONE : WP_LINK_STATE_WAITING;
    link->retry_us = retry_us;
    wp_link_output_reset(link);
    wp_link_input_reset(link);
    wp_zloop_wake(fabric->zloop); /* the turn that releases or opens */
    if (was_up) {
        wp_log(WP_LOG_INFO, "link_down", "peer=%s reason=%s", link->node, wp_error_slug(error));
        fabric->callbacks.down(fabric->callbacks.context, link, error);
    }
}

void wp_fabric_link_dirty(struct wp_link *link)
{
    link->dirty = true;
    link->fabric->flush_due = true;
    if (!link->fabric->in_turn) {
        wp_zloop_wake(link->fabric->zloop);
    }
}

bool wp_link_up(const struct wp_link *link)
{
    return link->state == WP_LINK_STATE_UP;
}

const char *wp_link_node(const struct wp_link *link)
{
    return link->node;
}

Wp__Role wp_link_role(const struct wp_link *link)
{
    return link->role;
}

uint64_t wp_link_start_id(const struct wp_link *link)
{
    return link->start_id;
}

uint32_t wp_link_level_max(const struct wp_link *link)
{
    return link->level_max;
}

uint64_t wp_link_directory_id(const struct wp_link *link)
{
    return link->directory_id;
}

uint64_t wp_link_incarnation(const struct wp_link *link)
{
    return link->incarnation;
}

const char *wp_link_endpoint(const struct wp_link *link)
{
    return link->endpoint ? link->endpoint : "";
}

void wp_link_set_user(struct wp_link *link, void *user)
{
    link->user = user;
}

void *wp_link_user(const struct wp_link *link)
{
    return link->user;
}
