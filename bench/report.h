/* How a run is shown: a table for people, one JSON object for programs. */
#ifndef WP_BENCH_REPORT_H
#define WP_BENCH_REPORT_H

#include <stdio.h>

#include "bench/beside.h"
#include "bench/load.h"
#include "bench/process.h"

#define WP_REPORT_PROCESSES_MAX 32u

struct wp_report_process {
    char name[65];
    int pid;
    struct wp_usage start, end;
};

struct wp_report {
    const char *scenario;
    const struct wp_load_config *config;
    const struct wp_load_result *result;
    const struct wp_disk_floor *floor;     /* NULL = not measured */
    const struct wp_beside_result *beside; /* NULL = nothing else went on */
    struct wp_report_process processes[WP_REPORT_PROCESSES_MAX];
    uint32_t process_count;
};

void wp_report_table(const struct wp_report *report, FILE *out);

/* WP_OK, WP_E_NOMEM or WP_E_IO. */
int wp_report_json(const struct wp_report *report, FILE *out);

#endif
