#include "gateway/penalty.h"

#define DELAY_MS_FIRST 250u

/* FNV-1a over "user/device". */
static uint64_t device_key(const char *user, const char *device)
{
    uint64_t hash = 0xcbf29ce484222325u;
    const char *parts[] = {user, "/", device};
    for (unsigned i = 0; i < 3; i++) {
        for (const char *c = parts[i]; *c; c++) {
            hash = (hash ^ (uint8_t)*c) * 0x100000001b3u;
        }
    }
    return hash;
}

void wp_penalty_add(struct wp_penalties *penalties, const char *user, const char *device, uint64_t now_ms)
{
    uint64_t key = device_key(user, device);
    struct wp_penalty_row *row = &penalties->rows[key % WP_PENALTY_ROWS];
    if (row->key != key || now_ms - row->last_ms > WP_PENALTY_FORGET_MS) {
        *row = (struct wp_penalty_row){.key = key};
    }
    row->count++;
    row->last_ms = now_ms;
}

uint64_t wp_penalty_delay_ms(
    const struct wp_penalties *penalties, const char *user, const char *device, uint64_t now_ms)
{
    uint64_t key = device_key(user, device);
    const struct wp_penalty_row *row = &penalties->rows[key % WP_PENALTY_ROWS];
    if (row->key != key || row->count < 2 || now_ms - row->last_ms > WP_PENALTY_FORGET_MS) {
        return 0; /* the first time may be a mistake */
    }
    uint64_t delay_ms =
        row->count > 6 ? WP_PENALTY_DELAY_MS_MAX : (uint64_t)DELAY_MS_FIRST << (row->count - 2);
    return delay_ms < WP_PENALTY_DELAY_MS_MAX ? delay_ms : WP_PENALTY_DELAY_MS_MAX;
}
