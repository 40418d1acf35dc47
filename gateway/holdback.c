#include "gateway/holdback.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"

static const uint8_t lane_weights[WP_HOLDBACK_LANES] = {
    [WP__LANE__ROUTINE] = 1, [WP__LANE__URGENT] = 4, [WP__LANE__STAT] = 8, [WP__LANE__RECEIPT] = 1};
static const Wp__Lane lane_order[WP_HOLDBACK_LANES] = {
    WP__LANE__STAT, WP__LANE__URGENT, WP__LANE__ROUTINE, WP__LANE__RECEIPT};

int wp_holdback_push(struct wp_holdback *holdback, Wp__Lane lane, struct wp_slice deliver, uint64_t now_ms)
{
    WP_ASSERT(lane <= WP__LANE__RECEIPT);
    struct wp_held *held = malloc(sizeof *held + deliver.size);
    if (!held) {
        return WP_E_NOMEM;
    }
    held->next = NULL;
    held->since_ms = now_ms;
    held->size = deliver.size;
    memcpy(held->deliver, deliver.data, deliver.size);
    *(holdback->last[lane] ? &holdback->last[lane]->next : &holdback->first[lane]) = held;
    holdback->last[lane] = held;
    holdback->bytes += deliver.size;
    return WP_OK;
}

static struct wp_held *lane_take(struct wp_holdback *holdback, Wp__Lane lane)
{
    struct wp_held *held = holdback->first[lane];
    holdback->first[lane] = held->next;
    if (!held->next) {
        holdback->last[lane] = NULL;
    }
    holdback->bytes -= held->size;
    return held;
}

struct wp_held *wp_holdback_take(struct wp_holdback *holdback)
{
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < WP_HOLDBACK_LANES; i++) {
            Wp__Lane lane = lane_order[i];
            if (holdback->first[lane] && holdback->budget[lane] > 0) {
                holdback->budget[lane]--;
                return lane_take(holdback, lane);
            }
        }
        memcpy(holdback->budget, lane_weights, sizeof lane_weights);
    }
    return NULL;
}

bool wp_holdback_has(const struct wp_holdback *holdback, Wp__Lane lane)
{
    return holdback->first[lane] != NULL;
}

void wp_holdback_clear(struct wp_holdback *holdback)
{
    for (int lane = 0; lane < (int)WP_HOLDBACK_LANES; lane++) {
        while (holdback->first[lane]) {
            free(lane_take(holdback, (Wp__Lane)lane));
        }
    }
}
