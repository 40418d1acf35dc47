"""Nodes that come, go and forget: nothing that was accepted is lost, order is kept, and nobody has to help."""
import re
import shutil

import pytest

from conftest import wait_until
from test_cluster import ROOMY, ROUTERS
from test_crash import finish_and_compare, people, start_senders


@pytest.fixture
def cluster(make_playground):
    return make_playground("--routers", "3", settings=ROOMY)


def data(playground, router):
    return playground.dir / router / "data"


def whole(playground):
    """Every group has all its wanted replicas, in step, and no node is being rebuilt."""
    try:
        answer = playground.admin("GET", "/v1/cluster")
    except OSError:
        return False
    moving = any(shard["moving"] for shard in answer["shards"])
    return answer["safe"] and not moving and not any(node["forgotten"] for node in answer["nodes"])


def logs(playground):
    return "".join(playground.log(router) for router in ROUTERS)


def under_load(playground):
    sending, receiving = people(playground, 2, 3)
    senders = start_senders(playground, sending, receiving, pause_s=0.02)  # a router that is added has the usual bounds
    wait_until(lambda: all(len(sender.acknowledged) > 20 for sender in senders), 30, "load")
    return senders, receiving


def rebuilt(playground, router, senders, receiving):
    """The node is noticed, every replica of it comes back under a raft id that it never had, and then it is as good as
    the others: the service goes on without one of them."""
    number = ROUTERS.index(router) + 1
    wait_until(lambda: f"event=node_forgot node={router}" in logs(playground), 30, "the node that forgot is noticed")
    for shard in range(9):
        new = re.compile(rf"event=replica_changed shard={shard} replica={number}[0-9a-f]*0001")
        wait_until(lambda: new.search(playground.log(router)), 60, f"a new replica of shard {shard}")
    wait_until(lambda: whole(playground), 60, "the node is rebuilt")
    playground.kill(ROUTERS[number % 3])
    before = [len(sender.acknowledged) for sender in senders]
    wait_until(lambda: all(len(sender.acknowledged) > n + 10 for sender, n in zip(senders, before)), 30, "service on two")
    playground.start(ROUTERS[number % 3])
    finish_and_compare(playground, senders, receiving)


def test_a_copy_of_a_running_disk_that_is_put_back_is_noticed_by_what_was_acknowledged(cluster):
    """As a snapshot of a virtual machine does: the directory knows of no later start, only the others know of entries."""
    cluster.expected = "how=holds-less-than-it-acknowledged"
    senders, receiving = under_load(cluster)
    copy = cluster.dir / "copy-of-data"
    cluster.kill("router-3", signal="STOP")
    shutil.copytree(data(cluster, "router-3"), copy)
    cluster.kill("router-3", signal="CONT")
    before = [len(sender.acknowledged) for sender in senders]
    wait_until(lambda: all(len(sender.acknowledged) > n + 20 for sender, n in zip(senders, before)), 30, "more to forget")
    wait_until(lambda: whole(cluster), 30, "the third has it")
    cluster.kill("router-3")
    shutil.rmtree(data(cluster, "router-3"))
    copy.rename(data(cluster, "router-3"))
    cluster.start("router-3")
    rebuilt(cluster, "router-3", senders, receiving)
    assert cluster.expected in logs(cluster)


def replicas(playground):
    """Replicas that are wanted on each router."""
    return {node["node"]: node["replicas"] for node in playground.admin("GET", "/v1/cluster")["nodes"]}


def test_a_fourth_router_comes_and_the_first_one_goes_under_load(cluster):
    senders, receiving = under_load(cluster)
    cluster.ctl_json("playground", "router-add", timeout_s=120)
    wait_until(lambda: whole(cluster) and set(replicas(cluster).values()) == {6}, 90, "an even share for the fourth")
    assert max(int(n) for n in re.findall(r"move_planned shard=\d+ from=\d+ to=(\d+)", logs(cluster))) == 4
    before = [len(sender.acknowledged) for sender in senders]
    cluster.ctl("node", "drain", "router-1")
    wait_until(lambda: whole(cluster) and replicas(cluster)["router-1"] == 0, 90, "the first is drained")

    def removed():  # under load the meta group may be slow to answer; then it is asked again
        cluster.ctl("node", "remove", "router-1", check=None)
        nodes = cluster.admin("GET", "/v1/cluster", node="router-2")["nodes"]
        return all(node["state"] == "removed" for node in nodes if node["node"] == "router-1")
    wait_until(removed, 30, "the first is removed")
    cluster.kill("router-1", signal="TERM")
    after = [len(sender.acknowledged) for sender in senders]
    assert all(n > m for n, m in zip(after, before))
    wait_until(lambda: all(len(sender.acknowledged) > n + 10 for sender, n in zip(senders, after)), 30, "service of three")
    finish_and_compare(cluster, senders, receiving)
