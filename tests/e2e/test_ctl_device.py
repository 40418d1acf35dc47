"""`wardpost` beside wardpostctl: a person's commands end in time and say what is the matter when the cluster is not well."""
import time

UNAVAILABLE = 69


def test_without_a_router_every_verb_ends_within_its_timeout(playground):
    playground.add_person("alice")
    playground.kill("router-1")
    for words in (["inbox"], ["send", "alice", "hello"]):
        start = time.monotonic()
        done = playground.wardpost("alice/phone", *words, "--timeout", "2", check=UNAVAILABLE, timeout_s=20)
        assert time.monotonic() - start < 15
        assert "no gateway reached in time" in done.stderr


def test_without_a_gateway_too(playground):
    playground.add_person("alice")
    playground.kill("gateway-1")
    done = playground.wardpost("alice/phone", "inbox", "--timeout", "1", check=UNAVAILABLE, timeout_s=20)
    assert "no gateway reached in time" in done.stderr


def test_a_router_that_comes_back_meanwhile_is_waited_for(playground):
    import threading
    playground.add_person("alice")
    playground.wardpost("alice/phone", "send", "alice", "note to self", "--lane", "urgent")
    playground.kill("router-1")
    starter = threading.Timer(2, lambda: playground.start("router-1"))
    starter.start()
    done = playground.wardpost("alice/phone", "inbox", "--timeout", "30")
    starter.join()
    assert "urgent" in done.stdout and "alice/phone: note to self" in done.stdout


def test_a_wrong_secret_is_refused_for_good(playground):
    playground.add_person("alice")
    path = playground.dir / "devices/alice/phone"
    path.write_text("not-the-secret\n")
    done = playground.wardpost("alice/phone", "inbox", check=None, timeout_s=20)
    assert done.returncode not in (0, UNAVAILABLE)
    assert 'the gateway refused "alice/phone"' in done.stderr
