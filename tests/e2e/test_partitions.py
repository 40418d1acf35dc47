"""Partitions between real processes in network namespaces: the side with the majority goes on, the other acknowledges nothing,
healing needs no hand; nothing acknowledged is lost, order is kept, nothing is kept twice.

Every case: load through gateway-1, which stays with the majority, and one device at gateway-2; links are cut; within 4 s each
shard accepts a message again (through gateway-1); links are healed; each shard has one leader that all agree on, and load goes on.
"""
import itertools
import os
import random
import time

import pytest

from conftest import SLOW, wait_until
from netcluster import SHARDS, NetCluster
from netns import make_lab
from rawmqtt import PUBACK, Closed, Device, new_id
from traffic import Receiver, Sender, compare

# One cluster at a time: the bounds are of real time, and three clusters on two cores would test the machine.
pytestmark = pytest.mark.xdist_group("partitions")
SEED = int(os.environ.get("WP_SEED", time.time_ns() % 1_000_000))
GOES_ON_S = 4
HEALED_S = 10
CUT_S = 2.5  # how long a cut stays after the majority went on: long enough for anything wrong to be acknowledged
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cluster(playground_folder, request):
    lab = make_lab()
    cluster = None
    try:
        cluster = NetCluster(playground_folder / "net", lab)
        cluster.up()
        yield cluster
    finally:
        if cluster:
            cluster.destroy(keep=request.session.testsfailed > 0)
        lab.close()


@pytest.fixture(autouse=True)
def healed_afterwards(cluster):
    """A case that fails leaves no cut behind for the next one."""
    yield
    cluster.lab.heal()


class Probe:
    """One user in each shard, and a sender that submits one message to each of them."""

    def __init__(self, cluster, gateway, name):
        self.cluster, self.gateway = cluster, gateway
        number = next(_numbers)
        self.person, self.recipients, self.secrets = None, {}, {}  # recipients: shard -> user
        for _ in range(10):
            if len(self.recipients) == SHARDS:
                break
            users = {f"{name}-{number}-{next(_numbers)}": ["d"] for _ in range(4 * SHARDS)}
            self.secrets.update(cluster.provision(users))
            for user, shard in cluster.shards_of(f"{name}-{number}-").items():
                self.recipients.setdefault(shard, user)
        assert len(self.recipients) == SHARDS
        self.person = next(iter(self.secrets.items()))

    def accepted(self, timeout_s):
        """Submits to every shard until each has accepted one; answers how long that took. Fails after timeout_s."""
        started, ids = time.monotonic(), {shard: new_id() for shard in self.recipients}
        left = set(ids)
        while left:
            assert time.monotonic() - started < timeout_s * SLOW, f"shards {sorted(left)} accept nothing for {timeout_s * SLOW} s"
            try:
                self._round(ids, left, started + timeout_s * SLOW)
            except (Closed, OSError):
                time.sleep(0.02)
        return time.monotonic() - started

    def _round(self, ids, left, end):
        with Device(self.cluster.endpoint(gateway=self.gateway), *self.person, timeout=2) as device:
            if device.connack.code != 0:
                time.sleep(0.05)
                return
            open_ids = {}
            for shard in sorted(left):
                open_ids[device.submit(self.recipients[shard], "probe", extra=[(0x26, ("wp-id", ids[shard]))])] = shard
            while open_ids:
                answer = device.wait(PUBACK, max(0.01, end - time.monotonic()))
                shard = open_ids.pop(answer.id)
                if answer.code == 0:
                    left.discard(shard)


class Watch:
    """Devices at a gateway of the side that must be silent: attached before the cut, they submit during it. One for each shard, since
    a gateway answers the publishes of one device in their order: behind one that waits every other one would wait too."""

    def __init__(self, probe):
        self.probe, self.devices, self.acknowledged = probe, {}, []
        for shard, user in probe.recipients.items():
            self.devices[shard] = Device(probe.cluster.endpoint(gateway=probe.gateway), f"{user}/d", probe.secrets[f"{user}/d"])
            assert self.devices[shard].connack.code == 0
        self.submit_all()  # answered now, so that the silence later means something
        wait_until(lambda: self.listen(0.05) or len(self.acknowledged) == SHARDS, what="acknowledgements before the cut")
        self.acknowledged.clear()

    def submit_all(self):
        for shard, device in self.devices.items():
            device.submit(self.probe.recipients[shard], "from the other side")

    def listen(self, seconds):
        """Takes answers for so long; shards that acknowledged are kept."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for shard, device in self.devices.items():
                try:
                    packet = device.receive(0.002)
                except (TimeoutError, Closed, OSError):
                    continue
                if packet.kind == PUBACK and packet.code < 0x80:
                    self.acknowledged.append(shard)
            time.sleep(0.01)

    def close(self):
        for device in self.devices.values():
            device.close()


class Load:
    """Senders and receivers at gateway-1 for as long as a case lasts."""

    def __init__(self, cluster, name):
        names = [f"{name}-{next(_numbers)}" for _ in range(6)]
        secrets = cluster.provision({user: ["d"] for user in names})
        persons = [(f"{user}/d", secrets[f"{user}/d"]) for user in names]
        self.receivers = [Receiver(cluster, person) for person in persons[2:]]
        self.senders = [Sender(cluster, person, names[2:], pause_s=0.002) for person in persons[:2]]
        for thread in self.receivers + self.senders:
            thread.start()
        wait_until(lambda: all(len(sender.acknowledged) > 20 for sender in self.senders), what="load")

    def count(self):
        return sum(len(sender.acknowledged) for sender in self.senders)

    def finish(self):
        for sender in self.senders:
            sender.finish()
        self.receivers[0].finish(quiet_s=0.8)
        received = {receiver.person[0].split("/")[0]: receiver.finish(quiet_s=0.1) for receiver in self.receivers}
        twice = {message: places for receiver in self.receivers for message, places in receiver.places.items() if len(places) > 1}
        assert not twice, f"kept twice: {list(twice.items())[:3]}"
        return compare(self.senders, received)


def leader_of_most(cluster):
    """The router that leads most shards: cutting it hurts most."""
    counts = {}
    for routers in cluster.leaders().values():
        counts[routers[0]] = counts.get(routers[0], 0) + 1
    assert sum(counts.values()) == SHARDS
    return max(sorted(counts), key=counts.get)


def agreed(cluster):
    """Whether each shard has exactly one leader and every router is ready."""
    leaders = cluster.leaders()
    return len(leaders) == SHARDS and all(len(routers) == 1 for routers in leaders.values()) and all(map(cluster.ready, cluster.routers))


def obeys(cluster, router):
    """Whether a router carries out a command for every shard, which needs its links to the leaders."""
    users = [{"user": f"obey-{next(_numbers)}", "devices": []} for _ in range(2 * SHARDS)]
    return not cluster.admin("POST", "/v1/provision", {"users": users}, node=router)["errors"]


def healed(cluster, probe, load):
    cluster.lab.heal()
    before = load.count()
    took = probe.accepted(HEALED_S)
    wait_until(lambda: agreed(cluster), HEALED_S, "one leader for each shard")
    wait_until(lambda: load.count() > before, HEALED_S, "load after healing")
    for router in cluster.routers:
        wait_until(lambda: obeys(cluster, router), HEALED_S, f"an operator's command through {router}")
    return took


def case(cluster, name, cut, silent=False):
    """One partition from start to end. `cut(victim)` cuts; `silent`: gateway-2 is on the side that must acknowledge nothing."""
    wait_until(lambda: agreed(cluster), 20, "a whole cluster")
    probe, load = Probe(cluster, "gateway-1", name), Load(cluster, name)
    watch = Watch(Probe(cluster, "gateway-2", name)) if silent else None
    victim = leader_of_most(cluster)
    cut(victim)
    if watch:
        watch.submit_all()
    took = probe.accepted(GOES_ON_S)
    if watch:
        watch.listen(CUT_S)
        watch.close()
    else:
        time.sleep(CUT_S)
    assert not watch or watch.acknowledged == []
    probe.accepted(GOES_ON_S)
    back = healed(cluster, probe, load)
    acknowledged = load.finish()
    print(f"{name}: {victim} cut, went on after {took:.2f} s, after healing {back:.2f} s, {acknowledged} acknowledged, 0 lost")
    assert acknowledged > 100


def others(cluster, victim):
    return [router for router in cluster.routers if router != victim]


def test_leader_isolated(cluster):
    case(cluster, "isolated", cluster.lab.isolate)


def test_minority_with_a_gateway_acknowledges_nothing(cluster):
    case(cluster, "minority", lambda victim: cluster.lab.split(victim, "gateway-2"), silent=True)


def test_leader_that_hears_nobody(cluster):
    """Its messages arrive, so that nobody begins an election until it steps down by itself."""
    case(cluster, "deaf", lambda victim: [cluster.lab.cut_way(other, victim) for other in others(cluster, victim)])


def test_leader_that_nobody_hears(cluster):
    case(cluster, "mute", lambda victim: [cluster.lab.cut_way(victim, other) for other in others(cluster, victim)])


def test_pair_that_both_see_the_third(cluster):
    case(cluster, "pair", lambda victim: cluster.lab.cut(victim, others(cluster, victim)[SEED % 2]))


def test_link_that_flaps(cluster):
    print(f"WP_SEED={SEED}")
    generator = random.Random(SEED)

    def flap(victim):
        for _ in range(6):
            cluster.lab.isolate(victim)
            time.sleep(generator.uniform(0.1, 0.8))
            cluster.lab.heal()
            time.sleep(generator.uniform(0.1, 0.5))
        cluster.lab.isolate(victim)

    case(cluster, "flapping", flap)


def test_without_any_majority_nothing_is_acknowledged(cluster):
    """Each router alone; the gateways see all of them."""
    wait_until(lambda: agreed(cluster), 20, "a whole cluster")
    probe, load, watch = Probe(cluster, "gateway-1", "alone"), Load(cluster, "alone"), Watch(Probe(cluster, "gateway-2", "alone"))
    for one, other in itertools.combinations(cluster.routers, 2):
        cluster.lab.cut(one, other)
    time.sleep(0.3)  # what had its majority before
    before = load.count()
    watch.submit_all()
    watch.listen(CUT_S)
    watch.close()
    assert watch.acknowledged == [] and load.count() == before
    healed(cluster, probe, load)
    assert load.finish() > 100
