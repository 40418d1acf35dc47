"""Routers come and go by the operator's verbs, while people are there: added, drained, revived, removed, replaced."""
import json

import pytest

from conftest import SLOW, run, wait_until

REFUSED, UNAVAILABLE, TEMPORARY = 65, 69, 75
PATIENCE = str(60 * SLOW)


@pytest.fixture
def cluster(make_playground):
    made = make_playground("--routers", "3", "--shards", "4")
    made.ctl("cluster", "await-safe")
    made.people = made.provision({f"u{i}": ["phone"] for i in range(40)})
    return made


def waiting(cluster, *words, **options):
    """A verb with --wait."""
    return cluster.ctl(*words, "--wait", "--timeout", PATIENCE, timeout_s=120, **options)


def nodes(cluster):
    return {node["node"]: node for node in cluster.ctl_json("node", "list")["nodes"]}


def everybody_is_there(cluster):
    assert {row["user"] for row in cluster.ctl_json("user", "list")["users"]} == {f"u{i}" for i in range(40)}


def send_and_receive(cluster, text):
    """One message over the gateway, to somebody who comes for it later."""
    for user in ("u1", "u2"):
        path = cluster.dir / "devices" / user / "phone"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(cluster.people[f"{user}/phone"] + "\n")
    cluster.wardpost("u1/phone", "send", "u2", text, timeout_s=30)
    assert text in cluster.wardpost("u2/phone", "inbox", timeout_s=30).stdout


def test_a_fourth_router_is_one_command_and_goes_again(cluster):
    done = waiting(cluster, "playground", "router-add")
    assert "router-4" in done.stdout and "has its share of the shards" in done.stdout
    found = nodes(cluster)
    assert [found[node]["replicas"] for node in sorted(found)] == [3, 3, 3, 3]
    everybody_is_there(cluster)
    send_and_receive(cluster, "with four")
    assert "is drained" in waiting(cluster, "node", "drain", "router-2").stdout
    found = nodes(cluster)
    assert found["router-2"]["state"] == "draining" and found["router-2"]["replicas"] == 0 and found["router-2"]["leads"] == 0
    assert cluster.ctl_json("node", "remove", "router-2") == {"node": "router-2", "did": "remove"}
    assert nodes(cluster)["router-2"]["state"] == "removed"
    assert "router-2" not in cluster.ctl("cluster", "status").stdout.split("SHARD")[0]
    cluster.kill("router-2", signal="TERM")
    everybody_is_there(cluster)
    send_and_receive(cluster, "without the second")
    assert cluster.status()["router-2"]["state"] == "removed"
    cluster.ctl("playground", "status")
    cluster.down()
    cluster.up()
    assert cluster.status()["router-2"]["pid"] is None
    cluster.ctl("cluster", "await-safe")
    everybody_is_there(cluster)


def test_a_dead_router_is_replaced(cluster):
    waiting(cluster, "playground", "router-add")
    cluster.kill("router-1")
    assert "is replaced, and removed" in waiting(cluster, "node", "replace", "router-1", "--by", "router-4").stdout
    assert cluster.ctl("cluster", "await-safe").stdout == "all 4 shards have 3 of 3 replicas in step\n"
    found = nodes(cluster)
    assert found["router-1"]["state"] == "removed" and [found[f"router-{i}"]["replicas"] for i in (2, 3, 4)] == [4, 4, 4]
    everybody_is_there(cluster)
    send_and_receive(cluster, "over the rest")


def test_a_drain_is_taken_back(cluster):
    waiting(cluster, "playground", "router-add")
    cluster.ctl("node", "drain", "router-3")
    assert waiting(cluster, "node", "revive", "router-3").stdout == "router-3 is active again and has its share of the shards\n"
    found = nodes(cluster)
    assert {node["state"] for node in found.values()} == {"active"} and {node["replicas"] for node in found.values()} == {3}


def test_a_replica_moves_where_it_is_told(cluster):
    waiting(cluster, "playground", "router-add")
    shard = next(row for row in cluster.ctl_json("shard", "list")["shards"] if row["shard"] and "router-4" not in row["wanted"])
    number, source = str(shard["shard"]), shard["wanted"][0]
    assert "has no replica on router-4" in cluster.ctl("shard", "move", number, "router-4", source, check=REFUSED).stderr
    done = waiting(cluster, "shard", "move", number, source, "router-4")
    assert done.stdout == f"a replica of shard {number} moved from {source} to router-4\n"
    # The cluster evens the counts out again, with another shard or with this one.
    wait_until(lambda: {node["replicas"] for node in nodes(cluster).values()} == {3}, 60, "even counts")
    everybody_is_there(cluster)


def test_what_would_lose_a_majority_is_refused(cluster):
    waiting(cluster, "playground", "router-add")
    shard = next(row for row in cluster.ctl_json("shard", "list")["shards"] if row["shard"] and "router-4" not in row["wanted"])
    cluster.kill("router-1")
    wait_until(lambda: all(row["leader"] for row in cluster.ctl_json("shard", "list")["shards"]), 20, "leaders")
    done = cluster.ctl("shard", "move", str(shard["shard"]), "router-2", "router-4", check=REFUSED)
    assert "no majority" in done.stderr
    assert "cannot be reached" in cluster.ctl(
        "shard", "move", str(next(row["shard"] for row in cluster.ctl_json("shard", "list")["shards"] if row["shard"] and "router-1" not in row["wanted"])),
        "router-2", "router-1", check=TEMPORARY).stderr


def test_a_router_that_the_cluster_refuses_leaves_nothing_behind(cluster):
    cluster.kill("router-2")
    cluster.kill("router-3")
    done = cluster.ctl("playground", "router-add", check=TEMPORARY, timeout_s=60)
    assert "meta group" in done.stderr
    assert not (cluster.dir / "router-4").exists()
    assert "router-4" not in cluster.status()


def test_waiting_ends_with_the_reason(cluster):
    waiting(cluster, "playground", "router-add")
    cluster.kill("router-4")
    done = cluster.ctl("node", "drain", "router-4", "--wait", "--timeout", "2", check=TEMPORARY)
    assert "not done after 2 s, it goes on by itself" in done.stderr and "router-4" in done.stderr
    assert json.loads(run("wardpostctl", "--dir", cluster.dir, "node", "list", "--json", check=0).stdout)["nodes"][3]["state"] == "draining"
