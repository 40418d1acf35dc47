"""Policies: choices of the operator that hold on every router."""
from conftest import wait_until
from rawmqtt import Device
from traffic import drain


def value(cluster, node="router-1"):
    rows = cluster.admin("GET", "/v1/policies", node=node)["policies"]
    return next(row["value"] for row in rows if row["policy"] == "late_device")


def test_a_late_device_begins_where_the_policy_says(make_playground):
    cluster = make_playground("--routers", "3")
    assert [row["policy"] for row in cluster.ctl_json("policy", "list")["policies"]] == ["late_device"]
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
