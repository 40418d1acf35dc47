"""Processes of a playground with programs that misbehave: small scripts stand in for router and gateway, so that each way to
fail is sure to happen. What holds with the real ones is in test_ctl_playground.py."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

from conftest import BIN, wait_until

REFUSED, NOT_FOUND, UNAVAILABLE, TEMPORARY = 65, 66, 69, 75

GOOD = '''#!/usr/bin/python3
import http.server, os, pathlib, re, signal, sys
config = pathlib.Path(sys.argv[sys.argv.index("--config") + 1])
host, port = re.search(r"management:\\n  address: '(.*):(\\d+)'", config.read_text()).groups()
print("up", os.environ.get("WORD", ""), flush=True)
TERM
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(STATUS)
        self.end_headers()
        self.wfile.write(b"REASON\\n")
    def log_message(self, *words):
        pass
http.server.HTTPServer.allow_reuse_address = True
http.server.HTTPServer((host, int(port)), Answer).serve_forever()
'''


def program(status=200, reason="ready", term="signal.signal(signal.SIGTERM, lambda *_: os._exit(0))"):
    return GOOD.replace("STATUS", str(status)).replace("REASON", reason).replace("TERM\n", term + "\n", 1)


@pytest.fixture
def stage(tmp_path):
    """wardpostctl beside stand-ins: stage.router(text), stage.gateway(text), stage(*words) runs it."""
    stage = Stage(tmp_path)
    yield stage
    stage("playground", "down", check=None)


class Stage:
    def __init__(self, path):
        self.bin = path / "bin"
        self.dir = path / "p"
        self.bin.mkdir()
        shutil.copy(BIN / "wardpostctl", self.bin)
        self.router(program())
        self.gateway(program())

    def write(self, name, text):
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def router(self, text):
        self.write("wardpost-router", text)

    def gateway(self, text):
        self.write("wardpost-gateway", text)

    def __call__(self, *words, check=0, **options):
        done = subprocess.run([self.bin / "wardpostctl", "--dir", self.dir, *words], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, **options)
        assert check is None or done.returncode == check, (words, done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *words, **options):
        return json.loads(self(*words, "-o", "json", **options).stdout)

    def pids(self):
        info = json.loads((self.dir / "playground.json").read_text())
        return {node["id"]: node["pid"] for node in info["routers"] + info["gateways"]}


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_up_prints_live_processes_and_down_ends_them(stage):
    info = stage.json("playground", "up", "--gateways", "2")
    pids = [node["pid"] for node in info["routers"] + info["gateways"]]
    assert len(pids) == 3 and all(alive(pid) for pid in pids)
    assert [node["state"] for node in info["routers"] + info["gateways"]] == ["ready"] * 3
    assert (stage.dir / "router-1/pid").read_text() == f"{pids[0]}\n"
    result = stage.json("playground", "down")["nodes"]
    assert {node["id"]: node["result"] for node in result} == {"gateway-1": "stopped", "gateway-2": "stopped", "router-1": "stopped"}
    assert not any(alive(pid) for pid in pids)
    assert stage.pids() == {"router-1": None, "gateway-1": None, "gateway-2": None}
    result = stage.json("playground", "down")["nodes"]
    assert {node["result"] for node in result} == {"was down"}


def test_processes_are_detached_and_hold_nothing_of_the_caller(stage):
    read_end, write_end = os.pipe()
    info = stage.json("playground", "up", pass_fds=[write_end])
    os.close(write_end)
    assert os.read(read_end, 1) == b""  # the end of file comes only when nobody else holds the other end
    os.close(read_end)
    pid = info["routers"][0]["pid"]
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert os.readlink(f"/proc/{pid}/fd/2") == str(stage.dir / "router-1/log")
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


def test_up_again_starts_only_what_is_down(stage):
    first = stage.json("playground", "up")
    stage("playground", "kill", "--node", "gateway-1")
    second = stage.json("playground", "up")
    assert second["routers"][0]["pid"] == first["routers"][0]["pid"]
    assert second["gateways"][0]["pid"] != first["gateways"][0]["pid"]
    assert second["gateways"][0]["mqtt"] == first["gateways"][0]["mqtt"]


def test_a_program_that_ends_at_once_is_reported_with_status_and_log(stage):
    stage.router("#!/bin/sh\necho 'level=error event=config text=\"no such key\"' >&2\nexit 78\n")
    done = stage("playground", "up", check=UNAVAILABLE)
    assert '"router-1" ended with status 78 while starting' in done.stderr
    assert "no such key" in done.stderr
    assert stage.pids() == {"router-1": None, "gateway-1": None}


def test_a_failure_shows_the_lines_of_this_start_only(stage):
    stage.router("#!/bin/sh\necho old-story >&2\nexit 1\n")
    stage("playground", "up", check=UNAVAILABLE)
    stage.router("#!/bin/sh\nfor i in $(seq 40); do echo line-$i-; done\nexit 1\n")
    done = stage("playground", "up", check=UNAVAILABLE)
    assert "old-story" not in done.stderr
    assert "line-40-" in done.stderr and "line-26-" in done.stderr and "line-25-" not in done.stderr


def test_a_program_that_never_gets_ready_is_ended_and_its_reason_told(stage):
    stage.gateway(program(status=503, reason="no link to router-1"))
    done = stage("playground", "up", "--timeout", "1", check=UNAVAILABLE)
    assert '"gateway-1" is not ready after 1 s: no link to router-1' in done.stderr
    assert stage.pids() == {"router-1": None, "gateway-1": None}


def test_a_missing_program_is_named(stage):
    (stage.bin / "wardpost-gateway").unlink()
    done = stage("playground", "up", check=UNAVAILABLE, env={**os.environ, "PATH": "/nowhere"})
    assert 'cannot start "wardpost-gateway"' in done.stderr


def test_down_kills_what_ignores_sigterm_after_ten_seconds(stage):
    stage.gateway(program(term="signal.signal(signal.SIGTERM, signal.SIG_IGN)"))
    info = stage.json("playground", "up")
    start = time.monotonic()
    result = stage.json("playground", "down")["nodes"]
    assert 9.5 < time.monotonic() - start < 20
    assert {node["id"]: node["result"] for node in result} == {"gateway-1": "killed", "router-1": "stopped"}
    assert not alive(info["gateways"][0]["pid"])


def test_down_ends_a_process_that_was_held(stage):
    stage("playground", "up")
    stage("playground", "kill", "--node", "router-1", "--signal", "STOP")
    assert {node["result"] for node in stage.json("playground", "down")["nodes"]} == {"stopped"}


def test_kill_waits_for_the_end_and_start_brings_it_back(stage):
    info = stage.json("playground", "up")
    pid = info["routers"][0]["pid"]
    answer = stage.json("playground", "kill", "--node", "router-1")
    assert answer == {"node": "router-1", "pid": pid, "result": "down"}
    assert not alive(pid)
    done = stage("playground", "kill", "--node", "router-1", check=REFUSED)
    assert "is not running" in done.stderr
    answer = stage.json("playground", "start", "--node", "router-1")
    assert answer["result"] == "ready" and answer["pid"] != pid
    assert stage.json("playground", "start", "--node", "router-1") == {**answer, "result": "was running"}


def test_stop_and_continue_leave_the_process_alone(stage):
    pid = stage.json("playground", "up")["routers"][0]["pid"]
    assert stage.json("playground", "kill", "--node", "router-1", "--signal", "STOP")["result"] == "signalled"
    state = stage.json("playground", "status", check=UNAVAILABLE)["routers"][0]
    assert state["state"] == "stopped" and state["pid"] == pid
    assert stage.json("playground", "kill", "--node", "router-1", "--signal", "SIGCONT")["result"] == "signalled"
    assert stage.json("playground", "status")["routers"][0]["state"] == "ready"


def test_signals_go_by_name_and_by_number(stage):
    stage.router(program(term="signal.signal(signal.SIGTERM, lambda *_: (print('got TERM', flush=True), os._exit(0)))"))
    stage("playground", "up")
    stage("playground", "kill", "--node", "router-1", "--signal", "15")
    assert "got TERM" in (stage.dir / "router-1/log").read_text()


def test_unknown_nodes_are_not_found(stage):
    stage("playground", "up")
    for verb in ("kill", "start"):
        done = stage("playground", verb, "--node", "router-7", check=NOT_FOUND)
        assert 'no node "router-7"' in done.stderr


def test_a_pid_that_belongs_to_somebody_else_now_is_never_signalled(stage):
    stage("playground", "up")
    stage("playground", "kill", "--node", "router-1")
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        path = stage.dir / "playground.json"
        info = json.loads(path.read_text())
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        for ticks, of_boot in ((1, boot), (start_ticks(stranger.pid), "another-boot")):
            info["routers"][0].update(pid=stranger.pid, start_ticks=ticks, boot=of_boot)
            path.write_text(json.dumps(info))
            assert stage.json("playground", "status", check=UNAVAILABLE)["routers"][0]["state"] == "down"
            stage("playground", "kill", "--node", "router-1", check=REFUSED)
            assert stranger.poll() is None
        assert {"id": "router-1", "result": "was down"} in stage.json("playground", "down")["nodes"]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def start_ticks(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])


def test_environment_reaches_what_is_started(stage):
    stage("playground", "up", "--env", "WORD=first", "--env", "OTHER=x=y")
    pid = stage.pids()["router-1"]
    environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"OTHER=x=y" in environment
    stage("playground", "kill", "--node", "router-1")
    stage("playground", "start", "--node", "router-1", "--env", "WORD=second")
    assert (stage.dir / "router-1/log").read_text().splitlines() == ["up first", "up second"]


def test_two_commands_at_once_take_turns(stage):
    words = [stage.bin / "wardpostctl", "--dir", stage.dir, "playground", "up", "--json"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    one, two = (json.loads(out) for out, _ in answers)
    assert one == two


def test_an_interrupted_up_loses_no_process(stage):
    stage.gateway(program(status=503))
    starting = subprocess.Popen([stage.bin / "wardpostctl", "--dir", stage.dir, "playground", "up"])
    wait_until(lambda: (stage.dir / "playground.json").exists() and stage.pids()["gateway-1"], what="pid of gateway-1")
    starting.send_signal(signal.SIGKILL)
    starting.wait()
    pids = stage.pids()
    assert all(alive(pid) for pid in pids.values())
    stage("playground", "down")
    assert not any(alive(pid) for pid in pids.values())


def test_the_table_is_for_people(stage):
    text = stage("playground", "up").stdout
    head, columns, router, gateway = text.splitlines()
    assert str(stage.dir) in head and "cluster" in head
    assert columns.split()[:3] == ["NODE", "PID", "STATE"]
    assert router.split()[0] == "router-1" and router.split()[2] == "ready"
    assert gateway.split()[0] == "gateway-1" and gateway.split()[3] == "-"


def test_users_and_devices_without_a_running_router_say_so(stage):
    stage("playground", "up", "--no-start")
    for words in (["user", "add", "alice"], ["user", "list"], ["device", "add", "alice/phone"], ["device", "list", "alice"],
                  ["device", "remove", "alice/phone"], ["status"]):
        done = stage(*words, check=UNAVAILABLE)
        assert "no router answers" in done.stderr
