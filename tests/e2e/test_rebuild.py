"""A router whose disk forgot or is damaged does not vote with what it has; it is rebuilt from the others while the service goes
on, and then is as good as they are: the others die in turn and nothing is lost."""
import shutil
import time

import pytest

from conftest import wait_until
from test_crash import people, start_senders
from traffic import Receiver, compare

ROUTERS = ["router-1", "router-2", "router-3"]
VICTIM = "router-2"


def emptied(data, kept):
    shutil.rmtree(data)


def rolled_back(data, kept):
    """As it was at an earlier stop: a snapshot of a virtual machine, a restored backup."""
    shutil.rmtree(data)
    shutil.copytree(kept, data)


def table_damaged(data, kept):
    tables = sorted(data.glob("state/*.sst"), key=lambda path: path.stat().st_size)
    assert tables, "a clean stop flushes the state"
    content = bytearray(tables[-1].read_bytes())
    for place in range(0, len(content), 997):
        content[place] ^= 0x10
    tables[-1].write_bytes(content)


def log_cut(data, kept):
    """The end of the log is gone, which the watermark knows of."""
    for path in data.glob("log/*.log"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def restart(cluster, node):
    """A router may end once when it meets damage while it loads; the service manager would start it again."""
    for _ in range(3):
        if not cluster.ctl("playground", "start", "--node", node, check=None, timeout_s=120).returncode:
            cluster.info = cluster.ctl_json("playground", "up", "--routers", "3")
            return
    raise AssertionError(f"{node} does not start; the end of its log: {cluster.log(node)[-2000:]}")


@pytest.mark.parametrize("harm", [emptied, rolled_back, table_damaged, log_cut], ids=lambda harm: harm.__name__)
def test_a_router_with_a_bad_disk_is_rebuilt_under_load(make_playground, tmp_path, harm):
    cluster = make_playground("--routers", "3", settings={router: {"limits.mailbox_messages_max": 1000000} for router in ROUTERS})
    sending, receiving = people(cluster, 3, 4)
    receivers = [Receiver(cluster, person) for person in receiving]
    senders = start_senders(cluster, sending, receiving, pause_s=0.002)
    for receiver in receivers[:2]:  # the other two have mail waiting, which must survive too
        receiver.start()
    data, kept = cluster.dir / VICTIM / "data", tmp_path / "kept"
    time.sleep(1.5)
    cluster.kill(VICTIM, signal="TERM")
    shutil.copytree(data, kept)
    cluster.start(VICTIM)
    time.sleep(1.5)
    cluster.kill(VICTIM, signal="KILL" if harm is log_cut else "TERM")
    harm(data, kept)
    time.sleep(0.5)
    restart(cluster, VICTIM)
    cluster.ctl("cluster", "await-safe", "--timeout", "90", timeout_s=120)
    for dies in ["router-3", "router-1"]:
        cluster.kill(dies)
        before = [len(sender.acknowledged) for sender in senders]
        wait_until(lambda: all(len(s.acknowledged) > n + 20 for s, n in zip(senders, before)), 30, f"service without {dies}")
        cluster.start(dies)
        cluster.ctl("cluster", "await-safe", "--timeout", "90", timeout_s=120)
    for receiver in receivers[2:]:
        receiver.start()
    for sender in senders:
        sender.finish()
    received = {receiver.person[0].split("/")[0]: receiver.finish() for receiver in receivers}
    print(f"{compare(senders, received)} acknowledged messages, 0 lost")
