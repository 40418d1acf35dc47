"""The operator of several routers: what is shown, which router is asked, what is said when one is down."""
import json
import os
import re
import signal
import time

import pytest

from conftest import run, wait_until

REFUSED, NOT_FOUND, UNAVAILABLE, TEMPORARY = 65, 66, 69, 75
ROUTERS = ["router-1", "router-2", "router-3"]


@pytest.fixture(scope="module")
def three(playground_folder):
    """Three routers for tests that leave them as they were."""
    from conftest import Playground
    made = Playground(playground_folder / "three")
    made.up("--routers", "3")
    made.ctl("cluster", "await-safe")
    yield made
    made.destroy(keep=False)


@pytest.fixture
def cluster(make_playground):
    made = make_playground("--routers", "3")
    made.ctl("cluster", "await-safe")
    return made


def leader_of(playground, shard):
    return next(row["leader"] for row in playground.ctl_json("shard", "list")["shards"] if row["shard"] == shard)


# -- looking


def test_cluster_status_shows_routers_and_shards(three):
    view = three.ctl_json("cluster", "status")
    assert view["safe"] and view["summary"] == "all 8 shards have 3 of 3 replicas in step" and view["alarms"] == []
    assert [node["node"] for node in view["nodes"]] == ROUTERS
    for node in view["nodes"]:
        assert node["reachable"] and node["state"] == "active" and node["replicas"] == 8
        assert not (node["clock_off"] or node["disk_full"] or node["forgotten"])
    assert sum(node["leads"] for node in view["nodes"]) == 8
    shards = [row for row in view["shards"] if row["shard"] > 0]
    assert [row["shard"] for row in shards] == list(range(1, 9))
    for row in shards:
        assert row["in_step"] == row["replicas"] == 3 and row["wanted"] == ROUTERS and not row["moving"]
        assert row["leader"] in ROUTERS and row["lag"] < 1000
    text = three.ctl("cluster", "status").stdout
    assert text.startswith("all 8 shards have 3 of 3 replicas in step\n")
    assert "router-2" in text and "3 of 3" in text
    assert max(map(len, text.splitlines())) <= 80 and len(text.splitlines()) <= 24


def test_every_router_sees_the_same_cluster(three):
    def views():
        return [three.admin("GET", "/v1/cluster", node=router) for router in ROUTERS]

    def seen(view):
        return view["safe"], [(row["shard"], row["leader"], row["term"]) for row in view["shards"]]

    # What one sees of the others is up to a second old.
    wait_until(lambda: all(view["safe"] and seen(view) == seen(all_[0]) for all_ in [views()] for view in all_), what="one view")
    assert [view["asked"] for view in views()] == ROUTERS


def test_status_says_what_each_router_is_for_each_shard(three):
    answer = three.ctl_json("status")
    assert [router["node"] for router in answer["routers"]] == ROUTERS and answer["alarms"] == []
    for shard in range(8):
        rows = [router["shards"][shard] for router in answer["routers"]]
        assert sorted(row["role"] for row in rows) == ["follower", "follower", "leader"]
        leader = next(r["node"] for r, row in zip(answer["routers"], rows) if row["role"] == "leader")
        assert {row["leader"] for row in rows} == {leader} and len({row["term"] for row in rows}) == 1
    one = three.ctl_json("status", "--node", "router-2")
    assert [router["node"] for router in one["routers"]] == ["router-2"]
    assert "SHARD" in three.ctl("status", "--node", "router-2").stdout
    assert "no router" in three.ctl("status", "--node", "router-7", check=NOT_FOUND).stderr


def test_users_of_all_shards_are_listed_whoever_leads_them(three, unique):
    names = sorted(unique("bob") for _ in range(40))
    three.provision({name: ["phone"] for name in names})
    rows = [row for row in three.ctl_json("user", "list")["users"] if row["user"] in names]
    assert [row["user"] for row in rows] == names and len({row["shard"] for row in rows}) > 3
    for name in names[:8]:
        answer = three.ctl_json("device", "list", name)
        assert answer["role"] == "leader" and [row["device"] for row in answer["devices"]] == ["phone"]
    covered = []
    for router in ROUTERS:
        covered += three.admin("GET", "/v1/users", node=router)["shards"]
    assert sorted(covered) == list(range(1, 9))


def test_teams_are_listed_by_the_leaders_of_their_shards(three, unique):
    names = sorted(unique("icu") for _ in range(12))
    for name in names:
        three.ctl("team", "add", name)
    rows = [row for row in three.ctl_json("team", "list")["teams"] if row["team"] in names]
    assert [row["team"] for row in rows] == names
    answers = [three.admin("GET", "/v1/teams", node=router) for router in ROUTERS]
    assert sorted(shard for answer in answers for shard in answer["shards"]) == list(range(1, 9))
    assert sorted(row["team"] for answer in answers for row in answer["teams"] if row["team"] in names) == names
    for name in names[:6]:
        three.ctl("team", "remove", name)
    assert not {row["team"] for row in three.ctl_json("team", "list")["teams"]} & set(names[:6])


def test_a_router_that_does_not_lead_names_the_one_that_does(three, unique):
    name = unique("carl")
    three.add_user(name)
    shard = next(row["shard"] for row in three.ctl_json("user", "list")["users"] if row["user"] == name)
    leader = leader_of(three, shard)
    other = next(router for router in ROUTERS if router != leader)
    refused = three.admin("GET", f"/v1/users/{name}/devices", node=other, check=421)
    assert refused["error"] == "not-leader" and refused["leader"] == leader and refused["shard"] == shard
    assert leader in refused["message"]


def test_one_router_by_its_socket_shows_what_it_holds(three, unique):
    names = [unique("dora") for _ in range(20)]
    three.provision({name: ["phone"] for name in names})
    for router in ROUTERS:
        socket = three.node(router)["socket"]

        def listed():
            done = run("wardpostctl", "--socket", socket, "user", "list", "-o", "json", check=0)
            return set(names) <= {row["user"] for row in json.loads(done.stdout)["users"]}

        wait_until(listed, what="followers have what the leaders have")
        answer = json.loads(run("wardpostctl", "--socket", socket, "device", "list", names[0], "--json", check=0).stdout)
        assert [row["device"] for row in answer["devices"]] == ["phone"]
        assert answer["role"] == "leader" or answer["devices"][0]["attached"] is None


def test_metrics_say_who_leads_and_who_is_behind(cluster):
    wait_until(lambda: sum(cluster.metric(router, "wardpost_router_shards_led") for router in ROUTERS) == 8, what="leaders")
    cluster.kill("router-2")
    left = ["router-1", "router-3"]
    wait_until(lambda: sum(cluster.metric(router, "wardpost_router_shards_led") for router in left) == 8, 10, "leaders")
    wait_until(lambda: sum(cluster.metric(router, "wardpost_router_replicas_behind") for router in left) == 8, 10, "the alarm")
    cluster.kill("router-3")
    wait_until(lambda: cluster.metric("router-1", "wardpost_router_shards_without_leader") == 8, 10, "the alarm")


# -- a router is down


def test_a_router_that_is_down_is_said_so_everywhere(cluster):
    names = [f"u{i}" for i in range(40)]
    cluster.provision({name: ["phone"] for name in names})
    cluster.kill("router-2")
    done = cluster.ctl("status", check=UNAVAILABLE)
    assert "router-2 is down" in done.stdout
    answer = json.loads(cluster.ctl("status", "-o", "json", check=UNAVAILABLE).stdout)
    assert answer["routers"][1] == {"node": "router-2", "state": "down"}
    assert "router-2" in cluster.ctl("status", "--node", "router-2", check=UNAVAILABLE).stderr
    wait_until(lambda: all(row["leader"] for row in cluster.ctl_json("shard", "list")["shards"]), what="leaders")
    view = cluster.ctl_json("cluster", "status")
    assert not view["safe"] and "node-down" in [alarm["alarm"] for alarm in view["alarms"]]
    # A new leader hears within a second how far the others are.
    wait_until(lambda: "shards 1-8 run on 2 of 3 replicas" in cluster.ctl_json("cluster", "status")["summary"], what="reports")
    text = cluster.ctl("shard", "list").stdout
    assert "!router-2" in text and text.endswith("! is down\n")
    assert max(map(len, cluster.ctl("cluster", "status").stdout.splitlines())) <= 80
    done = cluster.ctl("cluster", "await-safe", "--timeout", "1", check=TEMPORARY)
    assert "router-2" in done.stderr and done.stdout == ""
    assert {row["user"] for row in cluster.ctl_json("user", "list")["users"]} == set(names)
    for name in names[:10]:
        assert cluster.ctl_json("device", "list", name)["role"] == "leader"
    cluster.start("router-2")
    assert cluster.ctl("cluster", "await-safe").stdout == "all 8 shards have 3 of 3 replicas in step\n"


def test_without_a_majority_a_list_says_what_it_lacks(cluster):
    cluster.provision({f"u{i}": [] for i in range(20)})
    cluster.kill("router-1")
    cluster.kill("router-3")
    done = cluster.ctl("user", "list", check=UNAVAILABLE)
    assert "the list lacks the users of shards" in done.stderr
    done = cluster.ctl("team", "list", check=UNAVAILABLE)
    assert "the list lacks the teams of shards" in done.stderr
    view = cluster.ctl_json("cluster", "status")
    assert "have no leader" in view["summary"] and "router-1 is down" in view["summary"]


def test_a_router_that_is_stopped_holds_nobody_up(cluster):
    cluster.provision({f"u{i}": ["phone"] for i in range(10)})
    cluster.kill("router-1", signal="STOP")
    wait_until(lambda: all(row["leader"] not in (None, "router-1") for row in cluster.ctl_json("shard", "list", timeout_s=30)["shards"]),
               30, "other leaders")
    assert len(cluster.ctl_json("user", "list", timeout_s=60)["users"]) == 10
    done = cluster.ctl("status", check=UNAVAILABLE, timeout_s=30)
    assert "does not answer" in done.stdout
    cluster.kill("router-1", signal="CONT")
    cluster.ctl("cluster", "await-safe")


# -- leadership


def test_leadership_of_a_shard_is_handed_over(cluster):
    before = leader_of(cluster, 3)
    to = next(router for router in ROUTERS if router != before)
    assert cluster.ctl_json("shard", "transfer", "3", to) == {"shard": 3, "leader": to}
    assert leader_of(cluster, 3) == to
    assert cluster.ctl("shard", "transfer", "3", to).stdout == f"shard 3 is led by {to}\n"


def test_what_the_operator_put_somewhere_is_not_spread_back(cluster):
    wanted = next(row for row in cluster.ctl_json("shard", "list")["shards"] if row["shard"] == 3)
    to = "router-1" if wanted["leader"] != "router-1" else "router-2"  # an even spread wants the third to lead shard 3
    cluster.ctl("shard", "transfer", "3", to)
    until = time.monotonic() + 13  # an even spread waits for 10 s, then has a turn every 2 s
    while time.monotonic() < until:
        assert leader_of(cluster, 3) == to
        time.sleep(0.5)


def test_routers_that_stop_together_do_not_hand_shards_to_and_fro(cluster):
    for pid in [cluster.pid(router) for router in ROUTERS]:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: all(cluster.status()[router]["state"] == "down" for router in ROUTERS), 30, "the end of all routers")
    given = [re.search(r"shard=(\d+)", line).group(1) for router in ROUTERS for line in cluster.log(router).splitlines()
             if "leadership_handed_over" in line and "reason=stop" in line]
    assert all(given.count(shard) <= 3 for shard in set(given)), given


@pytest.mark.parametrize("words, status, complaint", [
    (["shard", "transfer", "9", "router-1"], NOT_FOUND, 'no shard "9"'),
    (["shard", "transfer", "1", "router-9"], NOT_FOUND, 'no node "router-9"'),
    (["shard", "transfer", "1", "Router"], REFUSED, "name of a node"),
])
def test_what_cannot_be_transferred_is_refused_with_a_reason(three, words, status, complaint):
    assert complaint in three.ctl(*words, check=status).stderr


# -- who belongs to the cluster


@pytest.mark.parametrize("words, status, complaint", [
    (["node", "drain", "router-2"], REFUSED, "router-2: too few active routers would remain"),
    (["node", "replace", "router-2"], REFUSED, "replace is for a router that is dead"),
    (["node", "remove", "router-2"], REFUSED, "drain it first"),
    (["node", "drain", "router-9"], NOT_FOUND, 'no router "router-9"'),
    (["node", "replace", "router-2", "--by", "router-9"], NOT_FOUND, 'no router "router-9"'),
    (["node", "replace", "router-2", "--by", "router-2"], REFUSED, "in the place of itself"),
    (["node", "add", "router-2", "--endpoint", "tcp://127.0.0.1:9", "--key", "x" * 40], REFUSED, "there already"),
    (["node", "add", "router-4", "--endpoint", "127.0.0.1:9", "--key", "x" * 40], REFUSED, "tcp://HOST:PORT"),
    (["node", "add", "router-4", "--endpoint", "tcp://127.0.0.1:9", "--key", "short"], REFUSED, "40 characters"),
    (["shard", "move", "1", "router-1", "router-2"], REFUSED, "has a replica on router-2 already"),
    (["shard", "move", "1", "router-9", "router-2"], NOT_FOUND, 'no router "router-9"'),
    (["shard", "move", "99", "router-1", "router-2"], NOT_FOUND, 'no shard "99"'),
    (["gateway", "revoke", "gateway-9"], NOT_FOUND, "no such gateway"),
    (["gateway", "add", "gateway-9", "--key", "short"], REFUSED, "40 characters"),
])
def test_refusals_say_why_and_what_to_do(three, words, status, complaint):
    before = three.ctl_json("node", "list")
    done = three.ctl(*words, check=status)
    assert complaint in done.stderr and done.stdout == ""
    assert [node["state"] for node in three.ctl_json("node", "list")["nodes"]] == ["active"] * 3 == [node["state"] for node in before["nodes"]]


def test_reviving_what_is_active_and_upgrading_to_what_is_there_change_nothing(three):
    assert three.ctl_json("node", "revive", "router-1") == {"node": "router-1", "did": "revive"}
    answer = three.ctl_json("cluster", "upgrade")
    assert answer["before"] == answer["feature_level"]


def test_upgrade_needs_every_router_and_replacing_a_dead_one_another(cluster):
    cluster.kill("router-3")
    assert "node add" in cluster.ctl("node", "replace", "router-3", check=REFUSED).stderr
    assert "router-3 cannot be asked" in cluster.ctl("cluster", "upgrade", check=TEMPORARY).stderr


def test_without_a_leader_of_the_meta_group_changes_are_put_off(cluster):
    cluster.kill("router-2")
    cluster.kill("router-3")
    done = cluster.ctl("node", "revive", "router-1", check=TEMPORARY, timeout_s=30)
    assert "meta group" in done.stderr


def test_gateways_are_added_listed_and_revoked(three, tmp_path):
    key = run("wardpostctl", "keygen", "curve", tmp_path / "gateway.key", check=0).stdout.strip()
    assert three.ctl_json("gateway", "add", "gateway-8", "--key", key) == {"gateway": "gateway-8"}
    assert "there already" in three.ctl("gateway", "add", "gateway-9", "--key", key, check=REFUSED).stderr
    rows = {row["node"]: row for row in three.ctl_json("gateway", "list")["gateways"]}
    assert rows["gateway-1"]["up"] and rows["gateway-8"]["key"] == key and not rows["gateway-8"]["up"] and not rows["gateway-8"]["revoked"]
    three.ctl("gateway", "revoke", "gateway-8")
    rows = {row["node"]: row for row in three.ctl_json("gateway", "list")["gateways"]}
    assert rows["gateway-8"]["revoked"] and "gateway-8" in three.ctl("gateway", "list").stdout
