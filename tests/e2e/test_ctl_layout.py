"""The folder that `playground up` makes: what is secret stays secret, certificates work, ports are as promised."""
import json
import os
import pathlib
import re
import socket
import ssl
import stat
import threading

import pytest

from conftest import run


@pytest.fixture
def made(tmp_path):
    def make(*words):
        folder = tmp_path / f"p{len(list(tmp_path.iterdir()))}"
        done = run("wardpostctl", "playground", "up", "--no-start", "--dir", folder, "--json", *words, check=0)
        return folder, json.loads(done.stdout)

    return make


def test_secrets_are_for_the_owner_only(made):
    folder, _ = made("--gateways", "2")
    secrets = [path for path in folder.rglob("*") if path.name in ("cluster.key", "ca.key", "curve.key", "tls.key", "router.yaml",
                                                                    "gateway.yaml", "playground.json")]
    assert len(secrets) == 2 + 3 + 2 + 3 + 1
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for path in [folder, *[p for p in folder.rglob("*") if p.is_dir()]]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    assert not list(folder.rglob("*.new"))


def test_a_loose_umask_opens_nothing(tmp_path):
    folder = tmp_path / "p"
    run("sh", "-c", f"umask 000; exec '{run_path()}' playground up --no-start --dir '{folder}'", check=0)
    assert stat.S_IMODE((folder / "cluster.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def run_path():
    from conftest import BIN
    return BIN / "wardpostctl"


def test_keys_have_their_form_and_differ_between_playgrounds(made):
    (one, _), (two, _) = made(), made()
    for folder in (one, two):
        assert re.fullmatch(r"[0-9a-f]{64}\n", (folder / "cluster.key").read_text())
        assert re.fullmatch(r"public: \S{40}\nsecret: \S{40}\n", (folder / "router-1/curve.key").read_text())
    for name in ("cluster.key", "ca.pem", "router-1/curve.key", "gateway-1/curve.key", "gateway-1/tls.pem"):
        assert (one / name).read_bytes() != (two / name).read_bytes()


def test_the_allow_list_has_each_gateway_with_its_public_key(made):
    folder, _ = made("--gateways", "3")
    text = (folder / "router-1/router.yaml").read_text()
    for i in (1, 2, 3):
        public = (folder / f"gateway-{i}/curve.key").read_text().split()[1]
        secret = (folder / f"gateway-{i}/curve.key").read_text().split()[3]
        assert f"- node: 'gateway-{i}'\n      role: 'gateway'\n      key: '{public}'" in text
        assert secret not in text
        router_public = (folder / "router-1/curve.key").read_text().split()[1]
        assert f"key: '{router_public}'" in (folder / f"gateway-{i}/gateway.yaml").read_text()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_a_certificate_is_good_for_every_name_of_this_machine(made, name):
    folder, info = made()
    assert handshake(folder, info["ca"], name) == "TLSv1.3"


def test_a_certificate_of_another_playground_is_not_trusted(made):
    (one, _), (_, two) = made(), made()
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(one, two["ca"], "localhost")


def handshake(folder, ca, name):
    """TLS between two ends of a socket pair with the gateway's certificate; answers the version."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "gateway-1/tls.pem", folder / "gateway-1/tls.key")
    client = ssl.create_default_context(cafile=ca)
    a, b = socket.socketpair()

    def serve():
        try:
            server.wrap_socket(a, server_side=True).recv(1)
        except (ssl.SSLError, OSError):
            a.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(b, server_hostname=name) as wrapped:
            return wrapped.version()
    finally:
        b.close()
        thread.join()


def test_fixed_ports_are_as_help_says(made):
    _, info = made("--port-base", "21000", "--gateways", "2", "--reactors", "4")
    router, (first, second) = info["routers"][0], info["gateways"]
    assert router["fabric"] == "127.0.0.1:21000" and router["management"] == "127.0.0.1:21019"
    assert [first[k] for k in ("mqtt", "mqtts", "ws", "wss", "management")] == [f"127.0.0.1:{21200 + i}" for i in range(5)]
    assert [second[k] for k in ("mqtt", "mqtts", "ws", "wss", "management")] == [f"127.0.0.1:{21210 + i}" for i in range(5)]


def test_picked_ports_are_free_distinct_and_leave_room_for_the_reactors(made):
    _, info = made("--gateways", "4", "--reactors", "8")
    fabric = int(info["routers"][0]["fabric"].split(":")[1])
    ports = list(range(fabric, fabric + 8)) + [int(info["routers"][0]["management"].split(":")[1])]
    for gateway in info["gateways"]:
        ports += [int(gateway[k].split(":")[1]) for k in ("mqtt", "mqtts", "ws", "wss", "management")]
    assert len(set(ports)) == len(ports)
    low = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(1024 < port < max(low, 32768) for port in ports)


def test_routers_have_one_reactor_for_each_core_that_they_can_have(made):
    for routers in 1, 9:
        folder, _ = made("--routers", str(routers))
        expected = 2 if os.cpu_count() >= 2 * routers else 1
        for i in range(routers):
            assert f"reactors: {expected}" in (folder / f"router-{i + 1}" / "router.yaml").read_text().splitlines()


def test_a_quote_in_the_path_survives_the_configuration(tmp_path):
    folder = tmp_path / "it's \"here\""
    run("wardpostctl", "playground", "up", "--no-start", "--dir", folder, check=0)
    assert f"data: '{str(folder).replace(chr(39), chr(39) * 2)}/router-1/data'" in (folder / "router-1/router.yaml").read_text()


def test_up_again_keeps_everything_and_another_shape_is_refused(made):
    folder, info = made()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run("wardpostctl", "playground", "up", "--no-start", "--dir", folder, "--json", check=0)
    assert json.loads(done.stdout) == info
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    done = run("wardpostctl", "playground", "up", "--no-start", "--dir", folder, "--gateways", "2", check=65)
    assert "was made with 1 gateway(s)" in done.stderr
