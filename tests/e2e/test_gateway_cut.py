"""A gateway that is cut off from the routers, in a network namespace of its own: it stops delivering within 8 s, sends its devices
elsewhere, and serves again by itself when the cut is healed."""
import threading
import time

import pytest

from conftest import EFFORT, wait_until
from netcluster import SHARDS, NetCluster
from netns import make_lab
from rawmqtt import DISCONNECT, PUBLISH, Closed, Device, puback
from traffic import Sender, compare, drain_all

CUT, ELSEWHERE = "gateway-1", "gateway-2"
STOPS_WITHIN_S = 8


@pytest.fixture(scope="module")
def cluster(playground_folder, request):
    lab = make_lab()
    cluster = None
    try:
        cluster = NetCluster(playground_folder / "cut", lab)
        cluster.up()
        yield cluster
    finally:
        if cluster:
            cluster.destroy(keep=request.session.testsfailed > 0)
        lab.close()


class Steady(threading.Thread):
    """Publishes to one user through the gateway that stays, numbered, four a second."""

    def __init__(self, cluster, person, recipient):
        super().__init__(daemon=True)
        self.cluster, self.person, self.recipient = cluster, person, recipient
        self.accepted, self.error, self.stopping = 0, None, threading.Event()

    def run(self):
        try:
            with Device(self.cluster.endpoint(gateway=ELSEWHERE), *self.person) as device:
                while not self.stopping.is_set():
                    assert device.publish(self.recipient, str(self.accepted)).code == 0
                    self.accepted += 1
                    time.sleep(0.25)
        except Exception as error:  # told by finish()
            self.error = error

    def finish(self):
        self.stopping.set()
        self.join(20)
        if self.error:
            raise self.error


def cut_both(lab, router):
    lab.cut(CUT, router)


def cut_out(lab, router):
    """The gateway still hears the routers, which for a while go on sending."""
    lab.cut_way(CUT, router)


def cut_in(lab, router):
    lab.cut_way(router, CUT)


@pytest.fixture
def healed(cluster):
    """However a case ends, the next one begins without cuts."""
    yield
    cluster.lab.heal()


@pytest.mark.parametrize("cut", [cut_both, cut_out, *([cut_in] if EFFORT == "ci" else [])])
def test_a_gateway_cut_off_stops_delivering_and_sends_its_devices_away(cluster, unique, cut, healed):
    sender, user = unique("steady"), unique("target")
    secrets = cluster.provision({sender: ["d"], user: ["d"]})
    person = (f"{user}/d", secrets[f"{user}/d"])
    device = Device(cluster.endpoint(gateway=CUT), *person)
    device.subscribe()
    steady = Steady(cluster, (f"{sender}/d", secrets[f"{sender}/d"]), user)
    steady.start()
    got = []
    wait_until(lambda: len(got) > 4 or got.append(device.take().payload), what="deliveries before the cut")
    for router in cluster.routers:
        cut(cluster.lab, router)
    begin, last, end = time.monotonic(), 0, None
    while not end:
        assert time.monotonic() - begin < 20, "the device was not sent away"
        try:
            packet = device.receive(1)
        except TimeoutError:
            continue
        if packet.kind == PUBLISH:
            last = time.monotonic() - begin
            got.append(packet.payload)
            device.send(puback(packet.id))
        else:
            assert packet.kind == DISCONNECT and packet.code == 0x8B, packet
            end = time.monotonic() - begin
    print(f"{cut.__name__}: last delivery after {last:.1f} s, sent away after {end:.1f} s")
    assert last < STOPS_WITHIN_S < end < 13
    assert shards_of(cluster) == {"count": SHARDS, "up": 0, "leased": 0}
    with pytest.raises(Closed):
        device.receive(1)
    # What it got while nobody heard its acknowledgements comes once more, and everything after it; nothing is missing.
    steady.finish()
    there = [payload.decode() for payload in got] + [payload for _, payload, _ in drain_at(cluster, person)]
    assert list(dict.fromkeys(there)) == [str(i) for i in range(steady.accepted)]
    cluster.lab.heal()
    wait_until(lambda: shards_of(cluster) == {"count": SHARDS, "up": SHARDS, "leased": SHARDS}, 20, "leases after healing")
    wait_until(lambda: cluster.metric(CUT, "wardpost_gateway_leases_held") == SHARDS, what="the metric of them")
    with Device(cluster.endpoint(gateway=CUT), *person) as again:
        assert again.connack.code == 0 and again.connack.session_present


def test_submits_that_a_cut_gateway_still_holds(cluster, unique, healed):
    """Senders give it up after 2 s and go to the other one with what is unanswered. When the cut is healed, the first gateway sends the
    same messages under the attachment that was taken over: nothing is kept twice, nothing changes places."""
    names = [unique("holds") for _ in range(5)]
    secrets = cluster.provision({name: ["d"] for name in names})
    persons = [(f"{name}/d", secrets[f"{name}/d"]) for name in names]
    senders = [Sender(cluster, person, names[2:], gateways=[CUT, ELSEWHERE], patience_s=2, pause_s=0.002) for person in persons[:2]]
    for sender in senders:
        sender.start()
    for gateway in [CUT, ELSEWHERE] * 2:
        before = sum(sender.reconnects for sender in senders)
        time.sleep(0.7)
        for router in cluster.routers:
            cluster.lab.cut(gateway, router)
        wait_until(lambda: sum(sender.reconnects for sender in senders) >= before + 2, 20, "senders that moved on")
        cluster.lab.heal()
        wait_until(lambda: cluster.metric(gateway, "wardpost_gateway_leases_held") == SHARDS, 20, "leases after healing")
    for sender in senders:
        sender.finish()
    received = drain_all(cluster, persons[2:])
    for rows in received.values():
        kept = [message for message, _, dup in rows if not dup]
        assert len(kept) == len(set(kept))
    assert compare(senders, received) > 500


def shards_of(cluster):
    """What the gateway that is cut off says of its way to the shards."""
    return cluster.admin("GET", "/v1/status", node=CUT)["shards"]


def drain_at(cluster, person):
    """What waits for a device, taken at the gateway that stays."""
    rows = []
    with Device(cluster.endpoint(gateway=ELSEWHERE), *person) as device:
        assert device.connack.session_present
        while True:
            try:
                packet = device.receive(1.5)
            except TimeoutError:
                return rows
            rows.append((packet.user("wp-id"), packet.payload.decode(), packet.dup))
            device.send(puback(packet.id))
