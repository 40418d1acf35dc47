/* Policies of the cluster: choices that the operator makes once for all routers. The roster keeps them as
 * words; which words mean something stands here. Apply takes any, since replicas of several builds must
 * decide alike: the router that is asked checks. Pure. */
#ifndef WP_ROUTER_POLICY_H
#define WP_ROUTER_POLICY_H

#include <stdint.h>

#include "router/roster.h"

/* X(symbol, name, values parted by blanks with the default first, meaning) */
#define WP_POLICY_TABLE(X)                                                                                   \
    X(LATE_DEVICE, "late_device", "now oldest",                                                              \
        "where a second or later device of a user begins: with what comes from now on, or with the oldest "  \
        "message kept")

enum wp_policy {
#define X(symbol, name, values, meaning) WP_POLICY_##symbol,
    WP_POLICY_TABLE(X)
#undef X
        WP_POLICY_COUNT
};

/* Places of the words of LATE_DEVICE. */
enum wp_late_device { WP_LATE_DEVICE_NOW, WP_LATE_DEVICE_OLDEST };

const char *wp_policy_name(enum wp_policy policy);
const char *wp_policy_values(enum wp_policy policy);
const char *wp_policy_meaning(enum wp_policy policy);
/* WP_OK, WP_E_NOT_FOUND (no such policy), WP_E_INVALID (`value` is none of its words). */
int wp_policy_check(const char *name, const char *value, enum wp_policy *ret_policy);
/* The place of the word that holds; 0 when nobody chose, or what was chosen means nothing to this build. */
uint32_t wp_policy_get(const struct wp_roster *roster, enum wp_policy policy);
/* The word at `place` into `ret_text`. */
void wp_policy_word(enum wp_policy policy, uint32_t place, char ret_text[WP_POLICY_VALUE_SIZE]);

#endif
