"""The service manager's watchdog against real processes: readiness and pings reach its socket, and a router of which one reactor
hangs is not called alive."""
import ctypes
import os
import pathlib
import socket
import time

import pytest

from conftest import SLOW, wait_until

INTERVAL_S = 0.25  # between pings: half of WATCHDOG_USEC


class Manager:
    """The service manager's end of the notify socket."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def take(self):
        """What came since the last look."""
        got = []
        try:
            while True:
                got.append(self.socket.recv(4096).decode())
        except BlockingIOError:
            return got

    def environment(self):
        return ["--env", f"NOTIFY_SOCKET={self.path}", "--env", f"WATCHDOG_USEC={int(2 * INTERVAL_S * 1e6)}"]


@pytest.fixture
def watched(make_playground, tmp_path):
    """watched(node): a playground of which that node has a manager."""
    made = []

    def make(node):
        playground = make_playground()
        playground.kill(node, "TERM")
        made.append(Manager(tmp_path / "notify"))
        playground.start(node, *made[-1].environment())
        return playground, made[-1]

    yield make
    for manager in made:
        manager.socket.close()


class Frozen:
    """One thread of another process, stopped as a debugger does it; the others run on."""

    def __init__(self, thread):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self.thread = thread

    def _ptrace(self, request):
        if self.libc.ptrace(request, self.thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def __enter__(self):
        self._ptrace(0x4206)  # PTRACE_SEIZE
        self._ptrace(0x4207)  # PTRACE_INTERRUPT
        os.waitpid(self.thread, 0x40000000)  # __WALL
        return self

    def __exit__(self, *_):
        self._ptrace(17)  # PTRACE_DETACH: it runs on


def thread_of(pid, name):
    return next(int(task.name) for task in pathlib.Path(f"/proc/{pid}/task").iterdir() if (task / "comm").read_text().strip() == name)


@pytest.mark.parametrize("node", ["router-1", "gateway-1"])
def test_pings_arrive_from_ready_to_stopping(watched, node):
    playground, manager = watched(node)
    time.sleep(6 * INTERVAL_S * SLOW)
    got = manager.take()
    assert got[0] == "READY=1" and set(got[1:]) == {"WATCHDOG=1"} and len(got) >= 5
    playground.kill(node, "TERM")
    assert "STOPPING=1" in manager.take()


def test_a_reactor_that_hangs_stops_the_pings(watched):
    playground, manager = watched("router-1")
    wait_until(lambda: "WATCHDOG=1" in manager.take(), what="a ping")
    with Frozen(thread_of(playground.pid("router-1"), "reactor-1")):
        time.sleep(2 * INTERVAL_S)  # the look that saw it turn may lie ahead
        manager.take()
        time.sleep(4 * INTERVAL_S)
        assert manager.take() == []
        assert playground.page("router-1", "/livez")[0] == 200  # the rest of the process lives
    wait_until(lambda: "WATCHDOG=1" in manager.take(), what="a ping after it turns again")
    assert "event=loop_stalled loop=1" in playground.log("router-1") and "event=loop_turns_again loop=1" in playground.log("router-1")
