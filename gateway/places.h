/* Which link leads to the leader of each shard, from what routers say of themselves and of each other. Pure.
 *
 * A link is one reactor of one router, named by a number below the bound given at create. Each router tells,
 * at link-up and at each change, who leads in which term. The place of a shard is the one of the highest term
 * that anybody told; frames go there only while its own link is up and has said itself that it leads in that
 * term. So an old leader that comes back takes nothing away, and one that started again without leading is
 * not asked in vain.
 *
 * Terms are forgotten in two cases only, both about replicas that began to count anew: no link of the cluster
 * is up any more; or a shard was without a leader for WP_PLACE_FORGET_MS while a router claims it in a lower
 * term. Taking a wrong claim there costs time and nothing else: who does not lead acknowledges nothing and
 * grants no lease. */
#ifndef WP_GATEWAY_PLACES_H
#define WP_GATEWAY_PLACES_H

#include <stdbool.h>
#include <stdint.h>

#define WP_PLACE_NONE UINT32_MAX
#define WP_PLACE_FORGET_MS 10000u /* well above the longest fail-over */

struct wp_places;

/* Where frames of a shard go. link WP_PLACE_NONE: nowhere now. */
struct wp_place {
    uint32_t link;
    uint64_t term;
};

/* Shards are 1..shard_count, links 0..link_max - 1, all down. WP_E_NOMEM. */
int wp_places_create(uint32_t shard_count, uint32_t link_max, struct wp_places **ret_places);
void wp_places_destroy(struct wp_places **places);

void wp_places_link_up(struct wp_places *places, uint32_t link);
/* Its claims are forgotten: it tells them again when it is up again. */
void wp_places_link_down(struct wp_places *places, uint32_t link);
/* As down, and its number may be given to another: no place names it any more. */
void wp_places_link_gone(struct wp_places *places, uint32_t link);

/* `link`, which is up, told that `at` leads `shard` in `term` (WP_PLACE_NONE: nobody, or nobody that we
 * reach). at == link: it leads itself. WP_E_NOMEM. */
int wp_places_told(struct wp_places *places, uint32_t link, uint32_t shard, uint64_t term, uint32_t at);

/* Time passed; call a few times a second. */
void wp_places_tick(struct wp_places *places, uint64_t now_ms);

struct wp_place wp_places_get(const struct wp_places *places, uint32_t shard);
/* The link that was last named as leader, up or not; WP_PLACE_NONE: none. For texts. */
uint32_t wp_places_named(const struct wp_places *places, uint32_t shard);

#endif
