"""What a device may rely on: offline queueing, order, once, takeover, expiry, several gateways, properties, restarts."""
import time

import pytest

import rawmqtt
from conftest import run, wait_until
from rawmqtt import DISCONNECT, PUBACK, Device

IDS = {"wp-id", "wp-from", "wp-accepted"}


@pytest.fixture
def pair(shared, unique):
    return shared.add_person(unique("alice")), shared.add_person(unique("bob"))


def user_of(person):
    return person[0].split("/")[0]


def test_offline_recipient_gets_everything_in_order_once(shared, pair):
    alice, bob = pair
    with Device(shared.endpoint(), *alice) as sender:
        for i in range(300):
            sender.submit(user_of(bob), f"m{i}")
            if i % 50 == 49:
                answers = [sender.wait(PUBACK) for _ in range(50)]
                assert [a.id for a in answers] == list(range(i - 48, i + 2)) and not any(a.code for a in answers)
    with Device(shared.endpoint(), *bob) as receiver:
        assert not receiver.connack.session_present
        receiver.subscribe()
        got = [receiver.take() for _ in range(300)]
        assert [m.payload.decode() for m in got] == [f"m{i}" for i in range(300)]
        assert not any(m.dup for m in got)
        assert [m.user("wp-drained") is not None for m in got] == [False] * 299 + [True]
        assert all(IDS <= {name for name, _ in m.properties["user"]} for m in got)
        assert receiver.silent(0.5)
    with Device(shared.endpoint(), *bob) as receiver:  # the subscription is kept, the messages are gone
        assert receiver.connack.session_present
        assert receiver.silent(0.8)


def test_connack_announces_what_there_is(shared, pair):
    with Device(shared.endpoint(), *pair[0]) as device:
        p = device.connack.properties
        assert (p[0x24], p[0x25], p[0x2A], p[0x29]) == (1, 0, 0, 0)  # QoS 1, no retain, shared, subscription identifiers
        assert p[0x11] == 0xFFFFFFFF and p[0x21] >= 16 and p[0x27] > 1024 * 1024
        assert p.get(0x12), "an empty client identifier gets one"
    with Device(shared.endpoint(), *pair[0], version=4, client_id="", clean=False) as device:
        assert device.connack.code == 2


def test_properties_pass_through(shared, pair):
    alice, bob = pair
    message_id = rawmqtt.new_id()
    with Device(shared.endpoint(), *bob) as receiver, Device(shared.endpoint(), *alice) as sender:
        receiver.subscribe()
        answer = sender.publish(user_of(bob), "é", extra=[(0x01, 1), (0x02, 60), (0x03, "text/plain"), (0x26, ("wp-id", message_id)),
                                                         (0x26, ("wp-priority", "urgent")), (0x26, ("ward", "7b")), (0x26, ("ward", "7c"))])
        assert answer.code == 0 and answer.user("wp-id") in (None, message_id)
        message = receiver.take()
        assert message.topic == f"wp/v1/inbox/urgent/{user_of(alice)}" and message.user("wp-from") == "phone"
        assert message.payload.decode() == "é" and message.user("wp-id") == message_id
        assert message.properties[0x01] == 1 and message.properties[0x03] == "text/plain" and 55 <= message.properties[0x02] <= 60
        assert [v for n, v in message.properties["user"] if n == "ward"] == ["7b", "7c"]
        made = sender.publish(user_of(bob), "no id").user("wp-id")
        assert made and receiver.take().user("wp-id") == made


def test_what_is_too_large_for_a_device_does_not_fill_its_window(shared, pair):
    alice, bob = pair
    with Device(shared.endpoint(), *alice) as sender:
        for payload in ["x" * 2000, "one", "y" * 2000, "two"]:
            assert sender.publish(user_of(bob), payload).code == 0
    with Device(shared.endpoint(), *bob, extra=[(0x21, 1), (0x27, 1000)]) as receiver:  # Receive Maximum, Maximum Packet Size
        receiver.subscribe()
        assert [receiver.take().payload for _ in range(2)] == [b"one", b"two"]
        assert receiver.silent(0.3)
    with Device(shared.endpoint(), *bob) as receiver:  # it was kept
        assert [receiver.take().payload[:1] for _ in range(2)] == [b"x", b"y"]


def test_stat_passes_what_waits(shared, pair):
    alice, bob = pair
    with Device(shared.endpoint(), *alice) as sender:
        for i in range(40):
            sender.publish(user_of(bob), f"routine {i}")
        for i in range(3):
            sender.publish(user_of(bob), f"stat {i}", extra=[(0x26, ("wp-priority", "stat"))])
    with Device(shared.endpoint(), *bob, extra=[(0x21, 4)]) as receiver:
        receiver.subscribe()
        got = [receiver.take().payload.decode() for _ in range(43)]
    assert [g for g in got if g.startswith("stat")] == [f"stat {i}" for i in range(3)]
    assert [g for g in got if g.startswith("routine")] == [f"routine {i}" for i in range(40)]
    assert max(got.index(f"stat {i}") for i in range(3)) < 9, "lanes are served 8:4:1"


def test_takeover_moves_the_session_also_between_gateways(make_playground):
    playground = make_playground("--gateways", "2")
    alice, bob = playground.add_person("alice"), playground.add_person("bob")
    old = Device(playground.endpoint(gateway="gateway-1"), *bob)
    old.subscribe()
    with Device(playground.endpoint(gateway="gateway-2"), *alice) as sender:
        sender.publish("bob", "one")
        first = old.take(acknowledge=False)
        new = Device(playground.endpoint(gateway="gateway-2"), *bob)
        assert new.connack.session_present
        last = old.wait_closed()[-1]
        assert (last.kind, last.code) == (DISCONNECT, 0x8E)
        again = new.take()
        assert again.dup and again.id == first.id and again.user("wp-id") == first.user("wp-id")
        sender.publish("bob", "two")
        assert new.take().payload == b"two" and new.silent(0.3)
        new.close()


def test_clean_start_drops_the_subscription_and_keeps_the_mailbox(shared, pair):
    alice, bob = pair
    with Device(shared.endpoint(), *bob) as receiver:
        receiver.subscribe()
    with Device(shared.endpoint(), *alice) as sender:
        sender.publish(user_of(bob), "kept")
    with Device(shared.endpoint(), *bob, clean=True) as receiver:
        assert not receiver.connack.session_present
        assert receiver.silent(0.5)
        receiver.subscribe()
        assert receiver.take().payload == b"kept"
        receiver.send(rawmqtt.packet(rawmqtt.UNSUBSCRIBE, b"\x00\x09\x00" + rawmqtt.text("wp/v1/inbox/#"), 2))
        assert receiver.wait(rawmqtt.UNSUBACK).codes == b"\x00"
        with Device(shared.endpoint(), *alice) as sender:
            sender.publish(user_of(bob), "not now")
        assert receiver.silent(0.5)


def test_expired_messages_are_not_delivered_and_are_counted(shared, pair):
    alice, bob = pair
    before = shared.metric("router-1", "wardpost_router_expired_total")
    with Device(shared.endpoint(), *alice) as sender:
        sender.publish(user_of(bob), "short", extra=[(0x02, 1)])
        sender.publish(user_of(bob), "long", extra=[(0x02, 3600)])
        assert sender.publish(user_of(bob), "too long", extra=[(0x02, 31 * 24 * 3600)]).code >= 0x80
    wait_until(lambda: shared.metric("router-1", "wardpost_router_expired_total") == before + 1, 5)
    with Device(shared.endpoint(), *bob) as receiver:
        receiver.subscribe()
        assert receiver.take().payload == b"long"
        assert receiver.silent(0.3)


def test_each_device_of_a_user_gets_its_own_copy(shared, unique):
    alice, bob = shared.add_person(unique("alice")), shared.add_person(unique("bob"))
    tablet = f"{user_of(bob)}/tablet"
    secret = shared.add_device(tablet)
    with Device(shared.endpoint(), *bob) as phone, Device(shared.endpoint(), tablet, secret) as second:
        phone.subscribe()
        second.subscribe()
        with Device(shared.endpoint(), *alice) as sender:
            sender.publish(user_of(bob), "both")
        assert phone.take().payload == second.take().payload == b"both"
    shared.ctl("device", "remove", tablet)
    with Device(shared.endpoint(), tablet, secret) as gone:
        assert gone.connack.code in (0x86, 0x87)


def test_removed_device_is_cut_off_at_once(shared, unique):
    person = shared.add_person(unique("bob"))
    with Device(shared.endpoint(), *person) as device:
        device.subscribe()
        shared.ctl("device", "remove", person[0])
        assert device.wait_closed(5)[-1].code >= 0x80


def test_10000_queued_messages_come_in_order(shared, unique):
    alice, bob = shared.add_person(unique("alice")), shared.add_person(unique("bob"))
    with Device(shared.endpoint(), *alice) as sender:
        open_count, window = 0, min(64, sender.connack.properties[0x21])
        for i in range(10000):
            sender.submit(user_of(bob), f"{i}")
            open_count += 1
            if open_count == window:
                while open_count:
                    assert sender.wait(PUBACK).code == 0
                    open_count -= 1
        while open_count:
            assert sender.wait(PUBACK).code == 0
            open_count -= 1
        assert sender.publish(user_of(bob), "over").code == 0x97
    with Device(shared.endpoint(), *bob) as receiver:
        receiver.subscribe()
        for i in range(10000):
            assert receiver.take().payload.decode() == str(i)
        assert receiver.silent(0.3)


def test_reconnect_in_the_middle_of_a_delivery(shared, unique):
    alice, bob = shared.add_person(unique("alice")), shared.add_person(unique("bob"))
    with Device(shared.endpoint(), *alice) as sender:
        for i in range(200):
            sender.publish(user_of(bob), f"m{i}")
    seen, order, connections = set(), [], 0
    while len(order) < 200 and connections < 60:
        connections += 1
        with Device(shared.endpoint(), *bob) as receiver:
            if not receiver.connack.session_present:
                receiver.subscribe()
            for count in range(7):
                message = receiver.take(acknowledge=count < 5)  # the last ones are received, not acknowledged
                if message.user("wp-id") not in seen:
                    seen.add(message.user("wp-id"))
                    order.append(message.payload.decode())
                if len(order) == 200:
                    break
            time.sleep(0.02)
    assert order == [f"m{i}" for i in range(200)]


def test_live_sessions_survive_a_router_restart(playground):
    alice, bob = playground.add_person("alice"), playground.add_person("bob")
    with Device(playground.endpoint(), *alice) as sender, Device(playground.endpoint(), *bob) as receiver:
        receiver.subscribe()
        sender.publish("bob", "before")
        held = receiver.take(acknowledge=False)
        playground.kill("router-1")
        sender.submit("bob", "during")
        playground.start("router-1")
        assert sender.wait(PUBACK, 20).code == 0
        assert receiver.take(timeout=20).payload == b"during", "nothing is sent again on a live connection"
        receiver.send(rawmqtt.puback(held.id))
        assert sender.publish("bob", "after").code == 0
        assert receiver.take().payload == b"after"
        assert receiver.silent(0.5)
    with Device(playground.endpoint(), *bob) as receiver:
        assert receiver.silent(1)


def test_devices_move_when_a_gateway_dies(make_playground):
    playground = make_playground("--gateways", "2")
    alice, bob = playground.add_person("alice"), playground.add_person("bob")
    receiver = Device(playground.endpoint(gateway="gateway-1"), *bob)
    receiver.subscribe()
    playground.kill("gateway-1")
    with Device(playground.endpoint(gateway="gateway-2"), *alice) as sender:
        assert sender.publish("bob", "still").code == 0
    with Device(playground.endpoint(gateway="gateway-2"), *bob) as receiver:
        assert receiver.connack.session_present
        assert receiver.take().payload == b"still"


def test_command_line_device(shared, unique):
    alice, bob = unique("alice"), unique("bob")
    for user in (alice, bob):
        shared.add_person(user)
    assert "no messages" in shared.wardpost(f"{bob}/phone", "inbox").stderr
    assert "accepted" in shared.wardpost(f"{alice}/phone", "send", bob, "bed", "4", "--lane", "stat").stdout
    shown = shared.wardpost(f"{bob}/phone", "inbox").stdout
    assert "bed 4" in shown and "STAT" in shown and f"{alice}/phone" in shown
    assert "no messages" in shared.wardpost(f"{bob}/phone", "inbox").stderr
    assert shared.wardpost(f"{alice}/phone", "send", "nobody-there", "x", check=65).stderr
    assert shared.wardpost(f"{alice}/phone", "send", bob, "x" * 10, "--tls").stdout
    assert "x" * 10 in shared.wardpost(f"{bob}/phone", "inbox", "-o", "json").stdout
    done = run("wardpost", "--gateway", "127.0.0.1:1", "--as", "a/b", "--secret-file", "/nonexistent", "inbox")
    assert done.returncode == 78 and "cannot read" in done.stderr
