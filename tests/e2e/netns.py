"""Machines on one machine: network namespaces of this test alone, joined by a bridge whose rules cut links.

    lab = Lab()
    a, b = lab.machine("a", "10.77.0.1"), lab.machine("b", "10.77.0.2")
    a.start(["wardpost-router", ...], log)      # runs inside
    a.connect("127.0.0.1", 1883)                # a socket made inside, used here
    lab.cut("a", "b"); lab.cut_way("a", "b"); lab.isolate("a"); lab.heal()

`unshare -rn` makes them, so no root is needed where the kernel allows that; interfaces and rules exist inside only. A machine is held
by a process that ends with its pipe, and what runs inside dies with the test's thread: nothing is left behind, however the test ends.
"""
import array
import errno
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from conftest import EFFORT

HOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "netns_holder.py")
TOOLS = ["unshare", "nsenter", "setpriv", "ip", "nft"]
# Each packet between two machines crosses the bridge: this chain sees it, and both directions of a link are rules of their own.
RULES = "flush chain bridge cuts links\n"
TABLE = "add table bridge cuts\nadd chain bridge cuts links { type filter hook forward priority 0; policy accept; }\n"


class Refused(Exception):
    """This machine does not let us make namespaces."""


def _call(words, text=None):
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise Refused(f"{' '.join(words)}: {done.stderr.strip()}")


class Machine:
    """One namespace: a holder process in it, which also makes connections for us there."""

    def __init__(self, name, address, words):
        """`words` make the namespace and run in it what follows them."""
        self.name, self.address = name, address
        self.asking = threading.Lock()
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.holder = subprocess.Popen([*words, sys.executable, HOLDER, str(theirs.fileno())], pass_fds=[theirs.fileno()],
                                       stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        theirs.close()
        self.requests.settimeout(20)
        if self.requests.recv(16) != b"ready":
            error = self.holder.stderr.read().strip()
            self.close()
            raise Refused(error or f"{words[0]} failed")

    def enter(self, user_namespace):
        """Words that run inside what follows them."""
        return ["nsenter", *(["-U", "--preserve-credentials"] if user_namespace else []), "-n", "-t", str(self.holder.pid)]

    def close(self):
        self.requests.close()
        self.holder.kill()
        self.holder.wait(10)
        self.holder.stderr.close()

    def connect(self, host, port, timeout=10):
        """A connected socket that lives in the namespace; OSError as socket.create_connection raises it."""
        with self.asking:
            self.requests.settimeout(timeout + 20)
            self.requests.send(json.dumps([host, port, timeout]).encode())
            answer, rights, _, _ = self.requests.recvmsg(64, socket.CMSG_SPACE(4))
        if not rights:
            raise OSError(int(answer or errno.ECONNRESET), f"no connection to {host}:{port} on {self.name}")
        descriptors = array.array("i")
        descriptors.frombytes(rights[0][2][:4])
        return socket.socket(fileno=descriptors[0])


class Lab:
    def __init__(self):
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing:
            raise Refused(f"{', '.join(missing)} not installed; tools/setup installs it")
        self.machines, self.processes, self.cuts = {}, [], set()
        self.user_namespace = True
        try:
            self.hub = Machine("hub", None, ["unshare", "-rn"])
        except Refused:
            if os.geteuid() != 0:
                raise
            self.user_namespace = False  # root, where user namespaces are off
            self.hub = Machine("hub", None, ["unshare", "-n"])
        try:
            self._hub("ip", "link", "set", "lo", "up")
            self._hub("ip", "link", "add", "bridge0", "type", "bridge")
            self._hub("ip", "link", "set", "bridge0", "up")
            _call([*self.hub.enter(self.user_namespace), "nft", "-f", "-"], TABLE)
        except BaseException:
            self.close()
            raise

    def _hub(self, *words):
        _call([*self.hub.enter(self.user_namespace), *words])

    def machine(self, name, address):
        """A new one on the bridge, in a /24 with the others."""
        machine = Machine(name, address, [*self.hub.enter(self.user_namespace), "unshare", "-n"])
        self.machines[name] = machine
        port = f"port{len(self.machines)}"
        self._hub("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(machine.holder.pid))
        self._hub("ip", "link", "set", port, "master", "bridge0", "up")
        for words in (["ip", "link", "set", "lo", "up"], ["ip", "address", "add", f"{address}/24", "dev", "eth0"],
                      ["ip", "link", "set", "eth0", "up"]):
            _call([*machine.enter(self.user_namespace), *words])
        return machine

    # -- processes

    def start(self, name, words, log, environment=None):
        """Runs a program inside, its output appended to the file `log`. Only from the test's main thread: it dies with its parent."""
        inside = [*self.machines[name].enter(self.user_namespace), "setpriv", "--pdeathsig", "KILL", "--", *map(str, words)]
        with open(log, "ab") as out:
            process = subprocess.Popen(inside, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **(environment or {})})
        self.processes.append(process)
        return process

    # -- links

    def cut_way(self, source, target):
        """Nothing from `source` reaches `target` any more; the other direction stays."""
        self.cuts.add((source, target))
        self._apply()

    def cut(self, one, other):
        self.cuts |= {(one, other), (other, one)}
        self._apply()

    def split(self, *names):
        """Those named on one side, all the others on the other."""
        for one, other in itertools.product(names, self.machines):
            if other not in names:
                self.cuts |= {(one, other), (other, one)}
        self._apply()

    def isolate(self, name):
        self.split(name)

    def heal(self):
        self.cuts.clear()
        self._apply()

    def _apply(self):
        """All rules at once: there is no moment with half of them."""
        rules = [f"add rule bridge cuts links ip saddr {self.machines[a].address} ip daddr {self.machines[b].address} drop\n"
                 for a, b in sorted(self.cuts)]
        _call([*self.hub.enter(self.user_namespace), "nft", "-f", "-"], RULES + "".join(rules))

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        for process in self.processes:
            process.wait(20)
        for machine in [*self.machines.values(), self.hub]:
            machine.close()
        self.machines.clear()


def make_lab():
    """A lab; where namespaces are refused the test is skipped and says why, and in CI it fails."""
    try:
        return Lab()
    except Refused as error:
        (pytest.fail if EFFORT == "ci" else pytest.skip)(f"no network namespaces here: {error}")
