"""Gateways are disposable: a device goes to another one with nothing lost and nothing shown twice, and a gateway that stood still
or is cut off says nothing to devices that moved on."""
import os
import random
import signal
import time

import pytest

from conftest import EFFORT, SLOW, wait_until
from rawmqtt import DISCONNECT, Closed, Device
from test_crash import people, start_senders
from traffic import ROOMY, Receiver, compare

GATEWAYS = ["gateway-1", "gateway-2"]
SEED = int(os.environ.get("WP_SEED", time.time_ns() % 1_000_000))
KILLS = ({"ci": 16}.get(EFFORT, 6)) if SLOW == 1 else 3


@pytest.fixture
def pair(make_playground):
    return make_playground("--gateways", "2", settings=ROOMY)


def order(number):
    """Both gateways, beginning with another one for every other person."""
    return GATEWAYS[number % 2:] + GATEWAYS[:number % 2]


def test_killed_gateways_lose_nothing(pair):
    generator = random.Random(SEED)
    print(f"WP_SEED={SEED}")
    sending, receiving = people(pair, 4, 4)
    receivers = [Receiver(pair, person, order(i)) for i, person in enumerate(receiving)]
    for receiver in receivers:
        receiver.start()
    senders = [start_senders(pair, [person], receiving, gateways=order(i), pause_s=0.002)[0] for i, person in enumerate(sending)]
    for _ in range(KILLS):
        time.sleep(generator.uniform(0.2, 0.8))
        gateway = generator.choice(GATEWAYS)
        pair.kill(gateway)
        time.sleep(generator.uniform(0, 1))
        pair.start(gateway)
    for sender in senders:
        sender.finish()
    received = {receiver.person[0].split("/")[0]: receiver.finish() for receiver in receivers}
    acknowledged = compare(senders, received)
    moved = sum(worker.reconnects for worker in senders + receivers)
    print(f"{KILLS} kills, {acknowledged} acknowledged messages, 0 lost; {moved} moves")
    assert acknowledged > 50 * KILLS and moved >= KILLS


def test_a_gateway_that_stood_still_delivers_nothing_to_those_who_moved(pair):
    """What the router had sent to it comes out of its sockets when it goes on, long after it counted."""
    (sender,), (moving, staying) = people(pair, 1, 2)
    stopped = pair.pid("gateway-1")
    old = Device(pair.endpoint(gateway="gateway-1"), *moving)
    old.subscribe()
    stays = Device(pair.endpoint(gateway="gateway-1"), *staying)
    stays.subscribe()
    with Device(pair.endpoint(gateway="gateway-2"), *sender) as device:
        assert device.publish("recipient-0", "before").code == 0
        assert old.take().payload == b"before"
        wait_until(lambda: pair.metric("router-1", "wardpost_router_delivered_total") == 1, what="its acknowledgement")
        os.kill(stopped, signal.SIGSTOP)
        try:
            for user in ["recipient-0", "recipient-1"]:
                assert device.publish(user, "meanwhile").code == 0  # accepted, and sent to the gateway that stands still
            with Device(pair.endpoint(gateway="gateway-2"), *moving) as new:
                assert new.connack.session_present
                assert new.take().payload == b"meanwhile"
                time.sleep(13)
                os.kill(stopped, signal.SIGCONT)
                got = old.wait_closed()
                assert [packet.kind for packet in got] == [DISCONNECT] and got[0].code in (0x8E, 0x8B), got
                # The new connection is not touched by the end of the old one.
                assert device.publish("recipient-0", "after").code == 0
                assert new.take().payload == b"after"
        finally:
            os.kill(stopped, signal.SIGCONT)
    # A device that waited on its connection gets what it is owed there, or on the next one.
    try:
        assert stays.take(timeout=10).payload == b"meanwhile"
    except (Closed, AssertionError):
        with Device(pair.endpoint(gateway="gateway-2"), *staying) as again:
            assert again.take().payload == b"meanwhile"


def test_without_routers_a_gateway_sends_its_devices_elsewhere(pair):
    """All routers stand still: for the gateway it is the same as a cut. Its lease runs out, then its devices are told."""
    (_,), (person,) = people(pair, 1, 1)
    device = Device(pair.endpoint(), *person)
    device.subscribe()
    wait_until(lambda: pair.metric("gateway-1", "wardpost_gateway_leases_held") == 8, what="leases")
    router = pair.pid("router-1")
    os.kill(router, signal.SIGSTOP)
    begin = time.monotonic()
    try:
        packet = device.receive(30)
        assert packet.kind == DISCONNECT and packet.code == 0x8B, packet
        assert 8 < time.monotonic() - begin < 13
        assert pair.metric("gateway-1", "wardpost_gateway_leases_held") == 0
        assert pair.metric("gateway-1", "wardpost_gateway_devices_sent_away_total") == 1
    finally:
        os.kill(router, signal.SIGCONT)
    wait_until(lambda: pair.metric("gateway-1", "wardpost_gateway_leases_held") == 8, 20, "leases again")
    with Device(pair.endpoint(), *person) as again:
        assert again.connack.code == 0 and again.connack.session_present


def test_takeover_between_gateways_in_both_directions(pair):
    """The same device on one gateway, then the other, and back, quickly: the newest connection is the one that lives."""
    (sender,), (person,) = people(pair, 1, 1)
    connections = []
    with Device(pair.endpoint(), *sender) as device:
        for i in range(12):
            connections.append(Device(pair.endpoint(gateway=GATEWAYS[i % 2]), *person))
            assert connections[-1].connack.code == 0
            if i == 0:
                connections[0].subscribe()
            assert device.publish("recipient-0", f"{i}").code == 0
            got = connections[-1].take()
            if got.payload == str(i - 1).encode() and got.dup:  # its acknowledgement and the takeover crossed
                got = connections[-1].take()
            assert got.payload == str(i).encode()
        for old in connections[:-1]:
            packets = old.wait_closed()
            assert [packet.kind for packet in packets] == [DISCONNECT] and packets[0].code == 0x8E, packets
        assert connections[-1].silent(0.3)


def test_wardpost_goes_to_the_next_gateway(pair):
    """The device on the command line knows both: with one of them gone it still sends and receives."""
    (alice,), (bob,) = people(pair, 1, 1)
    for username, secret in [alice, bob]:
        folder = pair.dir / "devices" / username.split("/")[0]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "d"
        path.write_text(secret + "\n")
        path.chmod(0o600)
    for gateway in GATEWAYS:
        pair.kill(gateway)
        for i in range(3):  # it begins with either
            pair.wardpost(alice[0], "send", "recipient-0", f"{gateway} {i}")
        lines = pair.wardpost(bob[0], "inbox").stdout.splitlines()
        assert [line.rpartition(": ")[2] for line in lines] == [f"{gateway} {i}" for i in range(3)]
        pair.start(gateway)
