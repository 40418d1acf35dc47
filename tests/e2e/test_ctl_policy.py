"""Policies: choices of the operator that hold on every router."""
from conftest import wait_until
from rawmqtt import Device
from traffic import drain

BOUND = "mailbox_messages_max"


def value(cluster, node="router-1", policy="late_device"):
    rows = cluster.admin("GET", "/v1/policies", node=node)["policies"]
    return next(row["value"] for row in rows if row["policy"] == policy)


def test_a_late_device_begins_where_the_policy_says(make_playground):
    cluster = make_playground("--routers", "3")
    assert cluster.ctl_json("policy", "list")["policies"][0]["policy"] == "late_device"
    sender = cluster.add_person("sender")
    cluster.add_person("recipient", "first")
    cluster.add_person("other", "first")
    with Device(cluster.endpoint(), *sender) as device:
        for user in ["recipient", "other"]:
            assert device.publish(user, "before").code == 0
    late = ("recipient/late", cluster.add_device("recipient/late"))
    assert drain(cluster, late) == []
    assert "oldest" in cluster.ctl("policy", "set", "late_device", "oldest").stdout
    for router in ["router-1", "router-2", "router-3"]:
        wait_until(lambda: value(cluster, router) == "oldest", what="the policy on every router")
    late = ("other/late", cluster.add_device("other/late"))
    assert [payload for _, payload, _ in drain(cluster, late)] == ["before"]
    secret = cluster.ctl_json("device", "add", "recipient/later", "--from", "now")["secret"]
    assert drain(cluster, ("recipient/later", secret)) == []


def test_what_is_no_policy_is_refused(playground):
    done = playground.ctl("policy", "set", "late_device", "yesterday", check=65)
    assert "now oldest" in done.stderr
    done = playground.ctl("policy", "set", "colour", "red", check=66)
    assert "policy list" in done.stderr
    playground.ctl("policy", "set", "Colour", "red", check=66)
    assert value(playground) == "now"
    playground.ctl("policy", "set", "late_device", "oldest")
    playground.restart("router-1")
    assert value(playground) == "oldest"


def test_limits_are_those_of_the_cluster_whatever_the_files_say(make_playground):
    routers = ["router-1", "router-2", "router-3"]
    files = {router: 3 + i for i, router in enumerate(routers)}
    cluster = make_playground("--routers", "3",
                              settings={router: {"limits.mailbox_messages_max": files[router]} for router in routers})
    wait_until(lambda: all("limits_ignored" in cluster.log(router) or files[router] == int(value(cluster, router, BOUND))
                           for router in routers), what="the roster on every router")
    bound = int(value(cluster, policy=BOUND))
    assert [router for router in routers if "limits_ignored" not in cluster.log(router)] == \
        [router for router in routers if files[router] == bound]
    people = [f"person-{i}" for i in range(9)]  # in shards of different leaders
    sender = cluster.add_person("sender")
    for person in people:
        cluster.add_person(person)
    with Device(cluster.endpoint(), *sender) as device:
        for person in people:
            assert [device.publish(person, f"{i}").code for i in range(bound + 1)] == [0] * bound + [0x97]
        cluster.ctl("policy", "set", BOUND, str(bound + 2))
        for person in people:
            wait_until(lambda: device.publish(person, "more").code == 0, what="the new bound")
            assert [device.publish(person, f"{i}").code for i in range(2)] == [0, 0x97]
        for router in routers:
            cluster.restart(router)
            assert int(value(cluster, router, BOUND)) == bound + 2
    with Device(cluster.endpoint(), *sender) as device:
        wait_until(lambda: [device.publish(person, "full").code for person in people] == [0x97] * len(people),
                   what="the same bound at the next leaders")


def test_limits_are_checked(playground):
    for words in [("mailbox_messages_max", "0"), ("mailbox_messages_max", "many"), ("ttl_max_s", "60"),
                  ("mailbox_bytes_max", "65536"), ("delivery_timeout_ms", "1000")]:
        done = playground.ctl("policy", "set", *words, check=None)
        assert done.returncode in (65, 66) and words[0] in done.stderr
    playground.ctl("policy", "set", "ttl_default_s", "60")
    playground.ctl("policy", "set", "ttl_max_s", "60")
    assert value(playground, policy="ttl_max_s") == "60"
