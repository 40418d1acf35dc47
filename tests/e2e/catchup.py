"""A router that was away while many messages passed, one with an emptied disk and one that takes a dead one's place catch up while
load goes on: how long that takes, what it moves, and what the users of the others notice of it.

An open-loop load (wardpost-bench online) runs from the beginning to the end; what is measured of it is told apart by laps. While a
router is away, further messages pass to recipients that are online, and some stay queued. At the end nothing may be lost, the
replicas must have the same digest, and each router must be able to go. By hand:

    WP_BUILD=build/release /usr/bin/python3 tests/e2e/catchup.py --messages 1000000 [--rate 500] [--queued 100000] [--load 0] [--json FILE]
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from conftest import BIN, SLOW, Playground, folder_for_playgrounds, wait_until

ROUTERS = ["router-1", "router-2", "router-3"]
AWAY, REPLACED = "router-2", "router-3"
QUEUE_TTL_S = 86400  # longer than any run
MOVED = {"snapshots": "wardpost_router_snapshots_installed_total", "snapshots_failed": "wardpost_router_snapshots_failed_total",
         "snapshot_bytes": "wardpost_router_snapshot_taken_bytes_total", "log_bytes": "wardpost_router_log_bytes_total",
         "log_entries": "wardpost_router_log_entries_total"}


def bench(playground, scenario, prefix, *options, **popen):
    words = [BIN / "wardpost-bench", scenario, "--playground", playground.dir, "--prefix", prefix, *options]
    return subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, **popen)


class Online:
    """The load whose latency is measured. `lap(name)` ends the present lap and begins one."""

    def __init__(self, playground, rate, users):
        self.out, self.progress = playground.dir / "online.json", playground.dir / "online.log"
        self.names = ["start"]
        with self.progress.open("wb") as log:
            self.process = bench(playground, "online", "online", "--rate", rate, "--users", users, "--warmup", 1, "--seconds", 86400,
                                 "--json", self.out, stderr=log)
        self._wait(4)

    def _wait(self, seconds):
        """Measuring has gone on for some seconds: the load prints a line each second."""
        def there():
            assert self.process.poll() is None, f"the load ended: {self.progress.read_text(errors='replace')[-500:]}"
            return self.progress.read_bytes().count(b"accepted") >= seconds
        wait_until(there, 60, "the load")

    def lap(self, name):
        assert self.process.poll() is None, f"the load ended: {self.progress.read_text(errors='replace')[-500:]}"
        self.process.send_signal(signal.SIGUSR1)
        self.names.append(name)

    def finish(self):
        """{lap: figures}; all laps of one name are told apart by their order. What the load lost fails here."""
        self.process.terminate()
        assert self.process.wait(60 * SLOW) == 0, self.progress.read_text(errors="replace")[-500:]
        result = json.loads(self.out.read_text())
        check_nothing_lost("online", result)
        laps = [{"name": name, **lap} for name, lap in zip(self.names, result["laps"], strict=True)]
        return laps, result

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def check_nothing_lost(what, result):
    assert result["undelivered"] == 0, f"{what}: {result['undelivered']} accepted messages were not delivered"
    assert result["unanswered"] == 0, f"{what}: {result['unanswered']} messages were never answered"


def pass_messages(playground, count, window):
    """So many messages to recipients that are online."""
    out = playground.dir / "passing.json"
    process = bench(playground, "online", "passing", "--messages", count, "--window", window, "--users", 500, "--warmup", 1,
                    "--seconds", 86400, "--json", out, stderr=subprocess.DEVNULL)
    assert process.wait() == 0, "the messages did not pass"
    result = json.loads(out.read_text())
    check_nothing_lost("passing", result)


def queue_messages(playground, count):
    """So many messages to recipients that are offline: they make the state that a snapshot carries. Answers how many were accepted."""
    out = playground.dir / "queued.json"
    before = held(playground)
    process = bench(playground, "accept", "queued", "--messages", count, "--window", 256, "--users", 500, "--ttl", QUEUE_TTL_S, "--warmup",
                    1, "--seconds", 86400, "--json", out, stderr=subprocess.DEVNULL)
    assert process.wait() == 0, "the messages were not queued"
    result = json.loads(out.read_text())
    assert result["refused"] == 0 and result["unanswered"] == 0, result
    wait_until(lambda: held(playground) >= before + count, 30, "all that is queued")
    return count


def shards(playground, router):
    return {row["shard"]: row for row in playground.admin("GET", "/v1/status", node=router)["shards"]}


def leading(playground, routers=None):
    """{shard: its row at its leader}"""
    found = {}
    for router in routers or members(playground):
        try:
            found.update({number: row for number, row in shards(playground, router).items() if row["role"] == "leader"})
        except OSError:
            pass
    return found


def members(playground):
    """Routers of the cluster, as any router that answers knows them."""
    for router in [node["id"] for node in playground.info["routers"]]:
        try:
            nodes = playground.admin("GET", "/v1/cluster", node=router)["nodes"]
            return [node["node"] for node in nodes if node["state"] != "removed"]
        except (OSError, AssertionError):
            continue
    raise AssertionError("no router answers")


def held(playground):
    """Messages in the mailboxes, of those prefixes that stay: all else passes."""
    return sum(row["messages"] for row in leading(playground).values())


def level(playground, router, asked="router-1"):
    """The router has every replica that is wanted of it, in step, and the cluster bears the loss of any."""
    try:
        answer = playground.admin("GET", "/v1/cluster", node=asked)
        if not answer["safe"] or any(shard["moving"] for shard in answer["shards"]) or any(n["forgotten"] for n in answer["nodes"]):
            return False
        mine, all_led = shards(playground, router), leading(playground)
    except (OSError, AssertionError):
        return False
    wanted = [shard for shard in answer["shards"] if any(m["node"] == router for m in shard["members"])]
    if len(all_led) != len(mine) or not wanted:
        return False
    return all(mine[s["shard"]]["role"] != "none" and all_led[s["shard"]]["applied"] - mine[s["shard"]]["applied"] < 50
               for s in wanted if s["shard"] > 0)


def moved(playground, router):
    """Since the router was started."""
    return {name: playground.metric(router, metric) for name, metric in MOVED.items()}


def digests(playground):
    """{shard: {router: (applied, digest)}} as they are now."""
    found = {}
    for router in members(playground):
        for number, row in shards(playground, router).items():
            if row["role"] != "none":
                answer = playground.admin("GET", f"/v1/shards/{number}/digest", node=router)
                found.setdefault(number, {})[router] = (answer["applied"], answer["digest"])
    return found


def check_digests(playground):
    """When nothing comes any more, replicas stand at one position with one digest."""
    def same():
        found = digests(playground)
        for number, by_router in found.items():
            positions = {applied for applied, _ in by_router.values()}
            sums = {digest for _, digest in by_router.values()}
            if len(positions) == 1:
                assert len(sums) == 1, f"replicas of shard {number} differ: {by_router}"
        return found if all(len(set(by_router.values())) == 1 for by_router in found.values()) else None
    return wait_until(same, 60, "replicas at one position")


def others_go(playground, queued, timeout_s):
    """Each router goes once, and those that stay serve everything."""
    routers = members(playground)
    for router in routers:
        playground.kill(router)
        rest = [other for other in routers if other != router]
        wait_until(lambda: len(leading(playground, rest)) == 8, 30, f"service without {router}")
        held_now = sum(row["messages"] for row in leading(playground, rest).values())
        assert held_now >= queued, f"{held_now} of {queued} queued messages without {router}"
        playground.start(router)
        wait_until(lambda: level(playground, router, rest[0]), timeout_s, f"{router} is level again")


def empty(playground, router):
    shutil.rmtree(playground.dir / router / "data")


def replace(playground, dead):
    """A fourth router comes and takes the replicas of one that is dead. Answers its name."""
    added = playground.ctl_json("playground", "router-add", timeout_s=120)["node"]
    playground.info = json.loads(playground.ctl("playground", "status", "-o", "json", check=None).stdout)
    playground.ctl("node", "replace", dead, check=None)
    return added


def removed(playground, router):
    nodes = playground.admin("GET", "/v1/cluster")["nodes"]
    return any(node["node"] == router and node["state"] == "removed" for node in nodes)


class Run:
    def __init__(self, playground, options):
        self.playground, self.options = playground, options
        self.report = {"options": vars(options), "catch_ups": [], "passed": []}
        self.online, self.flood = Online(playground, options.rate, options.users), None

    def away(self, name, router, count, harm=None):
        """The router is away while so many messages pass."""
        options = self.options
        self.playground.kill(router)
        self.online.lap(f"passing ({name})")
        if harm:
            harm(self.playground, router)
        if self.flood:
            self.flood.send_signal(signal.SIGSTOP)
        pass_messages(self.playground, count, options.window)
        self.report["passed"].append({"name": name, "messages": count})
        if self.flood:
            self.flood.send_signal(signal.SIGCONT)
        time.sleep(min(2, options.settle))
        self.online.lap(f"two routers ({name})")
        time.sleep(options.two)

    def catch_up(self, name, begin, router):
        """Calls begin() and waits until the router is level; notes what that took and moved."""
        self.online.lap(name)
        at = time.monotonic()
        begin()
        wait_until(lambda: level(self.playground, router), self.options.timeout, f"{router} is level ({name})")
        seconds = time.monotonic() - at
        print(f"{name}: level after {seconds:.1f} s", file=sys.stderr, flush=True)
        self.online.lap(f"after {name}")
        self.report["catch_ups"].append({"name": name, "seconds": seconds, **moved(self.playground, router)})
        time.sleep(self.options.after)

    def measure(self):
        options, playground = self.options, self.playground
        queued = self.report["queued"] = queue_messages(playground, options.queued) if options.queued else 0
        wait_until(lambda: level(playground, AWAY), 60, "all in step")
        if options.load:
            self.flood = bench(playground, "online", "further", "--rate", options.load, "--users", 500, "--seconds", 86400,
                               stderr=subprocess.DEVNULL)
        time.sleep(options.settle)
        self.online.lap("baseline")
        time.sleep(options.baseline)
        self.away("away", AWAY, options.messages)
        self.catch_up("away", lambda: playground.start(AWAY), AWAY)
        if options.emptied:
            self.away("emptied", AWAY, options.emptied, empty)
            self.catch_up("emptied", lambda: playground.start(AWAY), AWAY)
        if options.replaced:
            self.away("replaced", REPLACED, options.replaced)
            self.catch_up("replaced", lambda: replace(playground, REPLACED), "router-4")
            wait_until(lambda: removed(playground, REPLACED), options.timeout, f"{REPLACED} is removed")
        self.online.lap("each goes once")
        others_go(playground, queued, options.timeout)
        self.report["laps"], whole = self.online.finish()
        self.report["refused"], self.report["repeated"] = whole["refused"], whole["repeated"]
        if self.flood:
            self.flood.terminate()
            assert self.flood.wait(60 * SLOW) == 0
        self.report["shards_equal"] = len(check_digests(playground))
        return self.report

    def stop(self):
        self.online.stop()
        if self.flood and self.flood.poll() is None:
            self.flood.kill()
            self.flood.wait()


def measure(playground, options):
    """Runs everything; answers {"laps": [...], "catch_ups": [...], ...}."""
    run = Run(playground, options)
    try:
        return run.measure()
    finally:
        run.stop()


def milliseconds(lap, column):
    return lap["end_to_end_us"][column] / 1000


def table(report):
    laps = {lap["name"]: lap for lap in report["laps"]}
    times = lambda lap: milliseconds(lap, "p99") / milliseconds(laps["baseline"], "p99")
    print(f"{'lap':<26}{'seconds':>9}{'messages':>10}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'p99 x':>7}")
    for lap in report["laps"]:
        print(f"{lap['name']:<26}{lap['seconds']:>9.1f}{lap['delivered']:>10}{milliseconds(lap, 'p50'):>9.2f}{milliseconds(lap, 'p99'):>9.2f}"
              f"{milliseconds(lap, 'max'):>9.1f}{times(lap):>7.2f}")
    print()
    for row, passed in zip(report["catch_ups"], report["passed"]):
        print(f"{row['name']}: {passed['messages']} messages passed; level after {row['seconds']:.1f} s; "
              f"{row['snapshots']:.0f} snapshots of {row['snapshot_bytes'] / 2**20:.1f} MiB, {row['log_entries']:.0f} entries of "
              f"{row['log_bytes'] / 2**20:.1f} MiB; p99 {times(laps[row['name']]):.2f} times the baseline's")
    print(f"nothing lost; {report['queued']} queued messages there with each router away; replicas of {report['shards_equal']} shards equal; "
          f"{report['refused']} submits refused")


def arguments_parser():
    parser = argparse.ArgumentParser(description="Measures routers that catch up while load goes on.")
    parser.add_argument("--messages", type=int, default=1_000_000, help="pass while the router is away")
    parser.add_argument("--emptied", type=int, default=50_000, help="pass while the router with the emptied disk is away; 0: without this part")
    parser.add_argument("--replaced", type=int, default=50_000, help="pass while a router is dead that a fourth one replaces; 0: without this part")
    parser.add_argument("--queued", type=int, default=100_000, help="wait in mailboxes all the time")
    parser.add_argument("--rate", type=int, default=500, help="messages a second whose latency is measured")
    parser.add_argument("--users", type=int, default=1000, help="their recipients")
    parser.add_argument("--load", type=int, default=0, help="further messages a second all the time")
    parser.add_argument("--window", type=int, default=256, help="in flight of those that pass")
    parser.add_argument("--settle", type=float, default=12, help="seconds until leaders are spread")
    parser.add_argument("--baseline", type=float, default=15, help="seconds")
    parser.add_argument("--two", type=float, default=5, help="seconds with two routers before the third comes back")
    parser.add_argument("--after", type=float, default=5, help="seconds after each catch-up")
    parser.add_argument("--timeout", type=float, default=180, help="seconds that a catch-up may take")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--keep", action="store_true", help="keep the playground and its logs")
    return parser


def main():
    options = arguments_parser().parse_args()
    folder = folder_for_playgrounds()
    folder.mkdir(parents=True, exist_ok=True)
    playground = Playground(folder / "catchup")
    try:
        playground.up("--routers", "3")
        report = measure(playground, options)
        table(report)
        if options.json:
            options.json.write_text(json.dumps(report, indent=2, default=str) + "\n")
    finally:
        playground.destroy(keep=options.keep)
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
