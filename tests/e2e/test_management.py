"""What an operator sees: health, metrics, logs, the admin socket; and what nobody may see there: secrets and bodies."""
import http.client
import os
import re
import socket
import ssl
import stat
import struct
import subprocess
import time

import pytest

import rawmqtt
from conftest import BIN, ROOT, SLOW, run, wait_until
from rawmqtt import PUBACK, PUBLISH, Closed, Device

NODES = [("router-1", "router"), ("gateway-1", "gateway")]
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=(debug|info|warn|error) program=(\S+) event=[a-z0-9_]+"
                  r'( [a-z0-9_]+=("([^"\\]|\\.)*"|[^\s"=]+))*')


def request(address, method, path, body=None):
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10 * SLOW)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


# -- health


@pytest.mark.parametrize("node,program", NODES)
def test_live_and_ready(shared, node, program):
    assert shared.page(node, "/livez") == (200, "alive\n")
    assert shared.page(node, "/readyz") == (200, "ready\n")


@pytest.mark.parametrize("node,program", NODES)
def test_only_what_is_there_and_only_to_read(shared, node, program):
    address = shared.node(node)["management"]
    for path in ("/livez", "/readyz", "/metrics"):
        status, _, text = request(address, "HEAD", path)
        assert status == 200 and text == ""
        for method in ("POST", "PUT", "DELETE"):
            status, headers, text = request(address, method, path, "x" * 100)
            assert status == 405 and headers["Allow"] == "GET, HEAD" and '"error"' in text
    for path in ("/", "/metrics/", "/nothing", "/v1/status", "/v1/users", "/livez/../v1/users", "/%2e%2e/etc/passwd", "//livez"):
        status, _, text = request(address, "GET", path)
        assert status == 404 and '"error":"not-found"' in text, (path, status, text)


def test_gateway_is_not_ready_without_its_router(playground):
    """503 with the reason, alive all the same, and back by itself."""
    playground.kill("router-1")
    wait_until(lambda: playground.page("gateway-1", "/readyz")[0] == 503, what="not ready")
    status, text = playground.page("gateway-1", "/readyz")
    assert '"error":"unavailable"' in text and "no link to the leader of shard" in text
    assert "tcp://127.0.0.1:" in text
    assert playground.page("gateway-1", "/livez")[0] == 200
    assert playground.metric("gateway-1", "wardpost_up") == 0
    state = playground.status()["gateway-1"]
    assert state["state"] != "ready" and "no link to the leader" in state["reason"]
    playground.start("router-1")
    wait_until(lambda: playground.page("gateway-1", "/readyz")[0] == 200, what="ready again")
    assert playground.metric("gateway-1", "wardpost_up") == 1


def test_paused_router_makes_no_page_hang(playground):
    """The gateway answers for itself while its router stands still."""
    playground.kill("router-1", "STOP")
    try:
        start = time.monotonic()
        assert playground.page("gateway-1", "/livez")[0] == 200
        playground.page("gateway-1", "/readyz")
        playground.page("gateway-1", "/metrics")
        assert time.monotonic() - start < 3 * SLOW
    finally:
        playground.kill("router-1", "CONT")
    wait_until(lambda: playground.page("gateway-1", "/readyz")[0] == 200, what="ready")


# -- metrics


def documented(program):
    """{name: type} of docs/metrics.md."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    return {name: kind for name, kind, owner in rows if owner in (program, "all")}


def parse(text):
    """Prometheus text, strictly: {family: (type, [(name, labels, value)])}."""
    families, family = {}, None
    assert text.endswith("\n")
    for line in text.splitlines():
        head = re.fullmatch(r"# (HELP|TYPE) ([a-z_][a-z0-9_]*) (.+)", line)
        if head and head[1] == "HELP":
            assert head[2] not in families, f"{head[2]} comes twice"
            family = head[2]
            families[family] = [None, []]
        elif head:
            assert head[2] == family and families[family][0] is None
            assert head[3] in ("counter", "gauge", "histogram")
            families[family][0] = head[3]
        else:
            sample = re.fullmatch(r'([a-z_][a-z0-9_]*)(?:\{le="([^"]+)"\})? (\d+(?:\.\d+)?(?:e[+-]?\d+)?)', line)
            assert sample, f"no sample: {line}"
            suffix = sample[1][len(family):]
            assert sample[1].startswith(family) and suffix in ("", "_bucket", "_sum", "_count"), line
            families[family][1].append((suffix, sample[2], float(sample[3])))
    return families


@pytest.mark.parametrize("node,program", NODES)
def test_metrics_are_those_that_are_documented(shared, node, program):
    status, headers, text = request(shared.node(node)["management"], "GET", "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = parse(text)
    assert {name: kind for name, (kind, _) in families.items()} == documented(program)
    for name, (kind, samples) in families.items():
        if kind == "histogram":
            assert name.endswith("_seconds")
            buckets = [(float(label), value) for suffix, label, value in samples if suffix == "_bucket"]
            assert buckets == sorted(buckets) and [v for _, v in buckets] == sorted(v for _, v in buckets)
            assert buckets[-1][0] == float("inf")
            assert [v for suffix, _, v in samples if suffix == "_count"] == [buckets[-1][1]]
            assert len([v for suffix, _, v in samples if suffix == "_sum"]) == 1
        else:
            assert [(suffix, label) for suffix, label, _ in samples] == [("", None)], f"{name} has labels"
            assert name.endswith("_total") == (kind == "counter")
            assert samples[0][2] < 1 << 62, f"{name} is {samples[0][2]}"


def test_metrics_count_what_happened(playground):
    alice, bob = playground.add_person("alice"), playground.add_person("bob")
    with Device(playground.endpoint(), *bob) as receiver, Device(playground.endpoint(), *alice) as sender:
        receiver.subscribe()
        for i in range(10):
            assert sender.publish("bob", "x" * 100).code == 0
        for i in range(3):
            assert sender.publish("nobody", "x").code != 0
        for i in range(10):
            receiver.take()

        for metric, value in (("wardpost_router_queued_messages", 0), ("wardpost_router_attached_devices", 2)):
            wait_until(lambda metric=metric, value=value: playground.metric("router-1", metric) == value, what=f"{metric} {value}")
        router, gateway = playground.metrics("router-1"), playground.metrics("gateway-1")
        assert gateway["wardpost_gateway_connections"] == 2
    for metrics, name, value in (
            (router, "router_submits_total", 13), (router, "router_accepted_total", 10), (router, "router_refused_total", 3),
            (router, "router_deliveries_total", 10), (router, "router_delivered_total", 10), (router, "router_duplicates_total", 0),
            (router, "router_commit_seconds_count", 10), (gateway, "gateway_publishes_total", 13),
            (gateway, "gateway_publishes_refused_total", 3), (gateway, "gateway_deliveries_total", 10),
            (gateway, "gateway_ack_seconds_count", 10), (gateway, "gateway_connections_total", 2)):
        assert metrics[f"wardpost_{name}"] >= value if name.endswith("_count") else metrics[f"wardpost_{name}"] == value, name
    assert router["wardpost_router_log_syncs_total"] > 0 and router["wardpost_router_log_bytes_total"] > 1000
    assert router["wardpost_router_log_sync_seconds_count"] == router["wardpost_router_log_syncs_total"]
    assert router["wardpost_router_disk_free_bytes"] > 1 << 20
    wait_until(lambda: playground.metric("gateway-1", "wardpost_gateway_connections") == 0, what="connections are gone")
    wait_until(lambda: playground.metric("router-1", "wardpost_router_attached_devices") == 0, what="devices are gone")


# -- the admin socket


def test_admin_socket_is_of_its_owner_only(playground):
    path = playground.dir / "router-1/admin.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_ISSOCK(path.stat().st_mode)
    assert path.stat().st_uid == os.geteuid()
    playground.kill("router-1", "TERM")
    assert not path.exists()
    playground.start("router-1")
    playground.kill("router-1", "KILL")
    assert path.exists()  # kill -9 leaves it, and the next start takes its place
    playground.start("router-1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert playground.admin("GET", "/v1/users") is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_admin_socket_asks_who_calls(playground):
    """Also when somebody widens the modes by mistake: the kernel's word about the peer decides."""
    path = playground.dir / "router-1/admin.sock"
    path.chmod(0o666)
    path.parent.chmod(0o755)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(path.parent)  # before the change of user: the folders above may be closed to others
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect("admin.sock")
                connection.sendall(b"GET /v1/users HTTP/1.1\r\nHost: x\r\n\r\n")
                code = 0 if b" 403 " in connection.recv(4096) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_another_process_on_the_management_address(playground):
    """A start that finds its address taken says whose, and ends with its own code."""
    playground.kill("gateway-1")
    host, port = playground.node("gateway-1")["management"].split(":")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host, int(port)))
        other.listen()
        done = run("wardpost-gateway", "--config", playground.dir / "gateway-1/gateway.yaml", timeout_s=20)
    assert done.returncode == 69 and f"{host}:{port}" in done.stderr and "another process" in done.stderr


# -- logs


def test_every_line_is_logfmt(playground):
    alice = playground.add_person("alice")
    for code in (0, 0x87):
        with Device(playground.endpoint(), alice[0], alice[1] if code == 0 else "wrong") as device:
            assert (device.connack.code == 0) == (code == 0)
    playground.restart("router-1")
    playground.restart("gateway-1", signal="TERM")
    playground.restart("router-1", signal="TERM")
    for node, _ in NODES:
        lines = playground.log(node).splitlines()
        assert len(lines) > 10
        for line in lines:
            found = LINE.fullmatch(line)
            assert found, line
            assert found[2] == node
        assert any("event=started" in line for line in lines) and any("event=stopped clean=1" in line for line in lines)


# -- what nobody may see

BODY = "CANARY-BODY-7f3a91"
SECRET = "CANARY-SECRET-c04d55"


def each(playground, secret):
    """Connections that send a body or a secret where it is refused; each is closed by the one or the other side."""
    address, person = playground.endpoint(), ("alice/phone", secret)
    yield lambda: Device(address, "alice/phone", SECRET)
    yield lambda: Device(address, SECRET, SECRET)
    yield lambda: Device(address, f"nobody/{'x' * 10}", SECRET)
    yield lambda: Device(address, "alice/phone", SECRET, version=4)
    yield lambda: Device(address, *person, client_id="x" * 200 + BODY)
    yield lambda: Device(address, *person, protocol=BODY)
    for packet in (rawmqtt.publish("wp/v1/to/bob", BODY), rawmqtt.publish("wp/v1/to/nobody", BODY),
                   rawmqtt.publish("wp/v1/to/bob", BODY, qos=0), rawmqtt.publish("wp/v1/to/bob", BODY, qos=2),
                   rawmqtt.publish("wp/v1/to/bob", BODY, retain=True), rawmqtt.publish(f"wp/v1/{BODY}", BODY),
                   rawmqtt.publish(f"wp/v1/to/{BODY}", BODY), rawmqtt.publish("wp/v1/to/bob", BODY * 200000),
                   rawmqtt.publish("wp/v1/to/bob", BODY, extra=[(0x26, ("wp-id", BODY))]),
                   rawmqtt.publish("wp/v1/to/bob", BODY, extra=[(0x26, ("wp-lane", BODY)), (0x26, (BODY, SECRET))]),
                   rawmqtt.publish("wp/v1/to/bob", BODY, packet_id=0), rawmqtt.publish("wp/v1/to/bob", BODY)[:-3] + b"\xff\xff\xff",
                   rawmqtt.packet(0, BODY.encode()), rawmqtt.packet(15, SECRET.encode()), rawmqtt.packet(5, BODY.encode()),
                   rawmqtt.packet(rawmqtt.SUBSCRIBE, struct.pack(">H", 1) + b"\0" + rawmqtt.text(BODY) + b"\1", 2),
                   rawmqtt.connect("alice/phone", SECRET), BODY.encode(), b"\x30\xff\xff\xff\xff" + SECRET.encode()):
        def one(packet=packet):
            with Device(address, *person) as device:
                device.send(packet)
                device.receive(2)
        yield one
    ws_host, ws_port = playground.endpoint("ws")
    for lines in (f"GET /mqtt?secret={SECRET} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {SECRET}\r\n\r\n",
                  f"POST /{SECRET} HTTP/1.1\r\nHost: x\r\nCookie: {SECRET}\r\nContent-Length: 5\r\n\r\n{BODY}",
                  f"{SECRET}\r\n\r\n"):
        def http_one(lines=lines):
            with socket.create_connection((ws_host, ws_port), timeout=2) as connection:
                connection.sendall(lines.encode())
                connection.recv(4096)
        yield http_one

    def no_tls():
        with socket.create_connection(playground.endpoint("mqtts"), timeout=2) as connection:
            connection.sendall(rawmqtt.connect("alice/phone", SECRET))
            connection.recv(4096)
    yield no_tls

    def tls():
        with Device(playground.endpoint("mqtts"), "alice/phone", SECRET, ca=playground.dir / "ca.pem"):
            pass
    yield tls

    management = playground.node("router-1")["management"]
    yield lambda: request(management, "GET", f"/{SECRET}")
    yield lambda: request(management, "POST", "/metrics", SECRET)
    for method, path, body in (("POST", "/v1/users", {"user": SECRET}), ("POST", "/v1/users", {"secret": SECRET}),
                               ("POST", "/v1/users/alice/devices", {"device": "phone", "secret": SECRET}),
                               ("POST", f"/v1/{SECRET}", {"x": SECRET}), ("POST", "/v1/provision", {"users": [{"user": SECRET}]}),
                               ("POST", "/v1/provision", SECRET)):
        yield lambda method=method, path=path, body=body: playground.admin(method, path, body)


def test_no_secret_and_no_body_in_logs_and_metrics(make_playground):
    """Everything that is refused, with the log at its most talkative, over a restart; then a search for what was sent."""
    playground = make_playground(settings={"router-1": {"log_level": "'debug'", "limits.mailbox_messages_max": 30},
                                           "gateway-1": {"log_level": "'debug'"}})
    alice, bob = playground.add_person("alice"), playground.add_person("bob")
    attempts = 0
    for attempt in each(playground, alice[1]):
        attempts += 1
        try:
            attempt()
        except (Closed, OSError, AssertionError, TimeoutError, http.client.HTTPException):
            pass
    assert attempts > 30
    with Device(playground.endpoint(), *alice, timeout=30) as sender:
        for _ in range(40):  # into a full mailbox
            sender.submit("bob", BODY)
        codes = [sender.wait(PUBACK, 20).code for _ in range(40)]
        assert 0 in codes and 0x97 in codes
    with Device(playground.endpoint(), *bob) as receiver:
        receiver.subscribe()
        receiver.receive()
    playground.restart("router-1")
    with Device(playground.endpoint(), *bob) as receiver:  # a body that is read from the disk; he is subscribed
        assert receiver.wait(PUBLISH).payload == BODY.encode()
    run("wardpost-router", "--config", playground.dir / "router-1/router.yaml")
    keys = {path: re.findall(r"secret: (\S+)|^([0-9a-f]{64})$", path.read_text(), re.MULTILINE)
            for path in (playground.dir / "cluster.key", playground.dir / "router-1/curve.key", playground.dir / "gateway-1/curve.key")}
    hidden = {"a body": BODY, "a wrong secret": SECRET, "alice's secret": alice[1], "bob's secret": bob[1]}
    for path, found in keys.items():
        assert len(found) == 1
        hidden[f"the key in {path.name}"] = found[0][0] or found[0][1]
    seen = {"the output of playground status": str(playground.status())}
    for node, _ in NODES:
        seen[f"the log of {node}"] = playground.log(node)
        seen[f"the metrics of {node}"] = playground.page(node, "/metrics")[1]
        seen[f"the words of {node}"] = open(f"/proc/{playground.pid(node)}/cmdline", encoding="utf-8", errors="replace").read()
        assert len(playground.log(node)) > 2000
    seen["the status of the router"] = str(playground.admin("GET", "/v1/status"))
    seen["the users"] = str(playground.admin("GET", "/v1/users"))
    for what, text in hidden.items():
        for where, content in seen.items():
            assert text not in content, f"{what} stands in {where}: {content[max(0, content.find(text) - 200):][:400]}"


def test_no_secret_in_the_data_directory(playground):
    """Device secrets are kept as keyed hashes."""
    persons = [playground.add_person(f"user-{i}") for i in range(3)]
    playground.kill("router-1", "TERM")
    for path in (playground.dir / "router-1/data").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for _, secret in persons:
            assert secret.encode() not in content, path
