"""The measurement of catchup.py in small: the router that was away becomes level under load, nothing is lost, the replicas are the
same, and each router can go."""
from catchup import arguments_parser, measure
from conftest import SLOW

ROUTERS = ["router-1", "router-2", "router-3"]
# Nothing is kept of the log for those who are away, and state reaches the disk often: what is missing comes as snapshots.
SETTINGS = {router: {"storage.log_keep_bytes": 0, "storage.write_buffer_bytes": 1 << 20} for router in ROUTERS}


def test_a_router_that_was_away_becomes_level_under_load(make_playground):
    playground = make_playground("--routers", "3", settings=SETTINGS)
    words = ["--messages", 20000 // SLOW, "--queued", 4000 // SLOW, "--emptied", 0, "--replaced", 0, "--rate", 200 // SLOW, "--users", 100,
             "--settle", 1, "--baseline", 2, "--two", 1, "--after", 1]
    report = measure(playground, arguments_parser().parse_args([str(word) for word in words]))
    away = report["catch_ups"][0]
    print(f"level after {away['seconds']:.1f} s, {away['snapshots']:.0f} snapshots")
    assert away["snapshots"] >= 1 and away["snapshots_failed"] == 0
    assert report["shards_equal"] == 8
