"""Teams and receipts: one message reaches each member once, and its sender hears of each member once how it ended."""
import collections
import json
import subprocess
import threading
import time

import pytest

import rawmqtt
from conftest import BIN, need_program, run, wait_until
from rawmqtt import PUBACK, PUBLISH, Closed, Device

RECEIPTS = "wp/v1/receipts/#"


def team_topic(team):
    return f"wp/v1/team/{team}"


def make_team(playground, team, users):
    playground.ctl("team", "add", team)
    for start in range(0, len(users), 1000):
        playground.ctl("team", "member", "add", team, *users[start:start + 1000])


def people(playground, names):
    """{name: (username, secret)}, each with one device."""
    secrets = playground.provision({name: ["phone"] for name in names})
    return {name: (f"{name}/phone", secrets[f"{name}/phone"]) for name in names}


def receipt_of(message):
    assert message.topic.startswith("wp/v1/receipts/"), message.topic
    body = json.loads(message.payload)
    state, _, person = message.topic[len("wp/v1/receipts/"):].partition("/")
    assert body["state"] == state and body.get("person", body.get("device")) == person
    return body


def receipts(device, count, timeout=20):
    """The next `count` receipts."""
    return [receipt_of(device.take(timeout=timeout)) for _ in range(count)]


@pytest.fixture
def crew(shared, unique):
    names = [unique(name) for name in ("ann", "bob", "cyd", "dan")]
    return names, people(shared, names)


def test_each_member_gets_it_and_the_sender_hears_of_each(shared, crew, unique):
    (ann, bob, cyd, dan), who = crew
    team = unique("icu")
    make_team(shared, team, [ann, bob, cyd, "nobody-there"])
    message_id = rawmqtt.new_id()
    with Device(shared.endpoint(), *who[ann]) as sender, Device(shared.endpoint(), *who[bob]) as online:
        assert sender.subscribe(RECEIPTS).code == 1
        assert sender.subscribe().code == 1
        online.subscribe()
        answer = sender.publish(None, "all of you", topic=team_topic(team), extra=[(0x26, ("wp-id", message_id))])
        assert answer.code == 0
        message = online.take()
        assert message.payload == b"all of you" and message.topic == f"wp/v1/inbox/routine/{ann}"
        assert message.user("wp-team") == team and message.user("wp-id") == message_id
        first = receipts(sender, 2)
        assert {r["state"] for r in first} == {"refused", "delivered"} and {r["id"] for r in first} == {message_id}
        assert {r.get("person") for r in first} == {"nobody-there", bob}
        assert [r["error"] for r in first if r["state"] == "refused"] == ["unknown-recipient"]
        with Device(shared.endpoint(), *who[cyd]) as later:
            later.subscribe()
            assert later.take().payload == b"all of you"
            assert receipts(sender, 1)[0] == {"id": message_id, "person": cyd, "state": "delivered",
                                               "time": pytest.approx(time.time() * 1000, abs=30000)}
            assert later.silent(0.3)
        assert sender.silent(0.5), "the sender is a member and gets no copy; nobody is told of twice"
    with Device(shared.endpoint(), *who[dan]) as outsider:
        outsider.subscribe()
        assert outsider.publish(None, "x", topic=team_topic(team)).code == 0x87
        assert outsider.publish(None, "x", topic=team_topic("no-such-team")).code == 0x90
        assert outsider.silent(0.2)


def test_membership_at_acceptance_decides(shared, crew, unique):
    (ann, bob, cyd, _), who = crew
    team = unique("icu")
    make_team(shared, team, [ann, bob])
    with Device(shared.endpoint(), *who[ann]) as sender:
        assert sender.publish(None, "first", topic=team_topic(team)).code == 0
        shared.ctl("team", "member", "remove", team, bob)
        shared.ctl("team", "member", "add", team, cyd)
        assert sender.publish(None, "second", topic=team_topic(team)).code == 0
    for name, expected in ((bob, b"first"), (cyd, b"second")):
        with Device(shared.endpoint(), *who[name]) as device:
            device.subscribe()
            assert device.take().payload == expected and device.silent(0.4)


def test_receipts_of_messages_to_one_person(shared, crew):
    (ann, bob, _, _), who = crew
    gone, read = rawmqtt.new_id(), rawmqtt.new_id()
    with Device(shared.endpoint(), *who[ann]) as sender:
        sender.subscribe(RECEIPTS)
        sender.publish(bob, "gone", extra=[(0x26, ("wp-id", gone)), (0x02, 1)])
        sender.publish(bob, "read", extra=[(0x26, ("wp-id", read))])
        assert receipts(sender, 1) == [{"id": gone, "person": bob, "state": "expired", "time": pytest.approx(time.time() * 1000, abs=30000)}]
        with Device(shared.endpoint(), *who[bob]) as receiver:
            receiver.subscribe()
            assert receiver.take().payload == b"read"
            message = sender.take()
        assert message.user("wp-id") == read and message.user("wp-state") == "delivered" and message.user("wp-person") == bob
        assert message.properties[0x03] == "application/json" and receipt_of(message)["id"] == read
    with Device(shared.endpoint(), *who[ann]) as sender:
        assert sender.connack.session_present and sender.silent(0.5), "what was acknowledged does not come again"


def test_receipts_wait_for_their_reader_and_need_a_subscription(shared, crew):
    (ann, bob, cyd, _), who = crew
    with Device(shared.endpoint(), *who[bob]) as receiver:
        receiver.subscribe()
        with Device(shared.endpoint(), *who[ann]) as sender:
            assert sender.subscribe(RECEIPTS, qos=0).code == 0x83
            sender.subscribe(RECEIPTS)
        with Device(shared.endpoint(), *who[ann]) as sender, Device(shared.endpoint(), *who[cyd]) as silent:
            sender.publish(bob, "one")
            silent.publish(bob, "two")
            sender.close()
            assert {receiver.take().payload for _ in range(2)} == {b"one", b"two"}
            assert silent.silent(0.5)
        time.sleep(0.3)
    with Device(shared.endpoint(), *who[ann]) as sender:  # kept while it was away
        message = sender.take()
        assert receipt_of(message)["person"] == bob and not message.dup
    with Device(shared.endpoint(), *who[cyd]) as late:  # nothing was kept for one who had no subscription
        late.subscribe(RECEIPTS)
        assert late.silent(0.5)


def test_older_clients_too(shared, crew, unique):
    """3.1.1 by mosquitto's tools: publish to a team, receipts as JSON."""
    (ann, bob, _, _), who = crew
    team = unique("icu")
    make_team(shared, team, [ann, bob])
    host, port = shared.endpoint()

    def command(program, person, *words):
        return [need_program(program), "-h", host, "-p", str(port), "-V", "mqttv311", "-u", person[0], "-P", person[1], "-q", "1", "-i", "x", *words]

    shared.ctl("device", "add", f"{ann}/tablet")
    tablet = (f"{ann}/tablet", (shared.dir / "devices" / ann / "tablet").read_text().strip())
    listener = subprocess.Popen(command("mosquitto_sub", tablet, "-c", "-t", RECEIPTS, "-C", "1", "-W", "30", "-F", "%t %p"),
                                stdout=subprocess.PIPE, text=True)
    wait_until(lambda: any(row["device"] == "tablet" and row["receipts"] for row in shared.ctl_json("device", "list", ann)["devices"]),
               20, "the subscription")
    done = subprocess.run(command("mosquitto_pub", who[ann], "-t", f"wp/v1/team/{team}/stat/600", "-m", "old and well"), timeout=60)
    assert done.returncode == 0
    got = subprocess.run(command("mosquitto_sub", who[bob], "-c", "-t", "wp/v1/inbox/#", "-C", "1", "-W", "20", "-F", "%t %p"),
                         capture_output=True, text=True, timeout=60)
    assert got.stdout.strip() == f"wp/v1/inbox/stat/{ann} old and well"
    topic, _, body = listener.communicate(timeout=60)[0].strip().partition(" ")
    assert topic == f"wp/v1/receipts/delivered/{bob}" and json.loads(body)["person"] == bob


def test_teams_in_the_hands_of_the_operator(shared, unique):
    team = unique("icu")
    shared.ctl("team", "add", team)
    assert "already" in shared.ctl("team", "add", team, check=65).stderr
    shared.ctl("team", "member", "add", team, "zoe", "ann")
    assert shared.ctl("team", "member", "list", team).stdout.split() == ["ann", "zoe"]
    row = next(row for row in shared.ctl_json("team", "list")["teams"] if row["team"] == team)
    assert row["members"] == 2 and row["epoch"] == 2
    shared.ctl("team", "member", "remove", team, "zoe", "never-there")
    assert shared.ctl_json("team", "member", "list", team)["members"] == ["ann"]
    for names in (["zoe"], ["zoe", "never-there"]):
        assert "nothing changed" in shared.ctl("team", "member", "remove", team, *names, check=66).stderr
    shared.ctl("team", "member", "add", team, "ann")
    assert "no team" in shared.ctl("team", "member", "add", "no-such-team", "ann", check=66).stderr
    shared.ctl("team", "member", "add", team, check=64)
    shared.ctl("team", "member", "add", team, "No Name", check=65)
    shared.ctl("team", "remove", team)
    shared.ctl("team", "remove", team, check=66)


def test_a_later_device_begins_now_or_at_the_oldest(shared, crew):
    (ann, bob, _, _), who = crew
    with Device(shared.endpoint(), *who[ann]) as sender:
        sender.publish(bob, "before")
        secrets = {name: shared.ctl_json("device", "add", f"{bob}/{name}", "--from", start)["secret"]
                   for name, start in (("fresh", "now"), ("full", "oldest"))}
        sender.publish(bob, "after")
    for name, expected in (("fresh", [b"after"]), ("full", [b"before", b"after"])):
        with Device(shared.endpoint(), f"{bob}/{name}", secrets[name]) as device:
            device.subscribe()
            assert [device.take().payload for _ in expected] == expected and device.silent(0.3)


def test_the_device_on_the_command_line(shared, crew, unique):
    (ann, bob, cyd, _), who = crew
    team = unique("icu")
    for name in (ann, bob, cyd):
        shared.ctl("device", "add", f"{name}/desk")
    make_team(shared, team, [ann, bob, cyd, "nobody-there"])
    first = json.loads(shared.wardpost(f"{ann}/desk", "send", "--team", team, "-o", "json", "--wait", "--count", "1", "come to", "bed 4").stdout.split("\n")[0])
    assert first["state"] == "accepted" and first["recipient"] == team
    assert "come to bed 4" in shared.wardpost(f"{bob}/desk", "inbox").stdout
    wait_until(lambda: shared.metric("router-1", "wardpost_router_receipts") >= 1, 10, "the receipt")
    got = json.loads(shared.wardpost(f"{ann}/desk", "receipts", "-o", "json").stdout)
    assert (got["id"], got["person"], got["state"]) == (first["id"], bob, "delivered")
    assert "no receipts" in shared.wardpost(f"{ann}/desk", "receipts").stderr
    sender = subprocess.Popen([str(w) for w in (BIN / "wardpost", "--dir", shared.dir, "--as", f"{ann}/desk", "send", bob, "--wait", "one")],
                              stdout=subprocess.PIPE, text=True)
    assert "accepted" in sender.stdout.readline()
    assert "one" in shared.wardpost(f"{bob}/desk", "inbox").stdout
    assert sender.wait(30) == 0 and f"delivered  {bob}" in sender.stdout.read()
    assert "no such recipient" in shared.wardpost(f"{bob}/desk", "send", "--team", "none-such", "x", check=65).stderr


def test_bench_fanout(playground, tmp_path):
    run("wardpost-bench", "fanout", "--playground", playground.dir, "--users", "20", "--seconds", "2", "--warmup", "1", "--json", tmp_path / "out", check=0)
    result = json.loads((tmp_path / "out").read_text())
    assert result["accepted_per_s"] >= 3 and result["undelivered"] == 0 and result["repeated"] == 0
    assert result["end_to_end_us"]["count"] >= 5 and not result["errors"]


def test_bench_fanout_beside_other_traffic(playground, tmp_path):
    """What went on beside is told as it was: the rate that was accepted while the fan-out was measured."""
    run("wardpost-bench", "fanout", "--playground", playground.dir, "--users", "20", "--seconds", "3", "--warmup", "1",
        "--beside", "40", "--json", tmp_path / "out", check=0)
    result = json.loads((tmp_path / "out").read_text())
    beside = result["beside"]
    assert beside["offered_per_s"] == 40 and 2.5 < beside["seconds"] < 6
    assert 30 < beside["accepted_per_s"] < 50 and beside["refused"] == 0
    assert beside["ack_us"]["count"] == pytest.approx(beside["accepted_per_s"] * beside["seconds"], abs=1)
    assert result["undelivered"] == 0 and result["repeated"] == 0 and result["end_to_end_us"]["count"] >= 5
    assert "beside" in [process["name"] for process in result["processes"]]
    queued = playground.metric("router-1", "wardpost_router_queued_messages")
    assert queued >= beside["ack_us"]["count"]  # to people who are not there: still queued
    told = run("wardpost-bench", "fanout", "--playground", playground.dir, "--users", "5", "--seconds", "1", "--warmup", "1",
               "--beside", "1000000", check=0).stdout
    assert "of 1000000 offered" in told  # far more than is reached, and it says so


def member_drain(playground, person, gateway="gateway-1", quiet_s=1.0):
    """Everything that waits for a person."""
    with Device(playground.endpoint(gateway=gateway), *person, timeout=30) as device:
        device.subscribe()
        got = []
        while True:
            try:
                got.append(device.take(timeout=quiet_s))
            except TimeoutError:
                return got


def test_a_team_of_5000(make_playground):
    playground = make_playground()
    names = [f"m{i:04}" for i in range(5000)]
    who = people(playground, names[:40] + ["ann"])
    playground.provision({name: [] for name in names[40:]})
    make_team(playground, "all", names)
    assert "at most 5000" in playground.ctl("team", "member", "add", "all", "ann", check=65).stderr
    playground.ctl("team", "member", "remove", "all", names[-1])
    playground.ctl("team", "member", "add", "all", "ann")
    with Device(playground.endpoint(), *who["ann"]) as sender:
        begin = time.monotonic()
        assert sender.publish(None, "x" * 500, topic=team_topic("all")).code == 0
        wait_until(lambda: playground.metric("router-1", "wardpost_router_queued_messages") == 4999, 20, "all copies")
        assert time.monotonic() - begin < 10
    for name in names[:40:7]:
        assert [m.payload for m in member_drain(playground, who[name], quiet_s=0.3)] == [b"x" * 500]


def test_copies_and_messages_of_ones_own_come_in_order_after_a_restart(make_playground):
    """What waits for a member is part records of its own, part bodies that the members share: read back from the disk
    they come in order, to each member once. A copy is accepted at the team's shard and travels from there: where it comes
    among direct messages is open."""
    playground = make_playground()
    who = people(playground, ["ann", "bob", "cyd"])
    make_team(playground, "icu", ["ann", "bob", "cyd"])
    expected = {"bob": [], "cyd": []}
    with Device(playground.endpoint(), *who["ann"]) as sender:
        for number in range(90):  # more than one read takes
            to_team = number % 3 == 0
            text = f"{number} " + "x" * 300
            assert sender.publish(None if to_team else "bob", text, topic=team_topic("icu") if to_team else None).code == 0
            expected["bob"].append(text.encode())
            expected["cyd"] += [text.encode()] if to_team else []
    playground.restart("router-1")
    for name, bodies in expected.items():
        came = [m.payload for m in member_drain(playground, who[name])]
        for copies in (True, False):
            def of_this_kind(text):
                return (int(text.split()[0]) % 3 == 0) == copies
            assert [text for text in came if of_this_kind(text)] == [text for text in bodies if of_this_kind(text)]
    wait_until(lambda: playground.metric("router-1", "wardpost_router_queued_messages") == 0, 10, "nothing left")
    for name in expected:
        assert member_drain(playground, who[name], quiet_s=0.3) == []


class Collector(threading.Thread):
    """Keeps a device connected through whatever happens and counts what it acknowledged, by id."""

    def __init__(self, playground, person, topic, gateways):
        super().__init__(daemon=True)
        self.playground, self.person, self.topic, self.gateways = playground, person, topic, gateways
        self.screens = collections.Counter()
        self.stopping = threading.Event()
        self.tries = 0

    def key(self, message):
        if message.topic.startswith("wp/v1/receipts/"):
            body = receipt_of(message)
            return body["id"], body["person"], body["state"]
        return message.user("wp-id")

    def run(self):
        while not self.stopping.is_set():
            self.tries += 1
            gateway = self.gateways[self.tries % len(self.gateways)]
            try:
                with Device(self.playground.endpoint(gateway=gateway), *self.person, timeout=10) as device:
                    if device.connack.code == 0 and device.subscribe(self.topic).code == 1:
                        self.listen(device)
            except (Closed, OSError, AssertionError, TimeoutError):
                time.sleep(0.1)

    def listen(self, device):
        while not self.stopping.is_set():
            try:
                message = device.wait(PUBLISH, 0.5)
            except TimeoutError:
                continue
            key = self.key(message)
            if not (message.dup and key in self.screens):  # a device shows each id once
                self.screens[key] += 1
            device.send(rawmqtt.puback(message.id))


def test_kills_in_between_lose_and_double_nothing(make_playground):
    """Half of the members offline, routers killed at random while a member sends: each member gets each accepted message
    exactly once, and the sender one receipt of each member."""
    playground = make_playground("--routers", "3", "--gateways", "2")
    gateways = ("gateway-1", "gateway-2")
    names = [f"m{i}" for i in range(12)]
    who = people(playground, names + ["ann"])
    make_team(playground, "icu", names + ["ann"])
    collectors = [Collector(playground, who[name], "wp/v1/inbox/#", gateways) for name in names[:6]]
    told = Collector(playground, who["ann"], RECEIPTS, gateways)
    for thread in collectors + [told]:
        thread.start()
    time.sleep(1)
    wanted = [rawmqtt.new_id() for _ in range(60)]
    accepted, unanswered = set(), list(wanted)
    killed = 0
    playground.ctl("device", "add", "ann/sender")
    sender_secret = (playground.dir / "devices" / "ann" / "sender").read_text().strip()
    deadline = time.monotonic() + 90
    while unanswered and time.monotonic() < deadline:
        try:
            with Device(playground.endpoint(gateway=gateways[killed % 2]), "ann/sender", sender_secret, timeout=10) as sender:
                while unanswered:
                    answer = sender.publish(None, f"to all {unanswered[0]}", topic=team_topic("icu"), extra=[(0x26, ("wp-id", unanswered[0]))])
                    if answer.code != 0:
                        time.sleep(0.2)
                        continue
                    accepted.add(unanswered.pop(0))
                    if len(accepted) % 15 == 7:
                        playground.kill(f"router-{1 + killed % 3}")
                        playground.start(f"router-{1 + killed % 3}")
                        killed += 1
        except (Closed, OSError, AssertionError, TimeoutError):
            time.sleep(0.2)
    assert not unanswered and killed == 4
    for name in names[6:]:
        got = collections.Counter(m.user("wp-id") for m in member_drain(playground, who[name], quiet_s=3))
        assert got == collections.Counter(wanted), name
    wait_until(lambda: all(len(c.screens) == len(wanted) for c in collectors), 30, "all messages at the members who were there")
    expected = collections.Counter({(i, name, "delivered"): 1 for i in wanted for name in names})
    wait_until(lambda: len(told.screens) >= len(expected), 30, "all receipts")
    time.sleep(1)
    for thread in collectors + [told]:
        thread.stopping.set()
    for thread in collectors:
        assert thread.screens == collections.Counter(wanted)
    assert told.screens == expected
