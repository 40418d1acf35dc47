/* Why: measure what devices see, with the same device code that people use.
 *
 * Invariants:
 *   1. Each message carries its number and its start time; `delivered` is set once per number, a second
 * delivery counts as repeated. To a team it is delivered when the last receiver has it; each (number,
 * receiver) counts once.
 *   2. `in_flight` = published and not answered, over all senders; a refusal is an answer. */
#include "bench/load.h"

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/prng.h"
#include "client/connection.h"
#include "client/device.h"
#include "client/stream.h"
#include "proto/address.h"
#include "proto/mqtt/mqtt.h"

#define CONNECT_AT_ONCE 64u /* connections that may be under way together */
#define CONNECT_TIMEOUT_US 30000000u
#define GRACE_US 10000000u /* wait for answers after the last publish */
#define PROGRESS_MS 1000u
#define RECONNECT_MS 20u
#define RETRY_MIN_US 50000u /* after a lost connection, jittered up to */
#define RETRY_MAX_US 500000u
#define STUCK_US 10000000u /* a connection that does not come up */
#define STAMP_MAGIC 0x77706273u

struct client {
    struct load *load;
    const struct wp_bench_identity *identity;
    struct wp_connection *connection;
    struct wp_stream *stream;
    bool receiver;
    bool ready;          /* up, and subscribed when a receiver */
    uint32_t gateway;    /* of the present or the next stream */
    uint64_t retry_us;   /* without a stream: when to connect again */
    uint64_t connect_us; /* the present stream was begun */
    bool dirty;          /* has output to flush in this turn */
    struct client *next_dirty;
};

struct load {
    const struct wp_load_config *config;
    struct wp_load_result *result;
    uv_loop_t loop;
    uv_poll_t pace;
    uv_prepare_t flush;
    uv_timer_t progress;
    uv_timer_t reconnect;
    uv_signal_t lap, end, interrupt;
    int pace_fd;
    struct wp_tls_client *tls;
    struct client *clients;
    uint32_t client_count;
    uint32_t connecting_next; /* clients[0..connecting_next) were started */
    uint32_t ready_count;
    uint32_t open_streams;
    struct client *dirty;
    struct wp_prng prng;
    uint64_t connect_start_us;
    uint64_t start_us;            /* schedule start, 0 before everybody is ready */
    uint64_t measure_us, stop_us; /* measured time is [measure_us, stop_us) */
    uint64_t published;
    uint64_t answered;
    uint64_t accepted_all;
    uint64_t delivered_all;
    uint32_t in_flight;
    uint32_t next_sender;
    uint8_t *delivered_bits; /* by message number */
    size_t delivered_capacity;
    uint32_t *copies; /* to a team: receivers that have the message of this number */
    size_t copies_capacity;
    uint8_t *body;
    uint64_t tick_accepted, tick_delivered;
    struct wp_histogram tick_ack;
    bool measuring, measured, ending;
    bool closing; /* connections end because we end them */
    int error;
    char text[256];
};

/* --- small things
 * ---------------------------------------------------------------------------------------------- */

static void load_fail(struct load *load, int error, const char *text)
{
    if (!load->error) {
        load->error = error;
        snprintf(load->text, sizeof load->text, "%s", text);
    }
}

static void client_mark_dirty(struct client *client)
{
    if (!client->dirty) {
        client->dirty = true;
        client->next_dirty = client->load->dirty;
        client->load->dirty = client;
    }
}

static void pace_arm(struct load *load, uint64_t at_us)
{
    struct itimerspec when = {.it_value = {(time_t)(at_us / 1000000u), (long)(at_us % 1000000u) * 1000}};
    timerfd_settime(load->pace_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void error_count(struct wp_load_result *result, struct wp_slice slug)
{
    char name[48];
    snprintf(name, sizeof name, "%.*s", (int)slug.size, slug.size ? (const char *)slug.data : "");
    if (name[0] == '\0') {
        snprintf(name, sizeof name, "no-reason");
    }
    for (uint32_t i = 0; i < result->error_count; i++) {
        if (strcmp(result->errors[i].slug, name) == 0) {
            result->errors[i].count++;
            return;
        }
    }
    if (result->error_count < WP_BENCH_ERRORS_MAX) {
        snprintf(result->errors[result->error_count].slug, sizeof name, "%s", name);
        result->errors[result->error_count++].count = 1;
    }
}

/* True when the message of this number is delivered for the first time. */
static bool delivered_first(struct load *load, uint64_t number)
{
    size_t byte = (size_t)(number / 8);
    if (byte >= load->delivered_capacity) {
        size_t capacity = load->delivered_capacity ? load->delivered_capacity * 2 : 65536;
        while (capacity <= byte) {
            capacity *= 2;
        }
        uint8_t *bits = realloc(load->delivered_bits, capacity);
        if (!bits) {
            load_fail(load, WP_E_NOMEM, "out of memory");
            return false;
        }
        memset(bits + load->delivered_capacity, 0, capacity - load->delivered_capacity);
        load->delivered_bits = bits;
        load->delivered_capacity = capacity;
    }
    uint8_t mask = (uint8_t)(1u << (number % 8));
    bool first = !(load->delivered_bits[byte] & mask);
    load->delivered_bits[byte] |= mask;
    return first;
}

/* True when this was the last receiver of a message to the team. */
static bool copy_was_last(struct load *load, uint64_t number)
{
    if (number >= load->copies_capacity) {
        size_t capacity = load->copies_capacity ? load->copies_capacity * 2 : 1024;
        capacity = capacity <= number ? (size_t)number + 1 : capacity;
        uint32_t *copies = realloc(load->copies, capacity * sizeof *copies);
        if (!copies) {
            load_fail(load, WP_E_NOMEM, "out of memory");
            return false;
        }
        memset(copies + load->copies_capacity, 0, (capacity - load->copies_capacity) * sizeof *copies);
        load->copies = copies;
        load->copies_capacity = capacity;
    }
    return ++load->copies[number] == load->config->receiver_count;
}

/* --- publishing
 * ------------------------------------------------------------------------------------------------- */

/* The start time travels through the connection as its user pointer. */
static bool publish_one(struct load *load, uint64_t due_us)
{
    const struct wp_load_config *config = load->config;
    uint8_t random[10], id[WP_UUID_SIZE];
    char recipient[WP_NAME_SIZE_MAX + 1], device[WP_NAME_SIZE_MAX + 1];
    const char *to = config->receivers[wp_prng_below(&load->prng, config->receiver_count)].username;
    wp_address_split(to, strlen(to), recipient, device);
    if (config->team) {
        snprintf(recipient, sizeof recipient, "%s", config->team);
    }
    wp_put_u64le(random, wp_prng_next(&load->prng));
    wp_put_u32le(random + 6, (uint32_t)wp_prng_next(&load->prng));
    wp_uuid7_make(wp_clock_wall_ms(), random, id);
    wp_put_u32le(load->body, STAMP_MAGIC);
    wp_put_u64le(load->body + 4, load->published);
    wp_put_u64le(load->body + 12, due_us);
    wp_put_u32le(load->body + 20, (uint32_t)config->seed);
    struct wp_connection_publish publish = {.recipient = recipient,
        .to_team = config->team != NULL,
        .lane = config->lane,
        .ttl_s = config->ttl_s,
        .id = id,
        .body = wp_slice(load->body, config->body_bytes),
        .user = (void *)(uintptr_t)due_us};
    for (uint32_t tried = 0; tried < config->sender_count; tried++) {
        struct client *client = &load->clients[load->next_sender];
        load->next_sender = (load->next_sender + 1) % config->sender_count;
        if (!client->ready || wp_connection_publish(client->connection, &publish) != WP_OK) {
            continue;
        }
        load->published++;
        load->in_flight++;
        client_mark_dirty(client);
        return true;
    }
    return false;
}

static void publish_due(struct load *load)
{
    uint64_t now_us = wp_clock_mono_us();
    const struct wp_load_config *config = load->config;
    if (load->start_us == 0 || load->ending) {
        return;
    }
    if (config->messages > 0 && load->published >= config->messages && now_us < load->stop_us) {
        load->stop_us = now_us;
    }
    if (now_us >= load->stop_us) {
        load->ending = true;
        pace_arm(load, now_us + GRACE_US);
        return;
    }
    if (config->rate_per_s == 0) {
        while (load->in_flight < config->window &&
               (config->messages == 0 || load->published < config->messages) &&
               publish_one(load, wp_clock_mono_us())) {
        }
        return;
    }
    for (;;) {
        uint64_t due_us = load->start_us + (uint64_t)((double)load->published * 1e6 / config->rate_per_s);
        if (due_us > now_us) {
            pace_arm(load, due_us);
            return;
        }
        if (!publish_one(load, due_us)) {
            pace_arm(load, now_us + 200); /* every sender's window is full: the due times go on */
            return;
        }
        if (load->measuring && now_us - due_us > load->result->late_max_us) {
            load->result->late_max_us = now_us - due_us;
        }
    }
}

static void measure_edges(struct load *load, uint64_t now_us)
{
    if (load->start_us == 0) {
        return;
    }
    if (!load->measuring && !load->measured && now_us >= load->measure_us) {
        load->measuring = true;
        wp_bench_laps_next(&load->result->laps, now_us);
        load->config->mark(load->config->context, true);
    }
    if (load->measuring && now_us >= load->stop_us) {
        load->measuring = false;
        load->measured = true;
        wp_bench_laps_end(&load->result->laps, now_us);
        load->config->mark(load->config->context, false);
    }
}

/* --- events of connections
 * --------------------------------------------------------------------------------------- */

static void everybody_ready(struct load *load)
{
    uint64_t now_us = wp_clock_mono_us();
    load->start_us = now_us;
    load->measure_us = now_us + (uint64_t)(load->config->warmup_s * 1e6);
    load->stop_us = load->measure_us + (uint64_t)(load->config->seconds * 1e6);
    publish_due(load);
}

static void clients_connect_more(struct load *load);
static void reconnect_due(uv_timer_t *timer);

static void client_ready(struct client *client)
{
    struct load *load = client->load;
    if (client->ready) {
        return;
    }
    client->ready = true;
    load->ready_count++;
    clients_connect_more(load);
    if (load->ready_count == load->client_count && load->start_us == 0) {
        everybody_ready(load);
    }
}

static void answer_take(struct load *load, const struct wp_connection_event *event)
{
    uint64_t now_us = wp_clock_mono_us();
    load->in_flight--;
    load->answered++;
    struct wp_bench_lap *lap = load->measuring ? wp_bench_laps_now(&load->result->laps) : NULL;
    if (event->code != 0) {
        if (lap) {
            lap->refused++;
            load->result->refused++;
            error_count(load->result, event->slug);
        }
        return;
    }
    load->accepted_all++;
    load->tick_accepted++;
    uint64_t latency_us = now_us - (uint64_t)(uintptr_t)event->user;
    wp_histogram_record(&load->tick_ack, latency_us);
    if (lap) {
        lap->accepted++;
        load->result->accepted++;
        wp_histogram_record(&load->result->ack_us, latency_us);
        wp_histogram_record(&lap->ack_us, latency_us);
    }
}

static void delivery_take(struct client *client, const struct wp_connection_message *message)
{
    struct load *load = client->load;
    wp_connection_acknowledge(client->connection, message->packet_id);
    client_mark_dirty(client);
    struct wp_slice body = message->body;
    bool ours = body.size >= WP_LOAD_STAMP_SIZE && wp_get_u32le(body.data) == STAMP_MAGIC &&
                wp_get_u32le(body.data + 20) == (uint32_t)load->config->seed;
    if (!ours) {
        return; /* left from an earlier run */
    }
    uint64_t number = wp_get_u64le(body.data + 4);
    uint64_t receiver = (uint64_t)(client - load->clients) - load->config->sender_count;
    const uint64_t receivers = load->config->receiver_count;
    if (!delivered_first(load, load->config->team ? number * receivers + receiver : number)) {
        load->result->repeated++;
        return;
    }
    if (load->config->team && !copy_was_last(load, number)) {
        return;
    }
    load->delivered_all++;
    load->tick_delivered++;
    struct wp_bench_lap *lap = load->measuring ? wp_bench_laps_now(&load->result->laps) : NULL;
    if (lap) {
        uint64_t latency_us = wp_clock_mono_us() - wp_get_u64le(body.data + 12);
        lap->delivered++;
        load->result->delivered++;
        wp_histogram_record(&load->result->end_to_end_us, latency_us);
        wp_histogram_record(&lap->end_to_end_us, latency_us);
    }
}

static void client_events(struct client *client)
{
    struct load *load = client->load;
    struct wp_connection_event event;
    char text[256];
    while (wp_connection_event(client->connection, &event)) {
        switch (event.kind) {
        case WP_CONNECTION_UP:
            if (client->receiver) {
                wp_connection_subscribe(client->connection);
                client_mark_dirty(client);
            } else {
                client_ready(client);
            }
            break;
        case WP_CONNECTION_SUBSCRIBED:
            client_ready(client);
            break;
        case WP_CONNECTION_PUBLISHED:
            answer_take(load, &event);
            break;
        case WP_CONNECTION_MESSAGE:
            delivery_take(client, &event.message);
            break;
        case WP_CONNECTION_RECEIPT: /* of somebody who subscribed with this device by hand */
            wp_connection_acknowledge(client->connection, event.receipt.packet_id);
            client_mark_dirty(client);
            break;
        case WP_CONNECTION_REFUSED:
        case WP_CONNECTION_DOWN:
            if (load->start_us > 0 && event.code != WP_MQTT_RC_TAKEN_OVER &&
                (event.kind == WP_CONNECTION_DOWN || wp_device_refusal_passes(event.code))) {
                wp_stream_close(client->stream);
                break;
            }
            snprintf(text, sizeof text, "the gateway ended the connection of %.64s (code 0x%02x): %.*s",
                client->identity->username, event.code, event.text.size < 100 ? (int)event.text.size : 100,
                event.text.size ? (const char *)event.text.data : "");
            load_fail(load, WP_E_UNAVAILABLE, text);
            break;
        }
    }
}

static void stream_ready(void *context)
{
    struct client *client = context;
    if (wp_connection_open(client->connection, wp_clock_mono_us() / 1000) == WP_OK) {
        client_mark_dirty(client);
    }
}

static void stream_data(void *context, struct wp_slice bytes)
{
    struct client *client = context;
    if (wp_connection_receive(client->connection, bytes, wp_clock_mono_us() / 1000) != WP_OK) {
        load_fail(client->load, WP_E_NOMEM, "out of memory");
        return;
    }
    client_events(client);
    if (client->load->config->rate_per_s == 0) {
        publish_due(client->load);
    }
}

static void stream_closed(void *context, const char *why)
{
    struct client *client = context;
    struct load *load = client->load;
    client->stream = NULL;
    load->ready_count -= client->ready;
    client->ready = false;
    load->open_streams--;
    wp_connection_lost(client->connection);
    if (load->closing) {
        return;
    }
    if (load->start_us > 0) {
        /* Its gateway is gone: the next one, not all devices at the same moment. */
        load->result->reconnects++;
        client->gateway = (client->gateway + 1) % load->config->gateways->gateway_count;
        client->retry_us =
            wp_clock_mono_us() + RETRY_MIN_US + wp_prng_below(&load->prng, RETRY_MAX_US - RETRY_MIN_US);
        if (!uv_is_active((uv_handle_t *)&load->reconnect)) {
            uv_timer_start(&load->reconnect, reconnect_due, RECONNECT_MS, RECONNECT_MS);
        }
    } else {
        char text[256];
        snprintf(text, sizeof text, "%.64s lost its connection: %.150s", client->identity->username, why);
        load_fail(load, WP_E_UNAVAILABLE, text);
    }
}

static void client_connect(struct client *client)
{
    struct load *load = client->load;
    const struct wp_profile_gateway *gateway = &load->config->gateways->gateways[client->gateway];
    struct wp_stream_callbacks callbacks = {client, stream_ready, stream_data, stream_closed};
    client->connect_us = wp_clock_mono_us();
    if (wp_stream_connect(
            &load->loop, gateway->host, gateway->port, load->tls, &callbacks, &client->stream) != WP_OK) {
        load_fail(load, WP_E_UNAVAILABLE, "cannot start a connection");
        return;
    }
    load->open_streams++;
}

static void clients_connect_more(struct load *load)
{
    while (load->connecting_next < load->client_count &&
           load->connecting_next - load->ready_count < CONNECT_AT_ONCE) {
        struct client *client = &load->clients[load->connecting_next];
        client->gateway = load->connecting_next++ % load->config->gateways->gateway_count;
        client_connect(client);
    }
}

/* Runs while somebody is without a connection. */
static void reconnect_due(uv_timer_t *timer)
{
    struct load *load = timer->data;
    uint64_t now_us = wp_clock_mono_us();
    bool more = false;
    for (uint32_t i = 0; i < load->client_count; i++) {
        struct client *client = &load->clients[i];
        if (!client->stream && now_us >= client->retry_us) {
            client_connect(client);
        }
        more |= !client->stream;
    }
    if (!more) {
        uv_timer_stop(timer);
    }
}

/* --- loop
 * ----------------------------------------------------------------------------------------------------------
 */

static void flush_due(uv_prepare_t *prepare)
{
    struct load *load = prepare->data;
    while (load->dirty) {
        struct client *client = load->dirty;
        load->dirty = client->next_dirty;
        client->dirty = false;
        struct wp_buffer *output = wp_connection_output(client->connection);
        if (client->stream && output->size > 0) {
            wp_stream_write(client->stream, output);
        }
    }
    measure_edges(load, wp_clock_mono_us());
    bool settled = load->ending && load->in_flight == 0 &&
                   (!load->config->receivers_online || load->delivered_all >= load->accepted_all);
    if (load->error || (settled && load->measured)) {
        uv_stop(&load->loop);
    }
}

static void pace_due(uv_poll_t *poll, int status, int events)
{
    struct load *load = poll->data;
    uint64_t expirations;
    (void)status;
    (void)events;
    ssize_t size = read(load->pace_fd, &expirations, sizeof expirations);
    (void)size; /* only clears the timer */
    uint64_t now_us = wp_clock_mono_us();
    measure_edges(load, now_us);
    if (load->ending && now_us >= load->stop_us + GRACE_US) {
        uv_stop(&load->loop);
        return;
    }
    publish_due(load);
}

static void lap_due(uv_signal_t *handle, int number)
{
    struct load *load = handle->data;
    (void)number;
    if (load->measuring) {
        wp_bench_laps_next(&load->result->laps, wp_clock_mono_us());
    }
}

/* What was measured so far is the result; before that there is none. */
static void end_due(uv_signal_t *handle, int number)
{
    struct load *load = handle->data;
    (void)number;
    if (!load->measuring) {
        load_fail(load, WP_E_UNAVAILABLE, "ended before measuring");
        uv_stop(&load->loop);
        return;
    }
    load->stop_us = wp_clock_mono_us();
    publish_due(load);
}

static void progress_due(uv_timer_t *timer)
{
    struct load *load = timer->data;
    uint64_t now_us = wp_clock_mono_us();
    if (load->start_us == 0) {
        fprintf(stderr, "\rconnecting %u of %u ", load->ready_count, load->client_count);
        if (now_us - load->connect_start_us > CONNECT_TIMEOUT_US) {
            load_fail(load, WP_E_UNAVAILABLE, "the devices do not come up in 30 s");
        }
        return;
    }
    fprintf(stderr, "\r%5.0f s  accepted %7llu/s  delivered %7llu/s  ack p99 %8.2f ms  in flight %-6u",
        (double)(now_us - load->start_us) / 1e6, (unsigned long long)load->tick_accepted,
        (unsigned long long)load->tick_delivered,
        (double)wp_histogram_quantile(&load->tick_ack, 0.99) / 1000.0, load->in_flight);
    load->tick_accepted = 0;
    load->tick_delivered = 0;
    wp_histogram_init(&load->tick_ack);
    if (load->config->rate_per_s == 0) {
        publish_due(load); /* notices the end when nothing is answered any more */
    }
    for (uint32_t i = 0; i < load->client_count; i++) {
        struct client *client = &load->clients[i];
        wp_connection_tick(client->connection, now_us / 1000);
        client_events(client);
        client_mark_dirty(client);
        if (client->stream && !client->ready && now_us - client->connect_us > STUCK_US) {
            wp_stream_close(client->stream);
        }
    }
}

static int clients_create(struct load *load)
{
    const struct wp_load_config *config = load->config;
    uint32_t online = config->receivers_online ? config->receiver_count : 0;
    load->client_count = config->sender_count + online;
    load->clients = calloc(load->client_count, sizeof *load->clients);
    load->body = malloc(config->body_bytes);
    if (!load->clients || !load->body) {
        return WP_E_NOMEM;
    }
    randombytes_buf_deterministic(load->body, config->body_bytes, (const uint8_t[randombytes_SEEDBYTES]){0});
    for (uint32_t i = 0; i < load->client_count; i++) {
        struct client *client = &load->clients[i];
        client->load = load;
        client->receiver = i >= config->sender_count;
        client->identity =
            client->receiver ? &config->receivers[i - config->sender_count] : &config->senders[i];
        struct wp_connection_config connection = {.username = client->identity->username,
            .secret = client->identity->secret,
            .keep_alive_s = 60,
            .receive_maximum = 256};
        int error = wp_connection_create(&connection, &client->connection);
        if (error) {
            return error;
        }
    }
    return WP_OK;
}

static void load_close(struct load *load)
{
    load->ending = load->measured = load->closing = true;
    for (uint32_t i = 0; i < load->connecting_next; i++) {
        struct client *client = &load->clients[i];
        if (client->stream) {
            wp_connection_close(client->connection);
            wp_stream_write(client->stream, wp_connection_output(client->connection));
            wp_stream_close(client->stream);
        }
    }
    uv_close((uv_handle_t *)&load->pace, NULL);
    uv_close((uv_handle_t *)&load->flush, NULL);
    uv_close((uv_handle_t *)&load->progress, NULL);
    uv_close((uv_handle_t *)&load->reconnect, NULL);
    uv_close((uv_handle_t *)&load->lap, NULL);
    uv_close((uv_handle_t *)&load->end, NULL);
    uv_close((uv_handle_t *)&load->interrupt, NULL);
    uv_run(&load->loop, UV_RUN_DEFAULT);
    uv_loop_close(&load->loop);
    close(load->pace_fd);
    for (uint32_t i = 0; i < load->client_count; i++) {
        wp_connection_destroy(&load->clients[i].connection);
    }
    wp_tls_client_destroy(&load->tls);
    free(load->clients);
    free(load->body);
    free(load->copies);
    free(load->delivered_bits);
}

static void signals_watch(struct load *load)
{
    uv_signal_init(&load->loop, &load->lap);
    uv_signal_init(&load->loop, &load->end);
    uv_signal_init(&load->loop, &load->interrupt);
    load->lap.data = load->end.data = load->interrupt.data = load;
    uv_signal_start(&load->lap, lap_due, SIGUSR1);
    uv_signal_start(&load->end, end_due, SIGTERM);
    uv_signal_start(&load->interrupt, end_due, SIGINT);
}

int wp_load_run(
    const struct wp_load_config *config, struct wp_load_result *ret_result, char *ret_text, size_t text_size)
{
    struct load *load = calloc(1, sizeof *load);
    if (!load) {
        return WP_E_NOMEM;
    }
    memset(ret_result, 0, sizeof *ret_result);
    wp_histogram_init(&ret_result->ack_us);
    wp_histogram_init(&ret_result->end_to_end_us);
    wp_histogram_init(&load->tick_ack);
    load->config = config;
    load->result = ret_result;
    wp_prng_init(&load->prng, config->seed);
    uv_loop_init(&load->loop);
    load->pace_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    uv_poll_init(&load->loop, &load->pace, load->pace_fd);
    uv_prepare_init(&load->loop, &load->flush);
    uv_timer_init(&load->loop, &load->progress);
    uv_timer_init(&load->loop, &load->reconnect);
    load->pace.data = load->flush.data = load->progress.data = load->reconnect.data = load;
    uv_poll_start(&load->pace, UV_READABLE, pace_due);
    uv_prepare_start(&load->flush, flush_due);
    uv_timer_start(&load->progress, progress_due, PROGRESS_MS, PROGRESS_MS);
    signals_watch(load);
    int error = clients_create(load);
    if (!error && config->gateways->tls) {
        error = wp_tls_client_create(config->gateways->ca_path, &load->tls, load->text, sizeof load->text);
    }
    if (error) {
        load_fail(load, error, load->text[0] ? load->text : wp_error_text(error));
    } else {
        load->connect_start_us = wp_clock_mono_us();
        clients_connect_more(load);
        uv_run(&load->loop, UV_RUN_DEFAULT);
        fputc('\n', stderr);
    }
    ret_result->seconds =
        load->stop_us > load->measure_us ? (double)(load->stop_us - load->measure_us) / 1e6 : config->seconds;
    ret_result->unanswered = load->in_flight;
    ret_result->undelivered = config->receivers_online && load->accepted_all > load->delivered_all
                                  ? load->accepted_all - load->delivered_all
                                  : 0;
    load_close(load);
    error = load->error;
    snprintf(ret_text, text_size, "%s", load->text);
    free(load);
    return error;
}
