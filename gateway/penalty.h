/* Slows down devices that repeat what was refused. MQTT 3.1.1 has no refusal, so a client that does not know
 * better connects and publishes the same again; each time within a minute its next connection waits longer.
 * Pure; bounded: a table of fixed size in which devices may displace each other. */
#ifndef WP_GATEWAY_PENALTY_H
#define WP_GATEWAY_PENALTY_H

#include <stdint.h>

#define WP_PENALTY_ROWS 1024u
#define WP_PENALTY_FORGET_MS 60000u
#define WP_PENALTY_DELAY_MS_MAX 4000u

struct wp_penalty_row {
    uint64_t key;
    uint64_t last_ms;
    uint32_t count;
};

struct wp_penalties {
    struct wp_penalty_row rows[WP_PENALTY_ROWS];
};

/* The device was refused at `now_ms`. */
void wp_penalty_add(struct wp_penalties *penalties, const char *user, const char *device, uint64_t now_ms);

/* How long its next connection has to wait: 0, 250, 500, 1,000, 2,000, 4,000 ms. */
uint64_t wp_penalty_delay_ms(
    const struct wp_penalties *penalties, const char *user, const char *device, uint64_t now_ms);

#endif
