"""Power cuts under load: the disk after a cut holds what a completed fsync or fdatasync covered, and nothing else.

The router runs under tests/shim, which keeps that image beside the real files. Each round kills it, puts the image in the place
of its data directory and starts it again. The last test runs a router that acknowledges before the sync: if that one passed too,
this file would prove nothing.
"""
import os
import random
import re
import shutil
import subprocess
import time

import pytest

from conftest import BIN, BUILD, EFFORT, SLOW
from test_crash import people, start_senders
from traffic import ROOMY, compare, drain, drain_all

SHIM = BUILD / "tests/wp_powercut.so"
BUG = BUILD / "tests/wardpost-router-bug1"
CUTS = {"ci": 20}.get(EFFORT, 6) if SLOW == 1 else 3
CUTS_TO_FIND_THE_BUG = 2
SLOW_MS = 30  # a disk that is slow enough for an acknowledgement to overtake its sync
SEED = int(os.environ.get("WP_SEED", time.time_ns() % 1_000_000))


def preload():
    """The library, behind the sanitizer's own when the router is built with one: that must come first."""
    linked = subprocess.run(["ldd", BIN / "wardpost-router"], capture_output=True, text=True, check=True).stdout
    sanitizer = re.search(r"\S*/libasan\.so\S*", linked)
    return f"{sanitizer.group()} {SHIM}" if sanitizer else str(SHIM)


class Power:
    """A playground whose router's disk forgets what was not synced when cut() is called."""

    def __init__(self, playground, slow_ms=0):
        self.playground, self.slow_ms = playground, slow_ms
        self.folder = playground.dir / "router-1"
        self.number = 0
        self.environment = {}  # more of it

    def image(self):
        return self.playground.dir / f"image-{self.number}"

    def on(self):
        self.number += 1
        environment = {"LD_PRELOAD": preload(), "WP_POWERCUT_DIR": self.folder, "WP_POWERCUT_IMAGE": self.image(),
                       "WP_POWERCUT_SLOW_MS": self.slow_ms, **self.environment}
        words = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        self.playground.start("router-1", *words)

    def cut(self):
        """Ends the router and leaves what the disk would hold. Answers how many files are not what they were."""
        self.playground.kill("router-1")
        return self.restore()

    def restore(self):
        """The same for a router that has ended already."""
        data = self.folder / "data"
        before = contents_of(data)
        shutil.rmtree(data)
        survived = self.image() / "tree/data"
        if survived.exists():
            shutil.copytree(survived, data, symlinks=False)
        shutil.rmtree(self.image())
        after = contents_of(data)
        return len([path for path, content in before.items() if after.get(path) != content])


def contents_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def power(request, make_playground):
    assert SHIM.exists(), f"{SHIM} is missing: build the tests"
    playground = make_playground(settings=ROOMY, start=False)
    power = Power(playground, getattr(request, "param", 0))
    power.on()
    playground.up()
    return power


def cut_under_load(power, cuts, generator):
    """Load over that many power cuts; answers the senders and the recipients when all is answered or given up."""
    playground = power.playground
    sending, receiving = people(playground, 3, 3)
    senders = start_senders(playground, sending, receiving)
    changed = 0
    for _ in range(cuts):
        time.sleep(generator.uniform(0.1, 0.6) * SLOW)
        changed += power.cut()
        power.on()
    assert changed > 0, "the cuts took nothing away: the image is no image of the synced bytes"
    return senders, receiving


@pytest.mark.parametrize("power", [0, SLOW_MS], ids=["fast-disk", "slow-disk"], indirect=True)
def test_acknowledged_messages_survive_power_cuts(power):
    generator = random.Random(SEED)
    print(f"WP_SEED={SEED}")
    senders, receiving = cut_under_load(power, CUTS, generator)
    for sender in senders:
        sender.finish()
    power.cut()  # once more, with everything acknowledged and nothing on its way
    power.on()
    received = drain_all(power.playground, receiving)
    acknowledged = compare(senders, received)
    print(f"{CUTS + 1} power cuts, {acknowledged} acknowledged messages, 0 lost")
    assert acknowledged > 10 * CUTS


def test_devices_and_users_survive_a_power_cut(power):
    """What the operator was told to be done is on the disk too."""
    person = power.playground.add_person("eve")
    power.cut()
    power.on()
    assert drain(power.playground, person) == []
    assert power.playground.ctl_json("user", "list")["users"]


def test_cursor_that_is_lost_only_repeats(power):
    """Acknowledged by the device, then cut: a delivery may come again, none is missing, and none comes a third time."""
    playground = power.playground
    sending, receiving = people(playground, 1, 1)
    senders = start_senders(playground, sending, receiving)
    time.sleep(0.3)
    for sender in senders:
        sender.finish()
    first = drain(playground, receiving[0])
    power.cut()
    power.on()
    again = drain(playground, receiving[0])
    assert compare(senders, {"recipient-0": first + again}) > 0
    assert len({row[0] for row in first}) == len(first)
    assert drain(playground, receiving[0]) == []


def test_router_that_acknowledges_before_the_sync_is_found(make_playground, playground_folder):
    """The tester tested: seeded bug 1 must lose acknowledged messages here."""
    assert BUG.exists(), f"{BUG} is missing: build the tests"
    generator = random.Random(SEED)
    playground = make_playground(settings=ROOMY, start=False)
    programs = playground.dir / "programs"
    programs.mkdir()
    for name, program in (("wardpostctl", BIN / "wardpostctl"), ("wardpost-gateway", BIN / "wardpost-gateway"),
                          ("wardpost-router", BUG)):
        shutil.copy(program, programs / name)
    playground.control = programs / "wardpostctl"
    power = Power(playground, SLOW_MS)
    power.on()
    playground.up()
    with pytest.raises(AssertionError, match="acknowledged messages of .* are lost") as found:
        senders, receiving = cut_under_load(power, CUTS_TO_FIND_THE_BUG, generator)
        for sender in senders:
            sender.stopping.set()
        time.sleep(1)
        received = drain_all(playground, receiving)
        compare(senders, received)
    print(found.value)
