/* Shared by the files of the session machine; nobody else includes it. */
#ifndef WP_GATEWAY_SESSION_INTERNAL_H
#define WP_GATEWAY_SESSION_INTERNAL_H

#include "gateway/session.h"

#define WP_SESSION_REQUEST_TIMEOUT_MS 5000u
#define WP_SESSION_PACKET_TIMEOUT_MS                                                                         \
    60000u /* from the first byte of a packet to its last: 1 MiB at 17 kB/s */

/* Appends `packet`; a session whose bytes cannot be stored is closed. */
void wp_session_send(
    struct wp_session *session, struct wp_session_turn *turn, const struct wp_mqtt_packet *packet);

/* Ends the session with `code` (MQTT 5: DISCONNECT; 3.1.1: nothing but the close). */
void wp_session_fail(
    struct wp_session *session, struct wp_session_turn *turn, int error, uint8_t code, const char *detail);

/* Marks the end without a word to the device. */
void wp_session_finish(struct wp_session *session, int error, uint8_t code, const char *detail);

/* One handler per packet that a device sends. */
void wp_session_on_connect(struct wp_session *session, struct wp_session_turn *turn,
    const struct wp_mqtt_packet *packet, struct wp_session_effect *effect);
void wp_session_refuse_connect(struct wp_session *session, struct wp_session_turn *turn, int error,
    uint8_t code, uint8_t code_311, const char *detail);
void wp_session_on_publish(struct wp_session *session, struct wp_session_turn *turn,
    const struct wp_mqtt_packet *packet, struct wp_session_effect *effect);
void wp_session_on_subscribe(struct wp_session *session, struct wp_session_turn *turn,
    const struct wp_mqtt_packet *packet, struct wp_session_effect *effect);
void wp_session_on_unsubscribe(struct wp_session *session, struct wp_session_turn *turn,
    const struct wp_mqtt_packet *packet, struct wp_session_effect *effect);

/* Refills the token bucket; whether a PUBLISH may be taken now. */
bool wp_session_rate_allows(struct wp_session *session, uint64_t now_ms);

#endif
