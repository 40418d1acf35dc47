"""How long each shard is away when its leader is killed, seen by devices.

One probe per shard publishes steadily to a recipient there. For each shard that the killed router led, the time away counts
from the first submit that was refused or not answered at once to the first one accepted after it. By hand:

    WP_BUILD=build/release /usr/bin/python3 tests/e2e/failover.py --kills 50 [--rate 50] [--load 2000] [--signal KILL|STOP]
"""
import argparse
import os
import pathlib
import random
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time

import rawmqtt
from conftest import BIN, Playground, folder_for_playgrounds, wait_until
from rawmqtt import PUBACK, Closed, Device

ROUTERS = ["router-1", "router-2", "router-3"]
SHARDS = 8
LATE_S = 0.03  # an answer that takes longer was not at once


class Probe:
    """Publishes to one recipient; `rows` are [sent, answered, code] in sending order."""

    def __init__(self, shard, person, recipient):
        self.shard, self.person, self.recipient = shard, person, recipient
        self.rows, self.open, self.device = [], {}, None

    def connect(self, address):
        self.device = Device(address, *self.person)
        assert self.device.connack.code == 0, self.device.connack

    def publish(self):
        if len(self.open) >= 60:  # under the Receive Maximum: while the shard is away nothing more is told by more
            return
        row = [time.monotonic(), None, None]
        self.rows.append(row)
        extra = [(0x26, ("wp-id", rawmqtt.new_id())), (0x02, 20)]
        self.open[self.device.submit(self.recipient, "probe", extra=extra)] = row

    def take(self):
        """Answers that are there."""
        while True:
            try:
                packet = self.device.receive(0.0001)
            except TimeoutError:
                return
            assert packet.kind == PUBACK, f"{self.person[0]} was told {packet}"
            row = self.open.pop(packet.id)
            row[1], row[2] = time.monotonic(), packet.code


class Prober(threading.Thread):
    """All probes on one thread, so that they disturb each other little."""

    def __init__(self, playground, probes, rate, gateway="gateway-1"):
        super().__init__(daemon=True)
        self.probes, self.rate, self.stopping, self.error = probes, rate, threading.Event(), None
        for probe in probes:
            probe.connect(playground.endpoint(gateway=gateway))

    def run(self):
        try:
            self._run()
        except (Closed, OSError, AssertionError) as error:  # a device noticed: reported by finish()
            self.error = error

    def _run(self):
        selector = selectors.DefaultSelector()
        for probe in self.probes:
            selector.register(probe.device.socket, selectors.EVENT_READ, probe)
        due = time.monotonic()
        while not self.stopping.is_set():
            if time.monotonic() >= due:
                due += 1 / self.rate
                for probe in self.probes:
                    probe.publish()
            for key, _ in selector.select(max(0, due - time.monotonic())):
                key.data.take()

    def finish(self):
        self.stopping.set()
        self.join(10)
        if self.error:
            raise self.error


def leaders(playground):
    """{shard: router} as each router says of itself."""
    found = {}
    for router in ROUTERS:
        try:
            for shard in playground.admin("GET", "/v1/status", node=router)["shards"]:
                if shard["role"] == "leader":
                    found[shard["shard"]] = router
        except OSError:
            pass
    return found


def safe(playground):
    """Whether any router may go: each shard has its leader and every replica is in step (one that was started again catches up first)."""
    try:
        if not playground.admin("GET", "/v1/cluster")["safe"]:
            return False
    except (OSError, AssertionError):
        return False
    led = leaders(playground)
    return len(led) == SHARDS and len(set(led.values())) > 1


def probes_make(playground):
    """One recipient in each shard, and a sender for each."""
    found, number = {}, 0
    while len(found) < SHARDS:
        answer = playground.admin("POST", "/v1/users", {"user": f"target-{number}"})
        found.setdefault(answer["shard"], answer["user"])
        number += 1
    for user in found.values():
        playground.add_device(f"{user}/d")
    secrets = playground.provision({f"probe-{shard}": ["d"] for shard in found})
    return [Probe(shard, (f"probe-{shard}/d", secrets[f"probe-{shard}/d"]), user) for shard, user in sorted(found.items())]


def time_away(rows, begin, end):
    """Seconds from the first submit in [begin, end) that was refused or late to the first accepted after it; 0: none was."""
    for i, (sent, answered, code) in enumerate(rows):
        if not begin <= sent < end or (code == 0 and answered - sent < LATE_S):
            continue
        accepted = [row[1] for row in rows[i:] if row[2] == 0 and row[1] >= sent]
        return min(accepted) - sent if accepted else float("inf")
    return 0.0


def all_answered(probes, since):
    """Whether every probe had something accepted that was sent after `since`."""
    return all(any(row[2] == 0 for row in probe.rows[-200:] if row[0] > since) for probe in probes)


def measure(playground, kills, rate=50, seed=None, how="KILL", stop_s=15):
    """Kills leaders in turn. Answers [(router, shard, seconds away)] of the shards that it led."""
    generator = random.Random(seed)
    probes = probes_make(playground)
    prober = Prober(playground, probes, rate)
    prober.start()
    marks = []
    try:
        wait_until(lambda: all(probe.rows and probe.rows[0][2] == 0 for probe in probes), what="the probes")
        for _ in range(kills):
            time.sleep(generator.uniform(0.5, 1.5))
            wait_until(lambda: safe(playground), 60, "a cluster that bears the loss of a router")
            led = leaders(playground)
            router = generator.choice(sorted(set(led.values())))
            pid = playground.pid(router)
            begin = time.monotonic()
            os.kill(pid, getattr(signal, f"SIG{how}"))
            wait_until(lambda: all_answered(probes, begin + 0.2) or prober.error, 30, "service after a kill")
            time.sleep(0.5)
            marks.append((begin, time.monotonic(), router, [shard for shard, at in led.items() if at == router]))
            if how == "STOP":
                time.sleep(max(0, begin + stop_s - time.monotonic()))
                os.kill(pid, signal.SIGCONT)
                time.sleep(2)
            else:
                playground.start(router)
            assert not prober.error, prober.error
    finally:
        prober.finish()
    by_shard = {probe.shard: probe for probe in probes}
    rows = [(router, shard, time_away(by_shard[shard].rows, begin - 0.2, end)) for begin, end, router, shards in marks for shard in shards]
    refused = sum(1 for probe in probes for row in probe.rows if row[2] not in (None, 0))
    return rows, refused


def summary(rows):
    times = sorted(row[2] for row in rows)
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    return (f"{len(times)} shards lost their leader: away p50 {at(.5):.3f} s, p90 {at(.9):.3f} s, p98 {at(.98):.3f} s, "
            f"max {times[-1]:.3f} s; over 2 s: {sum(t > 2 for t in times)}")


def main():
    parser = argparse.ArgumentParser(description="Measures how long shards are away when routers are killed.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rate", type=int, default=50, help="publishes a second and shard")
    parser.add_argument("--signal", choices=["KILL", "STOP"], default="KILL")
    parser.add_argument("--load", type=int, default=0, help="further messages a second, by wardpost-bench accept")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", action="store_true", help="keep the playground and its logs")
    arguments = parser.parse_args()
    folder = folder_for_playgrounds()
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    playground = Playground(folder / "failover")
    load = None
    try:
        playground.up("--routers", "3")
        if arguments.load:
            words = [BIN / "wardpost-bench", "accept", "--playground", playground.dir, "--rate", arguments.load, "--seconds", 3600]
            load = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(5)
        rows, refused = measure(playground, arguments.kills, arguments.rate, arguments.seed, arguments.signal)
        for router, shard, seconds in rows:
            print(f"{router} shard {shard}: {seconds:.3f} s")
        print(summary(rows) + f"; submits refused: {refused}")
        assert not load or load.poll() is None, "the load ended"
    finally:
        if load:
            load.terminate()
            load.wait()
        playground.destroy(keep=arguments.keep)
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
