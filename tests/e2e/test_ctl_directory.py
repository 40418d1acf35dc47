"""Users and devices through wardpostctl, against a real router: what it prints, keeps and refuses."""
import json
import re
import stat

import pytest

REFUSED, NOT_FOUND, UNAVAILABLE = 65, 66, 69


def test_a_user_is_added_once(shared, unique):
    name = unique("alice")
    assert shared.ctl_json("user", "add", name) == {"user": name}
    done = shared.ctl("user", "add", name, check=REFUSED)
    assert name in done.stderr and done.stdout == ""


def test_users_are_listed_with_what_waits_for_them(shared, unique):
    names = [unique("bob") for _ in range(3)]
    for name in names:
        shared.add_user(name)
    rows = {row["user"]: row for row in shared.ctl_json("user", "list")["users"]}
    assert set(names) <= set(rows)
    assert rows[names[0]]["devices"] == 0 and set(rows[names[0]]["queued"].values()) == {0}
    listed = list(rows)
    assert listed == sorted(listed)
    table = shared.ctl("user", "list").stdout
    assert table.splitlines()[0].startswith("USER") and names[0] in table


def test_a_list_longer_than_a_page_is_whole(shared, unique):
    prefix = unique("many")
    users = {f"{prefix}-{i:04}": [] for i in range(2500)}
    shared.provision(users)
    listed = [row["user"] for row in shared.ctl_json("user", "list")["users"] if row["user"].startswith(prefix + "-")]
    assert listed == sorted(users)


def test_a_device_gets_a_secret_that_is_kept_for_the_owner_only(shared, unique):
    name = unique("carl")
    shared.add_user(name)
    answer = shared.ctl_json("device", "add", f"{name}/phone")
    path = shared.dir / "devices" / name / "phone"
    assert answer["username"] == f"{name}/phone" and answer["file"] == str(path)
    assert len(answer["secret"]) >= 40
    assert path.read_text() == answer["secret"] + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    second = shared.ctl_json("device", "add", f"{name}/watch")
    assert second["secret"] != answer["secret"]


def test_a_secret_that_is_not_to_be_kept_is_only_printed(shared, unique):
    name = unique("dora")
    shared.add_user(name)
    done = shared.ctl("device", "add", f"{name}/phone", "--no-save")
    assert "only time" in done.stdout and "secret" in done.stdout
    assert not (shared.dir / "devices" / name).exists()


def test_secrets_stand_nowhere_else_in_the_playground(playground):
    _, secret = playground.add_person("erin")
    playground.down()
    holding = [path for path in playground.dir.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert holding == [playground.dir / "devices/erin/phone"]


def test_devices_are_listed_and_removed(shared, unique):
    name = unique("fred")
    shared.add_user(name)
    for device in ("phone", "watch"):
        shared.add_device(f"{name}/{device}")
    rows = {row["device"]: row for row in shared.ctl_json("device", "list", name)["devices"]}
    assert set(rows) == {"phone", "watch"} and rows["phone"]["attached"] is False
    assert "CONNECTED" in shared.ctl("device", "list", name).stdout
    assert shared.ctl_json("device", "remove", f"{name}/phone") == {"removed": f"{name}/phone"}
    assert not (shared.dir / "devices" / name / "phone").exists()
    assert [row["device"] for row in shared.ctl_json("device", "list", name)["devices"]] == ["watch"]


def test_a_removed_device_can_be_added_again_with_another_secret(shared, unique):
    name = unique("gina")
    _, first = shared.add_person(name)
    shared.ctl("device", "remove", f"{name}/phone")
    assert shared.add_device(f"{name}/phone") != first


@pytest.mark.parametrize("words, status", [
    (["device", "add", "nobody/phone"], NOT_FOUND),
    (["device", "list", "nobody"], NOT_FOUND),
    (["device", "remove", "nobody/phone"], NOT_FOUND),
])
def test_nobody_is_not_found(shared, words, status):
    done = shared.ctl(*words, check=status)
    assert "nobody" in done.stderr and done.stdout == ""


def test_a_device_is_added_once_and_its_secret_stays(shared, unique):
    name = unique("hans")
    _, secret = shared.add_person(name)
    shared.ctl("device", "add", f"{name}/phone", check=REFUSED)
    assert (shared.dir / "devices" / name / "phone").read_text().strip() == secret


def test_names_at_their_limits(shared):
    name = "._-" + "z" * 61
    shared.add_user(name)
    shared.add_device(f"{name}/{'9' * 64}")
    assert [row["device"] for row in shared.ctl_json("device", "list", name)["devices"]] == ["9" * 64]


def test_status_tells_about_shards_disk_and_gateways(shared):
    answer = shared.ctl_json("status")
    assert answer["alarms"] == [] and answer["cluster"] == "all 8 shards have 1 of 1 replica in step"
    answer = answer["routers"][0]
    assert answer["node"] == "router-1" and answer["ready"] is True
    assert [row["shard"] for row in answer["shards"]] == list(range(1, 9))
    assert all(row["role"] == "leader" for row in answer["shards"])
    assert [(row["node"], row["up"], row["revoked"]) for row in answer["gateways"]] == [("gateway-1", True, False)]
    reserve = re.search(r"disk_reserve_bytes: (\d+)", (shared.dir / "router-1/router.yaml").read_text())
    assert answer["disk"]["reserve_bytes"] == int(reserve.group(1)) and answer["disk"]["full"] is False
    text = shared.ctl("status").stdout
    assert "router-1" in text and "leader" in text


def test_users_and_devices_outlive_the_router(playground):
    _, secret = playground.add_person("ivan")
    before = playground.ctl_json("user", "list"), playground.ctl_json("device", "list", "ivan")
    playground.restart("router-1")
    after = playground.ctl_json("user", "list"), playground.ctl_json("device", "list", "ivan")
    assert json.dumps(after[0]) == json.dumps(before[0])
    assert [row["device"] for row in after[1]["devices"]] == ["phone"]


def test_a_router_that_is_down_is_said_so_at_once(playground):
    playground.kill("router-1")
    for words in (["user", "add", "alice"], ["user", "list"], ["status"]):
        done = playground.ctl(*words, check=UNAVAILABLE, timeout_s=5)
        assert "no router answers" in done.stderr
