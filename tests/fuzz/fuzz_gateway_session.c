/* Fuzz target for the session machine. Input: records of (kind, size, bytes); kind picks an event, the bytes
 * are what the device sent or the numbers of an answer. Whatever comes: what is said to the device are whole,
 * legal packets, nothing is said after the end, and a session never takes more than it was given. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "gateway/session.h"

#define RECORD_HEAD 2u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct machine {
    struct wp_session session;
    struct wp_session_turn turn;
    struct wp_arena arena, decoded;
    struct wp_buffer out, in;
};

static void output_check(struct machine *machine)
{
    size_t at = 0;
    while (at < machine->out.size) {
        struct wp_mqtt_packet packet;
        uint32_t size = 0;
        uint8_t code;
        struct wp_slice rest = wp_slice(machine->out.data + at, machine->out.size - at);
        WP_ASSERT(wp_mqtt_frame(rest, UINT32_MAX, &size) == 1);
        wp_arena_reset(&machine->decoded);
        WP_ASSERT(wp_mqtt_decode(wp_slice(rest.data, size), machine->session.version, &machine->decoded,
                      &packet, &code) == WP_OK);
        WP_ASSERT(size <= machine->session.packet_bytes_max || packet.type == WP_MQTT_CONNACK ||
                  packet.type == WP_MQTT_SUBACK || packet.type == WP_MQTT_UNSUBACK || size <= 5);
        at += size;
    }
    machine->out.size = 0;
}

static void bytes_give(struct machine *machine, const uint8_t *data, size_t size)
{
    WP_ASSERT(wp_buffer_append(&machine->in, data, size) == WP_OK);
    size_t consumed = 1;
    while (consumed > 0 && machine->session.state != WP_SESSION_CLOSED) {
        struct wp_session_effect effect;
        uint8_t *exact = malloc(machine->in.size + 1);
        WP_ASSERT(exact);
        if (machine->in.size > 0) {
            memcpy(exact, machine->in.data, machine->in.size);
        }
        wp_arena_reset(&machine->arena);
        consumed =
            wp_session_input(&machine->session, &machine->turn, wp_slice(exact, machine->in.size), &effect);
        WP_ASSERT(consumed <= machine->in.size);
        if (effect.kind == WP_SESSION_SUBMIT) {
            WP_ASSERT(wp_envelope_check(effect.submit.envelope) == WP_OK);
            WP_ASSERT(effect.submit.publish == machine->session.publish_number);
        }
        wp_buffer_consume(&machine->in, consumed);
        free(exact);
    }
}

static void deliver_give(struct machine *machine, const uint8_t *data, size_t size)
{
    uint8_t id[16] = {0};
    Wp__Header header = WP__HEADER__INIT;
    Wp__Envelope envelope = WP__ENVELOPE__INIT;
    Wp__Deliver deliver = WP__DELIVER__INIT;
    header.version = 1;
    header.message_id = (ProtobufCBinaryData){sizeof id, id};
    header.sender = header.sender_device = header.recipient = (char *)(uintptr_t) "x";
    header.lane = size > 0 ? (Wp__Lane)(data[0] % 3) : WP__LANE__STAT;
    envelope.header = &header;
    envelope.body = (ProtobufCBinaryData){size, (uint8_t *)(uintptr_t)data};
    deliver.lane = header.lane;
    deliver.sequence = size > 1 ? data[1] : 1;
    if (wp_session_deliver_admit(&machine->session, machine->turn.now_ms, &deliver, size % 2 == 0) == WP_OK) {
        wp_arena_reset(&machine->arena);
        (void)wp_session_deliver(&machine->session, &machine->turn, &deliver, &envelope, 5000);
    }
}

static void event_give(struct machine *machine, uint8_t kind, const uint8_t *data, size_t size)
{
    static const int errors[] = {
        WP_OK, WP_OK, WP_E_AUTH, WP_E_MAILBOX_FULL, WP_E_UNAVAILABLE, WP_E_STALE_EPOCH, -9999};
    uint8_t number = size > 0 ? data[0] : 0;
    int error = errors[number % (sizeof errors / sizeof errors[0])];
    Wp__AttachReply reply = WP__ATTACH_REPLY__INIT;
    switch (kind % 8) {
    default:
        bytes_give(machine, data, size);
        return;
    case 3:
        reply.error = error;
        reply.session_present = reply.inbox_subscribed = number & 0x80;
        wp_session_attached(&machine->session, &machine->turn, &reply);
        return;
    case 4:
        wp_session_submitted(&machine->session, &machine->turn, size > 1 ? data[1] : 1, error, 0);
        return;
    case 5:
        wp_session_subscribed(&machine->session, &machine->turn, size > 1 ? data[1] : 1, error);
        return;
    case 6:
        deliver_give(machine, data, size);
        return;
    case 7:
        machine->turn.now_ms += (uint64_t)number * 100;
        wp_session_partial(&machine->session, machine->turn.now_ms, machine->in.size > 0);
        wp_session_tick(&machine->session, &machine->turn);
        return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct wp_session_policy policy = {.receive_maximum = 4,
        .window = 8,
        .body_bytes_max = 512,
        .packet_bytes_max = 4096,
        .keep_alive_max_s = 60,
        .connect_timeout_ms = 5000,
        .publish_per_second_max = 20};
    static const uint8_t random[16] = {1};
    struct machine machine = {
        .turn = {.now_ms = 1000, .now_us = 1000000, .wall_ms = 1700000000000u, .random = random}};
    wp_arena_init(&machine.arena, 1u << 20);
    wp_arena_init(&machine.decoded, 1u << 20);
    machine.turn.arena = &machine.arena;
    machine.turn.out = &machine.out;
    wp_session_init(&machine.session, &policy, machine.turn.now_ms);
    while (size >= RECORD_HEAD) {
        size_t part = data[1] <= size - RECORD_HEAD ? data[1] : size - RECORD_HEAD;
        bool was_closed = machine.session.state == WP_SESSION_CLOSED;
        event_give(&machine, data[0], data + RECORD_HEAD, part);
        WP_ASSERT(!was_closed || (machine.session.state == WP_SESSION_CLOSED && machine.out.size == 0));
        output_check(&machine);
        data += RECORD_HEAD + part;
        size -= RECORD_HEAD + part;
    }
    wp_session_fini(&machine.session);
    wp_arena_fini(&machine.arena);
    wp_arena_fini(&machine.decoded);
    wp_buffer_free(&machine.out);
    wp_buffer_free(&machine.in);
    return 0;
}
