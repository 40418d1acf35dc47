"""Disks that are full, read-only, closed to us or failing.

Below the reserve submits are refused and everything else goes on; a disk that is really full, or that fails, ends the router
(status 74) with nothing acknowledged that is not safe. The small disk is a tmpfs, so these tests need root (or a user namespace
that may mount).
"""
import os
import re
import shutil
import subprocess
import time

import pytest

from conftest import BIN, EFFORT, SLOW, Playground, run, wait_until
from rawmqtt import PUBACK, Device
from test_crash import people, start_senders
from test_powercut import Power
from traffic import compare, drain, drain_all

MIB = 1 << 20
DISK = 160 * MIB
RESERVE = 32 * MIB
SMALL = {"storage.disk_reserve_bytes": RESERVE, "storage.write_buffer_bytes": 2 * MIB, "storage.wal_bytes_max": 4 * MIB,
         "storage.compaction_bytes_max": 4 * MIB}
CREATE, IO, CONFIG = 73, 74, 78
FULL = "wardpost_router_disk_reserve_reached"


class SmallDisk:
    """A file system of DISK bytes with a playground on it."""

    def __init__(self, path):
        self.path = path
        path.mkdir(parents=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "wardpost-test", path], capture_output=True,
                              text=True, check=False)
        if done.returncode != 0:
            path.rmdir()
            (pytest.fail if EFFORT == "ci" else pytest.skip)(f"cannot mount a small disk: {done.stderr.strip()}")
        self.playground = Playground(path)

    def free(self):
        stats = os.statvfs(self.path)
        return stats.f_bavail * stats.f_frsize

    def fill(self, leave):
        """One file takes everything but `leave` bytes."""
        with (self.path / "filler").open("ab") as file:
            while self.free() > leave:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), self.free() - leave)
                except OSError:
                    pass  # somebody else was faster

    def give_back(self, size):
        """The file gets so much shorter, in one step."""
        path = self.path / "filler"
        os.truncate(path, path.stat().st_size - size)

    def clear(self):
        (self.path / "filler").unlink()

    def remount(self, how):
        subprocess.run(["mount", "-o", f"remount,{how}", self.path], check=True)

    def destroy(self):
        self.remount("rw")
        try:
            self.playground.destroy(keep=True)
        finally:
            for _ in range(50):
                if subprocess.run(["umount", self.path], capture_output=True, check=False).returncode == 0:
                    break
                time.sleep(0.1)
            shutil.rmtree(self.path, ignore_errors=True)


@pytest.fixture
def disk(playground_folder, unique):
    disk = SmallDisk(playground_folder / unique("disk"))
    try:
        disk.playground.up("--no-start", "--allow-volatile")
        disk.playground.configure("router-1", SMALL)
        disk.playground.up()
        yield disk
    finally:
        disk.destroy()


class Router:
    """The router as a child of this process, so that its exit code can be seen. Its log is not on the small disk."""

    def __init__(self, playground, log):
        self.playground, self.log_path = playground, log
        with log.open("a") as file:
            self.process = subprocess.Popen([BIN / "wardpost-router", "--config", playground.dir / "router-1/router.yaml"],
                                            stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        wait_until(self.ready, 30, "ready")

    def ready(self):
        assert self.process.poll() is None, self.log_path.read_text()
        try:
            return self.playground.page("router-1", "/readyz")[0] == 200
        except OSError:
            return False

    def wait(self, timeout_s=30):
        return self.process.wait(timeout_s * SLOW)

    def end(self):
        self.process.kill()
        self.process.wait()


# -- the reserve


def test_reserve_reached_and_left(disk):
    playground = disk.playground
    alice, bob = playground.add_person("alice"), playground.add_person("bob")
    assert playground.metric("router-1", FULL) == 0
    with Device(playground.endpoint(), *alice) as sender:
        for i in range(20):
            assert sender.publish("bob", f"before {i}").code == 0
        disk.fill(RESERVE // 2)
        wait_until(lambda: playground.metric("router-1", FULL) == 1, what="the reserve is reached")
        pid = playground.pid("router-1")
        time.sleep(0.3 * SLOW)  # the reactors look at it from time to time

        for i in range(10):  # every submit, not only the first
            answer = sender.publish("bob", f"refused {i}")
            assert answer.code == 0x97 and answer.user("wp-error") == "disk-full", answer
        with Device(playground.endpoint(), *bob) as receiver:  # what was accepted is delivered, its cursor moves
            receiver.subscribe()
            assert [receiver.take().payload.decode() for _ in range(20)] == [f"before {i}" for i in range(20)]
        assert drain(playground, bob) == []
        assert playground.metric("router-1", "wardpost_router_disk_free_bytes") < RESERVE
        assert playground.metric("router-1", "wardpost_router_refused_total") >= 10
        assert playground.page("router-1", "/livez")[0] == 200

        disk.clear()
        wait_until(lambda: playground.metric("router-1", FULL) == 0, what="the reserve is free again")
        wait_until(lambda: sender.publish("bob", "after").code == 0, 2, "submits again")  # on the same connection
    assert [payload for _, payload, _ in drain(playground, bob)] == ["after"]
    assert playground.pid("router-1") == pid
    log = playground.log("router-1")
    assert log.count("event=disk_reserve_reached") == 1 and log.count("event=disk_reserve_free") == 1


def test_reserve_does_not_flap(disk):
    """Left only with half as much again: a message more or less does not decide."""
    playground = disk.playground
    disk.fill(RESERVE - MIB)
    wait_until(lambda: playground.metric("router-1", FULL) == 1, what="the reserve is reached")
    disk.give_back(RESERVE // 4)
    time.sleep(0.6 * SLOW)
    assert disk.free() > RESERVE
    assert playground.metric("router-1", FULL) == 1
    disk.clear()
    wait_until(lambda: playground.metric("router-1", FULL) == 0, what="the reserve is free again")


def test_restart_below_the_reserve(disk):
    """A router that starts so delivers and refuses, as if it had never been down."""
    playground = disk.playground
    alice, bob = playground.add_person("alice"), playground.add_person("bob")
    with Device(playground.endpoint(), *alice) as sender:
        assert sender.publish("bob", "before").code == 0
    disk.fill(RESERVE // 2)
    playground.restart("router-1")
    time.sleep(0.3 * SLOW)
    with Device(playground.endpoint(), *alice) as sender:
        assert sender.publish("bob", "refused").code == 0x97
    assert [payload for _, payload, _ in drain(playground, bob)] == ["before"]


def test_load_runs_into_the_reserve_and_out(disk):
    """Refused messages are sent again until there is room; nothing is lost.

    One at a time: who pipelines behind a message that is refused may see the next one accepted, and then the order is his.
    """
    playground = disk.playground
    sending, receiving = people(playground, 2, 2)
    senders = start_senders(playground, sending, receiving, window=1)
    for _ in range(2):
        time.sleep(0.3 * SLOW)
        disk.fill(RESERVE // 2)
        wait_until(lambda: playground.metric("router-1", FULL) == 1, what="the reserve is reached")
        time.sleep(0.2)
        disk.clear()
        wait_until(lambda: playground.metric("router-1", FULL) == 0, what="the reserve is free again")
    for sender in senders:
        sender.finish()
    assert compare(senders, drain_all(playground, receiving)) > 50
    assert playground.log("router-1").count("event=started") == 1


# -- no space at all


def test_full_disk_under_load(disk, tmp_path):
    """The rest of the disk is gone at once: status 74, and with room again everything acknowledged is there."""
    playground = disk.playground
    sending, receiving = people(playground, 3, 3)
    playground.kill("router-1", "TERM")
    log = tmp_path / "router.log"
    router = Router(playground, log)
    try:
        senders = start_senders(playground, sending, receiving)
        time.sleep(0.5 * SLOW)
        disk.fill(0)
        code = router.wait()
    finally:
        router.end()
    text = log.read_text()
    assert code == IO, text
    assert re.search(r"event=(storage_failed|router_failed) exit=74 text=.*No space left on device", text), text
    disk.clear()
    playground.start("router-1")
    for sender in senders:
        sender.finish()
    acknowledged = compare(senders, drain_all(playground, receiving))
    print(f"{acknowledged} acknowledged messages, 0 lost")
    assert acknowledged > 50


def test_start_on_a_full_disk(disk):
    playground = disk.playground
    bob = playground.add_person("bob")
    playground.kill("router-1")
    disk.fill(0)
    done = run("wardpost-router", "--config", playground.dir / "router-1/router.yaml", timeout_s=30)
    assert done.returncode == IO, done.stderr
    assert "No space left on device" in done.stderr and str(playground.dir / "router-1/data") in done.stderr
    disk.clear()
    playground.start("router-1")
    assert drain(playground, bob) == []


# -- a disk that fails


def test_failed_sync(make_playground):
    """fsync that fails once may have lost what it covered, and says so only once: no second try, no acknowledgement."""
    playground = make_playground(start=False)
    power = Power(playground)
    power.on()
    playground.up()
    sending, receiving = people(playground, 2, 2)
    power.cut()
    power.environment = {"WP_POWERCUT_FAIL_SYNC": 40, "WP_POWERCUT_FAIL_NAME": ".log"}
    power.on()
    senders = start_senders(playground, sending, receiving)
    wait_until(lambda: playground.status()["router-1"]["state"] == "down", 30, "the end of the router")
    assert re.search(r"event=(storage_failed|router_failed) exit=74 text=.*Input/output error", playground.log("router-1"))
    power.environment = {}
    power.restore()
    power.on()
    for sender in senders:
        sender.finish()
    assert compare(senders, drain_all(playground, receiving)) > 10


# -- a disk that is closed to us


def unprivileged(*words):
    """The router without the right to pass by the modes of files."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    return subprocess.run([*drop, BIN / "wardpost-router", *map(str, words)], capture_output=True, text=True, timeout=30 * SLOW,
                          stdin=subprocess.DEVNULL, check=False)


def test_read_only_file_system(disk):
    playground = disk.playground
    playground.down()
    disk.remount("ro")
    done = run("wardpost-router", "--config", playground.dir / "router-1/router.yaml", timeout_s=30)
    assert done.returncode == CREATE, done.stderr
    assert "Read-only file system" in done.stderr and str(playground.dir / "router-1/data") in done.stderr


def test_folder_that_may_not_be_written(playground):
    playground.down()
    data = playground.dir / "router-1/data"
    config = playground.dir / "router-1/router.yaml"
    for path, mode in ((data, 0o500), (data / "LOCK", 0o400), (data / "facts", 0o000), (data / "log", 0o500),
                       (next((data / "state").glob("*.sst")), 0o000)):
        before = path.stat().st_mode
        path.chmod(mode)
        done = unprivileged("--config", config)
        path.chmod(before)
        assert done.returncode == CREATE, (path, done.returncode, done.stderr)
        assert "Permission denied" in done.stderr and str(data) in done.stderr, (path, done.stderr)
        assert len(done.stderr.splitlines()) == 1
    playground.up()


def test_data_directory_that_cannot_be_made(playground):
    playground.down()
    (playground.dir / "closed").mkdir(mode=0o500)
    (playground.dir / "file").write_text("")
    for data, code, told in (("closed/data", CREATE, "Permission denied"), ("file/data", CREATE, "Not a directory"),
                             ("file", IO, "Not a directory")):
        playground.configure("router-1", {"data": f"'{playground.dir / data}'"})
        done = unprivileged("--config", playground.dir / "router-1/router.yaml")
        assert done.returncode == code and told in done.stderr and str(playground.dir / data) in done.stderr, done.stderr
    (playground.dir / "closed").chmod(0o700)


def test_memory_is_no_disk(disk):
    """A data directory on tmpfs is refused unless somebody says that he knows."""
    playground = disk.playground
    playground.down()
    playground.configure("router-1", {"storage.allow_volatile": False})
    done = run("wardpost-router", "--config", playground.dir / "router-1/router.yaml", timeout_s=30)
    assert done.returncode == CONFIG and "tmpfs" in done.stderr and "power cut" in done.stderr
