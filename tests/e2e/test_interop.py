"""Clients that we did not write: mosquitto's tools, paho, MQTT.js; 3.1.1 and 5; TCP, TLS, WebSocket."""
import fcntl
import pathlib
import subprocess
import threading
import time

import pytest

from conftest import ROOT, need_program, wait_until

VERSIONS = pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
TRANSPORTS = pytest.mark.parametrize("transport", ["mqtt", "mqtts"])


@pytest.fixture
def pair(shared, unique):
    return shared.add_person(unique("alice")), shared.add_person(unique("bob"))


def user_of(person):
    return person[0].split("/")[0]


def mosquitto(program, playground, transport, version, person, *words):
    host, port = playground.endpoint(transport)
    tls = ["--cafile", playground.dir / "ca.pem"] if transport == "mqtts" else []
    command = [need_program(program), "-h", host, "-p", port, "-V", version, "-u", person[0], "-P", person[1], "-q", "1", *tls, *words]
    return subprocess.run([str(w) for w in command], capture_output=True, text=True, timeout=60)


@VERSIONS
@TRANSPORTS
def test_mosquitto_sends_and_receives(shared, pair, version, transport):
    alice, bob = pair
    for i in range(3):
        done = mosquitto("mosquitto_pub", shared, transport, version, alice, "-i", "pub", "-t", f"wp/v1/to/{user_of(bob)}", "-m", f"m{i}")
        assert done.returncode == 0, done.stderr
    done = mosquitto("mosquitto_sub", shared, transport, version, bob, "-i", "sub", "-c", "-t", "wp/v1/inbox/#", "-C", "3", "-W", "20",
                     "-F", "%t %p")
    assert done.stdout.split("\n")[:3] == [f"wp/v1/inbox/routine/{user_of(alice)} m{i}" for i in range(3)], done.stderr


def test_mosquitto_is_told_of_refusals(shared, pair):
    alice, _ = pair
    done = mosquitto("mosquitto_pub", shared, "mqtt", "mqttv5", (alice[0], "wrong"), "-t", "wp/v1/to/x", "-m", "x")
    assert done.returncode != 0 and "Bad User Name or Password" in done.stderr + done.stdout
    done = mosquitto("mosquitto_pub", shared, "mqtt", "mqttv5", alice, "-t", "wp/v1/to/nobody-there", "-m", "x")
    assert "no such recipient" in done.stderr + done.stdout


def test_mosquitto_expiry_and_large_body(shared, pair, tmp_path):
    alice, bob = pair
    body = tmp_path / "body"
    body.write_bytes(b"z" * (1024 * 1024))
    topic = f"wp/v1/to/{user_of(bob)}"
    done = mosquitto("mosquitto_pub", shared, "mqtt", "mqttv5", alice, "-t", topic, "-m", "gone", "-D", "publish", "message-expiry-interval", "1")
    assert done.returncode == 0, done.stderr
    done = mosquitto("mosquitto_pub", shared, "mqtts", "mqttv5", alice, "-t", topic, "-f", body)
    assert done.returncode == 0, done.stderr
    time.sleep(2.2)
    done = mosquitto("mosquitto_sub", shared, "mqtts", "mqttv5", bob, "-i", "b", "-c", "-t", "wp/v1/inbox/#", "-C", "1", "-W", "20", "-N")
    assert len(done.stdout) == 1024 * 1024


def paho_client(playground, person, version, transport="mqtt"):
    mqtt = pytest.importorskip("paho.mqtt.client")
    protocol = mqtt.MQTTv5 if version == 5 else mqtt.MQTTv311
    kind = "websockets" if transport in ("ws", "wss") else "tcp"
    arguments = {"client_id": person[0].replace("/", "-"), "protocol": protocol, "transport": kind}
    if version != 5:
        arguments["clean_session"] = False
    if hasattr(mqtt, "CallbackAPIVersion"):
        arguments["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION1
    client = mqtt.Client(**arguments)
    client.username_pw_set(*person)
    if transport in ("mqtts", "wss"):
        client.tls_set(str(playground.dir / "ca.pem"))
    host, port = playground.endpoint(transport)
    options = {"clean_start": False} if version == 5 else {}
    client.connect(host, port, 30, **options)
    client.loop_start()
    return client


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("transport", ["mqtt", "mqtts", "ws", "wss"])
def test_paho_over_every_transport(shared, pair, version, transport):
    alice, bob = pair
    got, subscribed = [], threading.Event()
    receiver = paho_client(shared, bob, version, transport)
    receiver.on_message = lambda _c, _u, message: got.append(message.payload.decode())
    receiver.on_subscribe = lambda *_: subscribed.set()
    receiver.subscribe("wp/v1/inbox/#", 1)
    assert subscribed.wait(20)
    sender = paho_client(shared, alice, version, transport)
    infos = [sender.publish(f"wp/v1/to/{user_of(bob)}", f"m{i}", 1) for i in range(100)]
    for info in infos:
        info.wait_for_publish(20)
    wait_until(lambda: len(got) >= 100, 20)
    assert got == [f"m{i}" for i in range(100)]
    for client in (sender, receiver):
        client.disconnect()
        client.loop_stop()


def test_paho_comes_back_after_the_gateway_was_killed(playground):
    alice, bob = playground.add_person("alice"), playground.add_person("bob")
    got, subscribed = [], threading.Event()
    receiver = paho_client(playground, bob, 5)
    receiver.reconnect_delay_set(1, 1)
    receiver.on_message = lambda _c, _u, message: got.append(message.payload.decode())
    receiver.on_subscribe = lambda *_: subscribed.set()
    receiver.subscribe("wp/v1/inbox/#", 1)
    assert subscribed.wait(20)
    sender = paho_client(playground, alice, 5)
    sender.reconnect_delay_set(1, 1)
    for i in range(30):
        sender.publish("wp/v1/to/bob", f"m{i}", 1)
        if i == 10:
            playground.restart("gateway-1")
        time.sleep(0.01)
    wait_until(lambda: len(set(got)) >= 30, 30, "all messages after the restart")
    first = list(dict.fromkeys(got))
    assert first == [f"m{i}" for i in range(30)]
    for client in (sender, receiver):
        client.disconnect()
        client.loop_stop()


@pytest.fixture(scope="session")
def mqttjs():
    """The MQTT.js test device, its package installed from the lock file."""
    node, npm = need_program("node"), need_program("npm")
    folder = ROOT / "tests/e2e/mqttjs"
    with open(folder / "package-lock.json", encoding="ascii") as lock:  # several workers may come here at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "node_modules/.package-lock.json").exists():  # npm writes it last
            subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, check=True, capture_output=True, timeout=300)
    return node, folder / "device.js"


@pytest.mark.parametrize("version", ["4", "5"])
@pytest.mark.parametrize("transport", ["ws", "wss"])
def test_mqttjs_over_websocket(shared, pair, mqttjs, transport, version):
    alice, bob = pair
    node, script = mqttjs
    host, port = shared.endpoint(transport)
    command = [node, script, f"{transport}://{host}:{port}/mqtt", pathlib.Path(shared.dir) / "ca.pem", version, *alice, *bob, "200"]
    done = subprocess.run([str(w) for w in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 in order" in done.stdout
