"""Plans of the meta group outlive those who carry them out: routers that die in the middle, all of them at once, and one
that never comes back; and a gateway that was revoked is cut off. The verbs themselves: test_ctl_nodes.py."""
import time

import pytest

from conftest import SLOW, wait_until
from test_crash import finish_and_compare, people, start_senders
from traffic import Sender

FIRST = ["router-1", "router-2", "router-3"]
SHARDS = 8
COPIES = 3
ROOMY = {router: {"limits.mailbox_messages_max": 1000000} for router in FIRST}
PATIENCE_S = 120 * SLOW


@pytest.fixture
def cluster(make_playground):
    return make_playground("--routers", "3", settings=ROOMY)


def add_router(cluster):
    """A router more; its name."""
    name = cluster.ctl_json("playground", "router-add", timeout_s=PATIENCE_S)["node"]
    cluster.info = cluster.ctl_json("playground", "status", check=None)
    return name


def nodes(cluster):
    return {row["node"]: row for row in cluster.ctl_json("node", "list")["nodes"]}


def replicas(cluster):
    """Replicas of shards by router, of those that are not removed."""
    return {name: row["replicas"] for name, row in nodes(cluster).items() if row["state"] != "removed"}


def wait_even(cluster, names):
    """Until these routers hold every copy, counts one apart at most, and all replicas are in step."""
    def even():
        counts = replicas(cluster)
        held = [counts.get(name, 0) for name in names]
        return sum(held) == SHARDS * COPIES and max(held) - min(held) <= 1
    wait_until(even, PATIENCE_S, "an even spread of replicas")
    cluster.ctl("cluster", "await-safe", "--timeout", PATIENCE_S, timeout_s=PATIENCE_S + 10)


def moves_planned(cluster, routers):
    return sum(cluster.log(router).count("event=move_planned") for router in routers)


def load(cluster):
    sending, receiving = people(cluster, 3, 4)
    return start_senders(cluster, sending, receiving, pause_s=0.003), receiving


def wait_more(senders, count=20):
    """Until each sender got so many acknowledgements more."""
    before = [len(sender.acknowledged) for sender in senders]
    wait_until(lambda: all(len(s.acknowledged) >= b + count for s, b in zip(senders, before)), 20, "load goes on")


def test_a_cluster_that_changed_starts_again_as_it_was(cluster):
    """The configuration lists the first routers only; the meta group knows the rest."""
    senders, receiving = load(cluster)
    added = add_router(cluster)
    wait_even(cluster, FIRST + [added])
    before, planned = replicas(cluster), moves_planned(cluster, FIRST + [added])
    for router in FIRST + [added]:
        cluster.kill(router)
    cluster.up()
    wait_more(senders)
    # For a moment a router may tell of a group what its own replica last knew; nothing moves because of that.
    wait_until(lambda: replicas(cluster) == before, 20, "replicas as they were")
    assert moves_planned(cluster, FIRST + [added]) == planned
    finish_and_compare(cluster, senders, receiving)


def test_a_router_dies_while_replicas_move(cluster):
    """Moves are plans of the meta group: whoever leads next goes on with them."""
    senders, receiving = load(cluster)
    added = add_router(cluster)
    for router in ["router-1", added, "router-3"]:
        time.sleep(0.7)
        cluster.kill(router)
        time.sleep(0.3)
        cluster.start(router)
    wait_even(cluster, FIRST + [added])
    finish_and_compare(cluster, senders, receiving)


def test_a_dead_router_is_replaced_by_a_new_one(cluster):
    senders, receiving = load(cluster)
    wait_more(senders)
    cluster.kill("router-3")
    wait_more(senders)
    added = add_router(cluster)
    cluster.ctl("node", "replace", "router-3", "--by", added, "--wait", "--timeout", PATIENCE_S, timeout_s=PATIENCE_S + 10)
    wait_even(cluster, ["router-1", "router-2", added])
    wait_until(lambda: "router-3" not in replicas(cluster), 20, "the removal of the dead router")
    cluster.kill("router-1")
    wait_more(senders)
    finish_and_compare(cluster, senders, receiving)


def test_a_revoked_gateway_is_cut_off(make_playground):
    cluster = make_playground("--routers", "3", "--gateways", "2", settings=ROOMY)
    sending, receiving = people(cluster, 1, 1)
    users = [receiving[0][0].split("/")[0]]

    sender = Sender(cluster, sending[0], users, pause_s=0.01, gateways=("gateway-2",))
    sender.start()
    wait_more([sender])
    cluster.ctl("gateway", "revoke", "gateway-2")
    time.sleep(2)
    before = len(sender.acknowledged)
    time.sleep(2)
    assert len(sender.acknowledged) == before
    listed = {row["node"]: row for row in cluster.ctl_json("gateway", "list")["gateways"]}
    assert listed["gateway-2"]["revoked"] and not listed["gateway-1"]["revoked"]
    # Through the other one, everything goes on.
    sender.gateways = ("gateway-1",)
    wait_more([sender])
    finish_and_compare(cluster, [sender], receiving)


def test_what_cannot_be_done_is_refused_with_what_to_do(cluster):
    done = cluster.ctl("node", "replace", "router-2", check=65)
    assert "is up" in done.stderr and "node drain" in done.stderr, done.stderr
    added = add_router(cluster)
    wait_even(cluster, FIRST + [added])
    cluster.kill("router-3")
    done = cluster.ctl("node", "drain", "router-1", check=65)
    assert "only 2 of the other active routers can be reached" in done.stderr, done.stderr
    cluster.start("router-3")
    wait_until(lambda: cluster.ctl("node", "drain", "router-1", check=None).returncode == 0, 20, "drain is taken")
