"""Damage on the disk of a stopped router: noticed, named, never served; a start that is refused changes nothing.

With one voter there is no copy to repair from, so the router refuses. --accept-loss goes on without what is missing, and says in
the log what that was.
"""
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import BIN, SLOW, wait_until
from rawmqtt import PUBACK, Device
from traffic import Receiver, drain, drain_all

DAMAGED, BUSY = 65, 75
MESSAGES = 40
USERS = ["ann", "ben", "cleo", "dora", "eli", "fay", "gus", "hana"]  # over several shards


class Damaged:
    """A playground in which each user has mail, and its router is down."""

    def __init__(self, playground, signal_name):
        self.playground = playground
        self.data = playground.dir / "router-1/data"
        secrets = playground.provision({user: ["d"] for user in [*USERS, "sender"]})
        self.persons = {user: (f"{user}/d", secrets[f"{user}/d"]) for user in [*USERS, "sender"]}
        self.sent = {user: [] for user in USERS}
        self.send(range(MESSAGES))
        self.stop(signal_name)

    def send(self, numbers):
        with Device(self.playground.endpoint(), *self.persons["sender"]) as device:
            for number in numbers:
                user = USERS[number % len(USERS)]
                body = f"body-{number:04}-{user}." * 20
                device.submit(user, body)
                assert device.wait(PUBACK).code == 0
                self.sent[user].append(body)

    def stop(self, signal_name="KILL"):
        time.sleep(0.5 * SLOW)  # the watermark file may lag by 100 ms
        self.playground.kill("router-1", signal_name)

    def file_with(self, pattern, text):
        """(path, offset) of the first place of a text in the files of the data directory."""
        for path in sorted(self.data.glob(pattern)):
            offset = path.read_bytes().find(text)
            if offset >= 0:
                return path, offset
        raise AssertionError(f"{text} is in no {pattern}")

    def image(self):
        """What a refused start must leave as it was: all but the lock and RocksDB's own log of events."""
        return {path: path.read_bytes() for path in self.data.rglob("*")
                if path.is_file() and path.name not in ("LOCK", "LOG") and not path.name.startswith("LOG.old")}

    def try_start(self, *words):
        """Starts the router itself; when it gets ready stops it. (exit code, its log without the quotes' backslashes)"""
        path = self.playground.dir / "once.log"
        with path.open("w") as log:
            process = subprocess.Popen([BIN / "wardpost-router", "--config", self.playground.dir / "router-1/router.yaml", *words],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def settled():
            try:
                return process.poll() is not None or self.playground.page("router-1", "/readyz")[0] == 200
            except OSError:
                return False
        try:
            wait_until(settled, 30, "ready or refused")
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(30 * SLOW)
        return code, path.read_text().replace('\\"', '"')

    def refused(self, *words):
        """A start that must be refused without a change on the disk; the last line of its log."""
        before = self.image()
        code, log = self.try_start(*words)
        assert code == DAMAGED and "event=start_failed" in log.splitlines()[-1], (code, log)
        assert self.image() == before, "a refused start changed the data directory"
        return log.splitlines()[-1]

    def received(self):
        """What each user gets now: {user: [body]}."""
        rows = drain_all(self.playground, [self.persons[user] for user in USERS])
        return {user: [payload for _, payload, _ in rows[user]] for user in USERS}

    def all_there(self):
        assert self.received() == self.sent


def flipped(data, offset):
    return data[:offset] + bytes([data[offset] ^ 0x04]) + data[offset + 1:]


def flip(path, offset):
    path.write_bytes(flipped(path.read_bytes(), offset))


@pytest.fixture
def killed(playground):
    return Damaged(playground, "KILL")


@pytest.fixture
def stopped(playground):
    return Damaged(playground, "TERM")


# -- the log


def test_damaged_log(killed):
    """The log ends before the damage; the watermark knows that more was synced. When it is made good all is well."""
    path, offset = killed.file_with("log/*.log", b"body-0020-")
    whole = path.read_bytes()
    for damage in (flipped(whole, offset + 30), whole[:offset], b"", None):
        path.write_bytes(damage) if damage is not None else path.unlink()
        line = killed.refused()
        found = re.search(r'the log of shard (\d+) in "(\S+)" ends at index (\d+) \(term \d+\), but index (\d+) \(term \d+\) was '
                          "synced", line)
        assert found and found[2] == str(killed.data / "log") and int(found[3]) < int(found[4]), line
        assert f"--accept-loss {found[1]}" in line and "reason=forgotten" in line
    path.write_bytes(whole)
    killed.playground.start("router-1")
    killed.all_there()


def test_loss_is_accepted_shard_by_shard(killed):
    """What stood before the damage is served, nothing else, and the log says what was given up."""
    path, offset = killed.file_with("log/*.log", b"body-0020-")
    flip(path, offset + 30)
    shards = []
    code, log = killed.try_start()
    while code != 0:
        shard = re.search(r"--accept-loss (\d+)", log)[1]
        assert shard not in shards, log
        shards.append(shard)
        code, log = killed.try_start(*[word for shard in shards for word in ("--accept-loss", shard)])
    assert len(shards) > 1
    for shard in shards:
        assert re.search(rf"event=audit_loss_accepted shard={shard} index_found=\d+ \S+ index_synced=\d+", log)
    killed.playground.start("router-1")
    lost = 0
    for user, received in killed.received().items():
        assert received == killed.sent[user][:len(received)]
        lost += len(killed.sent[user]) - len(received)
    assert MESSAGES // 2 - 4 <= lost <= MESSAGES // 2 + 4
    killed.send(range(100, 108))
    assert killed.received() == {user: bodies[-1:] for user, bodies in killed.sent.items()}


def test_loss_is_accepted_for_all_shards(killed):
    path, offset = killed.file_with("log/*.log", b"body-0020-")
    flip(path, offset + 30)
    killed.refused()
    code, log = killed.try_start("--accept-loss", "all")
    assert code == 0 and log.count("event=audit_loss_accepted") > 1
    killed.playground.start("router-1")
    assert 0 < sum(len(bodies) for bodies in killed.received().values()) < MESSAGES


def test_log_rolled_back(stopped):
    """An older copy of the log under today's watermark."""
    shutil.copytree(stopped.data / "log", stopped.playground.dir / "older")
    stopped.playground.start("router-1")
    stopped.send(range(100, 120))
    stopped.stop("TERM")
    shutil.rmtree(stopped.data / "log")
    (stopped.playground.dir / "older").rename(stopped.data / "log")
    line = stopped.refused()
    assert "reason=forgotten" in line and "rolled back" in line and re.search(r"shard \d+", line)


def test_log_and_watermark_rolled_back_under_the_state(stopped):
    """Both as they were; the state holds more than the log ever had."""
    older = stopped.playground.dir / "older"
    shutil.copytree(stopped.data, older)
    stopped.playground.start("router-1")
    stopped.send(range(100, 120))
    stopped.stop("TERM")
    shutil.rmtree(stopped.data / "log")
    (older / "log").rename(stopped.data / "log")
    shutil.copy(older / "watermark", stopped.data / "watermark")
    code, log = stopped.try_start()
    assert code == DAMAGED and "reason=forgotten" in log and str(stopped.data / "state") in log


def test_state_rolled_back_is_made_good_from_the_log(stopped):
    """State is only what the log says: an older one is brought up to date."""
    shutil.copytree(stopped.data / "state", stopped.playground.dir / "older")
    stopped.playground.start("router-1")
    stopped.send(range(100, 120))
    stopped.stop("TERM")
    shutil.rmtree(stopped.data / "state")
    (stopped.playground.dir / "older").rename(stopped.data / "state")
    stopped.playground.start("router-1")
    stopped.all_there()


# -- small files


def test_bit_in_a_small_file(stopped):
    for name in ("watermark", "facts/cluster-id", "facts/shard-count", "facts/cluster-key-check", "log/CURRENT", "log/MANIFEST-*",
                 "state/CURRENT", "state/MANIFEST-*"):
        path = next(stopped.data.glob(name))
        whole = path.read_bytes()
        flip(path, len(whole) // 2)
        code, log = stopped.try_start()
        line = log.splitlines()[-1]
        assert code == DAMAGED and "reason=corrupt" in line, (name, code, log)
        assert str(path) in line or f"instance {path.parent.name}" in line, line
        path.write_bytes(whole)
    stopped.playground.start("router-1")
    stopped.all_there()


def test_watermark_gone(stopped):
    (stopped.data / "watermark").unlink()
    line = stopped.refused()
    assert str(stopped.data / "watermark") in line and "--accept-loss all" in line
    code, log = stopped.try_start("--accept-loss", "all")
    assert code == 0 and "event=audit_loss_accepted" in log
    stopped.playground.start("router-1")
    stopped.all_there()


# -- the state


def dies_naming(damaged, user, *names):
    """The router runs until the damaged message is to be read, then ends; the message is never served."""
    playground = damaged.playground
    playground.start("router-1")
    receiver = Receiver(playground, damaged.persons[user])
    receiver.start()
    wait_until(lambda: playground.status()["router-1"]["state"] == "down", 20, "the end of the router")
    receiver.stopping.set()
    receiver.join(30)
    line = next(line for line in reversed(playground.log("router-1").splitlines()) if "event=router_failed" in line)
    assert f"exit={DAMAGED}" in line
    for name in names:
        assert name in line, line
    served = [payload for _, payload, _ in receiver.got]
    assert served == damaged.sent[user][:len(served)], "a damaged message was served"
    return served


def test_bit_in_a_block_of_a_table_of_the_state(stopped):
    """Noticed when the block is read: at the start when something that a start reads lies in it too, else at the delivery."""
    path, offset = stopped.file_with("state/*.sst", b"body-0020-")
    whole = path.read_bytes()
    path.write_bytes(flipped(whole, offset + 30))
    code, log = stopped.try_start()
    if code == 0:
        assert dies_naming(stopped, USERS[20 % len(USERS)], "instance state", path.name) == []
    else:
        assert code == DAMAGED and "instance state" in log and path.name in log, (code, log)
    path.write_bytes(whole)
    stopped.playground.start("router-1")
    stopped.all_there()


def test_bit_in_a_row_that_a_start_reads(stopped):
    """Names of users stand in rows that are read at the start."""
    path, offset = stopped.file_with("state/*.sst", b"cleo")
    flip(path, offset)
    code, log = stopped.try_start()
    assert code == DAMAGED, (code, log)
    assert "instance state" in log.splitlines()[-1] and path.name in log.splitlines()[-1]


def state_tool(damaged, *words):
    """Runs state_tool.py on the state instance; its lines."""
    tool = pathlib.Path(__file__).with_name("state_tool.py")
    done = subprocess.run([sys.executable, tool, damaged.data / "state", *words], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def damage_row(damaged, wanted):
    """Flips a bit in the first row whose value holds `wanted`; the machine's key of the row in hexadecimal digits."""
    key = state_tool(damaged, "find", wanted)[0]
    state_tool(damaged, "flip", key, wanted)
    return key[2:]


def test_bit_in_a_state_record(stopped):
    """RocksDB notices nothing: the record's own checksum does."""
    key = damage_row(stopped, "body-0022-")
    dies_naming(stopped, USERS[22 % len(USERS)], "instance state", key)


def test_bit_in_a_record_that_a_start_reads(stopped):
    key = damage_row(stopped, "cleo")
    code, log = stopped.try_start()
    assert code == DAMAGED, (code, log)
    assert "instance state" in log.splitlines()[-1] and key in log.splitlines()[-1]


def test_record_under_a_wrong_key(stopped):
    """A whole record, with its right checksum, where another one belongs."""
    keys = state_tool(stopped, "find", "-ann.body-")
    state_tool(stopped, "copy", keys[3], keys[1])
    dies_naming(stopped, "ann", "instance state", keys[1][2:])


# -- two at once


def test_second_router_on_the_same_data(playground):
    """Refused with the number of the one that has it, which goes on undisturbed."""
    text = (playground.dir / "router-1/router.yaml").read_text()
    text = re.sub(r"port: \d+", "port: 1", text).replace("/admin.sock", "/other.sock")
    path = playground.dir / "second.yaml"
    path.write_text(re.sub(r"address: '127.0.0.1:\d+'", "address: '127.0.0.1:0'", text))
    done = subprocess.run([BIN / "wardpost-router", "--config", path], capture_output=True, text=True, timeout=30 * SLOW, check=False)
    assert done.returncode == BUSY, done.stderr
    assert f"in use by process {playground.pid('router-1')}" in done.stderr
    assert str(playground.dir / "router-1/data") in done.stderr
    person = playground.add_person("zoe")
    assert drain(playground, person) == []


def test_lock_ends_with_its_process(playground):
    """kill -9 leaves the LOCK file with a number in it; the next start is not kept by it."""
    pid = playground.pid("router-1")
    playground.kill("router-1")
    assert (playground.dir / "router-1/data/LOCK").read_text().strip() == str(pid)
    playground.start("router-1")
    assert (playground.dir / "router-1/data/LOCK").read_text().strip() == str(playground.pid("router-1"))
