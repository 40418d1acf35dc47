/* `wardpost send`: one message, answered when it is safe; with --wait also how it ended. */
#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "client/command.h"
#include "client/device.h"
#include "proto/address.h"
#include "proto/mqtt/mqtt.h"

#define BODY_SIZE_MAX (1024u * 1024)

struct send_run {
    const struct wp_command *command;
    struct wp_device *device;
    uv_timer_t timeout;
    struct wp_buffer body;
    uint8_t id[WP_UUID_SIZE];
    const char *recipient; /* user, or team */
    bool submitted;
    bool accepted;
    bool over;
    uint32_t receipts;
    uint64_t started_us;
    int exit_code;
    char offline_why[256];
};

static void run_end(struct send_run *run, int exit_code)
{
    if (!run->over) {
        run->over = true;
        run->exit_code = exit_code;
        wp_device_stop(run->device);
    }
}

static void accepted_print(const struct send_run *run)
{
    char id[WP_UUID_TEXT_SIZE];
    wp_uuid_format(run->id, id);
    double elapsed_ms = (double)(wp_clock_mono_us() - run->started_us) / 1000.0;
    if (run->command->json) {
        json_t *row = json_pack("{s:s,s:s,s:s,s:f}", "id", id, "state", "accepted", "recipient",
            run->recipient, "elapsed_ms", elapsed_ms);
        json_dumpf(row, stdout, 0);
        putchar('\n');
        json_decref(row);
    } else {
        printf("accepted %s for %s in %.1f ms (safe on disk)\n", id, run->recipient, elapsed_ms);
    }
    fflush(stdout); /* with --wait somebody may read it long before the end */
}

static int refusal_exit(uint8_t code)
{
    return code == WP_MQTT_RC_QUOTA_EXCEEDED || code == WP_MQTT_RC_IMPLEMENTATION ? WP_EXIT_TEMPORARY : WP_EXIT_REFUSED;
}

static void published(struct send_run *run, const struct wp_connection_event *event)
{
    if (event->code == 0) {
        accepted_print(run);
        run->accepted = true;
        if (!run->command->wait) {
            run_end(run, WP_EXIT_OK);
        }
        return;
    }
    fprintf(stderr, "wardpost: not accepted by \"%s\": %s%s%.*s\n", run->recipient,
        wp_mqtt_reason_text(event->code), event->text.size ? ": " : "", (int)event->text.size,
        event->text.size ? (const char *)event->text.data : "");
    run_end(run, refusal_exit(event->code));
}

static void submit(struct send_run *run)
{
    struct wp_connection_publish publish = {.recipient = run->recipient,
        .to_team = run->command->team != NULL,
        .lane = run->command->lane,
        .ttl_s = run->command->ttl_s,
        .id = run->id,
        .body = wp_slice(run->body.data, run->body.size)};
    int error = wp_connection_publish(wp_device_connection(run->device), &publish);
    if (error) {
        fprintf(stderr, "wardpost: cannot send: %s\n", wp_error_text(error));
        run_end(run, error == WP_E_BODY_TOO_LARGE ? WP_EXIT_REFUSED : WP_EXIT_SOFTWARE);
    }
    run->submitted = true;
}

/* Every receipt that comes is shown, also of other messages: it comes once. Those of this message are counted. */
static void receipt_take(struct send_run *run, const struct wp_connection_receipt *receipt)
{
    if (!run->command->wait) {
        return; /* left unacknowledged: it stays for `receipts` */
    }
    if (wp_receipt_print(run->command, receipt)) {
        run_end(run, WP_EXIT_IO);
        return;
    }
    wp_connection_acknowledge(wp_device_connection(run->device), receipt->packet_id);
    bool ours = receipt->has_id && memcmp(receipt->id, run->id, WP_UUID_SIZE) == 0;
    uint32_t wanted = run->command->count ? run->command->count : run->command->team ? UINT32_MAX : 1;
    run->receipts += ours;
    if (run->receipts >= wanted) {
        wp_device_flush(run->device);
        run_end(run, WP_EXIT_OK);
    }
}

static void device_event(void *context, const struct wp_connection_event *event)
{
    struct send_run *run = context;
    if (run->over) {
        return;
    }
    switch (event->kind) {
    case WP_CONNECTION_UP:
        if (!run->submitted && run->command->wait) {
            wp_connection_subscribe_receipts(wp_device_connection(run->device));
        } else if (!run->submitted) {
            submit(run);
        }
        break;
    case WP_CONNECTION_SUBSCRIBED:
        if (!run->submitted) {
            submit(run);
        }
        break;
    case WP_CONNECTION_RECEIPT:
        receipt_take(run, &event->receipt);
        break;
    case WP_CONNECTION_REFUSED:
        if (wp_device_refusal_passes(event->code)) {
            break;
        }
        fprintf(stderr, "wardpost: the gateway refused \"%s\": %s\n", run->command->profile.username,
            wp_mqtt_reason_text(event->code));
        run->over = true;
        run->exit_code = event->code == WP_MQTT_RC_BAD_CREDENTIALS || event->code == WP_MQTT_RC_NOT_AUTHORIZED
            ? WP_EXIT_DENIED
            : WP_EXIT_UNAVAILABLE;
        break;
    case WP_CONNECTION_PUBLISHED:
        published(run, event);
        break;
    default:
        break; /* deliveries are left unacknowledged: they stay queued for `inbox` */
    }
}

static void device_offline(void *context, const char *why)
{
    struct send_run *run = context;
    snprintf(run->offline_why, sizeof run->offline_why, "%s", why);
}

static void device_ended(void *context)
{
    struct send_run *run = context;
    uv_close((uv_handle_t *)&run->timeout, NULL);
}

static void timed_out(uv_timer_t *timer)
{
    struct send_run *run = timer->data;
    char id[WP_UUID_TEXT_SIZE];
    wp_uuid_format(run->id, id);
    if (run->accepted) {
        /* A message to a team without --count: all receipts that came in time were shown. */
        run_end(run, run->command->team && !run->command->count ? WP_EXIT_OK : WP_EXIT_UNAVAILABLE);
        return;
    }
    if (run->submitted) {
        fprintf(stderr,
            "wardpost: no answer in time; whether the message was accepted is unknown: send again with --id %s, it is "
            "delivered once\n",
            id);
    } else {
        fprintf(stderr, "wardpost: no gateway reached in time%s%s\n", run->offline_why[0] ? ": " : "", run->offline_why);
    }
    run_end(run, WP_EXIT_UNAVAILABLE);
}

static int body_read(const struct wp_command *command, int first, struct wp_buffer *body)
{
    if (command->argument_count > first && strcmp(command->arguments[first], "-") != 0) {
        for (int i = first; i < command->argument_count; i++) {
            if (i > first && wp_buffer_append(body, " ", 1) != WP_OK) {
                return WP_E_NOMEM;
            }
            if (wp_buffer_append(body, command->arguments[i], strlen(command->arguments[i])) != WP_OK) {
                return WP_E_NOMEM;
            }
        }
        return WP_OK;
    }
    if (isatty(STDIN_FILENO)) {
        fprintf(stderr, "type the message, end with Ctrl-D\n");
    }
    for (;;) {
        uint8_t *end = wp_buffer_reserve(body, 65536);
        if (!end) {
            return WP_E_NOMEM;
        }
        ssize_t count = read(STDIN_FILENO, end, 65536);
        if (count < 0 && errno != EINTR) {
            return WP_E_IO;
        }
        if (count == 0) {
            break;
        }
        body->size += count > 0 ? (size_t)count : 0;
        if (body->size > BODY_SIZE_MAX) {
            return WP_E_BODY_TOO_LARGE;
        }
    }
    if (body->size > 0 && body->data[body->size - 1] == '\n') {
        body->size--; /* the line end that `echo` adds is not part of the text */
    }
    return WP_OK;
}

int wp_command_send(const struct wp_command *command)
{
    const char *recipient = command->team ? command->team : command->argument_count > 0 ? command->arguments[0] : "";
    int text_first = command->team ? 0 : 1;
    if (!wp_address_valid(recipient)) {
        fprintf(stderr, "wardpost: send needs a recipient (a user name like \"bob\"); see wardpost send --help\n");
        return WP_EXIT_USAGE;
    }
    struct send_run run = {.command = command, .recipient = recipient, .exit_code = WP_EXIT_SOFTWARE, .started_us = wp_clock_mono_us()};
    int error = body_read(command, text_first, &run.body);
    if (error) {
        fprintf(stderr, "wardpost: cannot read the message: %s\n", wp_error_text(error));
        wp_buffer_free(&run.body);
        return error == WP_E_BODY_TOO_LARGE ? WP_EXIT_REFUSED : WP_EXIT_IO;
    }
    uint8_t random[10];
    randombytes_buf(random, sizeof random);
    wp_uuid7_make(wp_clock_wall_ms(), random, run.id);
    if (command->has_id) {
        memcpy(run.id, command->id, WP_UUID_SIZE);
    }
    uv_loop_t loop;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &run.timeout);
    run.timeout.data = &run;
    uv_timer_start(&run.timeout, timed_out, command->timeout_ms, 0);
    char text[512] = "";
    struct wp_device_callbacks callbacks = {&run, device_event, device_offline, device_ended};
    error = wp_device_start(&loop, &command->profile, &callbacks, &run.device, text, sizeof text);
    if (error) {
        fprintf(stderr, "wardpost: %s\n", text[0] ? text : wp_error_text(error));
        run.exit_code = WP_EXIT_CONFIG;
        uv_close((uv_handle_t *)&run.timeout, NULL);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    wp_buffer_free(&run.body);
    return run.exit_code;
}
