"""Nodes that come, go, forget: nothing that was accepted is lost, and nobody has to help."""
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
    """The groups that have every wanted replica as a voter in step, by number."""
    try:
        answer = playground.admin("GET", "/v1/cluster")
    except OSError:
        return False
    return answer["safe"] and not any(node.get("forgotten") for node in answer["nodes"])


def test_an_emptied_disk_is_rebuilt_under_new_raft_ids(cluster):
    sending, receiving = people(cluster, 2, 3)
    senders = start_senders(cluster, sending, receiving)
    wait_until(lambda: all(len(sender.acknowledged) > 20 for sender in senders), what="load")
    cluster.kill("router-2")
    shutil.rmtree(data(cluster, "router-2"))
    cluster.start("router-2")
    wait_until(lambda: "event=node_forgot" in "".join(cluster.log(router) for router in ROUTERS), 20, "the node that forgot is noticed")
    wait_until(lambda: whole(cluster), 40, "the node is rebuilt")
    finish_and_compare(cluster, senders, receiving)
