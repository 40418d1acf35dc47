"""A cluster goes over to the next release node by node while it works: nothing is lost, and nobody is refused anything.

The next release is a build of the present sources that speaks one feature level more (tests/rolling.cmake).
"""
import shutil
import time

import pytest

from conftest import BIN, BUILD, wait_until
from test_crash import people, start_senders
from traffic import Receiver, compare

NODES = ["router-1", "router-2", "router-3", "gateway-1"]


@pytest.fixture
def next_control(tmp_path):
    """wardpostctl with the servers of the next release beside it."""
    for name in ["wardpost-router", "wardpost-gateway"]:
        shutil.copy2(BUILD / "next" / name, tmp_path / name)
    shutil.copy2(BIN / "wardpostctl", tmp_path / "wardpostctl")
    return tmp_path / "wardpostctl"


def test_restart_node_by_node_into_the_next_release(make_playground, next_control):
    cluster = make_playground("--routers", "3", settings={f"router-{i}": {"limits.mailbox_messages_max": 1000000} for i in (1, 2, 3)})
    sending, receiving = people(cluster, 3, 4)
    receivers = [Receiver(cluster, person) for person in receiving]
    for receiver in receivers:
        receiver.start()
    senders = start_senders(cluster, sending, receiving, pause_s=0.001)
    wait_until(lambda: all(len(sender.acknowledged) > 50 for sender in senders), what="load")
    cluster.control = next_control
    for node in NODES:
        before = [len(sender.acknowledged) for sender in senders]
        cluster.kill(node, signal="TERM")
        cluster.start(node)
        wait_until(lambda: all(len(s.acknowledged) > n + 50 for s, n in zip(senders, before)), 20, f"load after {node}")
        time.sleep(0.5)
        refused = [f"{sender.person[0]}: {sender.last_refusal}" for sender in senders if sender.refused]
        assert not refused or node == "gateway-1", f"the restart of {node} refused messages: {refused}"
    for sender in senders:
        sender.finish()
    received = {receiver.person[0].split("/")[0]: receiver.finish() for receiver in receivers}
    acknowledged = compare(senders, received)
    reconnects = sum(sender.reconnects for sender in senders)
    print(f"{acknowledged} acknowledged messages over 4 restarts, {reconnects} reconnects, 0 lost")
