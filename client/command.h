/* What the verbs of `wardpost` share: options, the device's profile, the way a message is printed. */
#ifndef WP_CLIENT_COMMAND_H
#define WP_CLIENT_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "client/connection.h"
#include "client/profile.h"

/* Exit codes of `wardpost` (sysexits.h), part of its interface. */
enum wp_exit {
    WP_EXIT_OK = 0,
    WP_EXIT_USAGE = 64,       /* wrong options or arguments */
    WP_EXIT_REFUSED = 65,     /* the message was refused, for good */
    WP_EXIT_UNAVAILABLE = 69, /* no answer in time: the outcome of a send is unknown */
    WP_EXIT_SOFTWARE = 70,
    WP_EXIT_IO = 74,
    WP_EXIT_TEMPORARY = 75,   /* refused now, the same message may be accepted later */
    WP_EXIT_DENIED = 77,      /* wrong secret or unknown device */
    WP_EXIT_CONFIG = 78,
};

struct wp_command {
    struct wp_profile profile;
    bool json;
    Wp__Lane lane;
    uint32_t ttl_s;
    uint32_t timeout_ms;
    uint32_t count;           /* listen: end after so many messages; 0 = never */
    uint8_t id[WP_UUID_SIZE]; /* send --id */
    bool has_id;
    const char *team;         /* send: to it, instead of a user */
    bool wait;                /* send: until the receipts are there */
    int argument_count;       /* what follows the verb */
    char **arguments;
};

/* The verbs; each returns an exit code. */
int wp_command_send(const struct wp_command *command);
int wp_command_inbox(const struct wp_command *command);
int wp_command_listen(const struct wp_command *command);
int wp_command_receipts(const struct wp_command *command);

/* One line about how a message ended; flushed. WP_OK or WP_E_IO. */
int wp_receipt_print(const struct wp_command *command, const struct wp_connection_receipt *receipt);

/* Name of a lane: "stat", "urgent", "routine". */
const char *wp_lane_name(Wp__Lane lane);

#endif
