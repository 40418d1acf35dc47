/* Policies of the cluster: what holds for all routers alike, choices of the operator and the limits that
 * replicas decide by. The roster keeps them as text; which text means something stands here. Apply of the
 * meta group takes any, since replicas of several builds must decide alike: the router that is asked checks.
 * Pure. */
#ifndef WP_ROUTER_POLICY_H
#define WP_ROUTER_POLICY_H

#include <stdint.h>

#include "node/config_table.h"
#include "router/machine.h"
#include "router/roster.h"

/* Choices between words. X(symbol, name, words parted by blanks with the default first, meaning) */
#define WP_POLICY_TABLE(X)                                                                                   \
    X(LATE_DEVICE, "late_device", "now oldest",                                                              \
        "where a second or later device of a user begins: with what comes from now on, or with the oldest "  \
        "message kept")

/* Then the limits, whose names, bounds and defaults are those of the configuration. */
enum wp_policy {
#define X(symbol, name, words, meaning) WP_POLICY_##symbol,
    WP_POLICY_TABLE(X)
#undef X
#define X(T, type, name, default_text, min, max, help) WP_POLICY_##name,
        WP_CONFIG_CLUSTER_LIMITS(X, )
#undef X
            WP_POLICY_COUNT
};
_Static_assert(WP_POLICY_COUNT <= WP_ROSTER_POLICIES_MAX, "the roster holds them all");

/* Places of the words of LATE_DEVICE. */
enum wp_late_device { WP_LATE_DEVICE_NOW, WP_LATE_DEVICE_OLDEST };

const char *wp_policy_name(enum wp_policy policy);
const char *wp_policy_meaning(enum wp_policy policy);
/* What it may be, for people: the words, or "MIN to MAX". */
void wp_policy_values(enum wp_policy policy, char ret_text[WP_POLICY_VALUE_SIZE]);
/* WP_OK, WP_E_NOT_FOUND (no such policy), WP_E_INVALID (`value` is none of its words, or out of its bounds).
 */
int wp_policy_check(const char *name, const char *value, enum wp_policy *ret_policy);
/* What holds, as text: the default when nobody chose (or there is no roster: NULL), or when what was chosen
 * means nothing to this build. */
void wp_policy_text(
    const struct wp_roster *roster, enum wp_policy policy, char ret_text[WP_POLICY_VALUE_SIZE]);
/* Of a choice: the place of the word that holds. */
uint32_t wp_policy_get(const struct wp_roster *roster, enum wp_policy policy);
/* Sets a policy in a roster that nobody else has yet. */
void wp_policy_put(struct wp_roster *roster, enum wp_policy policy, const char *value);

/* The limits that hold (NULL: the defaults), into those members of ret_limits that LIMITS changes. */
void wp_policy_limits(const struct wp_roster *roster, struct wp_machine_limits *ret_limits);
/* NULL, or a sentence about the two limits that contradict each other once `policy` is `value`. */
const char *wp_policy_clash(const struct wp_roster *roster, enum wp_policy policy, const char *value);

#endif
