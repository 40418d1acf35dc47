"""Bad input, each kind with its answer (docs/protocol.md): the gateway refuses it, says why, counts it and serves on."""
import os
import random
import socket
import struct
import threading
import time

import pytest

import rawmqtt
from conftest import wait_until
from rawmqtt import DISCONNECT, PUBACK, Closed, Device

BOTH = pytest.mark.parametrize("version", [4, 5], ids=["mqtt311", "mqtt5"])


@pytest.fixture
def pair(shared, unique):
    """Two people: ((name, secret), (name, secret))."""
    return shared.add_person(unique("alice")), shared.add_person(unique("bob"))


def user_of(person):
    return person[0].split("/")[0]


@pytest.fixture
def serves_on(shared, pair):
    """After the test: another device still gets a message through."""
    yield
    alice, bob = pair
    with Device(shared.endpoint(), *alice) as sender, Device(shared.endpoint(), *bob) as receiver:
        receiver.subscribe()
        while not receiver.silent(0.2):
            pass
        assert sender.publish(user_of(bob), "still there").code == 0
        assert receiver.take().payload == b"still there"


def closes(shared, data, version=5):
    """Sends bytes on a fresh connection; answers the packets that came before the gateway closed it."""
    with Device(shared.endpoint(), connect=False, version=version) as device:
        device.send(data)
        return device.wait_closed()


@pytest.mark.parametrize("data", [
    b"\x00\x00", b"\xf0\x00", b"\x10\xff\xff\xff\xff\xff", b"\x11\x00", b"\x10\x00",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 60,
    rawmqtt.packet(rawmqtt.PINGREQ, b""), rawmqtt.publish("wp/v1/to/bob", "x"), rawmqtt.subscribe("wp/v1/inbox/#"),
    rawmqtt.packet(rawmqtt.CONNECT, b"\x00\x04MQTT\x05\x01\x00\x3c\x00\x00\x00"),  # reserved flag set
    rawmqtt.packet(rawmqtt.CONNECT, b"\x00\x04MQTT\x05\xc2\x00\x3c\x00\x00"),      # ends before the client identifier does
], ids=["type-0", "type-15", "length-of-5-bytes", "flags", "empty-connect", "http", "tls-hello", "ping-first", "publish-first",
        "subscribe-first", "reserved-flag", "truncated"])
def test_malformed_first_bytes_close_the_connection(shared, serves_on, data):
    before = shared.metric("gateway-1", "wardpost_gateway_connections_total")
    packets = closes(shared, data)
    assert all(p.kind in (rawmqtt.CONNACK, DISCONNECT) and p.code >= 0x80 for p in packets)
    assert shared.metric("gateway-1", "wardpost_gateway_connections_total") > before


def test_unknown_protocol_version_is_told(shared, pair):
    packets = closes(shared, rawmqtt.connect(*pair[0], version=4, level=7), version=4)
    assert packets and packets[0].kind == rawmqtt.CONNACK and packets[0].code in (0x01, 0x84)


@pytest.mark.parametrize("bad", [
    b"\x30\x02\x00\x05", b"\x32\x05\x00\x03a#b\x00", b"\x82\x02\x00\x01", b"\x36\x00", b"\x60\x02\x00\x01", b"\x20\x02\x00\x00",
    b"\x40\x00", b"\x32\x07\x00\x03abc\x00\x00\x00",
], ids=["truncated-topic", "wildcard-topic", "subscribe-without-filter", "qos-3", "pubrel-flags", "connack-from-client",
        "puback-without-id", "packet-id-0"])
@BOTH
def test_malformed_packets_in_a_session_end_it_with_a_reason(shared, pair, serves_on, bad, version):
    before = shared.metric("gateway-1", "wardpost_gateway_protocol_errors_total")
    with Device(shared.endpoint(), *pair[0], version=version) as device:
        device.send(bad)
        packets = device.wait_closed()
    if version == 5:
        assert packets[-1].kind == DISCONNECT and packets[-1].code in (0x81, 0x82, 0x90)
    else:
        assert not packets
    wait_until(lambda: shared.metric("gateway-1", "wardpost_gateway_protocol_errors_total") == before + 1)


def test_second_connect_is_a_protocol_error(shared, pair, serves_on):
    with Device(shared.endpoint(), *pair[0]) as device:
        device.send(rawmqtt.connect(*pair[0]))
        assert device.wait_closed()[-1].code == 0x82


@BOTH
def test_a_session_one_byte_at_a_time_works(shared, pair, version):
    alice, bob = pair
    with Device(shared.endpoint(), connect=False, version=version) as device:
        for byte in rawmqtt.connect(*alice, version=version, client_id="c") + rawmqtt.publish(f"wp/v1/to/{user_of(bob)}", "slow", 7, version=version):
            device.send(bytes([byte]))
            time.sleep(0.001)
        assert device.wait(rawmqtt.CONNACK).code == 0
        answer = device.wait(PUBACK)
        assert (answer.id, answer.code) == (7, 0)


def test_slow_loris_is_cut_off(make_playground):
    playground = make_playground(settings={"gateway-1": {"limits.connect_timeout_ms": 700}})
    alice = playground.add_person("alice")
    started = time.monotonic()
    drip = Device(playground.endpoint(), connect=False)
    silent = [Device(playground.endpoint(), connect=False) for _ in range(20)]
    with pytest.raises(OSError):
        for byte in rawmqtt.connect(*alice) + b"x" * 30:
            drip.send(bytes([byte]))
            time.sleep(0.2)
    for device in silent:
        device.wait_closed(5)
    assert time.monotonic() - started < 15
    with Device(playground.endpoint(), *alice, keep_alive=1) as device:  # a packet that never ends is no sign of life
        with pytest.raises(OSError):
            for byte in rawmqtt.publish("wp/v1/to/alice", "x" * 100, 1):
                device.send(bytes([byte]))
                time.sleep(0.1)


@BOTH
@pytest.mark.parametrize("wrong", ["secret", "device", "user", "form", "none"])
def test_wrong_credentials_are_refused_and_counted(shared, pair, version, wrong):
    username, secret = pair[0]
    name, given = {
        "secret": (username, "x" * 43), "device": (user_of(pair[0]) + "/other", secret), "user": ("nobody-at-all/phone", secret),
        "form": ("no slash here", secret), "none": (None, None),
    }[wrong]
    before = shared.metric("gateway-1", "wardpost_gateway_auth_failures_total")
    with Device(shared.endpoint(), name, given, version=version) as device:
        assert device.connack.code in ((0x86, 0x87) if version == 5 else (4, 5))
        device.wait_closed()
    wait_until(lambda: shared.metric("gateway-1", "wardpost_gateway_auth_failures_total") == before + 1)


@pytest.mark.parametrize("topic", ["wp/v1/to/", "wp/v1/to/Bob", "wp/v1/to/bob/extra", "wp/v1/team/red", "elsewhere", "wp/v1/inbox/stat/x",
                                   "wp/v1/to/" + "x" * 65, "$SYS/x"])
def test_unknown_topics_are_refused_one_by_one(shared, pair, topic):
    with Device(shared.endpoint(), *pair[0]) as device:
        answer = device.publish(None, "x", topic=topic)
        assert answer.code == 0x90 and answer.reason and answer.user("wp-error")
        assert device.publish(user_of(pair[1]), "fine").code == 0


def test_unknown_recipient_is_refused_with_a_reason(shared, pair):
    with Device(shared.endpoint(), *pair[0]) as device:
        answer = device.publish("nobody-here", "x")
        assert answer.code == 0x90 and answer.user("wp-error") == "unknown-recipient" and answer.reason
    with Device(shared.endpoint(), *pair[0], extra=[(0x17, 0)]) as device:  # Request Problem Information 0: the code only
        answer = device.publish("nobody-here", "x")
        assert answer.code == 0x90 and not answer.properties.get("user") and not answer.reason


def test_refused_publish_of_3_1_1_is_not_acknowledged_and_closes(shared, pair, serves_on):
    with Device(shared.endpoint(), *pair[0], version=4) as device:
        device.submit("nobody-here", "x")
        assert device.wait_closed() == []
    assert "unknown-recipient" in shared.log("gateway-1")


def test_3_1_1_names_lane_and_time_to_live_in_the_topic(shared, pair):
    alice, bob = pair
    with Device(shared.endpoint(), *alice, version=4) as sender, Device(shared.endpoint(), *bob) as receiver:
        receiver.subscribe()
        sender.publish(None, "now", topic=f"wp/v1/to/{user_of(bob)}/stat/60")
        message = receiver.take()
        assert message.topic == f"wp/v1/inbox/stat/{user_of(alice)}"
        assert 0 < message.properties[0x02] <= 60


def test_qos_0_publish_ends_the_connection(shared, pair, serves_on):
    before = shared.metric("gateway-1", "wardpost_gateway_qos0_refused_total")
    with Device(shared.endpoint(), *pair[0]) as device:
        device.send(rawmqtt.publish(f"wp/v1/to/{user_of(pair[1])}", "x", qos=0))
        last = device.wait_closed()[-1]
        assert last.code == 0x83 and "QoS 1" in last.reason
    with Device(shared.endpoint(), *pair[0], version=4) as device:
        device.send(rawmqtt.publish(f"wp/v1/to/{user_of(pair[1])}", "x", qos=0, version=4))
        assert device.wait_closed() == []
    assert shared.metric("gateway-1", "wardpost_gateway_qos0_refused_total") == before + 2


def test_subscriptions_that_do_not_exist_are_refused(shared, pair):
    with Device(shared.endpoint(), *pair[0]) as device:
        assert device.subscribe("wp/v1/inbox/#", qos=0).code == 0x83
        assert device.subscribe("wp/v1/reply/#").code == 0x8F
        assert device.subscribe("#").code == 0x8F
        assert device.subscribe("$share/g/wp/v1/inbox/#").code in (0x8F, 0x9E)
        assert device.subscribe("wp/v1/inbox/#").code == 1
    with Device(shared.endpoint(), *pair[0], version=4) as device:
        assert device.subscribe("wp/v1/inbox/#", qos=0).code == 0x80
        assert device.subscribe("elsewhere").code == 0x80
        assert device.subscribe("wp/v1/inbox/#").code == 1


def test_body_over_the_limit_is_refused_and_packet_over_the_maximum_disconnects(shared, pair, serves_on):
    with Device(shared.endpoint(), *pair[0]) as device:
        largest = device.connack.properties[0x27]
        answer = device.publish(user_of(pair[1]), b"x" * (1024 * 1024 + 1))
        assert answer.code == 0x99 and answer.user("wp-error") == "body-too-large"
        assert device.publish(user_of(pair[1]), b"x" * (1024 * 1024)).code == 0
        device.send(b"\x32" + rawmqtt.varint(largest + 1) + b"x" * 4096)
        last = device.wait_closed()[-1]
        assert (last.kind, last.code) == (DISCONNECT, 0x95)
    with Device(shared.endpoint(), *pair[1]) as receiver:
        receiver.subscribe()
        assert receiver.take(timeout=20).payload == b"x" * (1024 * 1024)


def test_full_mailbox_refuses_and_loses_nothing(make_playground):
    playground = make_playground(settings={"router-1": {"limits.mailbox_messages_max": 20}})
    alice, bob = playground.add_person("alice"), playground.add_person("bob")
    with Device(playground.endpoint(), *alice) as sender:
        answers = [sender.publish("bob", f"m{i}") for i in range(25)]
        assert [a.code for a in answers] == [0] * 20 + [0x97] * 5
        assert answers[-1].user("wp-error") == "mailbox-full"
        with Device(playground.endpoint(), *bob) as receiver:
            receiver.subscribe()
            assert [receiver.take().payload.decode() for _ in range(20)] == [f"m{i}" for i in range(20)]
            wait_until(lambda: sender.publish("bob", "again").code == 0, what="room in the mailbox")
            assert receiver.take().payload == b"again"
    assert playground.metric("router-1", "wardpost_router_refused_total") >= 5


def test_message_ids_of_the_wrong_kind_or_time_are_refused(shared, pair):
    now_ms = time.time() * 1000
    with Device(shared.endpoint(), *pair[0]) as device:
        def send(message_id):
            return device.publish(user_of(pair[1]), "x", extra=[(0x26, ("wp-id", message_id))])

        assert send("not-a-uuid").code >= 0x80
        assert send("f81d4fae-7dec-11d0-a765-00a0c91e6bf6").code >= 0x80  # version 1
        assert send(rawmqtt.new_id(now_ms + 3600_000)).user("wp-error") == "id-in-future"
        assert send(rawmqtt.new_id(now_ms - 48 * 3600_000)).user("wp-error") == "id-too-old"
        good = rawmqtt.new_id()
        assert send(good).code == 0 and send(good).code == 0
    with Device(shared.endpoint(), *pair[1]) as receiver:
        receiver.subscribe()
        assert receiver.take().user("wp-id") == good
        assert receiver.silent(0.5)


def test_client_that_never_acknowledges_gets_its_window_and_no_more(make_playground):
    playground = make_playground(settings={"router-1": {"limits.delivery_timeout_ms": 1500}})
    alice, bob = playground.add_person("alice"), playground.add_person("bob")
    with Device(playground.endpoint(), *alice) as sender:
        for i in range(12):
            assert sender.publish("bob", f"m{i}").code == 0
    first = {}
    with Device(playground.endpoint(), *bob, extra=[(0x21, 5)]) as receiver:  # Receive Maximum 5
        receiver.subscribe()
        for i in range(5):
            message = receiver.take(acknowledge=False)
            first[message.payload] = message.id
            assert not message.dup
        assert receiver.silent(0.5)
        receiver.wait_closed(10)  # unacknowledged for too long
    with Device(playground.endpoint(), *bob) as receiver:
        assert receiver.connack.session_present
        got = [receiver.take() for _ in range(12)]
        assert [m.payload.decode() for m in got] == [f"m{i}" for i in range(12)]
        assert [m.dup for m in got] == [True] * 5 + [False] * 7
        assert {m.payload: m.id for m in got[:5]} == first, "the same packet identifiers as before"


def test_acknowledgements_of_nothing_do_no_harm(shared, pair, serves_on):
    alice, bob = pair
    with Device(shared.endpoint(), *bob) as receiver, Device(shared.endpoint(), *alice) as sender:
        receiver.subscribe()
        for packet_id in (1, 77, 65535):
            receiver.send(rawmqtt.puback(packet_id))
        sender.publish(user_of(bob), "one")
        try:
            message = receiver.take()
            receiver.send(rawmqtt.puback(message.id))  # a second time
        except (Closed, AssertionError):
            pass  # refusing it as a protocol error is allowed too


def test_5000_connections_opened_and_dropped(shared, serves_on):
    pid = shared.pid("gateway-1")

    def resident_kib():
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    def descriptors():
        return len(os.listdir(f"/proc/{pid}/fd"))

    def drop(count):
        for i in range(count):
            connection = socket.create_connection(shared.endpoint(), timeout=10)
            if i % 3 == 0:
                connection.send(rawmqtt.connect("a/b", "c")[: i % 20])
            if i % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset
            connection.close()

    drop(500)
    before_kib, before_fds = resident_kib(), descriptors()
    threads = [threading.Thread(target=drop, args=(1250,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: descriptors() <= before_fds + 5, what="closed descriptors")
    assert resident_kib() < before_kib + 30 * 1024


def test_random_bytes_never_hurt(shared, pair, serves_on):
    generator = random.Random(7)
    for _ in range(60):
        with Device(shared.endpoint(), connect=False) as device:
            try:
                if generator.random() < 0.5:
                    device.send(rawmqtt.connect(*pair[0]))
                device.send(generator.randbytes(generator.randrange(1, 3000)))
                device.socket.shutdown(socket.SHUT_WR)
                device.wait_closed(10)
            except OSError:
                pass
