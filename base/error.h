/* Error codes of Wardpost: one table, negative values, stable on the wire.
 *
 * A code keeps its number for ever: codes travel in fabric frames and are stored in records. New codes are
 * added at the end. Library errors are translated once, in the adapter that calls the library. */
#ifndef WP_BASE_ERROR_H
#define WP_BASE_ERROR_H

/* Class of an error: what the one who got it should do. */
enum wp_error_class {
    WP_CLASS_RETRY,  /* the same call may succeed later */
    WP_CLASS_CALLER, /* the request itself is wrong; repeating it is useless */
    WP_CLASS_PEER,   /* what the other side sent is wrong */
    WP_CLASS_FATAL,  /* the process cannot keep its promises: stop */
};

/* X(name, number, class, slug, text): slug is the stable word used in `wp-error`, metrics and JSON. */
#define WP_ERROR_TABLE(X)                                                                                    \
    X(WP_E_NOMEM, -1, WP_CLASS_RETRY, "no-memory", "out of memory")                                          \
    X(WP_E_INVALID, -2, WP_CLASS_CALLER, "invalid", "invalid argument")                                      \
    X(WP_E_FULL, -3, WP_CLASS_RETRY, "full", "a bounded buffer or queue is full")                            \
    X(WP_E_TRUNCATED, -4, WP_CLASS_PEER, "truncated", "input ends before the value does")                    \
    X(WP_E_MALFORMED, -5, WP_CLASS_PEER, "malformed", "input is malformed")                                  \
    X(WP_E_TOO_LARGE, -6, WP_CLASS_CALLER, "too-large", "over the size limit")                               \
    X(WP_E_NOT_FOUND, -7, WP_CLASS_CALLER, "not-found", "no such object")                                    \
    X(WP_E_EXISTS, -8, WP_CLASS_CALLER, "exists", "exists already")                                          \
    X(WP_E_CORRUPT, -9, WP_CLASS_FATAL, "corrupt", "stored data fails its checksum")                         \
    X(WP_E_IO, -10, WP_CLASS_FATAL, "io", "input or output error")                                           \
    X(WP_E_NO_SPACE, -11, WP_CLASS_FATAL, "no-space", "no space left on the device")                         \
    X(WP_E_NOT_LEADER, -12, WP_CLASS_RETRY, "not-leader", "this router does not lead the shard")             \
    X(WP_E_UNAVAILABLE, -13, WP_CLASS_RETRY, "unavailable", "not available now, try again")                  \
    X(WP_E_BUSY, -14, WP_CLASS_CALLER, "busy", "in use by another process")                                  \
    X(WP_E_AUTH, -15, WP_CLASS_CALLER, "bad-credentials", "unknown device or wrong secret")                  \
    X(WP_E_DENIED, -16, WP_CLASS_CALLER, "denied", "not allowed")                                            \
    X(WP_E_UNKNOWN_RECIPIENT, -17, WP_CLASS_CALLER, "unknown-recipient", "no such recipient")                \
    X(WP_E_MAILBOX_FULL, -18, WP_CLASS_RETRY, "mailbox-full", "the recipient's mailbox is full")             \
    X(WP_E_RATE, -19, WP_CLASS_RETRY, "rate", "sending faster than allowed")                                 \
    X(WP_E_BODY_TOO_LARGE, -20, WP_CLASS_CALLER, "body-too-large", "the body is over the limit")             \
    X(WP_E_ID_TOO_OLD, -21, WP_CLASS_CALLER, "id-too-old", "the message id is older than the duplicate window") \
    X(WP_E_ID_IN_FUTURE, -22, WP_CLASS_CALLER, "id-in-future", "the message id is from the future")          \
    X(WP_E_RESEND, -23, WP_CLASS_RETRY, "resend", "stream gap: resend from the given sequence")              \
    X(WP_E_STALE_EPOCH, -24, WP_CLASS_CALLER, "stale-epoch", "a newer attachment of this device exists")     \
    X(WP_E_DISK_RESERVE, -25, WP_CLASS_RETRY, "disk-full", "the router's disk reserve is reached")           \
    X(WP_E_FORGOTTEN, -26, WP_CLASS_FATAL, "forgotten", "the log ends before a position known to be synced") \
    X(WP_E_TIMEOUT, -27, WP_CLASS_RETRY, "timeout", "no answer in time")                                     \
    X(WP_E_CLOSED, -28, WP_CLASS_RETRY, "closed", "the connection is closed")                                \
    X(WP_E_VERSION, -29, WP_CLASS_PEER, "version", "unknown format version")                                 \
    X(WP_E_EXPIRED, -30, WP_CLASS_CALLER, "expired", "the message expired before it was accepted")           \
    X(WP_E_SEEN_FULL, -31, WP_CLASS_RETRY, "seen-full", "the duplicate window is full, try again")           \
    X(WP_E_CONFIG, -32, WP_CLASS_CALLER, "config", "the configuration is wrong")                             \
    X(WP_E_EXPIRY_TOO_LONG, -33, WP_CLASS_CALLER, "ttl-too-long", "time to live over the maximum")    \
    X(WP_E_ENGINE, -34, WP_CLASS_FATAL, "engine", "the consensus engine broke an invariant")

enum wp_error {
    WP_OK = 0,
#define X(name, number, class, slug, text) name = number,
    WP_ERROR_TABLE(X)
#undef X
};

/* Text of `error`, lower case, no full stop; "ok" for WP_OK, "unknown error" for a number not in the table. */
const char *wp_error_text(int error);

/* Stable word for `error` ("mailbox-full"); "ok" for WP_OK, "unknown" for a number not in the table. */
const char *wp_error_slug(int error);

/* Class of `error`; WP_CLASS_FATAL for a number not in the table. WP_OK has no class and must not be asked. */
enum wp_error_class wp_error_class(int error);

#endif
