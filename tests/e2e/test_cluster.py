"""Three routers: what was accepted survives any of them, in order, once; the service goes on when one dies."""
import os
import random
import time

import pytest

from conftest import EFFORT, SLOW, wait_until
from test_crash import finish_and_compare, people, start_senders
from rawmqtt import Device
from traffic import Receiver, compare, drain

ROUTERS = ["router-1", "router-2", "router-3"]
ROOMY = {router: {"limits.mailbox_messages_max": 1000000} for router in ROUTERS}
SEED = int(os.environ.get("WP_SEED", time.time_ns() % 1_000_000))
KILLS = {"ci": 20}.get(EFFORT, 6) if SLOW == 1 else 4
KILLS_OF_ALL = {"ci": 20}.get(EFFORT, 6) if SLOW == 1 else 3


@pytest.fixture
def cluster(make_playground):
    return make_playground("--routers", "3", settings=ROOMY)


def leaders(playground):
    """The router that leads each shard, as each says of itself."""
    found = {}
    for router in ROUTERS:
        try:
            for shard in playground.admin("GET", "/v1/status", node=router)["shards"]:
                if shard["role"] == "leader":
                    found[shard["shard"]] = router
        except OSError:
            pass
    return found


def test_any_router_takes_the_operators_commands(cluster):
    for i, router in enumerate(ROUTERS):
        answer = cluster.admin("POST", "/v1/provision", {"users": [{"user": f"u{i}-{n}", "devices": ["d"]} for n in range(20)]}, node=router)
        assert not answer["errors"] and len(answer["devices"]) == 20
    assert len(set(leaders(cluster).values())) > 0 and len(leaders(cluster)) == 8


def test_a_router_killed_under_load_loses_nothing(cluster):
    generator = random.Random(SEED)
    print(f"WP_SEED={SEED}")
    sending, receiving = people(cluster, 3, 4)
    receivers = [Receiver(cluster, person) for person in receiving]
    for receiver in receivers:
        receiver.start()
    senders = start_senders(cluster, sending, receiving)
    for _ in range(KILLS):
        time.sleep(generator.uniform(0.2, 1.0))
        router = generator.choice(ROUTERS)
        cluster.kill(router)
        time.sleep(generator.uniform(0.0, 1.5))
        cluster.start(router)
    for sender in senders:
        sender.finish()
    received = {receiver.person[0].split("/")[0]: receiver.finish() for receiver in receivers}
    acknowledged = compare(senders, received)
    print(f"{KILLS} kills, {acknowledged} acknowledged messages, 0 lost")
    assert acknowledged > 20 * KILLS


def test_all_routers_killed_at_once_lose_nothing(cluster):
    generator = random.Random(SEED + 1)
    print(f"WP_SEED={SEED}")
    sending, receiving = people(cluster, 2, 3)
    senders = start_senders(cluster, sending, receiving)
    for _ in range(KILLS_OF_ALL):
        time.sleep(generator.uniform(0.2, 0.8))
        for router in ROUTERS:
            cluster.kill(router)
        cluster.up("--routers", "3")
    time.sleep(0.3)
    acknowledged = finish_and_compare(cluster, senders, receiving)
    print(f"{KILLS_OF_ALL} kills of all, {acknowledged} acknowledged messages, 0 lost")
    assert acknowledged > 20 * KILLS_OF_ALL


def test_without_a_majority_nothing_is_acknowledged(cluster):
    sending, receiving = people(cluster, 2, 2)
    senders = start_senders(cluster, sending, receiving)
    wait_until(lambda: all(len(sender.acknowledged) > 20 for sender in senders), what="load")
    survivor = ROUTERS[SEED % 3]
    for router in ROUTERS:
        if router != survivor:
            cluster.kill(router)
    time.sleep(0.2)
    before = [len(sender.acknowledged) for sender in senders]
    time.sleep(3)
    assert [len(sender.acknowledged) for sender in senders] == before
    cluster.up("--routers", "3")
    wait_until(lambda: all(len(sender.acknowledged) > n for sender, n in zip(senders, before)), 20, "service again")
    finish_and_compare(cluster, senders, receiving)


@pytest.mark.parametrize("skew_ms", [3_600_000, -3_600_000])
def test_a_router_with_a_wrong_clock_expires_nothing_early_and_says_so(cluster, skew_ms):
    """Its clock counts for at most 500 ms beyond the median: a message of 60 s lives, one of 2 s goes."""
    (sender,), (receiver,) = people(cluster, 1, 1)
    cluster.kill("router-1", signal="TERM")
    cluster.start("router-1", "--env", f"WARDPOST_CLOCK_SKEW_MS={skew_ms}")
    wait_until(lambda: cluster.metric("router-1", "wardpost_router_clock_off") == 1, 10, "the alarm")
    assert cluster.metric("router-2", "wardpost_router_clock_off") == 0
    with Device(cluster.endpoint(), *sender) as device:
        for ttl_s in [60, 2]:
            assert device.publish(receiver[0].split("/")[0], f"for {ttl_s} s", extra=[(0x02, ttl_s)]).code == 0
    time.sleep(4)
    payloads = [payload for _, payload, _ in drain(cluster, receiver)]
    assert payloads == ["for 60 s"]
