/* Terms and claims.
 *
 *   1. known[shard].term only grows, but for the two cases of forgetting.
 *   2. A link that is down has no claims.
 *   3. A place is given out only when the link it names is up and claims exactly the known term. */
#include "gateway/places.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"

/* What a link said of itself about one shard. */
struct claim {
    uint64_t term;
    bool made;
};

struct known {
    uint64_t term;
    uint32_t at;
    bool told;          /* anybody told anything */
    uint64_t absent_ms; /* since when nobody leads, as tick saw it; 0: somebody does */
};

struct link {
    struct claim *claims; /* [shard - 1]; NULL before the first */
    bool up;
};

struct wp_places {
    uint32_t shard_count, link_max;
    uint32_t up_count;
    struct known *known; /* [shard - 1] */
    struct link links[];
};

int wp_places_create(uint32_t shard_count, uint32_t link_max, struct wp_places **ret_places)
{
    struct wp_places *places = calloc(1, sizeof *places + link_max * sizeof *places->links);
    struct known *known = calloc(shard_count, sizeof *known);
    if (!places || !known) {
        free(places);
        free(known);
        return WP_E_NOMEM;
    }
    for (uint32_t i = 0; i < shard_count; i++) {
        known[i].at = WP_PLACE_NONE;
    }
    places->shard_count = shard_count;
    places->link_max = link_max;
    places->known = known;
    *ret_places = places;
    return WP_OK;
}

void wp_places_destroy(struct wp_places **places)
{
    struct wp_places *taken = *places;
    *places = NULL;
    if (!taken) {
        return;
    }
    for (uint32_t i = 0; i < taken->link_max; i++) {
        free(taken->links[i].claims);
    }
    free(taken->known);
    free(taken);
}

static struct link *link_get(struct wp_places *places, uint32_t link)
{
    WP_ASSERT(link < places->link_max);
    return &places->links[link];
}

void wp_places_link_up(struct wp_places *places, uint32_t link)
{
    struct link *row = link_get(places, link);
    places->up_count += !row->up;
    row->up = true;
}

void wp_places_link_down(struct wp_places *places, uint32_t link)
{
    struct link *row = link_get(places, link);
    places->up_count -= row->up;
    row->up = false;
    free(row->claims);
    row->claims = NULL;
    for (uint32_t i = 0; i < places->shard_count && places->up_count == 0; i++) {
        places->known[i].term = 0;
        places->known[i].told = false; /* `at` stays for texts, and means nothing without a claim */
    }
}

void wp_places_link_gone(struct wp_places *places, uint32_t link)
{
    wp_places_link_down(places, link);
    for (uint32_t i = 0; i < places->shard_count; i++) {
        if (places->known[i].at == link) {
            places->known[i].at = WP_PLACE_NONE;
        }
    }
}

int wp_places_told(struct wp_places *places, uint32_t link, uint32_t shard, uint64_t term, uint32_t at)
{
    struct link *row = link_get(places, link);
    struct known *known = &places->known[shard - 1];
    WP_ASSERT(shard >= 1 && shard <= places->shard_count && row->up);
    if (!row->claims && at == link) {
        row->claims = calloc(places->shard_count, sizeof *row->claims);
        if (!row->claims) {
            return WP_E_NOMEM;
        }
    }
    if (row->claims) {
        row->claims[shard - 1] = (struct claim){.term = term, .made = at == link};
    }
    bool newer = !known->told || term > known->term;
    bool same = known->told && term == known->term;
    if (newer || (same && (at == link || known->at == WP_PLACE_NONE))) {
        known->told = true;
        known->term = term;
        known->at = at;
    }
    return WP_OK;
}

static bool claims(const struct wp_places *places, uint32_t link, uint32_t shard)
{
    const struct link *row = &places->links[link];
    return row->up && row->claims && row->claims[shard - 1].made;
}

/* The highest claim of those that are up, whatever was known before. */
static void known_forget(struct wp_places *places, uint32_t shard)
{
    struct known *known = &places->known[shard - 1];
    uint32_t best = WP_PLACE_NONE;
    for (uint32_t i = 0; i < places->link_max; i++) {
        if (claims(places, i, shard) &&
            (best == WP_PLACE_NONE ||
                places->links[i].claims[shard - 1].term > places->links[best].claims[shard - 1].term)) {
            best = i;
        }
    }
    if (best != WP_PLACE_NONE) {
        known->at = best;
        known->term = places->links[best].claims[shard - 1].term;
    }
}

void wp_places_tick(struct wp_places *places, uint64_t now_ms)
{
    for (uint32_t shard = 1; shard <= places->shard_count; shard++) {
        struct known *known = &places->known[shard - 1];
        if (wp_places_get(places, shard).link != WP_PLACE_NONE) {
            known->absent_ms = 0;
        } else if (known->absent_ms == 0) {
            known->absent_ms = now_ms ? now_ms : 1;
        } else if (now_ms - known->absent_ms >= WP_PLACE_FORGET_MS) {
            known_forget(places, shard);
        }
    }
}

struct wp_place wp_places_get(const struct wp_places *places, uint32_t shard)
{
    const struct known *known = &places->known[shard - 1];
    bool leads = known->told && known->at != WP_PLACE_NONE && claims(places, known->at, shard) &&
                 places->links[known->at].claims[shard - 1].term == known->term;
    return (struct wp_place){leads ? known->at : WP_PLACE_NONE, known->term};
}

uint32_t wp_places_named(const struct wp_places *places, uint32_t shard)
{
    return places->known[shard - 1].at;
}
