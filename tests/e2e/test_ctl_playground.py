"""The playground with the real programs: up, down, kill, start, several gateways, readiness and the pages of each process."""
import subprocess
import time

import pytest

from conftest import BIN, run, wait_until

UNAVAILABLE, IN_USE = 69, 75


def test_up_answers_when_every_process_is_ready(playground):
    for node in ("router-1", "gateway-1"):
        assert playground.page(node, "/livez")[0] == 200
        assert playground.page(node, "/readyz")[0] == 200
        assert any(key.startswith("wardpost_") for key in playground.metrics(node))


def test_several_gateways_are_all_linked(make_playground):
    playground = make_playground("--gateways", "3")
    assert len(playground.info["gateways"]) == 3
    linked = wait_until(lambda: all(row["up"] for row in playground.ctl_json("status")["routers"][0]["gateways"]), what="links")
    assert linked


def test_down_is_clean_and_up_brings_the_same_cluster_back(playground):
    first = playground.info
    playground.add_user("alice")
    assert {row["result"] for row in playground.down()["nodes"]} == {"stopped"}
    second = playground.up().info
    assert second["cluster_id"] == first["cluster_id"]
    assert second["gateways"][0]["mqtt"] == first["gateways"][0]["mqtt"]
    assert [row["user"] for row in playground.ctl_json("user", "list")["users"]] == ["alice"]


def test_a_gateway_without_its_router_is_alive_and_not_ready(playground):
    playground.kill("router-1")
    wait_until(lambda: playground.page("gateway-1", "/readyz")[0] == 503, what="not ready")
    assert playground.page("gateway-1", "/livez")[0] == 200
    state = playground.status()
    assert state["router-1"]["state"] == "down" and state["gateway-1"]["state"] == "starting"
    assert state["gateway-1"]["reason"]
    playground.start("router-1")
    wait_until(lambda: playground.page("gateway-1", "/readyz")[0] == 200, what="ready")


@pytest.mark.parametrize("node", ["router-1", "gateway-1"])
def test_each_process_ends_cleanly_on_sigterm(playground, node):
    assert playground.kill(node, "TERM")["result"] == "down"
    assert playground.start(node)["result"] == "ready"


def test_a_held_router_is_told_apart_from_a_dead_one(playground):
    playground.kill("router-1", "STOP")
    assert playground.status()["router-1"]["state"] == "stopped"
    playground.kill("router-1", "CONT")
    wait_until(lambda: playground.status()["router-1"]["state"] == "ready", what="ready")


def test_ten_kills_in_a_row(playground):
    for i in range(10):
        playground.add_user(f"user-{i}")
        playground.restart("router-1")
    assert len(playground.ctl_json("user", "list")["users"]) == 10


def test_a_second_router_on_the_same_data_is_refused_and_the_first_goes_on(playground):
    config = playground.dir / "router-1/router.yaml"
    second = playground.dir / "second.yaml"
    lines = [line for line in config.read_text().splitlines() if "socket:" not in line and "address:" not in line]
    text = "\n".join(lines).replace("management:\n", "")
    port = int(playground.node("router-1")["fabric"].split(":")[1])
    second.write_text(text.replace(f"port: {port}", f"port: {port + 5000}") + "\n")
    done = run("wardpost-router", "--config", second, timeout_s=20)
    assert done.returncode == IN_USE, done.stderr
    assert "data" in done.stderr
    assert playground.status()["router-1"]["state"] == "ready"


@pytest.mark.parametrize("node, file, program", [("router-1", "router.yaml", "wardpost-router"),
                                                  ("gateway-1", "gateway.yaml", "wardpost-gateway")])
def test_the_written_configuration_passes_the_programs_own_check(shared, node, file, program):
    done = run(program, "--check-config", "--config", shared.dir / node / file)
    assert done.returncode == 0, done.stderr


def test_a_mistake_in_the_configuration_reaches_the_operator_with_file_and_line(make_playground):
    playground = make_playground()
    playground.kill("router-1")
    playground.configure("router-1", {"storage.disk_reserve_byte": 5})
    done = playground.ctl("playground", "start", "--node", "router-1", check=UNAVAILABLE)
    line = (playground.dir / "router-1/router.yaml").read_text().splitlines().index("  disk_reserve_byte: 5") + 1
    assert f"router.yaml:{line}:" in done.stderr and "disk_reserve_bytes" in done.stderr


def test_a_taken_port_is_named(make_playground):
    import socket
    playground = make_playground()
    playground.kill("gateway-1")
    holder = socket.create_server(playground.endpoint("mqtt"))
    try:
        done = playground.ctl("playground", "start", "--node", "gateway-1", check=UNAVAILABLE)
        assert str(playground.endpoint("mqtt")[1]) in done.stderr
    finally:
        holder.close()


def test_ready_waits_while_another_command_works(playground):
    """Invariant 1 of the playground's file: one command at a time."""
    start = time.monotonic()
    both = [subprocess.Popen([BIN / "wardpostctl", "--dir", playground.dir, "playground", "kill", "--node", node],
                             stdout=subprocess.DEVNULL) for node in ("router-1", "gateway-1")]
    assert [process.wait(timeout=30) for process in both] == [0, 0]
    assert time.monotonic() - start < 25
    assert {node["state"] for node in playground.status().values()} == {"down"}
