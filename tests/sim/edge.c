/* See edge.h. */
#include "tests/sim/edge.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"

#define CONNECT_TIMEOUT_US 3000000u

struct sim_wire {
    struct sim_wire *next;
    struct sim_gateway *gateway;
    uint64_t life; /* of the gateway's process */
    struct sim_wire_owner owner;
    bool device_here;         /* the owner has not cut it, and was not told that it is lost */
    struct wp_client *client; /* NULL: not open at the gateway, or gone from there */
    bool in_input;
    bool closing;
    struct wp_buffer in;     /* not taken yet by the session */
    uint64_t up_us, down_us; /* nothing arrives before */
};

struct packet {
    struct sim_wire *wire;
    size_t size;
    uint8_t data[];
};

static struct sim_wire *wires;

static uint64_t way_us(uint64_t *arrival_us)
{
    uint64_t at_us = sim_now_us() + 100 + sim_random(2000) + (sim_chance(10) ? sim_random(300000) : 0);
    *arrival_us = at_us > *arrival_us ? at_us : *arrival_us + 1;
    return *arrival_us - sim_now_us();
}

static struct packet *packet_make(struct sim_wire *wire, const void *data, size_t size)
{
    struct packet *packet = malloc(sizeof *packet + size);
    WP_ASSERT(packet);
    packet->wire = wire;
    packet->size = size;
    if (size > 0) {
        memcpy(packet->data, data, size);
    }
    return packet;
}

/* --- towards the device: events of the world --- */

static void device_lost(void *context, uint64_t argument)
{
    struct sim_wire *wire = context;
    (void)argument;
    if (wire->device_here) {
        wire->device_here = false;
        wire->owner.lost(wire->owner.context);
    }
}

static void device_data(void *context, uint64_t argument)
{
    struct packet *packet = context;
    (void)argument;
    if (packet->wire->device_here) {
        packet->wire->owner.data(packet->wire->owner.context, wp_slice(packet->data, packet->size));
    }
    free(packet);
}

/* --- at the gateway: events of its process --- */

static void client_drop(struct sim_wire *wire)
{
    if (wire->client) {
        wp_client_close(&wire->client);
        wp_buffer_free(&wire->in);
        sim_after(way_us(&wire->down_us), NULL, device_lost, wire, 0);
    }
}

static void close_fire(void *context, uint64_t argument)
{
    struct sim_wire *wire = context;
    (void)argument;
    client_drop(wire);
    wp_gateway_turn(wire->gateway->gateway);
}

static void flush(struct sim_wire *wire)
{
    struct wp_client *client = wire->client;
    if (client->out.size > 0) {
        sim_effect();
        if (sim_effective()) {
            sim_after(way_us(&wire->down_us), NULL, device_data,
                packet_make(wire, client->out.data, client->out.size), 0);
        }
        wp_buffer_consume(&client->out, client->out.size);
    }
    if (client->session.state == WP_SESSION_CLOSED) {
        if (!wire->closing) {
            wire->closing = true;
            sim_after(1, &wire->gateway->process, close_fire, wire, 0);
        }
        return;
    }
    client->wire_bytes = 0;
    wp_client_writable(client);
}

static void input(struct sim_wire *wire)
{
    wire->in_input = true;
    size_t taken = wp_client_input(wire->client, wp_slice(wire->in.data, wire->in.size));
    wp_buffer_consume(&wire->in, taken);
    wire->in_input = false;
}

void sim_edge_output(void *context, struct wp_client *client)
{
    struct sim_wire *wire = client->connection;
    (void)context;
    if (!wire->in_input) {
        flush(wire);
    }
}

void sim_edge_resume(void *context, struct wp_client *client)
{
    struct sim_wire *wire = client->connection;
    (void)context;
    if (wire->in.size > 0 && !wire->in_input) {
        input(wire);
    }
}

static void gateway_data(void *context, uint64_t argument)
{
    struct packet *packet = context;
    struct sim_wire *wire = packet->wire;
    (void)argument;
    if (wire->client && !wire->closing) {
        int error = wp_buffer_append(&wire->in, packet->data, packet->size);
        WP_ASSERT(error == WP_OK);
        input(wire);
        flush(wire);
        wp_gateway_turn(wire->gateway->gateway);
    }
    free(packet);
}

static void gateway_lost(void *context, uint64_t argument)
{
    struct sim_wire *wire = context;
    (void)argument;
    if (wire->client) {
        wp_client_close(&wire->client);
        wp_buffer_free(&wire->in);
        wp_gateway_turn(wire->gateway->gateway);
    }
}

static void gateway_accept(void *context, uint64_t argument)
{
    struct sim_wire *wire = context;
    (void)argument;
    int error = wp_client_open(wire->gateway->gateway, wire, &wire->client);
    WP_ASSERT(error == WP_OK);
    wire->life = wire->gateway->process.life;
}

/* --- the device's side --- */

static void connect_timeout(void *context, uint64_t argument)
{
    struct sim_wire *wire = context;
    (void)argument;
    if (!wire->client && wire->life == 0) {
        device_lost(wire, 0);
    }
}

struct sim_wire *sim_wire_connect(struct sim_gateway *gateway, const struct sim_wire_owner *owner)
{
    struct sim_wire *wire = calloc(1, sizeof *wire);
    WP_ASSERT(wire);
    wire->gateway = gateway;
    wire->owner = *owner;
    wire->device_here = true;
    wire->next = wires;
    wires = wire;
    if (gateway->process.alive) {
        sim_after(way_us(&wire->up_us), &gateway->process, gateway_accept, wire, 0);
        sim_after(CONNECT_TIMEOUT_US, NULL, connect_timeout, wire, 0);
    } else {
        sim_after(way_us(&wire->down_us), NULL, device_lost, wire, 0); /* connection refused */
    }
    return wire;
}

void sim_wire_write(struct sim_wire *wire, struct wp_buffer *buffer)
{
    if (buffer->size == 0) {
        return;
    }
    /* Now and then in two parts: nobody may rely on where packets end. */
    size_t first = buffer->size > 1 && sim_chance(100) ? 1 + sim_random(buffer->size - 1) : buffer->size;
    sim_after(way_us(&wire->up_us), &wire->gateway->process, gateway_data,
        packet_make(wire, buffer->data, first), 0);
    if (first < buffer->size) {
        sim_after(way_us(&wire->up_us), &wire->gateway->process, gateway_data,
            packet_make(wire, buffer->data + first, buffer->size - first), 0);
    }
    wp_buffer_consume(buffer, buffer->size);
}

void sim_wire_cut(struct sim_wire **wire)
{
    struct sim_wire *taken = *wire;
    *wire = NULL;
    if (taken && taken->device_here) {
        taken->device_here = false;
        /* The gateway hears of it, or only notices by silence (a radio that is gone). */
        if (!sim_chance(200)) {
            sim_after(way_us(&taken->up_us), &taken->gateway->process, gateway_lost, taken, 0);
        }
    }
}

void sim_edge_gone(struct sim_gateway *gateway)
{
    for (struct sim_wire *wire = wires; wire; wire = wire->next) {
        if (wire->gateway == gateway && wire->client) {
            client_drop(wire);
        }
    }
}

void sim_wires_free(void)
{
    while (wires) {
        struct sim_wire *next = wires->next;
        wp_buffer_free(&wires->in);
        free(wires);
        wires = next;
    }
}
