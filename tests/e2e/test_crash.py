"""kill -9 and power cuts under load: what was acknowledged is there afterwards, in order.

SIGKILL leaves the page cache, so it does not test fsync. The power-cut half runs the router under a preload library that keeps
an image of only those bytes that a completed fsync or fdatasync covered, kills it, and starts it again on that image.
"""
import os
import random
import time

from conftest import EFFORT, SLOW
from traffic import ROOMY, Receiver, Sender, compare, drain

KILLS = {"ci": 25}.get(EFFORT, 20) if SLOW == 1 else 5
SEED = int(os.environ.get("WP_SEED", time.time_ns() % 1_000_000))


def people(playground, senders, recipients):
    names = [f"sender-{i}" for i in range(senders)] + [f"recipient-{i}" for i in range(recipients)]
    secrets = playground.provision({name: ["d"] for name in names})
    persons = [(f"{name}/d", secrets[f"{name}/d"]) for name in names]
    return persons[:senders], persons[senders:]


def start_senders(playground, persons, recipients, **options):
    users = [person[0].split("/")[0] for person in recipients]
    senders = [Sender(playground, person, users, **options) for person in persons]
    for sender in senders:
        sender.start()
    return senders


def finish_and_compare(playground, senders, recipients):
    for sender in senders:
        sender.finish()
    received = {person[0].split("/")[0]: drain(playground, person) for person in recipients}
    return compare(senders, received)


def test_router_killed_at_random_moments_under_load(make_playground):
    generator = random.Random(SEED)
    print(f"WP_SEED={SEED}")
    playground = make_playground(settings=ROOMY)
    sending, receiving = people(playground, 3, 4)
    senders = start_senders(playground, sending, receiving)
    for _ in range(KILLS):
        time.sleep(generator.uniform(0.05, 0.6))
        playground.kill("router-1")
        playground.start("router-1")
    time.sleep(0.3)
    acknowledged = finish_and_compare(playground, senders, receiving)
    print(f"{KILLS} kills, {acknowledged} acknowledged messages, 0 lost")
    assert acknowledged > 20 * KILLS


def test_router_killed_while_devices_receive(make_playground):
    generator = random.Random(SEED + 1)
    playground = make_playground(settings=ROOMY)
    sending, receiving = people(playground, 2, 2)
    receivers = [Receiver(playground, person) for person in receiving]
    for receiver in receivers:
        receiver.start()
    senders = start_senders(playground, sending, receiving, pause_s=0.002)
    for _ in range(max(3, KILLS // 4)):
        time.sleep(generator.uniform(0.1, 0.5))
        playground.kill("router-1")
        playground.start("router-1")
    for sender in senders:
        sender.finish()
    received = {receiver.person[0].split("/")[0]: receiver.finish() for receiver in receivers}
    assert compare(senders, received) > 50


def test_gateway_killed_at_random_moments_under_load(make_playground):
    generator = random.Random(SEED + 2)
    playground = make_playground(settings=ROOMY)
    sending, receiving = people(playground, 2, 3)
    senders = start_senders(playground, sending, receiving)
    for _ in range(5):
        time.sleep(generator.uniform(0.1, 0.5))
        playground.restart("gateway-1")
    acknowledged = finish_and_compare(playground, senders, receiving)
    assert acknowledged > 100


def test_clean_stop_and_start_loses_nothing(make_playground):
    playground = make_playground(settings=ROOMY)
    sending, receiving = people(playground, 2, 2)
    senders = start_senders(playground, sending, receiving)
    for _ in range(3):
        time.sleep(0.3)
        playground.restart("router-1", signal="TERM")
    assert finish_and_compare(playground, senders, receiving) > 100


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_gateway_idles_while_the_router_is_away(playground):
    pid = playground.pid("gateway-1")
    playground.kill("router-1")
    time.sleep(0.5)
    before = cpu_seconds(pid)
    time.sleep(3)
    assert cpu_seconds(pid) - before < 0.45 * SLOW, "the gateway spins"
