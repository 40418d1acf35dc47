#include "bench/report.h"

#include <jansson.h>

#include "base/error.h"

static const struct {
    const char *name;
    double quantile;
} columns[] = {{"p50", 0.50}, {"p90", 0.90}, {"p99", 0.99}, {"p999", 0.999}, {"p9999", 0.9999}};
#define COLUMN_COUNT (sizeof columns / sizeof columns[0])

static void latency_row(FILE *out, const char *name, const struct wp_histogram *histogram)
{
    fprintf(out, "%-14s", name);
    for (unsigned i = 0; i < COLUMN_COUNT; i++) {
        fprintf(out, " %10.3f", (double)wp_histogram_quantile(histogram, columns[i].quantile) / 1000.0);
    }
    fprintf(out, " %10.3f\n", (double)histogram->max / 1000.0);
}

static double cpu_us_per_message(const struct wp_report *report, const struct wp_report_process *process)
{
    uint64_t messages = report->result->accepted;
    /* A process that ended meanwhile has used less at the end than at the start. */
    return messages > 0 && process->end.cpu_us >= process->start.cpu_us
               ? (double)(process->end.cpu_us - process->start.cpu_us) / (double)messages
               : 0;
}

/* Of one core, over the measured time. */
static double cpu_percent(const struct wp_report *report, const struct wp_report_process *process)
{
    double used_us = process->end.cpu_us >= process->start.cpu_us
                         ? (double)(process->end.cpu_us - process->start.cpu_us)
                         : 0.0;
    return report->result->seconds > 0 ? used_us / 1e4 / report->result->seconds : 0.0;
}

static double beside_per_s(const struct wp_beside_result *beside)
{
    return beside->seconds > 0 ? (double)beside->accepted / beside->seconds : 0.0;
}

static void beside_row(FILE *out, const struct wp_beside_result *beside)
{
    fprintf(out, "beside     %10.0f /s   of %.0f offered, refused %llu; ack p50 %.3f, p99 %.3f ms\n",
        beside_per_s(beside), beside->offered_per_s, (unsigned long long)beside->refused,
        (double)wp_histogram_quantile(&beside->ack_us, 0.5) / 1000.0,
        (double)wp_histogram_quantile(&beside->ack_us, 0.99) / 1000.0);
}

static double lap_seconds(const struct wp_bench_lap *lap)
{
    return (double)(lap->end_us - lap->start_us) / 1e6;
}

void wp_report_table(const struct wp_report *report, FILE *out)
{
    const struct wp_load_result *result = report->result;
    fprintf(out, "scenario %s: %u recipients, %u bytes, %.0f s, ", report->scenario,
        report->config->receiver_count, report->config->body_bytes, result->seconds);
    if (report->config->rate_per_s > 0) {
        fprintf(out, "%.0f/s open loop\n", report->config->rate_per_s);
    } else {
        fprintf(out, "%u in flight\n", report->config->window);
    }
    fprintf(out, "accepted   %10.0f /s\n", (double)result->accepted / result->seconds);
    if (report->config->receivers_online) {
        fprintf(out, "delivered  %10.0f /s   repeated %llu, not delivered %llu\n",
            (double)result->delivered / result->seconds, (unsigned long long)result->repeated,
            (unsigned long long)result->undelivered);
    }
    if (report->beside) {
        beside_row(out, report->beside);
    }
    fprintf(out, "\n%-14s", "milliseconds");
    for (unsigned i = 0; i < COLUMN_COUNT; i++) {
        fprintf(out, " %10s", columns[i].name);
    }
    fprintf(out, " %10s\n", "max");
    latency_row(out, "ack", &result->ack_us);
    if (report->config->receivers_online) {
        latency_row(out, "end to end", &result->end_to_end_us);
    }
    if (report->floor) {
        fprintf(out, "%-14s %10.3f %10s %10.3f              (4 KiB fdatasync on %s)\n", "disk floor",
            (double)report->floor->p50_us / 1000.0, "", (double)report->floor->p99_us / 1000.0,
            report->floor->file_system);
    }
    fprintf(out, "\n%-14s %14s %10s %10s%s\n", "process", "cpu us/message", "cpu %", "rss MiB",
        report->beside ? "   (per message: the other traffic's share is in it)" : "");
    for (uint32_t i = 0; i < report->process_count; i++) {
        const struct wp_report_process *process = &report->processes[i];
        fprintf(out, "%-14s %14.2f %10.1f %10.1f\n", process->name, cpu_us_per_message(report, process),
            cpu_percent(report, process), (double)process->end.rss_bytes / 1048576.0);
    }
    for (uint32_t i = 0; result->laps.count > 1 && i < result->laps.count; i++) {
        const struct wp_bench_lap *lap = &result->laps.rows[i];
        const struct wp_histogram *latency =
            report->config->receivers_online ? &lap->end_to_end_us : &lap->ack_us;
        fprintf(out, "lap %-3u %8.1f s  accepted %8.0f /s  p50 %8.3f  p99 %8.3f ms\n", i + 1,
            lap_seconds(lap), lap_seconds(lap) > 0 ? (double)lap->accepted / lap_seconds(lap) : 0.0,
            (double)wp_histogram_quantile(latency, 0.5) / 1000.0,
            (double)wp_histogram_quantile(latency, 0.99) / 1000.0);
    }
    if (result->late_max_us > 1000) {
        fprintf(out, "\nthe generator was up to %.1f ms behind its schedule\n",
            (double)result->late_max_us / 1000.0);
    }
    for (uint32_t i = 0; i < result->error_count; i++) {
        fprintf(
            out, "refused: %s %llu\n", result->errors[i].slug, (unsigned long long)result->errors[i].count);
    }
    if (result->reconnects > 0) {
        fprintf(out, "connections lost and made again: %llu\n", (unsigned long long)result->reconnects);
    }
    if (result->unanswered > 0) {
        fprintf(out, "without an answer: %llu\n", (unsigned long long)result->unanswered);
    }
}

static json_t *latency_json(const struct wp_histogram *histogram)
{
    json_t *object = json_object();
    for (unsigned i = 0; i < COLUMN_COUNT; i++) {
        json_object_set_new(object, columns[i].name,
            json_integer((json_int_t)wp_histogram_quantile(histogram, columns[i].quantile)));
    }
    json_object_set_new(object, "max", json_integer((json_int_t)histogram->max));
    json_object_set_new(object, "count", json_integer((json_int_t)histogram->count));
    return object;
}

static json_t *processes_json(const struct wp_report *report)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < report->process_count; i++) {
        const struct wp_report_process *process = &report->processes[i];
        json_array_append_new(
            array, json_pack("{s:s,s:i,s:f,s:f,s:I}", "name", process->name, "pid", process->pid,
                       "cpu_us_per_message", cpu_us_per_message(report, process), "cpu_percent",
                       cpu_percent(report, process), "rss_bytes", (json_int_t)process->end.rss_bytes));
    }
    return array;
}

static json_t *laps_json(const struct wp_bench_laps *laps)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < laps->count; i++) {
        const struct wp_bench_lap *lap = &laps->rows[i];
        json_array_append_new(
            array, json_pack("{s:f,s:I,s:I,s:I,s:o,s:o}", "seconds", lap_seconds(lap), "accepted",
                       (json_int_t)lap->accepted, "refused", (json_int_t)lap->refused, "delivered",
                       (json_int_t)lap->delivered, "ack_us", latency_json(&lap->ack_us), "end_to_end_us",
                       latency_json(&lap->end_to_end_us)));
    }
    return array;
}

int wp_report_json(const struct wp_report *report, FILE *out)
{
    const struct wp_load_result *result = report->result;
    const struct wp_load_config *config = report->config;
    json_t *errors = json_object();
    for (uint32_t i = 0; i < result->error_count; i++) {
        json_object_set_new(
            errors, result->errors[i].slug, json_integer((json_int_t)result->errors[i].count));
    }
    json_t *root = json_pack(
        "{s:s,s:s,s:i,s:i,s:i,s:f,s:f,s:i,s:f,s:f,s:o,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "scenario",
        report->scenario, "version", WP_VERSION, "users", (int)config->receiver_count, "senders",
        (int)config->sender_count, "size", (int)config->body_bytes, "seconds", result->seconds, "rate",
        config->rate_per_s, "window", (int)config->window, "accepted_per_s",
        (double)result->accepted / result->seconds, "delivered_per_s",
        (double)result->delivered / result->seconds, "ack_us", latency_json(&result->ack_us), "end_to_end_us",
        latency_json(&result->end_to_end_us), "errors", errors, "refused", (json_int_t)result->refused,
        "repeated", (json_int_t)result->repeated, "unanswered", (json_int_t)result->unanswered, "undelivered",
        (json_int_t)result->undelivered, "reconnects", (json_int_t)result->reconnects,
        "generator_late_max_us", (json_int_t)result->late_max_us, "processes", processes_json(report));
    if (!root) {
        return WP_E_NOMEM;
    }
    json_object_set_new(root, "laps", laps_json(&result->laps));
    if (report->beside) {
        json_object_set_new(root, "beside",
            json_pack("{s:f,s:f,s:f,s:I,s:o}", "seconds", report->beside->seconds, "offered_per_s",
                report->beside->offered_per_s, "accepted_per_s", beside_per_s(report->beside), "refused",
                (json_int_t)report->beside->refused, "ack_us", latency_json(&report->beside->ack_us)));
    }
    if (report->floor) {
        json_object_set_new(root, "disk_floor_us",
            json_pack("{s:I,s:I,s:s}", "p50", (json_int_t)report->floor->p50_us, "p99",
                (json_int_t)report->floor->p99_us, "file_system", report->floor->file_system));
    }
    int failed = json_dumpf(root, out, JSON_INDENT(2));
    fputc('\n', out);
    json_decref(root);
    return failed ? WP_E_IO : WP_OK;
}
