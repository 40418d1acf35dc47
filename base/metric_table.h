/* The one table of metrics. Names carry the unit last; counters end in _total. */
#ifndef WP_BASE_METRIC_TABLE_H
#define WP_BASE_METRIC_TABLE_H

/* X(id, kind, program, name, help) */
#define WP_METRIC_TABLE(X)                                                                                   \
    X(UP, gauge, "all", "wardpost_up", "1 while the process serves")                                         \
    X(SUBMITS, counter, "router", "wardpost_router_submits_total", "submits received from gateways")         \
    X(ACCEPTED, counter, "router", "wardpost_router_accepted_total", "messages accepted (synced and applied)") \
    X(REFUSED, counter, "router", "wardpost_router_refused_total", "submits refused with an error")          \
    X(DUPLICATES, counter, "router", "wardpost_router_duplicates_total",                                     \
        "submits answered from the duplicate window")                                                        \
    X(DELIVERIES, counter, "router", "wardpost_router_deliveries_total", "deliveries sent to gateways")      \
    X(REDELIVERIES, counter, "router", "wardpost_router_redeliveries_total", "deliveries with DUP")          \
    X(DELIVERED, counter, "router", "wardpost_router_delivered_total", "deliveries acknowledged by a device") \
    X(EXPIRED, counter, "router", "wardpost_router_expired_total", "messages that expired undelivered")      \
    X(SET_ASIDE, counter, "router", "wardpost_router_set_aside_total", "messages set aside for a device after 5 deliveries") \
    X(QUEUED, gauge, "router", "wardpost_router_queued_messages", "messages kept in mailboxes")              \
    X(QUEUED_BYTES, gauge, "router", "wardpost_router_queued_bytes", "bytes of messages kept in mailboxes")  \
    X(ATTACHED, gauge, "router", "wardpost_router_attached_devices", "devices attached through gateways")    \
    X(LOG_SYNCS, counter, "router", "wardpost_router_log_syncs_total", "synced writes of the committer")     \
    X(LOG_BYTES, counter, "router", "wardpost_router_log_bytes_total", "bytes written to the log")           \
    X(LOG_ENTRIES, counter, "router", "wardpost_router_log_entries_total", "log entries written")            \
    X(DISK_FREE, gauge, "router", "wardpost_router_disk_free_bytes", "free bytes on the data file system")   \
    X(DISK_FULL, gauge, "router", "wardpost_router_disk_reserve_reached", "1 while submits are refused for disk space") \
    X(CORRUPT, counter, "router", "wardpost_router_corrupt_records_total", "records that failed their checksum") \
    X(SEEN_WINDOW, gauge, "router", "wardpost_router_seen_window_min_seconds", "shortest duplicate window of all shards") \
    X(KICKS, counter, "router", "wardpost_router_kicks_total", "sessions ended by the router (takeover, timeout, removed)") \
    X(ACKS_IGNORED, counter, "router", "wardpost_router_acks_ignored_total",                                   \
        "acknowledgements of sessions or positions that were not open")                                      \
    X(CATCH_UP_READS, counter, "router", "wardpost_router_catch_up_reads_total", "reads of queued messages from the store") \
    X(FABRIC_REFUSED, counter, "all", "wardpost_fabric_refused_total", "fabric peers or frames refused")     \
    X(FABRIC_MESSAGES, counter, "all", "wardpost_fabric_messages_total", "ZeroMQ messages sent")             \
    X(FABRIC_FRAMES, counter, "all", "wardpost_fabric_frames_total", "fabric frames sent")                   \
    X(CLOCK_OFF, gauge, "router", "wardpost_router_clock_off",                                               \
        "1 while this router's clock is more than 500 ms off the median of all routers")                     \
    X(NODE_FORGOTTEN, gauge, "router", "wardpost_node_forgotten",                                            \
        "routers that forgot what they had confirmed and are not yet rebuilt")                               \
    X(LEADS, gauge, "router", "wardpost_router_shards_led", "shards that this router leads")                 \
    X(LEADERLESS, gauge, "router", "wardpost_router_shards_without_leader",                                   \
        "shards with a replica here of which no leader is known: nothing is accepted there")                  \
    X(BEHIND, gauge, "router", "wardpost_router_replicas_behind",                                             \
        "replicas of shards led here that are not reachable or more than 1,000 entries behind")               \
    X(SET_ASIDE_DIRECTORY, gauge, "router", "wardpost_router_data_set_aside",                                \
        "1 when this process found its data damaged, kept it aside and began empty")                         \
    X(SNAPSHOT_OFFERS, counter, "router", "wardpost_router_snapshot_offers_total",                            \
        "snapshots offered to replicas that the log no longer reaches")                                     \
    X(SNAPSHOT_BYTES_SENT, counter, "router", "wardpost_router_snapshot_sent_bytes_total", "bytes of snapshots sent") \
    X(SNAPSHOT_BYTES_TAKEN, counter, "router", "wardpost_router_snapshot_taken_bytes_total",                \
        "bytes of snapshots taken from other routers")                                                       \
    X(SNAPSHOTS_INSTALLED, counter, "router", "wardpost_router_snapshots_installed_total", "shards replaced by a snapshot") \
    X(SNAPSHOTS_FAILED, counter, "router", "wardpost_router_snapshots_failed_total",                         \
        "snapshots that were begun and not installed")                                                       \
    X(SNAPSHOT_PULLING, gauge, "router", "wardpost_router_snapshot_pulling", "1 while a snapshot is on its way here") \
    X(PEER_DROPPED, counter, "router", "wardpost_router_peer_frames_dropped_total",                             \
        "frames for other routers that their link did not take")                                             \
    X(PEER_REFUSED, counter, "router", "wardpost_router_peer_frames_refused_total",                          \
        "frames of other routers that were not taken")                                                       \
    X(OUTBOX_BYTES, gauge, "router", "wardpost_router_outbox_bytes", "team messages and receipts on their way to other shards") \
    X(RECEIPTS, gauge, "router", "wardpost_router_receipts", "receipts kept for senders")                    \
    X(RECEIPTS_DROPPED, counter, "router", "wardpost_router_receipts_dropped_total",                         \
        "receipts that had no room in the outbox")                                                           \
    X(RECEIPTS_DISPLACED, counter, "router", "wardpost_router_receipts_displaced_total",                      \
        "oldest receipts of senders with 10,000 of them that gave way to newer ones")                         \
    X(RECEIPTS_OLD, counter, "router", "wardpost_router_receipts_old_total",                                  \
        "receipts that no device took in 30 days")                                                           \
    X(COPIES_REFUSED, counter, "router", "wardpost_router_copies_refused_total",                              \
        "copies of team messages refused at the member: unknown user, or mailbox full")                       \
    X(COPIES_EXPIRED, counter, "router", "wardpost_router_copies_expired_total",                              \
        "copies of team messages that reached the member's shard after their expiry")                         \
    X(IDLE_DEVICES, counter, "router", "wardpost_router_idle_devices_total",                                 \
        "devices that were unseen for so long that their owner was told")                                    \
    X(CONNECTIONS, gauge, "gateway", "wardpost_gateway_connections", "open device connections")              \
    X(CONNECTIONS_TOTAL, counter, "gateway", "wardpost_gateway_connections_total", "device connections accepted") \
    X(CONNECTIONS_REFUSED, counter, "gateway", "wardpost_gateway_connections_refused_total",                 \
        "device connections refused before a session")                                                       \
    X(AUTH_FAILURES, counter, "gateway", "wardpost_gateway_auth_failures_total", "wrong credentials")        \
    X(PUBLISHES, counter, "gateway", "wardpost_gateway_publishes_total", "PUBLISH packets from devices")     \
    X(PUBLISHES_REFUSED, counter, "gateway", "wardpost_gateway_publishes_refused_total", "PUBLISH packets refused") \
    X(QOS0_REFUSED, counter, "gateway", "wardpost_gateway_qos0_refused_total", "connections ended for a QoS 0 publish") \
    X(GATEWAY_DELIVERIES, counter, "gateway", "wardpost_gateway_deliveries_total", "PUBLISH packets sent to devices") \
    X(PROTOCOL_ERRORS, counter, "gateway", "wardpost_gateway_protocol_errors_total", "connections ended for bad packets") \
    X(TAKEOVERS, counter, "gateway", "wardpost_gateway_takeovers_total", "connections ended by a newer attachment") \
    X(KEEP_ALIVE_TIMEOUTS, counter, "gateway", "wardpost_gateway_keep_alive_timeouts_total", "connections ended for silence") \
    X(LEASES, gauge, "gateway", "wardpost_gateway_leases_held", "shards whose deliveries may be written to devices") \
    X(DELIVERIES_HELD, counter, "gateway", "wardpost_gateway_deliveries_held_total",                         \
        "deliveries that had to wait for a lease of their shard")                                            \
    X(SENT_AWAY, counter, "gateway", "wardpost_gateway_devices_sent_away_total",                             \
        "connections ended because no router granted a lease")                                               \
    X(STALE_FRAMES, counter, "gateway", "wardpost_gateway_stale_frames_total",                               \
        "frames ignored since their router leads the shard no more")                                         \
    X(BACKPRESSURE, counter, "gateway", "wardpost_gateway_backpressure_total", "times reading from devices paused for credit") \
    X(UNDELIVERABLE, counter, "gateway", "wardpost_gateway_undeliverable_total",                             \
        "deliveries that could not be sent to a connected device and stay queued")

/* X(id, program, name, help) */
#define WP_METRIC_HISTOGRAM_TABLE(X)                                                                         \
    X(LOG_SYNC, "router", "wardpost_router_log_sync_seconds", "duration of one synced log write")            \
    X(COMMIT, "router", "wardpost_router_commit_seconds", "submit received to applied")                      \
    X(TURN, "router", "wardpost_router_turn_seconds", "duration of one reactor turn")                        \
    X(ACK, "gateway", "wardpost_gateway_ack_seconds", "PUBLISH received to PUBACK sent")

#endif
