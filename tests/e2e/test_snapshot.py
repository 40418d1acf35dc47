"""A router that was away for longer than the log is kept gets snapshots of its shards and catches up while load goes on."""
import os
import random
import shutil
import time

import pytest

from conftest import EFFORT, SLOW, run, wait_until
from test_cluster import leaders
from test_crash import people, start_senders
from test_membership import data, rebuilt
from traffic import compare, drain

ROUTERS = ["router-1", "router-2", "router-3"]
AWAY = "router-2"
# Nothing is kept of the log for those who are away, and state reaches the disk often, so that the log can be cut.
SETTINGS = {router: {"limits.mailbox_messages_max": 1000000, "storage.log_keep_bytes": 0,
                     "storage.write_buffer_bytes": 1 << 20} for router in ROUTERS}
SEED = int(os.environ.get("WP_SEED", time.time_ns() % 1_000_000))
KILLS = {"ci": 6}.get(EFFORT, 2) if SLOW == 1 else 2


@pytest.fixture
def cluster(make_playground):
    return make_playground("--routers", "3", settings=SETTINGS)


def shards(playground, router):
    return {row["shard"]: row for row in playground.admin("GET", "/v1/status", node=router)["shards"]}


def in_step(playground):
    """Every replica has applied what its leader had applied a moment ago."""
    try:
        rows = [shards(playground, router) for router in ROUTERS]
    except OSError:
        return False
    if any(set(row) != set(rows[0]) for row in rows):
        return False
    return all(max(row[shard]["applied"] for row in rows) - min(row[shard]["applied"] for row in rows) < 200 for shard in rows[0])


def installed(playground, router=AWAY):
    return playground.metric(router, "wardpost_router_snapshots_installed_total")


def load_while_away(playground, entries=1200):
    """The log is cut beyond what the absent router holds: so many entries more in most shards, and state on the disk."""
    def applied():
        return {shard: row["applied"] for shard, row in shards(playground, "router-1").items()}

    wait_until(lambda: len(leaders(playground)) == 8, 30, "leaders of all shards")
    before = applied()
    for _ in range(10):
        run("wardpost-bench", "accept", "--playground", playground.dir, "--users", 300, "--seconds", 3, "--warmup", 1,
            "--rate", 3000 // SLOW, check=0, timeout_s=120)
        if sum(after > before[shard] + entries for shard, after in applied().items()) >= 6:
            return
    pytest.fail("the load made too few entries")


def led_by(playground, router):
    """Every shard is led by that router."""
    for shard in shards(playground, router):
        playground.ctl("shard", "transfer", shard, router, check=None)
    return all(row["role"] == "leader" for row in shards(playground, router).values())


def check_all_on(playground, router, senders, receiving):
    """What was acknowledged is all there when that router alone leads."""
    for sender in senders:
        sender.finish()
    wait_until(lambda: in_step(playground), 60, "all in step")
    wait_until(lambda: led_by(playground, router), 60, f"leadership of {router}")
    return compare(senders, {person[0].split("/")[0]: drain(playground, person) for person in receiving})


def test_a_router_behind_the_log_catches_up_under_load(cluster):
    sending, receiving = people(cluster, 4, 5)
    cluster.kill(AWAY)
    senders = start_senders(cluster, sending, receiving, pause_s=0.01)
    load_while_away(cluster)
    cluster.start(AWAY)
    wait_until(lambda: installed(cluster) >= 1, 60, "a snapshot")
    wait_until(lambda: in_step(cluster), 120, "all in step under load")
    assert cluster.metric(AWAY, "wardpost_router_snapshots_failed_total") == 0
    assert sum(cluster.metric(r, "wardpost_router_snapshot_sent_bytes_total") for r in ROUTERS if r != AWAY) > 0
    acknowledged = check_all_on(cluster, AWAY, senders, receiving)
    print(f"{acknowledged} acknowledged, {installed(cluster):.0f} snapshots")
    assert acknowledged > 500


def test_an_emptied_disk_is_filled_by_snapshots_under_load(cluster):
    """The node gets new raft ids; the log of no group reaches back to its beginning."""
    sending, receiving = people(cluster, 4, 5)
    senders = start_senders(cluster, sending, receiving, pause_s=0.01)
    cluster.kill(AWAY)
    shutil.rmtree(data(cluster, AWAY))
    load_while_away(cluster)
    cluster.start(AWAY)
    rebuilt(cluster, AWAY, senders, receiving)
    assert installed(cluster) >= 4  # of a quiet shard the log may still reach back


def test_snapshots_survive_kills_of_either_side(cluster):
    generator = random.Random(SEED)
    print(f"WP_SEED={SEED}")
    sending, receiving = people(cluster, 4, 5)
    senders = start_senders(cluster, sending, receiving, pause_s=0.01)
    for _ in range(KILLS):
        cluster.kill(AWAY)
        load_while_away(cluster)
        cluster.start(AWAY)
        for _ in range(2):
            time.sleep(generator.uniform(0.0, 0.4))
            router = generator.choice([AWAY, AWAY, "router-1", "router-3"])
            cluster.kill(router)
            cluster.start(router)
        wait_until(lambda: in_step(cluster), 120, "all in step under load")
    acknowledged = check_all_on(cluster, AWAY, senders, receiving)
    print(f"{acknowledged} acknowledged")
