/* `wardpost inbox`, `wardpost listen` and `wardpost receipts`: receive, show once, acknowledge.
 *
 * Invariant: a message is acknowledged only after it was written to standard output and its id to the file of shown
 * ids, both flushed; so a crash repeats a delivery at most, and the repeated one is not shown again. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "client/command.h"
#include "client/device.h"
#include "client/seen.h"
#include "proto/mqtt/mqtt.h"

#define QUIET_MS 500u /* an inbox with nothing in it says nothing: so long silence after the subscription means empty */

struct receive_run {
    const struct wp_command *command;
    struct wp_device *device;
    struct wp_seen *seen;
    uv_timer_t timer;     /* inbox: quiet or timeout; listen: unused */
    uv_signal_t signals[2];
    bool until_empty;
    bool receipts;        /* not messages */
    bool subscribed;
    bool over;
    uint32_t shown;
    int exit_code;
    char offline_why[256];
};

const char *wp_lane_name(Wp__Lane lane)
{
    static const char *const names[] = {"routine", "urgent", "stat"};
    return lane <= WP__LANE__STAT ? names[lane] : "unknown";
}

static void run_end(struct receive_run *run, int exit_code)
{
    if (!run->over) {
        run->over = true;
        run->exit_code = exit_code;
        wp_device_stop(run->device);
    }
}

/* Text from others goes to a terminal: control characters must not steer it (CWE-150). */
static void body_print(struct wp_slice body)
{
    bool terminal = isatty(STDOUT_FILENO);
    for (size_t i = 0; i < body.size; i++) {
        uint8_t c = body.data[i];
        bool control = (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f;
        if (terminal && control) {
            printf("\\x%02x", c);
        } else {
            putchar(c);
        }
    }
}

static void message_print(const struct receive_run *run, const struct wp_connection_message *message)
{
    char id[WP_UUID_TEXT_SIZE] = "";
    if (message->has_id) {
        wp_uuid_format(message->id, id);
    }
    time_t seconds = (time_t)(message->accepted_ms / 1000);
    struct tm local;
    char when[32];
    localtime_r(&seconds, &local);
    if (run->command->json) {
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S%z", &local);
        json_t *body = json_stringn((const char *)message->body.data, message->body.size);
        json_t *row = json_pack("{s:s,s:s%,s:s%,s:s,s:s,s:b,s:o*}", "id", id, "from", message->sender.data,
            message->sender.size, "device", message->sender_device.data ? (const char *)message->sender_device.data : "",
            message->sender_device.size, "lane", wp_lane_name(message->lane), "accepted", when, "repeated", message->dup, "text",
            body);
        if (!body && row) {
            json_object_set_new(row, "body_bytes", json_integer((json_int_t)message->body.size));
        }
        json_dumpf(row, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(row);
        return;
    }
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &local);
    printf("%s  %-7s  %.*s/%.*s: ", when, message->lane == WP__LANE__STAT ? "STAT" : wp_lane_name(message->lane),
        (int)message->sender.size, (const char *)message->sender.data, (int)message->sender_device.size,
        message->sender_device.data ? (const char *)message->sender_device.data : "");
    body_print(message->body);
    putchar('\n');
}

static void message_take(struct receive_run *run, const struct wp_connection_message *message)
{
    bool known = run->seen && message->has_id && wp_seen_has(run->seen, message->id);
    int error = WP_OK;
    if (!known) {
        message_print(run, message);
        if (fflush(stdout) != 0) {
            error = WP_E_IO;
        }
        if (!error && run->seen && message->has_id) {
            error = wp_seen_add(run->seen, message->id);
            error = error ? error : wp_seen_sync(run->seen);
        }
        run->shown++;
    }
    if (error) {
        fprintf(stderr, "wardpost: cannot keep the message: %s; it stays queued\n", wp_error_text(error));
        run_end(run, WP_EXIT_IO);
        return;
    }
    wp_connection_acknowledge(wp_device_connection(run->device), message->packet_id);
    if (run->command->count > 0 && run->shown >= run->command->count) {
        wp_device_flush(run->device);
        run_end(run, WP_EXIT_OK);
    }
}

int wp_receipt_print(const struct wp_command *command, const struct wp_connection_receipt *receipt)
{
    char id[WP_UUID_TEXT_SIZE] = "";
    if (receipt->has_id) {
        wp_uuid_format(receipt->id, id);
    }
    time_t seconds = (time_t)(receipt->time_ms / 1000);
    struct tm local;
    char when[32];
    localtime_r(&seconds, &local);
    if (command->json) {
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S%z", &local);
        json_t *row = json_pack("{s:s,s:s%,s:s%,s:s}", "id", id, "state", receipt->state.data, receipt->state.size,
            "person", receipt->person.data, receipt->person.size, "time", when);
        if (row && receipt->error.size > 0) {
            json_object_set_new(row, "error", json_stringn((const char *)receipt->error.data, receipt->error.size));
        }
        json_dumpf(row, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(row);
    } else {
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &local);
        printf("%s  %-9.*s  %.*s  %s%s%.*s\n", when, (int)receipt->state.size, (const char *)receipt->state.data,
            (int)receipt->person.size, (const char *)receipt->person.data, id, receipt->error.size > 0 ? "  " : "",
            (int)receipt->error.size, receipt->error.size > 0 ? (const char *)receipt->error.data : "");
    }
    return fflush(stdout) == 0 ? WP_OK : WP_E_IO;
}

static void receipt_take(struct receive_run *run, const struct wp_connection_receipt *receipt)
{
    if (wp_receipt_print(run->command, receipt)) {
        fprintf(stderr, "wardpost: cannot write; the receipt stays queued\n");
        run_end(run, WP_EXIT_IO);
        return;
    }
    run->shown++;
    wp_connection_acknowledge(wp_device_connection(run->device), receipt->packet_id);
}

static void quiet_due(uv_timer_t *timer)
{
    struct receive_run *run = timer->data;
    if (run->shown == 0 && !run->command->json) {
        fprintf(stderr, run->receipts ? "no receipts\n" : "no messages\n");
    }
    run_end(run, WP_EXIT_OK);
}

static void timed_out(uv_timer_t *timer)
{
    struct receive_run *run = timer->data;
    fprintf(stderr, "wardpost: no gateway reached in time%s%s\n", run->offline_why[0] ? ": " : "", run->offline_why);
    run_end(run, WP_EXIT_UNAVAILABLE);
}

static void device_event(void *context, const struct wp_connection_event *event)
{
    struct receive_run *run = context;
    if (run->over) {
        return;
    }
    switch (event->kind) {
    case WP_CONNECTION_UP:
        if (run->receipts) {
            wp_connection_subscribe_receipts(wp_device_connection(run->device));
        } else {
            wp_connection_subscribe(wp_device_connection(run->device));
        }
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
    case WP_CONNECTION_SUBSCRIBED:
        if (event->code >= 0x80) {
            fprintf(stderr, "wardpost: the %s refused: %s\n", run->receipts ? "receipts are" : "inbox is",
                wp_mqtt_reason_text(event->code));
            run_end(run, WP_EXIT_REFUSED);
            return;
        }
        run->subscribed = true;
        if (run->until_empty) {
            uv_timer_start(&run->timer, quiet_due, QUIET_MS, 0);
        } else if (!run->command->json) {
            fprintf(stderr, "listening as %s, Ctrl-C ends\n", run->command->profile.username);
        }
        break;
    case WP_CONNECTION_RECEIPT:
        if (run->receipts || !run->until_empty) { /* `inbox` leaves them for `receipts` */
            receipt_take(run, &event->receipt);
        }
        if (run->receipts && run->subscribed && !run->over) {
            uv_timer_start(&run->timer, quiet_due, QUIET_MS, 0);
        }
        break;
    case WP_CONNECTION_MESSAGE: {
        if (run->receipts) {
            break; /* left for `inbox` */
        }
        bool drained = event->message.drained;
        message_take(run, &event->message);
        if (run->until_empty && run->subscribed && !run->over) {
            uv_timer_start(&run->timer, quiet_due, drained ? 0 : QUIET_MS, 0);
        }
        break;
    }
    case WP_CONNECTION_DOWN:
        if (event->code == WP_MQTT_RC_TAKEN_OVER) {
            fprintf(stderr, "wardpost: another program attached as %s\n", run->command->profile.username);
            run_end(run, WP_EXIT_TEMPORARY);
        }
        break;
    default:
        break;
    }
}

static void device_offline(void *context, const char *why)
{
    struct receive_run *run = context;
    snprintf(run->offline_why, sizeof run->offline_why, "%s", why);
    if (!run->until_empty && !run->command->json && !run->over) {
        fprintf(stderr, "offline: %s; trying again\n", why);
    }
    if (run->until_empty && run->subscribed) {
        run->subscribed = false;
        uv_timer_start(&run->timer, timed_out, run->command->timeout_ms, 0);
    }
}

static void device_ended(void *context)
{
    struct receive_run *run = context;
    uv_close((uv_handle_t *)&run->timer, NULL);
    uv_close((uv_handle_t *)&run->signals[0], NULL);
    uv_close((uv_handle_t *)&run->signals[1], NULL);
}

static void interrupted(uv_signal_t *signal, int number)
{
    (void)number;
    run_end(signal->data, WP_EXIT_OK);
}

static int seen_open(struct receive_run *run)
{
    const char *path = run->command->profile.seen_path;
    if (path[0] == '\0') {
        return WP_OK;
    }
    int error = wp_seen_open(path, &run->seen);
    if (error == WP_E_BUSY) {
        fprintf(stderr, "wardpost: another wardpost is receiving as %s\n", run->command->profile.username);
    } else if (error) {
        fprintf(stderr, "wardpost: cannot use \"%s\": %s\n", path, wp_error_text(error));
    }
    return error;
}

static int receive(const struct wp_command *command, bool until_empty, bool receipts)
{
    struct receive_run run = {
        .command = command, .until_empty = until_empty, .receipts = receipts, .exit_code = WP_EXIT_SOFTWARE};
    int error = receipts ? WP_OK : seen_open(&run);
    if (error) {
        return error == WP_E_BUSY ? WP_EXIT_TEMPORARY : WP_EXIT_IO;
    }
    uv_loop_t loop;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &run.timer);
    run.timer.data = &run;
    if (until_empty) {
        uv_timer_start(&run.timer, timed_out, command->timeout_ms, 0);
    }
    const int numbers[2] = {SIGINT, SIGTERM};
    for (unsigned i = 0; i < 2; i++) {
        uv_signal_init(&loop, &run.signals[i]);
        run.signals[i].data = &run;
        uv_signal_start(&run.signals[i], interrupted, numbers[i]);
    }
    char text[512] = "";
    struct wp_device_callbacks callbacks = {&run, device_event, device_offline, device_ended};
    error = wp_device_start(&loop, &command->profile, &callbacks, &run.device, text, sizeof text);
    if (error) {
        fprintf(stderr, "wardpost: %s\n", text[0] ? text : wp_error_text(error));
        run.exit_code = WP_EXIT_CONFIG;
        device_ended(&run);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    wp_seen_close(&run.seen);
    return run.exit_code;
}

int wp_command_inbox(const struct wp_command *command)
{
    return receive(command, true, false);
}

int wp_command_listen(const struct wp_command *command)
{
    return receive(command, false, false);
}

int wp_command_receipts(const struct wp_command *command)
{
    return receive(command, true, true);
}
