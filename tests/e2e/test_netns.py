"""The lab of network namespaces itself, with echo servers in place of routers: a test of partitions proves nothing when a cut link
still carries packets, or a healed one none."""
import os
import subprocess
import sys

import pytest

from conftest import wait_until
from netns import make_lab

ECHO = """
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(100):
            self.request.sendall(data)
socketserver.ThreadingTCPServer(("0.0.0.0", 7000), Echo).serve_forever()
"""
NAMES = "abc"


@pytest.fixture
def lab(tmp_path):
    lab = make_lab()
    try:
        for number, name in enumerate(NAMES, 1):
            lab.machine(name, f"10.77.0.{number}")
            lab.start(name, [sys.executable, "-c", ECHO], tmp_path / name)
        for name in NAMES:
            wait_until(lambda: answers(lab, name, name), what=f"echo on {name}")
        yield lab
    finally:
        lab.close()


def answers(lab, source, target, timeout=0.4):
    """Whether a new connection from one machine to another carries a word there and back."""
    try:
        with lab.machines[source].connect(lab.machines[target].address, 7000, timeout) as connection:
            return echoes(connection, timeout)
    except OSError:
        return False


def echoes(connection, timeout=0.4):
    connection.settimeout(timeout)
    try:
        connection.sendall(b"word")
        return connection.recv(4) == b"word"
    except TimeoutError:
        return False


def reached(lab):
    return {one + other for one in NAMES for other in NAMES if one != other and answers(lab, one, other)}


def test_cuts_cut_what_they_say_and_nothing_else(lab):
    everything = {"ab", "ac", "ba", "bc", "ca", "cb"}
    assert reached(lab) == everything
    lab.isolate("a")
    assert reached(lab) == {"bc", "cb"}
    lab.heal()
    lab.cut("a", "b")
    assert reached(lab) == everything - {"ab", "ba"}
    lab.heal()
    lab.cut_way("a", "b")  # there and back needs both ways
    assert reached(lab) == everything - {"ab", "ba"}
    lab.heal()
    assert reached(lab) == everything


def test_a_link_that_stands_is_cut_too_and_goes_on_after_healing(lab):
    with lab.machines["a"].connect(lab.machines["b"].address, 7000) as connection:
        assert echoes(connection)
        lab.cut("a", "b")
        assert not echoes(connection)
        lab.heal()
        connection.settimeout(10)
        assert connection.recv(4) == b"word"  # TCP sends it again


def test_one_way_lets_the_other_way_through(lab):
    """What `a` sends arrives at `b`, which prints it; only answers are lost."""
    listener = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 7001)); print(s.recv(9), flush=True)"
    sender = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'{}', ('{}', 7001))"

    def told(source, target, word):
        enter = [*lab.machines[target].enter(lab.user_namespace), sys.executable, "-c", listener]
        with subprocess.Popen(enter, stdout=subprocess.PIPE, text=True) as process:
            wait_until(lambda: "7001" in lab_sockets(lab, target), what="the listener")
            subprocess.run([*lab.machines[source].enter(lab.user_namespace), sys.executable, "-c",
                            sender.format(word, lab.machines[target].address)], check=True, timeout=20)
            try:
                return process.communicate(timeout=0.5)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                return ""

    lab.cut_way("b", "a")
    assert "there" in told("a", "b", "there")
    assert told("b", "a", "back") == ""


def lab_sockets(lab, name):
    return subprocess.run([*lab.machines[name].enter(lab.user_namespace), "ss", "-lun"], capture_output=True, text=True, timeout=20).stdout


def alive(pid):
    """Whether the process runs; one that ended and that nobody has asked for yet does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_is_left_behind(tmp_path):
    before = set(os.listdir("/sys/class/net"))
    lab = make_lab()
    lab.machine("a", "10.77.0.1")
    process = lab.start("a", ["sleep", "60"], tmp_path / "log")
    holders = [lab.hub.holder.pid, lab.machines["a"].holder.pid]
    assert set(os.listdir("/sys/class/net")) == before  # interfaces are inside only
    lab.close()
    assert process.poll() is not None
    assert not any(map(alive, holders))


def test_a_test_that_is_killed_leaves_nothing_behind(tmp_path):
    script = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from netns import Lab
lab = Lab(); lab.machine("a", "10.77.0.1")
process = lab.start("a", ["sleep", "60"], {str(tmp_path / "log")!r})
import time
while open(f"/proc/{{process.pid}}/comm").read() != "sleep\\n":  # from then on it dies with its parent
    time.sleep(0.01)
print(process.pid, lab.hub.holder.pid, lab.machines["a"].holder.pid, flush=True)
sys.stdin.read()
"""
    make_lab().close()  # skips where there is none
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed:
        pids = killed.stdout.readline().split()
        assert len(pids) == 3
        killed.kill()
    wait_until(lambda: not any(map(alive, pids)), what="the end of what it started")
