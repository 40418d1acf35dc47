/* wp-config-doc: prints docs/configuration.md from the table of keys; a test compares them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "node/config_load.h"

static const char router_example[] = "node: router-1\n"
                                     "data: /var/lib/wardpost/router-1\n"
                                     "cluster:\n"
                                     "  id: 00c0ffee00c0ffee\n"
                                     "  key_file: /etc/wardpost/cluster.key\n"
                                     "fabric:\n"
                                     "  host: 127.0.0.1\n"
                                     "  port: 7401\n"
                                     "  key_file: /etc/wardpost/router-1.key\n"
                                     "  allow:\n"
                                     "    - node: gateway-1\n"
                                     "      role: gateway\n"
                                     "      key: 'Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID'\n"
                                     "management:\n"
                                     "  address: 127.0.0.1:7402\n"
                                     "  socket: /run/wardpost/router-1.sock\n";

static const char gateway_example[] = "node: gateway-1\n"
                                      "cluster_id: 00c0ffee00c0ffee\n"
                                      "fabric_key_file: /etc/wardpost/gateway-1.key\n"
                                      "routers:\n"
                                      "  - node: router-1\n"
                                      "    endpoint: tcp://127.0.0.1:7401\n"
                                      "    key: 'rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7'\n"
                                      "listen:\n"
                                      "  mqtts: 0.0.0.0:8883\n"
                                      "  wss: 0.0.0.0:8443\n"
                                      "tls:\n"
                                      "  certificate: /etc/wardpost/gateway-1.pem\n"
                                      "  key: /etc/wardpost/gateway-1-key.pem\n"
                                      "management:\n"
                                      "  address: 127.0.0.1:7502\n";

static void range_print(const struct wp_config_row *row)
{
    switch (row->type) {
    case WP_CONFIG_U32:
    case WP_CONFIG_U64:
        printf("%" PRIu64 " to %" PRIu64, row->min, row->max);
        break;
    case WP_CONFIG_BOOL:
        printf("true, false");
        break;
    case WP_CONFIG_LIST:
        printf("list");
        break;
    default:
        printf("text");
    }
}

static void row_print(const struct wp_config_row *row)
{
    printf("| `%s%s%s` | ", row->section, row->section[0] ? "." : "", row->name);
    range_print(row);
    if (!row->default_text) {
        printf(" | *required* | ");
    } else if (row->default_text[0] == '\0') {
        printf(" | *empty* | ");
    } else {
        printf(" | `%s` | ", row->default_text);
    }
    printf("%s", row->help);
    for (size_t i = 0; i < row->item_count; i++) {
        printf("%s`%s` (%s)", i == 0 ? "; each item has " : ", ", row->items[i].name, row->items[i].help);
    }
    printf(" |\n");
}

static void kind_print(const struct wp_config_kind *kind, const char *example)
{
    printf("\n## %s\n\n```yaml\n%s```\n\n| key | value | default | meaning |\n|---|---|---|---|\n",
        kind->program, example);
    for (size_t i = 0; i < kind->row_count; i++) {
        row_print(&kind->rows[i]);
    }
}

int main(void)
{
    printf(
        "# Configuration\n\n"
        "Generated from `node/config_table.h` by `build/release/bin/wp-config-doc`; a test compares them "
        "and loads the\n"
        "examples.\n\n"
        "Both servers read one YAML file, given with `--config FILE`; `--check-config` reads it, says "
        "what is wrong in one\n"
        "sentence with file and line, and ends (exit code 0 or 78). An unknown key is an error, and the "
        "nearest known one is\n"
        "named. Numbers are decimal, sizes are in bytes, times in the unit that the key ends with. "
        "Relative paths are\n"
        "relative to the working directory of the process. Anchors, aliases, tags and a second document "
        "are refused.\n"
        "Keys in Z85 hold characters that YAML would read as its own: write them in single quotes.\n\n"
        "A router's `limits` up to `stat_per_minute_max` are those of a new cluster: it takes them from the "
        "file of the\n"
        "router that first leads the meta group. From then on the cluster has them (`wardpostctl policy "
        "list`, "
        "`policy set`),\n"
        "and a router whose file says otherwise logs `limits_ignored` when it starts. The other keys are "
        "each "
        "router's own.\n");
    kind_print(&wp_config_router_kind, router_example);
    kind_print(&wp_config_gateway_kind, gateway_example);
    return 0;
}
