/* wp-metrics-doc: prints docs/metrics.md from the table of metrics; a test compares them. */
#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"
#include "base/metric.h"

int main(void)
{
    struct wp_buffer out = WP_BUFFER_INIT;
    int error = wp_metric_render_markdown(&out);
    if (error) {
        fprintf(stderr, "wp-metrics-doc: %s\n", wp_error_text(error));
        return 1;
    }
    bool written = fwrite(out.data, 1, out.size, stdout) == out.size && fflush(stdout) == 0;
    wp_buffer_free(&out);
    return written ? 0 : 1;
}
